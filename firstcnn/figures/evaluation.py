"""Figures of lesson 6: confusion matrix, per-digit scores, mistakes, probabilities, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from firstcnn.figures.display import COLOURS, show


def _count(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count the pictures of each label (rows) and prediction (columns)."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if not len(labels) or labels.shape != predictions.shape:
        raise ValueError(
            f"Give one prediction for each label: {predictions.shape} for {labels.shape}."
        )
    pairs = np.bincount(labels * classes + predictions, minlength=classes**2)
    return pairs.reshape(classes, classes)


def confusion_matrix(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: int = 10,
    title: str = "Confusion matrix",
) -> None:
    """Show how often each digit is read as each: only the mistakes are coloured.

    Parameters
    ----------
    labels, predictions : numpy.ndarray of int, shape (n,)
        What the pictures are, and what they are read as.
    classes : int, optional
        How many digits there are.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there are no labels, or not one prediction for each.
    """
    matrix = _count(labels, predictions, classes)
    mistakes = np.where(np.eye(classes, dtype=bool), 0, matrix)
    most = max(2, int(mistakes.max()))
    figure, axes = plt.subplots(figsize=(7.5, 6.5))
    shade = np.ma.masked_equal(mistakes, 0)
    drawn = axes.imshow(shade, cmap="Blues", norm=LogNorm(vmin=0.5, vmax=most))
    for (row, column), count in np.ndenumerate(matrix):
        right = row == column
        pale = not right and count > np.sqrt(most)
        axes.text(
            column,
            row,
            f"{count:,}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if pale else "black" if count else "0.7",
            fontweight="bold" if right else "normal",
        )
    axes.set_xticks(range(classes))
    axes.set_yticks(range(classes))
    axes.set_xlabel("prediction: what it is read as")
    axes.set_ylabel("label: what it is")
    axes.set_title(title)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick <= most]
    bar = figure.colorbar(drawn, ax=axes, label="mistakes (log scale)", shrink=0.8)
    bar.set_ticks(ticks, labels=list(map(str, ticks)))
    bar.minorticks_off()
    order = np.argsort(-mistakes, axis=None, kind="stable")[:3]
    worst = [
        f"{place // classes} read as {place % classes}: {mistakes.flat[place]}"
        for place in order
        if mistakes.flat[place]
    ]
    show(
        f"{title}: one row for each label, one column for each prediction. {matrix.trace():,} of "
        f"{matrix.sum():,} pictures lie on the diagonal. "
        + (f"Most frequent mistakes: {'; '.join(worst)}." if worst else "There are no mistakes."),
        figure,
    )


def per_digit(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: int = 10,
    title: str = "Recall and precision of each digit",
) -> None:
    """Show recall and precision of each digit, with the standard error of each.

    Parameters
    ----------
    labels, predictions : numpy.ndarray of int, shape (n,)
        What the pictures are, and what they are read as.
    classes : int, optional
        How many digits there are.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there are no labels, or not one prediction for each.
    """
    matrix = _count(labels, predictions, classes)
    figure, axes = plt.subplots(figsize=(9, 4))
    scores = []
    for i, (name, totals) in enumerate([("recall", matrix.sum(1)), ("precision", matrix.sum(0))]):
        n = np.maximum(totals, 1)
        score = matrix.diagonal() / n
        scores.append(np.where(totals, score, np.nan))
        axes.errorbar(
            np.arange(classes) + 0.24 * i - 0.12,
            100 * scores[-1],
            yerr=100 * np.sqrt(score * (1 - score) / n),
            fmt="os"[i],
            color=COLOURS[i],
            capsize=3,
            label=name,
        )
    axes.set_xticks(range(classes))
    axes.set_xlabel("digit")
    axes.set_ylabel("%")
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    recall, precision = scores
    show(
        f"{title}, as points with their standard errors. "
        f"Lowest recall: digit {np.nanargmin(recall)}, {np.nanmin(recall):.1%}. "
        f"Lowest precision: digit {np.nanargmin(precision)}, {np.nanmin(precision):.1%}.",
        figure,
    )


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    count: int = 12,
    title: str = "The most confident mistakes",
) -> None:
    """Show the pictures that are misread with the highest probability.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, rows, columns)
        The pictures.
    labels : numpy.ndarray of int, shape (n,)
        What they are.
    probabilities : numpy.ndarray, shape (n, classes)
        The network's answers.
    count : int, optional
        How many to show, at most.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If nothing is misread.
    """
    answers, top = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    if not len(wrong):
        raise ValueError("No picture is misread: there are no mistakes to show.")
    wrong = wrong[np.argsort(-top[wrong], kind="stable")][:count]
    columns = min(6, len(wrong))
    rows = -(-len(wrong) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.7 * columns, 2.4 * rows), squeeze=False, layout="constrained"
    )
    told = []
    for one in axes.flat:
        one.axis("off")
    for one, i in zip(axes.flat, wrong, strict=False):
        one.imshow(images[i], cmap="gray_r")
        one.set_title(
            f"image {i}: a {labels[i]}\nread as {answers[i]}\nat {100 * top[i]:.1f} %", fontsize=9
        )
        told.append(f"image {i}, a {labels[i]}, read as {answers[i]} at {100 * top[i]:.1f} %")
    figure.suptitle(title)
    show(f"{title}: {'; '.join(told)}.", figure)


def probabilities(
    images: np.ndarray,
    chances: np.ndarray,
    titles: Sequence[str],
    title: str = "What the network answers",
) -> None:
    """Show pictures, and below each the probabilities that a network gives to the digits.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, rows, columns)
        The pictures.
    chances : numpy.ndarray, shape (n, classes)
        The network's answer for each.
    titles : sequence of str
        What each picture is.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there are no pictures, or not one answer and one title for each.
    """
    if not len(images) or not len(images) == len(chances) == len(titles):
        raise ValueError(
            f"Give one row of probabilities and one title for each of {len(images)} pictures: "
            f"there are {len(chances)} rows and {len(titles)} titles."
        )
    n, classes = chances.shape
    figure, axes = plt.subplots(
        2, n, figsize=(max(4.0, 3.2 * n), 5), squeeze=False, layout="constrained"
    )
    told = []
    for column, (image, row, name) in enumerate(zip(images, chances, titles, strict=True)):
        best = int(row.argmax())
        axes[0, column].imshow(image, cmap="gray_r")
        axes[0, column].set_title(name)
        axes[0, column].set_xlabel("column")
        axes[0, column].set_ylabel("row")
        bars = axes[1, column]
        colours = [COLOURS[1] if digit == best else COLOURS[0] for digit in range(classes)]
        bars.bar(range(classes), 100 * row, color=colours)
        bars.set_ylim(0, 105)
        bars.set_xticks(range(classes))
        bars.set_xlabel("digit")
        bars.set_ylabel("probability, %")
        bars.set_title(f"{best} at {100 * row[best]:.1f} %")
        told.append(f"{name}: {best} at {100 * row[best]:.1f} %")
    figure.suptitle(title)
    show(f"{title}, with a bar for each digit's probability. {'; '.join(told)}.", figure)


def reliability(
    labels: np.ndarray,
    probabilities: np.ndarray,
    bins: int = 10,
    title: str = "Reliability diagram",
) -> None:
    """Show how often a network is right, for each degree of confidence.

    Parameters
    ----------
    labels : numpy.ndarray of int, shape (n,)
        What the pictures are.
    probabilities : numpy.ndarray, shape (n, classes)
        The network's answers.
    bins : int, optional
        How many bins of equal width divide the confidences from 0 to 1.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there are no labels, or not one answer for each.
    """
    if not len(labels) or len(labels) != len(probabilities):
        raise ValueError(
            f"Give one row of probabilities for each label: {len(probabilities)} for {len(labels)}."
        )
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = count > 0
    n = count[filled]
    claimed = np.bincount(which, confidence, minlength=bins)[filled] / n
    reached = np.bincount(which, right, minlength=bins)[filled] / n
    figure, (axes, below) = plt.subplots(
        2, 1, figsize=(6, 6.5), height_ratios=[3, 1], sharex=True, layout="constrained"
    )
    axes.plot([0, 100], [0, 100], "--", color="0.5", label="says what it does")
    axes.errorbar(
        100 * claimed,
        100 * reached,
        yerr=100 * np.sqrt(reached * (1 - reached) / n),
        fmt="o",
        color=COLOURS[0],
        capsize=3,
        label="the network",
    )
    axes.set_ylabel("of these, right, %")
    axes.set_title(title)
    axes.legend(loc="upper left")
    middles = (np.flatnonzero(filled) + 0.5) * 100 / bins
    below.bar(middles, n, width=90 / bins, color=COLOURS[0])
    below.set_yscale("log")
    below.set_ylim(bottom=0.5)
    below.set_xlabel("confidence: the probability of its answer, %")
    below.set_ylabel("pictures")
    told = [
        f"{100 * c:.0f} % claimed, {100 * r:.0f} % right (of {k:,})"
        for c, r, k in zip(claimed, reached, n, strict=True)
    ]
    show(f"{title}, from the least to the most confident answers: {'; '.join(told)}.", figure)
