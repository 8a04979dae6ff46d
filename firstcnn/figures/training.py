"""Figures of lesson 5: learning curves, losses side by side, steps of gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from firstcnn.figures.display import COLOURS, show

_MARKERS = "osD^vPX"
_LINES = ("-", "--", "-.", ":")


def learning_curves(history: Any, title: str = "Learning curves", seen: str = "") -> None:
    """Show what a training recorded after each epoch: the loss, and each metric.

    Parameters
    ----------
    history : keras.callbacks.History or mapping of str to sequence of float
        What ``fit`` returned, or its ``history``. Keys that start with
        ``val_`` are drawn beside those of the same name without it.
    title : str, optional
        The title.
    seen : str, optional
        What a reader should see in the curves, for the text alternative.

    Raises
    ------
    ValueError
        If the history is empty.
    """
    record = record_of(history)
    measures = [key for key in record if not key.startswith("val_") and key != "learning_rate"]
    measures.sort(key=lambda measure: measure != "loss")
    figure, axes = plt.subplots(
        1, len(measures), figsize=(5.5 * len(measures), 3.8), layout="constrained", squeeze=False
    )
    for one, measure in zip(axes[0], measures, strict=True):
        _pair(one, record, measure)
        one.set(title=measure, xlabel="epoch", ylabel=measure)
        one.legend()
    figure.suptitle(title)
    parts = "training and validation images" if _validated(record) else "training images"
    show(
        f"{title}: {' and '.join(measures)} on the {parts}, "
        f"{counted(len(record[measures[0]]), 'epoch')}. {seen}".strip(),
        figure,
    )


def loss_panels(
    histories: Mapping[str, Any], title: str = "Learning curves", seen: str = ""
) -> None:
    """Show the losses of several trainings side by side, on the same scale.

    Parameters
    ----------
    histories : mapping of str to History or mapping
        For each training its name, and what :func:`learning_curves` takes.
    title : str, optional
        The title.
    seen : str, optional
        What a reader should see in the curves, for the text alternative.

    Raises
    ------
    ValueError
        If there is no training, or one has an empty history.
    """
    records = {name: record_of(history) for name, history in histories.items()}
    if not records:
        raise ValueError("There is no training to show.")
    figure, axes = plt.subplots(
        1,
        len(records),
        figsize=(4.2 * len(records), 3.6),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for one, (name, record) in zip(axes[0], records.items(), strict=True):
        _pair(one, record, "loss")
        one.set(title=name, xlabel="epoch")
    axes[0, 0].set_ylabel("loss")
    axes[0, 0].legend()
    figure.suptitle(title)
    show(f"{title}: the losses of {', '.join(records)}, a panel each. {seen}".strip(), figure)


def curves(
    series: Mapping[str, Sequence[float]],
    title: str,
    ylabel: str,
    *,
    xlabel: str = "epoch",
    x: Sequence[float] | None = None,
    log: bool = False,
    seen: str = "",
) -> None:
    """Show several series of numbers as lines on one pair of axes.

    Parameters
    ----------
    series : mapping of str to sequence of float
        For each line its name and its values.
    title, ylabel : str
        The title, and what the values are.
    xlabel : str, optional
        What the values are counted by.
    x : sequence of float, optional
        Where the values belong; by default at 1, 2, 3, ...
    log : bool, optional
        Whether each step up the vertical axis multiplies.
    seen : str, optional
        What a reader should see in the lines, for the text alternative.

    Raises
    ------
    ValueError
        If there is no series.
    """
    if not series:
        raise ValueError("There is no series to show.")
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for i, (name, values) in enumerate(series.items()):
        places = np.arange(1, len(values) + 1) if x is None else x
        axes.plot(
            places,
            values,
            color=COLOURS[i % len(COLOURS)],
            linestyle=_LINES[i % len(_LINES)],
            marker=_MARKERS[i % len(_MARKERS)] if len(values) <= 50 else None,
            label=name,
        )
    if log:
        make_logarithmic(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        axes.legend()
    lines = f", a line each for {', '.join(series)}" if len(series) > 1 else ""
    show(f"{title}: {ylabel} by {xlabel}{lines}. {seen}".strip(), figure)


def descent(
    loss: Callable[[np.ndarray], np.ndarray],
    paths: Mapping[str, Sequence[float]],
    title: str = "Gradient descent",
) -> None:
    """Show steps of gradient descent on a loss that depends on a single weight.

    Parameters
    ----------
    loss : callable
        The loss of an array of weights.
    paths : mapping of str to sequence of float
        For each descent its name, and the weight before the first step and after each.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there is no path.
    """
    if not paths:
        raise ValueError("There is no path to show.")
    reach = 1.1 * max(float(np.abs(path).max()) for path in paths.values())
    curve = np.linspace(-reach, reach, 200)
    figure, axes = plt.subplots(
        1,
        len(paths),
        figsize=(4.2 * len(paths), 3.6),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for one, (name, path) in zip(axes[0], paths.items(), strict=True):
        path = np.asarray(path, dtype=float)
        one.plot(curve, loss(curve), color=COLOURS[6], linewidth=1)
        one.plot(path, loss(path), color=COLOURS[1], marker="o", linewidth=1)
        one.plot(path[0], loss(path[:1])[0], color=COLOURS[0], marker="s", markersize=10)
        one.annotate(
            "start", (path[0], loss(path[:1])[0]), xytext=(10, -10), textcoords="offset points"
        )
        one.set(title=name, xlabel="weight w")
    axes[0, 0].set_ylabel("loss")
    figure.suptitle(title)
    told = "; ".join(
        f"{name}: from {path[0]:.3g} to {path[-1]:.3g} in {counted(len(path) - 1, 'step')}"
        for name, path in paths.items()
    )
    show(f"{title}: the weight walks on the curve of its loss, a panel each. {told}.", figure)


def make_logarithmic(axes: plt.Axes) -> None:
    """Let each step up the vertical axis multiply, and label it with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def record_of(history: Any) -> Mapping[str, Sequence[float]]:
    """Return what a training recorded, from ``fit``'s answer or from its ``history``."""
    record = history if isinstance(history, Mapping) else history.history
    if not record:
        raise ValueError("The history is empty: fit did not run to its end.")
    return record


def _validated(record: Mapping[str, Sequence[float]]) -> bool:
    return any(key.startswith("val_") for key in record)


def counted(number: int, what: str) -> str:
    """Write a number of things: ``1 epoch``, ``2 epochs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _pair(axes: plt.Axes, record: Mapping[str, Sequence[float]], measure: str) -> None:
    """Draw one measure on the training images, and on the validation images if there are any."""
    for key, name, colour, line, marker in (
        (measure, "training", COLOURS[0], "-", "o"),
        (f"val_{measure}", "validation", COLOURS[1], "--", "s"),
    ):
        if key in record:
            epochs = np.arange(1, len(record[key]) + 1)
            axes.plot(
                epochs, record[key], color=colour, linestyle=line, marker=marker, ms=4, label=name
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
