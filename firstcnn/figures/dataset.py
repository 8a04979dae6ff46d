"""Figures of lessons 2 and 3: digits side by side, label shares, mean images, splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from firstcnn.figures.display import COLOURS, show


def digit_grid(
    images: np.ndarray, titles: Sequence, *, title: str = "Digits", columns: int = 10
) -> None:
    """Show pictures side by side, each with its label or another short title.

    Parameters
    ----------
    images : numpy.ndarray, shape (images, rows, columns)
        Intensities; 0 is drawn white and 255 black, in every picture alike.
    titles : sequence
        What to write over each picture; numbers are written as they are.
    title : str, optional
        The title of the whole.
    columns : int, optional
        Pictures in a row.

    Raises
    ------
    ValueError
        If there are no pictures, or not as many titles as pictures.
    """
    if not len(images) or len(images) != len(titles):
        raise ValueError(f"There are {len(images)} images for {len(titles)} titles.")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.1 * columns + 0.8, 1.35 * rows + 0.6), squeeze=False
    )
    for one in axes.flat:
        one.set_axis_off()
    for one, image, text in zip(axes.flat, images, titles, strict=False):
        one.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        one.set_title(text, fontsize=11)
    figure.suptitle(title)
    figure.tight_layout()
    written = ", ".join(str(text) for text in titles)
    show(f"{title}: {len(images)} pictures, with these words over them: {written}.", figure)


def mean_digits(images: np.ndarray, labels: np.ndarray, title: str = "Mean images") -> None:
    """Show the mean of all pictures of each class, on one scale of intensities.

    Parameters
    ----------
    images : numpy.ndarray, shape (images, rows, columns)
        Intensities, 0 to 255.
    labels : numpy.ndarray of int, shape (images,)
        The class of each picture.
    title : str, optional
        The title of the whole.
    """
    classes = np.unique(labels)
    means = [images[labels == one].mean(axis=0) for one in classes]
    columns = min(5, len(classes))
    rows = -(-len(classes) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2 * columns + 1, 2.2 * rows + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for one in axes.flat:
        one.set_axis_off()
    for one, mean, label in zip(axes.flat, means, classes, strict=False):
        drawn = one.imshow(mean, cmap="gray_r", vmin=0, vmax=255)
        one.set_title(f"mean {label}, up to {mean.max():.0f}", fontsize=11)
    figure.colorbar(drawn, ax=axes, label="mean intensity", shrink=0.8)
    figure.suptitle(title)
    sharpest = classes[int(np.argmax([mean.max() for mean in means]))]
    palest = classes[int(np.argmin([mean.max() for mean in means]))]
    show(
        f"{title}: {len(classes)} blurred shapes, each still readable. "
        f"The mean {sharpest} has the darkest pixel, and the darkest pixel of the mean {palest} "
        "is the palest of all.",
        figure,
    )


def label_shares(
    sets: Mapping[str, np.ndarray], title: str = "How often each digit occurs"
) -> None:
    """Draw how large a share of each set every label has, as bars side by side.

    Parameters
    ----------
    sets : mapping of str to numpy.ndarray of int
        The labels of each set, by its name; at most seven sets.
    title : str, optional
        The title.
    """
    classes = 1 + max(int(labels.max()) for labels in sets.values())
    width = 0.8 / len(sets)
    figure, axes = plt.subplots(figsize=(8, 3.6))
    told = []
    for i, (name, labels) in enumerate(sets.items()):
        shares = 100 * np.bincount(labels, minlength=classes) / len(labels)
        places = np.arange(classes) + (i - (len(sets) - 1) / 2) * width
        axes.bar(places, shares, width, color=COLOURS[i], label=f"{name} ({len(labels):,})")
        told.append(
            f"In the {name} set the shares run from {shares.min():.1f} % (digit "
            f"{shares.argmin()}) to {shares.max():.1f} % (digit {shares.argmax()})."
        )
    axes.axhline(100 / classes, color=COLOURS[6], linestyle="--", label="equal shares")
    axes.set_xticks(range(classes))
    axes.set_xlabel("label")
    axes.set_ylabel("share of the set (%)")
    axes.set_title(title)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper center", ncols=len(sets) + 1)
    show(f"{title}, as bars for the labels 0 to {classes - 1}. {' '.join(told)}", figure)


def intensities(
    sets: Mapping[str, np.ndarray], title: str = "How often each intensity occurs"
) -> None:
    """Draw a histogram of the values of each array, counts on a logarithmic axis.

    Parameters
    ----------
    sets : mapping of str to numpy.ndarray
        The arrays, of any shape, by what to write over each histogram.
    title : str, optional
        The title of the whole.
    """
    figure, axes = plt.subplots(1, len(sets), figsize=(5 * len(sets), 3.4), squeeze=False)
    told = []
    for i, (one, (name, values)) in enumerate(zip(axes.flat, sets.items(), strict=True)):
        one.hist(values.ravel(), bins=32, log=True, color=COLOURS[i])
        one.set_title(name)
        one.set_xlabel("intensity")
        one.set_ylabel("pixels (logarithmic)")
        told.append(
            f"{name}: from {values.min():g} to {values.max():g}, "
            f"{np.mean(values == 0):.0%} of the pixels are 0."
        )
    figure.suptitle(title)
    figure.tight_layout()
    show(f"{title}, as histograms. {' '.join(told)}", figure)


def split_bar(sizes: Mapping[str, int], title: str = "The sets, and what each is for") -> None:
    """Draw how many images each set has, as parts of one bar.

    Parameters
    ----------
    sizes : mapping of str to int
        The number of images by the set's name, from left to right; at most six sets.
    title : str, optional
        The title.
    """
    figure, axes = plt.subplots(figsize=(9, 2))
    left = 0
    for i, (name, size) in enumerate(sizes.items()):
        axes.barh(0, size, left=left, color=COLOURS[i], edgecolor="white", linewidth=3)
        axes.text(left + size / 2, 0.5, f"{name}\n{size:,}", ha="center", va="bottom")
        left += size
    axes.set_ylim(-0.5, 1.3)
    axes.set_yticks([])
    axes.set_xlim(0, left)
    axes.set_xlabel("images")
    axes.set_title(title)
    parts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    show(f"{title}: one bar of {left:,} images in {len(sizes)} parts, {parts}.", figure)
