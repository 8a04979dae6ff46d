"""Figures of lesson 7: the scores of several settings side by side, one point for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from firstcnn.figures.display import COLOURS, show


def comparison(
    results: Sequence[Mapping[str, Any]],
    title: str = "Settings compared",
    *,
    baseline: str | None = None,
    sort: bool = True,
) -> None:
    """Draw the scores of each setting: a point for each seed, and a bar at their mean.

    Parameters
    ----------
    results : sequence of mapping
        For each setting its ``"name"`` and its ``"scores"``, accuracies between 0 and 1.
    title : str, optional
        The title.
    baseline : str, optional
        The name of the setting that the others are compared with: it has a colour of
        its own, and a dashed line at its mean.
    sort : bool, optional
        Whether to put the highest mean on top; otherwise the first setting is on top.

    Raises
    ------
    ValueError
        If there are no results, a setting has no scores, or none is called `baseline`.
    """
    scores = {one["name"]: 100 * np.asarray(one["scores"], dtype=float) for one in results}
    if not scores or not all(values.size for values in scores.values()):
        raise ValueError("There is nothing to draw: each setting needs at least one score.")
    if baseline is not None and baseline not in scores:
        raise ValueError(f"No setting is called {baseline!r}; there are {', '.join(scores)}.")
    names = sorted(scores, key=lambda name: -scores[name].mean()) if sort else list(scores)
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.42 * len(names)))
    for place, name in enumerate(names):
        colour = COLOURS[1] if name == baseline else COLOURS[0]
        values = scores[name]
        axes.scatter(values, np.full(values.size, place), s=45, alpha=0.7, color=colour)
        axes.vlines(values.mean(), place - 0.3, place + 0.3, color=colour, linewidth=3)
    if baseline is not None:
        axes.axvline(scores[baseline].mean(), color=COLOURS[6], linestyle="--", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("validation accuracy (%): a point for each seed, a bar at the mean")
    axes.set_ylabel("setting")
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.3)
    told = "; ".join(
        f"{name} {scores[name].mean():.1f} % ({scores[name].min():.1f} to {scores[name].max():.1f})"
        for name in names
    )
    show(f"{title}, from top to bottom, mean and range over the seeds: {told}.", figure)
