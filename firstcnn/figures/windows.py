"""Moving figures of lesson 1: a window that slides over a picture, in convolution and pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from firstcnn.figures.display import COLOURS
from firstcnn.figures.moving import Control, Scene, show_moving

_EMPTY = "#D9D9D9"  # where the output is not filled yet
_PADDING = "#CFE5F2"

_KINDS = {"max": np.max, "average": np.mean, "sum": np.sum}


def moving_convolution(
    image: np.ndarray,
    kernels: Mapping[str, Any],
    *,
    strides: Sequence[int] = (1, 2, 3),
    paddings: Sequence[int] = (0, 1, 2),
    row: int = 0,
    column: int = 0,
    title: str = "A convolution, place by place",
) -> None:
    """Show a convolution with sliders for the place, and lists for kernel, stride and padding.

    Beside the picture with the window stand the numbers in the window, the kernel,
    their products, and the output, filled up to this place.

    Parameters
    ----------
    image : numpy.ndarray, shape (rows, columns)
        The picture.
    kernels : mapping of str to array-like, shape (height, width)
        The kernels to choose from, by their names.
    strides, paddings : sequence of int, optional
        The steps of the window, and the zeros on each side, to choose from.
    row, column : int, optional
        The place in the output at first, with the first kernel, stride and padding.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If the picture or a kernel is not a table of finite numbers, a kernel is larger
        than the picture, or the output has no such place.
    """
    scene = Convolution(image, kernels, strides=strides, paddings=paddings, title=title)
    show_moving(scene, _at(scene, row, column))


def moving_pooling(
    image: np.ndarray,
    *,
    sizes: Sequence[int] = (2, 3, 4),
    row: int = 0,
    column: int = 0,
    title: str = "Pooling, window by window",
) -> None:
    """Show pooling with sliders for the place, and lists for the kind and the window's size.

    Beside the picture with the window stand the numbers in the window, and the
    output, filled up to this place. Windows lie side by side.

    Parameters
    ----------
    image : numpy.ndarray, shape (rows, columns)
        The picture.
    sizes : sequence of int, optional
        The rows, and columns, of the window to choose from.
    row, column : int, optional
        The place in the output at first, with max pooling and the first size.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If the picture is not a table of finite numbers, a window is larger than the
        picture, or the output has no such place.
    """
    scene = Pooling(image, sizes=sizes, title=title)
    show_moving(scene, _at(scene, row, column))


class _Sliding(Scene):
    """What convolution and pooling share: a picture with a window, and an output that fills up."""

    plays = ("row", "column")

    def __init__(self, image: Any, title: str, middle: str):
        super().__init__(12, 4.5)
        self.image = _table("The picture", image)
        self.figure.suptitle(title)
        axes = self.figure.subplot_mosaic(
            middle,
            width_ratios=[1.9, 1.15, 1.15, 1.9],
            gridspec_kw={
                "left": 0.05,
                "right": 0.98,
                "top": 0.84,
                "bottom": 0.12,
                "wspace": 0.22,
                "hspace": 0.3,
            },
        )
        self.axes = axes
        signed = bool((self.image < 0).any())
        reach = float(np.abs(self.image).max()) or 1
        self.picture = axes["P"].imshow(
            self.image,
            cmap="PuOr" if signed else "gray_r",
            vmin=-reach * signed,
            vmax=reach,
        )
        axes["P"].set_facecolor(_PADDING)
        axes["O"].set_facecolor(_EMPTY)
        self.output = axes["O"].imshow(np.zeros((1, 1)), animated=True)
        frame = {"fill": False, "edgecolor": COLOURS[1], "linewidth": 3, "animated": True}
        self.window = axes["P"].add_patch(plt.Rectangle((0, 0), 1, 1, **frame))
        self.place = axes["O"].add_patch(plt.Rectangle((0, 0), 1, 1, **frame))
        for name in "PO":
            axes[name].set(xlabel="column", ylabel="row")
        axes["T"].axis("off")
        self.told = axes["T"].text(0.5, 0.5, "", ha="center", va="center", fontsize=11)
        self.told.set_animated(True)

    def fixed(self, choices):
        """Return the choices but for the place."""
        return {name: choice for name, choice in choices.items() if name not in self.plays}

    def moving(self):
        """Return what depends on the place."""
        border = self.axes["O"].spines.values()
        return [self.output, *border, self.place, self.window, self.told]

    def _slide(
        self,
        choices: Mapping[str, int],
        output: np.ndarray,
        shape: tuple[int, int],
        stride: int,
        padding: int = 0,
    ) -> tuple[int, int]:
        """Draw window, output and place; return the window's first row and column."""
        row, column = choices["row"], choices["column"]
        top, left = row * stride - padding, column * stride - padding
        height, width = shape
        _fit(self.axes["P"], self.image.shape, padding)
        self.window.set_bounds(left - 0.5, top - 0.5, width, height)
        rows, columns = output.shape
        filled = np.arange(output.size).reshape(output.shape) <= row * columns + column
        reach = float(np.abs(output).max()) or 1
        signed = bool((output < 0).any())
        self.output.set_data(np.where(filled, output, np.nan))
        self.output.set(
            cmap="PuOr" if signed else "gray_r",
            clim=(-reach * signed, reach),
            extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        )
        _fit(self.axes["O"], output.shape)
        self.place.set_bounds(column - 0.5, row - 0.5, 1, 1)
        self.axes["O"].set_title(f"output so far: {rows} x {columns}")
        return top, left


class Convolution(_Sliding):
    """The scene of :func:`moving_convolution`, which tells its parameters."""

    def __init__(
        self,
        image: Any,
        kernels: Mapping[str, Any],
        *,
        strides: Sequence[int] = (1, 2, 3),
        paddings: Sequence[int] = (0, 1, 2),
        title: str = "A convolution, place by place",
    ):
        super().__init__(image, title, "PWKO;PRTO")
        self.kernels = {name: _table(f"Kernel {name!r}", one) for name, one in kernels.items()}
        if not self.kernels:
            raise ValueError("There is no kernel to choose: give a dictionary with at least one.")
        for name, kernel in self.kernels.items():
            _check_fits(f"Kernel {name!r}", kernel.shape, self.image.shape)
        self.strides = _whole("strides", strides, least=1)
        self.paddings = _whole("paddings", paddings, least=0)
        self.numbers = {name: _Numbers(self.axes[name]) for name in "WKR"}
        self.axes["W"].set_title("window")
        self.axes["K"].set_title("\u00d7 kernel")
        self.axes["R"].set_title("= products")

    def moving(self):
        """Return what depends on the place."""
        numbers = [one for name in "WKR" for one in self.numbers[name].artists]
        return [*super().moving(), *numbers]

    def controls(self, choices):
        """Return the controls; stride, padding and kernel tell how many places there are."""
        height, width = self._kernel(choices)[1].shape
        stride = self.strides[choices.get("stride", 0)]
        padding = self.paddings[choices.get("padding", 0)]
        rows = _places(self.image.shape[0], height, stride, padding)
        columns = _places(self.image.shape[1], width, stride, padding)
        return [
            Control("kernel", list(self.kernels), slide=False),
            Control("stride", [str(one) for one in self.strides], slide=False),
            Control("padding", [str(one) for one in self.paddings], slide=False),
            Control("row", [str(one) for one in range(rows)]),
            Control("column", [str(one) for one in range(columns)]),
        ]

    def draw(self, choices):
        """Draw one place of the window."""
        name, kernel = self._kernel(choices)
        stride, padding = self.strides[choices["stride"]], self.paddings[choices["padding"]]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(self.image, padding), kernel.shape
        )[::stride, ::stride]
        output = np.einsum("ijkl,kl->ij", windows, kernel)
        row, column = choices["row"], choices["column"]
        window, total = windows[row, column], output[row, column]
        top, left = self._slide(choices, output, kernel.shape, stride, padding)
        products = window * kernel
        padded = f", {padding} of padding" if padding else ""
        self.axes["P"].set_title(f"picture{padded}, and window")
        self.numbers["W"].set(window, float(np.abs(self.image).max()))
        self.numbers["K"].set(kernel, float(np.abs(kernel).max()))
        self.numbers["R"].set(products, float(np.abs(products).max()))
        self.told.set_text(
            f"sum of the products\n{_short(total)}\n\nis written at\nrow {row}, column {column}"
        )
        rows, columns = output.shape
        (height, width), (all_rows, all_columns) = kernel.shape, self.image.shape
        sizes = " and ".join(
            f"({n} + 2 x {padding} - {k}) / {stride} rounded down + 1 = {size} {what}"
            for n, k, size, what in (
                (all_rows, height, rows, "rows"),
                (all_columns, width, columns, "columns"),
            )
        )
        return (
            f"A convolution of a picture of {all_rows} x {all_columns} pixels with the kernel "
            f"{name}, {height} x {width}, stride {stride}, padding {padding}. "
            f"The output has {sizes}. The window at row {top}, column {left} of the picture "
            f"holds {_listed(window)}; the kernel is {_listed(kernel)}; "
            f"their products are {_listed(products)}. "
            f"The sum of the products, {_short(total)}, is written at row {row}, column {column} "
            f"of the output; {row * columns + column + 1} of its {output.size} places are filled."
        )

    def _kernel(self, choices: Mapping[str, int]) -> tuple[str, np.ndarray]:
        return list(self.kernels.items())[choices.get("kernel", 0)]


class Pooling(_Sliding):
    """The scene of :func:`moving_pooling`, which tells its parameters."""

    def __init__(
        self,
        image: Any,
        *,
        sizes: Sequence[int] = (2, 3, 4),
        title: str = "Pooling, window by window",
    ):
        super().__init__(image, title, "PWWO;PTTO")
        self.sizes = _whole("sizes", sizes, least=1)
        for size in self.sizes:
            _check_fits("The window", (size, size), self.image.shape)
        self.numbers = _Numbers(self.axes["W"])
        self.axes["W"].set_title("window")
        self.axes["P"].set_title("picture and window")

    def moving(self):
        """Return what depends on the place."""
        return [*super().moving(), *self.numbers.artists]

    def controls(self, choices):
        """Return the controls; the window's size tells how many places there are."""
        size = self.sizes[choices.get("size", 0)]
        rows, columns = (_places(n, size, size) for n in self.image.shape)
        return [
            Control("kind", list(_KINDS), slide=False),
            Control("size", [str(one) for one in self.sizes], slide=False),
            Control("row", [str(one) for one in range(rows)]),
            Control("column", [str(one) for one in range(columns)]),
        ]

    def draw(self, choices):
        """Draw one place of the window."""
        kind, size = list(_KINDS)[choices["kind"]], self.sizes[choices["size"]]
        windows = np.lib.stride_tricks.sliding_window_view(self.image, (size, size))[::size, ::size]
        output = _KINDS[kind](windows, axis=(2, 3))
        row, column = choices["row"], choices["column"]
        window, kept = windows[row, column], output[row, column]
        top, left = self._slide(choices, output, (size, size), size)
        self.numbers.set(window, float(np.abs(self.image).max()))
        self.told.set_text(
            f"{kind} of the {size * size} numbers\n{_short(kept)}\n\n"
            f"is written at\nrow {row}, column {column}"
        )
        (all_rows, all_columns), (rows, columns) = self.image.shape, output.shape
        return (
            f"{kind.capitalize()} pooling of a picture of {all_rows} x {all_columns} pixels with "
            f"windows of {size} x {size}, side by side. The output has {rows} rows and {columns} "
            f"columns. The window at row {top}, column {left} of the picture holds "
            f"{_listed(window)}. The {kind} of these, {_short(kept)}, is written at row {row}, "
            f"column {column} of the output; {row * columns + column + 1} of its {output.size} "
            "places are filled."
        )


class _Numbers:
    """A small table of numbers on axes of its own: each in a square whose colour tells its size."""

    def __init__(self, axes: plt.Axes):
        self.axes = axes
        self.image = axes.imshow(np.zeros((1, 1)), cmap="PuOr", animated=True)
        self.texts: list[plt.Text] = []
        axes.set(xticks=[], yticks=[])

    @property
    def artists(self) -> list[Any]:
        """What is drawn, from the back to the front."""
        return [self.image, *self.axes.spines.values(), *self.texts]

    def set(self, values: np.ndarray, reach: float) -> None:
        """Show other numbers; `reach` is the largest size that a colour stands for."""
        rows, columns = values.shape
        if self.image.get_size() != values.shape or not self.texts:
            self._lay_out(rows, columns)
        self.image.set_data(values)
        # Three times as far as the numbers go: the colours stay pale enough to read black on them.
        self.image.set(
            clim=(-3 * (reach or 1), 3 * (reach or 1)),
            extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        )
        for text, value in zip(self.texts, values.flat, strict=True):
            text.set_text(_short(value, 1))

    def _lay_out(self, rows: int, columns: int) -> None:
        """Make a text for each number of a table of this size."""
        for text in self.texts:
            text.remove()
        self.axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        how = {"ha": "center", "va": "center", "fontsize": 10 if columns <= 3 else 7}
        self.texts = [
            self.axes.text(column, row, "", animated=True, **how)
            for row, column in np.ndindex(rows, columns)
        ]


def _fit(axes: plt.Axes, shape: tuple[int, int], padding: int = 0) -> None:
    """Give axes the limits and a few ticks of a picture with padding around it."""
    rows, columns = shape
    axes.set(
        xlim=(-padding - 0.5, columns + padding - 0.5),
        ylim=(rows + padding - 0.5, -padding - 0.5),
        xticks=sorted({0, columns // 2, columns - 1}),
        yticks=sorted({0, rows // 2, rows - 1}),
    )


def _places(n: int, k: int, stride: int, padding: int = 0) -> int:
    """Return how many places a window of k has on n pixels with padding on both sides."""
    return (n + 2 * padding - k) // stride + 1


def _at(scene: Scene, row: int, column: int) -> dict[str, int]:
    """Return the choice of a place, which the output must have."""
    rows, columns = (len(one.options) for one in scene.controls({})[-2:])
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(
            f"The output has {rows} x {columns} places, numbered from 0; "
            f"there is no row {row}, column {column}."
        )
    return {"row": row, "column": column}


def _table(what: str, values: Any) -> np.ndarray:
    """Return numbers as floats, if they form a table."""
    table = np.asarray(values)
    if table.ndim != 2 or not table.size or table.dtype.kind not in "biuf":
        raise ValueError(
            f"{what} must be a table of numbers, with rows and columns; "
            f"it has shape {table.shape} and dtype {table.dtype}."
        )
    if not np.isfinite(table).all():
        raise ValueError(f"{what} holds numbers that are not finite.")
    return table.astype(float)


def _check_fits(what: str, shape: tuple[int, int], picture: tuple[int, int]) -> None:
    if shape[0] > picture[0] or shape[1] > picture[1]:
        raise ValueError(
            f"{what}, {shape[0]} x {shape[1]}, is larger than the picture, "
            f"{picture[0]} x {picture[1]}."
        )


def _whole(what: str, values: Sequence[int], least: int) -> list[int]:
    chosen = list(values)
    if not chosen or not all(
        isinstance(one, int | np.integer) and not isinstance(one, bool) and one >= least
        for one in chosen
    ):
        raise ValueError(f"{what} must be whole numbers from {least} on, at least one: {chosen}.")
    return [int(one) for one in chosen]


def _short(value: float, digits: int = 2) -> str:
    """Write a number with few digits behind the point, and none that say nothing."""
    return f"{round(float(value), digits) + 0.0:.10g}"


def _listed(values: np.ndarray) -> str:
    """Write a table row by row."""
    return "; ".join(" ".join(_short(one) for one in row) for row in values)
