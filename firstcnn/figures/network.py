"""Figures of lesson 4: a whole network, its feature maps layer by layer, and what ReLU does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from firstcnn.figures.display import COLOURS, show

if TYPE_CHECKING:
    import keras

_GREY = "#BBBBBB"

# What made a block of numbers tells its colour.
_KINDS = {"Conv": COLOURS[0], "Pooling": COLOURS[4], "Dense": COLOURS[2]}

# Inches from one block to the next, and of the tallest block.
_PITCH = 1.85
_TALLEST = 1.7
_MIDDLE = _TALLEST / 2


def network(model: keras.Model, title: str = "") -> None:
    """Draw a network as the blocks of numbers that flow through it.

    A block is as tall as it has rows, as deep as it has columns, and the
    wider, the more channels it has; a vector is a bar. Each arrow carries a
    layer with its settings and parameters, each block its shape.

    Parameters
    ----------
    model : keras.Model
        A chain of layers, Sequential or functional, that knows its input shape.
    title : str, optional
        The title; by default the model's name.

    Raises
    ------
    ValueError
        If the model does not know its shapes, or is not a chain.
    """
    layers = _chain(model)
    shapes = [tuple(model.inputs[0].shape[1:])] + [tuple(one.output.shape[1:]) for one in layers]
    width = _PITCH * len(shapes)
    figure, axes = plt.subplots(figsize=(width + 0.7, 4.7))
    axes.set_xlim(0, width + 0.7)
    axes.set_ylim(-2.3, 2.4)
    axes.axis("off")
    tallest = max((shape[0] for shape in shapes if len(shape) == 3), default=1)
    longest = max((shape[0] for shape in shapes if len(shape) == 1), default=1)
    edges = []
    for i, shape in enumerate(shapes):
        colour = _colour(layers[i - 1]) if i else _GREY
        edges.append(_block(axes, _PITCH * (i + 0.5), shape, tallest, longest, colour))
    edges.append((width + 0.7, width))
    centred = {"ha": "center", "va": "top"}
    captions = [("Input", [])]
    captions += [(type(one).__name__, [*_settings(one), _parameters(one)]) for one in layers]
    for i, (name, lines) in enumerate(captions):
        centre = _PITCH * (i + 0.5)
        start, end = edges[i][1] + 0.05, edges[i + 1][0] - 0.05
        axes.annotate("", (end, _MIDDLE), (start, _MIDDLE), arrowprops={"arrowstyle": "-|>"})
        above = {"ha": "center", "va": "bottom", "fontsize": 11}
        axes.text((start + end) / 2, _MIDDLE + 0.06, _shown(shapes[i]), **above)
        axes.text(centre, -0.3, name, fontsize=12, weight="bold", **centred)
        axes.text(centre, -0.58, "\n".join(lines), fontsize=10.5, linespacing=1.3, **centred)
    title = title or f'The network "{model.name}"'
    axes.set_title(f"{title}: {model.count_params():,} parameters", fontsize=15)
    axes.text(
        width / 2,
        -2.25,
        "At each arrow: the shape. A block's height: rows; depth: columns;\n"
        "width: channels (as their square root). A bar: a vector (as its logarithm).",
        ha="center",
        fontsize=10.5,
        color="#444444",
    )
    steps = "; ".join(
        f"{', '.join([type(one).__name__, *_settings(one), _parameters(one)])}, "
        f"gives {_shown(shape)}"
        for one, shape in zip(layers, shapes[1:], strict=True)
    )
    show(
        f"{title}, from left to right. Input of shape {_shown(shapes[0])}; {steps}. "
        f"In all {model.count_params():,} parameters.",
        figure,
    )


def maps_by_layer(model: keras.Model, image: np.ndarray, maps: int = 6) -> None:
    """Show what each layer that gives feature maps makes of a picture.

    Parameters
    ----------
    model : keras.Model
        A chain of layers that knows its input shape.
    image : numpy.ndarray, shape (rows, columns, channels)
        One picture, as the model takes it.
    maps : int, optional
        How many maps of each layer to show: the first ones.

    Raises
    ------
    ValueError
        If the model is not a chain, or no layer gives feature maps.
    """
    drawn, outputs, _ = feature_maps_of(model, image[None])
    outputs = [one[0] for one in outputs]
    figure, grid = plt.subplots(
        len(drawn),
        maps + 1,
        figsize=(1.75 * (maps + 1), 2.0 * len(drawn) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for row, (layer, output) in enumerate(zip(drawn, outputs, strict=True)):
        reach = float(np.abs(output).max()) or 1
        signed = bool((output < 0).any())
        colours = {"cmap": "PuOr" if signed else "Purples", "vmin": -reach * signed, "vmax": reach}
        first = grid[row, 0]
        if row == 0:
            first.imshow(image[:, :, 0], cmap="gray_r")
            first.set_title("picture", fontsize=11)
            first.set(xlabel="column", ylabel="row")
        else:
            first.axis("off")
        for i, axes in enumerate(grid[row, 1:]):
            if i >= output.shape[-1]:
                axes.axis("off")
                continue
            image_drawn = axes.imshow(output[:, :, i], **colours)
            axes.set_title(f"map {i}", fontsize=11)
            if i == 0:
                axes.set_ylabel(f"{type(layer).__name__}\nrow")
            if row == len(drawn) - 1:
                axes.set_xlabel("column")
        figure.colorbar(image_drawn, ax=grid[row, 1:].tolist(), label="value")
    figure.suptitle(f'What the layers of "{model.name}" make of one picture (scale by row)')
    listed = "; ".join(
        f"{type(layer).__name__}, {output.shape[0]} x {output.shape[1]} pixels, "
        f"{min(maps, output.shape[2])} of {output.shape[2]} maps"
        for layer, output in zip(drawn, outputs, strict=True)
    )
    show(
        f"A picture of {image.shape[0]} x {image.shape[1]} pixels and, a row for each layer, "
        f"what the layers make of it: {listed}. The picture becomes coarser from row to row.",
        figure,
    )


def relu(sums: np.ndarray) -> None:
    """Show the ReLU function, and a filter's sums before and after it.

    Parameters
    ----------
    sums : numpy.ndarray, shape (rows, columns)
        What a filter without activation makes of a picture.
    """
    after = np.maximum(sums, 0)
    reach = float(np.abs(sums).max()) or 1
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    x = np.array([-reach, 0, reach])
    axes[0].plot(x, x, color=COLOURS[6], linestyle="--", label="no activation")
    axes[0].plot(x, np.maximum(x, 0), color=COLOURS[1], linewidth=3, label="ReLU")
    axes[0].set(title="ReLU: max(0, x)", xlabel="sum", ylabel="output")
    axes[0].legend()
    for one, values, name in zip(axes[1:], (sums, after), ("before", "after"), strict=True):
        drawn = one.imshow(values, cmap="PuOr", vmin=-reach, vmax=reach)
        one.set(title=f"feature map {name} ReLU", xlabel="column", ylabel="row")
    figure.colorbar(drawn, ax=axes[2], label="value")
    show(
        f"Left: ReLU is 0 for every negative sum, and the sum itself for a positive one. "
        f"Middle: a feature map of {sums.shape[0]} x {sums.shape[1]} sums from "
        f"{sums.min():.1f} to {sums.max():.1f}; {(sums < 0).mean():.0%} are negative. "
        f"Right: after ReLU these are 0, and the positive ones are unchanged.",
        figure,
    )


def feature_maps_of(
    model: keras.Model, images: np.ndarray
) -> tuple[list[Any], list[np.ndarray], np.ndarray]:
    """Run pictures through a chain of layers, once, and keep what is on the way.

    Parameters
    ----------
    model : keras.Model
        A chain of layers that knows its input shape.
    images : numpy.ndarray, shape (n, rows, columns, channels)
        Pictures, as the model takes them.

    Returns
    -------
    layers : list of keras.Layer
        Those that give feature maps.
    maps : list of numpy.ndarray, shape (n, rows, columns, channels)
        The output of each of these.
    answers : numpy.ndarray, shape (n, ...)
        The output of the last layer of all.

    Raises
    ------
    ValueError
        If the model is not a chain, or no layer gives feature maps.
    """
    import keras

    layers = [one for one in _chain(model) if len(one.output.shape) == 4]
    if not layers:
        raise ValueError("No layer of this model gives feature maps (rows, columns, channels).")
    probe = keras.Model(model.inputs[0], [*(one.output for one in layers), model.outputs[0]])
    *maps, answers = [np.asarray(one) for one in probe(images, training=False)]
    return layers, maps, answers


def _chain(model: Any) -> list[Any]:
    """Return a model's layers without the input, if they form a chain."""
    if not model.built or not model.inputs:
        raise ValueError(
            "The model does not know its shapes yet: start it with keras.Input((28, 28, 1))."
        )
    layers = [one for one in model.layers if type(one).__name__ != "InputLayer"]
    before = model.inputs[0]
    for one in layers:
        if not hasattr(one, "output") or one.input is not before:
            raise ValueError(f'The layers do not form a chain: "{one.name}" breaks it.')
        before = one.output
    return layers


def _colour(layer: Any) -> str:
    kind = type(layer).__name__
    return next((colour for part, colour in _KINDS.items() if part in kind), _GREY)


def _shown(shape: tuple[int, ...]) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


def _times(pair: Any) -> str:
    return " x ".join(map(str, pair)) if isinstance(pair, list | tuple) else f"{pair} x {pair}"


def _settings(layer: Any) -> list[str]:
    """Say in a few short lines how a layer is set, what is usual left out."""
    config = layer.get_config()
    lines = []
    if "filters" in config:
        lines.append(f"{config['filters']} filters, {_times(config['kernel_size'])}")
    if "pool_size" in config:
        lines.append(f"windows of {_times(config['pool_size'])}")
    if "units" in config:
        lines.append(f"{config['units']} units")
    if "rate" in config:
        lines.append(f"rate {config['rate']:g}")
    if "filters" in config and set(np.ravel(config["strides"])) != {1}:
        lines.append(f"strides {_times(config['strides'])}")
    if config.get("padding", "valid") != "valid":
        lines.append(f"padding {config['padding']}")
    activation = config.get("activation", "linear")
    if activation != "linear":
        lines.append(activation if isinstance(activation, str) else "activation")
    return lines


def _parameters(layer: Any) -> str:
    count = layer.count_params()
    return f"{count:,} parameters" if count else "no parameters"


def _block(
    axes: plt.Axes,
    centre: float,
    shape: tuple[int, ...],
    tallest: int,
    longest: int,
    colour: str,
) -> tuple[float, float]:
    """Draw one block or bar in oblique view and return its left and right edge."""
    if len(shape) == 3:
        height = _TALLEST * shape[0] / tallest
        depth = 0.45 * shape[1] / tallest
        width = min(0.06 * math.sqrt(shape[2]) + 0.03, 0.75)
    else:
        height = _TALLEST * (0.15 + 0.85 * math.log1p(shape[0]) / math.log1p(longest))
        depth, width = 0.05, 0.12
    left = centre - (width + depth) / 2
    bottom = (_TALLEST - height) / 2
    right, top = left + width, bottom + height
    faces = (
        ([left, right, right, left], [bottom, bottom, top, top], 0.85),
        ([left, right, right + depth, left + depth], [top, top, top + depth, top + depth], 0.55),
        (
            [right, right + depth, right + depth, right],
            [bottom, bottom + depth, top + depth, top],
            0.35,
        ),
    )
    for x, y, alpha in faces:
        axes.fill(x, y, facecolor=colour, alpha=alpha, edgecolor="black", linewidth=0.8)
    return left, right + depth
