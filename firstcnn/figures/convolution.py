"""Figures of lesson 1: pixels as numbers, one step of a convolution, feature maps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from firstcnn.figures.display import COLOURS, show


def _numbers(axes: plt.Axes, values: np.ndarray, *, low: float, high: float) -> None:
    """Draw an array as a table: each value in a square whose grey tells its size."""
    axes.imshow(values, cmap="gray_r", vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(values):
        dark = (value - low) / ((high - low) or 1) > 0.5
        colour = "white" if dark else "black"
        axes.text(column, row, f"{value:g}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    axes.set_xlabel("column")
    axes.set_ylabel("row")


def pixel_table(image: np.ndarray, title: str = "Pixels") -> None:
    """Show a small grey picture with the number of each pixel written on it.

    Parameters
    ----------
    image : numpy.ndarray, shape (rows, columns)
        Intensities; 0 is drawn white, the largest dark.
    title : str, optional
        The title.
    """
    figure, axes = plt.subplots(figsize=(5.5, 5.5))
    _numbers(axes, image, low=0, high=float(image.max()))
    axes.set_title(title)
    brightest = tuple(int(i) for i in np.unravel_index(image.argmax(), image.shape))
    show(
        f"{title}: {image.shape[0]} rows and {image.shape[1]} columns of numbers. "
        f"The largest, {image.max()}, is at row {brightest[0]}, column {brightest[1]}; "
        f"{(image == 0).mean():.0%} are 0.",
        figure,
    )


def convolution_step(
    image: np.ndarray, kernel: np.ndarray, row: int = 0, column: int = 0, stride: int = 1
) -> None:
    """Show one step of a convolution: the window, the kernel, the products, and the output.

    Parameters
    ----------
    image : numpy.ndarray, shape (rows, columns)
        The picture.
    kernel : numpy.ndarray, shape (height, width)
        The kernel.
    row, column : int, optional
        The place in the output that this step fills; all before it are filled.
    stride : int, optional
        The step of the window.

    Raises
    ------
    ValueError
        If the output has no such place.
    """
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)[::stride, ::stride]
    output = (windows * kernel).sum(axis=(2, 3))
    rows, columns = output.shape
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(
            f"The output has {rows} x {columns} places, numbered from 0; "
            f"there is no row {row}, column {column}."
        )
    products = windows[row, column] * kernel
    filled = np.arange(output.size).reshape(output.shape) <= row * columns + column
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), width_ratios=[5, 3, 3, 3])
    _numbers(axes[0], image, low=min(0, image.min()), high=image.max())
    height, width = kernel.shape
    frame = plt.Rectangle(
        (column * stride - 0.5, row * stride - 0.5),
        width,
        height,
        fill=False,
        edgecolor=COLOURS[1],
        linewidth=4,
    )
    axes[0].add_patch(frame)
    _numbers(axes[1], kernel, low=kernel.min() * 3, high=kernel.max() * 3)
    reach = float(np.abs(products).max()) or 1
    _numbers(axes[2], products, low=-3 * reach, high=3 * reach)
    reach = float(np.abs(output).max()) or 1
    _numbers(axes[3], np.where(filled, output, np.nan), low=-3 * reach, high=3 * reach)
    for text in axes[3].texts:
        text.set_visible(text.get_text() != "nan")
    total = products.sum()
    titles = ("picture and window", "kernel", f"products: sum {total:g}", "output so far")
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title)
    figure.tight_layout()
    show(
        f"One step of a convolution: the window at row {row * stride}, column {column * stride} "
        f"of the picture, times the kernel, gives {products.size} products. Their sum, {total:g}, "
        f"is written at row {row}, column {column} of a {rows} x {columns} output.",
        figure,
    )


def feature_maps(image: np.ndarray, maps: np.ndarray, names: list[str]) -> None:
    """Show a picture beside what each filter of a layer makes of it.

    Parameters
    ----------
    image : numpy.ndarray, shape (rows, columns)
        The picture.
    maps : numpy.ndarray, shape (rows, columns, filters)
        The layer's output for it.
    names : list of str
        A title for each map.
    """
    figure, axes = plt.subplots(1, 1 + maps.shape[-1], figsize=(3 * (1 + maps.shape[-1]), 3.3))
    axes[0].imshow(image, cmap="gray_r")
    axes[0].set_title("picture")
    reach = float(np.abs(maps).max()) or 1
    for i, name in enumerate(names):
        # Blue to orange-red through white: opposite signs stay apart for colour-blind readers.
        drawn = axes[1 + i].imshow(maps[:, :, i], cmap="PuOr", vmin=-reach, vmax=reach)
        axes[1 + i].set_title(name)
    for one in axes:
        one.set_xlabel("column")
    axes[0].set_ylabel("row")
    figure.colorbar(drawn, ax=axes, label="filter's sum", shrink=0.8)
    strongest = ", ".join(f"{name}: {maps[:, :, i].max():.1f}" for i, name in enumerate(names))
    show(
        f"A picture of {image.shape[0]} x {image.shape[1]} pixels and {len(names)} maps of "
        f"{maps.shape[0]} x {maps.shape[1]}. Largest sums: {strongest}.",
        figure,
    )
