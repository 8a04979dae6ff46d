"""Figures of lesson 8: a picture on its way to 28 x 28 pixels, and what each step is worth."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np

from firstcnn.figures.display import COLOURS, show


def steps(pictures: Mapping[str, np.ndarray], title: str, *, mark_centre: bool = False) -> None:
    """Show the stages of one picture side by side, each with its own size.

    Parameters
    ----------
    pictures : mapping of str to numpy.ndarray, shape (rows, columns)
        A name for each stage, and its picture: 0 is drawn black, 1 white.
    title : str
        The title of the whole.
    mark_centre : bool, optional
        Mark the middle of each picture and the centre of mass of its bright pixels.

    Raises
    ------
    ValueError
        If there are no pictures.
    """
    if not pictures:
        raise ValueError("There are no pictures to show.")
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(2.9 * len(pictures) + 0.4, 3.7), squeeze=False
    )
    told = []
    for one, (name, picture) in zip(axes.flat, pictures.items(), strict=True):
        rows, columns = picture.shape
        one.imshow(picture, cmap="gray", vmin=0, vmax=1)
        one.set_title(f"{name}\n{rows} x {columns}", fontsize=11)
        one.set_xlabel("column")
        one.locator_params(integer=True)
        words = f"{name}, {rows} x {columns} pixels, mean intensity {picture.mean():.2f}"
        if mark_centre:
            down, across = (
                float(picture.sum(axis=1 - axis) @ np.arange(n) / picture.sum())
                for axis, n in enumerate(picture.shape)
            )
            one.plot(columns / 2, rows / 2, "+", color=COLOURS[5], markersize=18, mew=2.5)
            one.plot(across, down, "o", color=COLOURS[1], markersize=9, mec="white")
            words += f", centre of mass at row {down:.1f}, column {across:.1f}"
        told.append(words)
    axes[0, 0].set_ylabel("row")
    figure.suptitle(title)
    figure.tight_layout()
    legend = " A cross marks the middle, a dot the centre of mass." if mark_centre else ""
    show(f"{title}, in {len(told)} pictures: {'; '.join(told)}.{legend}", figure)


def shrunk(
    sheets: np.ndarray, small: np.ndarray, title: str = "Before and after", below: str = "shrunk"
) -> None:
    """Show large pictures in one row, and below each what became of it.

    Parameters
    ----------
    sheets : numpy.ndarray of uint8, shape (N, rows, columns)
        0 is drawn black, 255 white.
    small : numpy.ndarray, shape (N, 28, 28)
        0 is drawn black, 1 white.
    title : str, optional
        The title.
    below : str, optional
        What was done to the pictures of the second row.

    Raises
    ------
    ValueError
        If the two rows are not equally long.
    """
    if not len(sheets) or len(sheets) != len(small):
        raise ValueError(f"There are {len(sheets)} large pictures and {len(small)} small ones.")
    figure, axes = plt.subplots(
        2, len(sheets), figsize=(1.55 * len(sheets) + 0.6, 4.1), squeeze=False
    )
    for (top, bottom), sheet, image in zip(axes.T, sheets, small, strict=True):
        top.imshow(sheet, cmap="gray", vmin=0, vmax=255)
        bottom.imshow(image, cmap="gray", vmin=0, vmax=1)
        bottom.set_xlabel("column")
        for one in (top, bottom):
            one.set_xticks([])
            one.set_yticks([])
    for one, name, pictures in ((axes[0, 0], "on paper", sheets), (axes[1, 0], below, small)):
        one.set_ylabel(f"{name}\n{pictures.shape[1]} x {pictures.shape[2]}\nrow")
    figure.suptitle(title)
    figure.tight_layout()
    show(
        f"{title}: {len(sheets)} pictures of {sheets.shape[1]} x {sheets.shape[2]} pixels, "
        f"{_ink(sheets / 255)}. Below each the same {below}, "
        f"{small.shape[1]} x {small.shape[2]} pixels, {_ink(small)}.",
        figure,
    )


def _ink(pictures: np.ndarray) -> str:
    """Say which of ink and paper is brighter, how tall the ink is, and how strong."""
    paper = np.median(pictures, axis=(1, 2), keepdims=True)
    strength = np.abs(pictures - paper)
    inked = (strength > 0.2).any(axis=2)
    spans = [np.ptp(np.flatnonzero(one)) + 1 if one.any() else 0 for one in inked]
    colours = "dark ink on white" if paper.mean() > 0.5 else "bright ink on black"
    height = np.mean(spans) / pictures.shape[1]
    return (
        f"{colours}, about {height:.0%} of the picture's height, "
        f"with a strongest contrast of {strength.max(axis=(1, 2)).mean():.0%}"
    )


def ladder(scores: Mapping[str, float], title: str = "What each step is worth") -> None:
    """Show an accuracy for each step as a bar, in order, with its number.

    Parameters
    ----------
    scores : mapping of str to float
        A name for each step, and the accuracy with all steps up to it, 0 to 1.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there are no scores.
    """
    if not scores:
        raise ValueError("There are no scores to show.")
    figure, axes = plt.subplots(figsize=(7.5, 0.6 * len(scores) + 1.2))
    values = [float(score) for score in scores.values()]
    bars = axes.barh(list(scores), values, color=COLOURS[0])
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks(np.linspace(0, 1, 6), [f"{tick:.0%}" for tick in np.linspace(0, 1, 6)])
    axes.set_xlabel("accuracy")
    axes.set_ylabel("steps taken")
    axes.set_title(title)
    told = ", ".join(f"{name} {value:.1%}" for name, value in scores.items())
    show(f"{title}, bars from top to bottom: {told}.", figure)
