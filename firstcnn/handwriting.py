"""Any picture of a digit, made into 28 x 28 pixels as MNIST's makers would have made it.

A network learns MNIST's way of showing a digit along with the digits: white ink
on black, strokes between two and four pixels wide, the digit scaled into a
20 x 20 box, the box placed so that the ink's centre of mass is at the centre of
the 28 x 28 picture [1]_. A picture that is merely shrunk shows none of that.
:func:`prepare` does, one small step after the other::

    grey = to_grey(picture)              # numbers, 0 black to 1 white
    strokes = ink(grey)                  # 1 where there is ink, 0 where there is paper
    strokes = one_digit(strokes)         # no specks, no ruled lines
    strokes = crop(strokes)              # no margins
    strokes = normalise_stroke(strokes)  # neither hairline nor marker
    box = fit_box(strokes, 20)           # the longer side is 20 pixels
    image = centre_by_mass(box, 28)      # 28 x 28

Each step is a function of NumPy arrays that leaves its argument as it was.
From a terminal::

    python -m firstcnn.handwriting PICTURE ... [--model MODEL.keras]

References
----------
.. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning
   applied to document recognition", Proceedings of the IEEE 86 (1998),
   section III.A; and the description at http://yann.lecun.com/exdb/mnist/:
   "size normalized to fit in a 20x20 pixel box while preserving their aspect
   ratio [...] centered in a 28x28 image by computing the center of mass".
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

__all__ = [
    "NoDigit",
    "PictureError",
    "Reading",
    "centre_by_mass",
    "crop",
    "fit_box",
    "ink",
    "normalise_stroke",
    "one_digit",
    "prepare",
    "read",
    "stroke_width",
    "to_grey",
]

MAX_PIXELS = 40_000_000
"""A picture with more pixels is refused before it is decoded."""

MAX_SIDE = 2048
"""A larger picture is reduced to this many pixels along its longer side."""

STROKE = (2.2, 3.6)
"""Thinnest and thickest stroke left alone, in pixels of the 20 x 20 box."""

SURE = 0.8
"""The probability from which :func:`read` calls an answer sure."""

# What Pillow may decode. Its other readers are for formats no digit comes in,
# and one of them (EPS) starts another program.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FAINT = 0.04  # less contrast than this is blank paper
_COARSE = 100  # pixels along the longer side; with fewer, lines may be thinner than a pixel
_SMALLEST = 5  # pixels along the longer side; fewer do not show a digit


class PictureError(ValueError):
    """A picture that cannot be opened or used; the message says what to do."""


class NoDigit(PictureError):
    """A picture in which there is not exactly one digit."""


# --- step 1: numbers ---------------------------------------------------------------------------


def to_grey(image) -> np.ndarray:
    """Turn a picture of any kind into grey levels.

    Parameters
    ----------
    image : PIL.Image.Image, array_like, str, path or open binary file
        An array has the shape (H, W), (H, W, 1), grey and alpha (H, W, 2), RGB
        (H, W, 3) or RGBA (H, W, 4). Its values are bool, whole numbers
        (0 to 255, or 0 to 65535 when any is above 255 or the dtype is uint16)
        or real numbers (0 to 1, or 0 to 255 when any is above 1).

    Returns
    -------
    ndarray of float32, shape (H, W)
        0 is black, 1 is white. Transparent pixels become white, or black if
        everything visible is light. A photograph is turned upright as its EXIF
        data says. A longer side above `MAX_SIDE` is reduced to it.

    Raises
    ------
    PictureError
        If the file is missing or not a picture, if the picture is empty or has
        more than `MAX_PIXELS` pixels, or if the numbers are not grey levels.
    """
    if isinstance(image, Image.Image):
        return _grey_of_array(_pixels(image))
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        try:
            ordinary = path.is_file()
        except (OSError, ValueError):
            ordinary = False
        if not ordinary:
            raise PictureError(
                f"There is no file {str(path)[-80:]!r}: check its name and its folder."
            )
        return _grey_of_file(path, path.name)
    if hasattr(image, "read"):
        return _grey_of_file(image, "This file")
    try:
        array = np.asarray(image)
    except (TypeError, ValueError):
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise PictureError(
            f"A {type(image).__name__} is not a picture: give a PIL image, a NumPy array, "
            "the path of a file or an open file."
        )
    return _grey_of_array(array)


def _grey_of_file(file, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_FORMATS) as picture:
                return _grey_of_array(_pixels(picture))
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(_too_large()) from None
    except Exception:  # a damaged file can make a decoder raise anything
        raise PictureError(
            f"{name} is not a picture that can be opened, or it is damaged: "
            "save it as PNG or JPEG and try again."
        ) from None


def _too_large() -> str:
    return (
        f"The picture has more than {MAX_PIXELS // 10**6} million pixels: "
        "make it smaller and try again."
    )


def _pixels(picture: Image.Image) -> np.ndarray:
    """Decode a picture, of bounded size, into an array that `_grey_of_array` reads."""
    width, height = picture.size
    if width * height == 0:
        raise PictureError(f"The picture is empty: {width} x {height} pixels.")
    if width * height > MAX_PIXELS:
        raise PictureError(_too_large())
    try:
        # The picture is only ever made smaller, so a JPEG may be decoded so.
        picture.draft(None, (MAX_SIDE, MAX_SIDE))
        factor = -(-max(picture.size) // MAX_SIDE)
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith(("I", "F")):
            return np.asarray(picture)
        clear = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
        if picture.mode != "L" or clear:
            picture = picture.convert("RGBA" if clear else "RGB")
        return np.asarray(picture.reduce(factor) if factor > 1 else picture)
    except Exception:  # a damaged picture, or a colour space that Pillow cannot convert
        raise PictureError(
            "The picture is damaged: save it again, as PNG or JPEG, and try again."
        ) from None


def _grey_of_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (2, 3, 4))):
        raise PictureError(
            f"An array of shape {array.shape} is not one picture: "
            "its shape must be (height, width), or (height, width, channels) with 1 to 4 channels."
        )
    if array.size == 0:
        raise PictureError(f"The picture is empty: its shape is {array.shape}.")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise PictureError(_too_large())
    largest, smallest = array.max(), array.min()
    if not (np.isfinite(largest) and np.isfinite(smallest)):
        raise PictureError("The picture has values that are NaN or infinite: grey levels are 0-1.")
    if smallest < 0:
        raise PictureError(f"The picture has negative values ({smallest}): grey levels are 0-1.")
    kind = array.dtype.kind
    white = 1 if kind == "b" or (kind == "f" and largest <= 1) else 255
    if array.dtype == np.uint16 or (kind in "iu" and largest > 255):
        white = 65535
    if largest > white:
        raise PictureError(
            f"The picture has values up to {largest:g}: grey levels are 0-1 or 0-255."
        )
    grey = _shrink(array.astype(np.float32) / white)
    if grey.ndim == 2:
        return grey
    channels = grey.shape[2]
    colour = grey[:, :, :3] @ _LUMA if channels >= 3 else grey[:, :, 0]
    if channels in (2, 4):
        alpha = grey[:, :, -1]
        seen = alpha > 0.5 * alpha.max()
        light = alpha.min() < 0.5 and colour[seen].size and np.median(colour[seen]) > 0.6
        colour = alpha * colour + (1 - alpha) * (0 if light else 1)
    return np.clip(colour, 0, 1).astype(np.float32)


def _shrink(array: np.ndarray, side: int = MAX_SIDE) -> np.ndarray:
    """Reduce by averaging k x k blocks, so that no side is above `side`."""
    k = -(-max(array.shape[:2]) // side)
    return array if k == 1 else _blocks(array, k, np.mean)


def _blocks(array: np.ndarray, k: int, reduce) -> np.ndarray:
    """Reduce each k x k block of the first two axes; the edge is repeated to fill the last.

    An axis shorter than k becomes one block: padding it to k would let a picture of one row
    and millions of columns ask for any amount of memory.
    """
    down, across = (min(k, n) for n in array.shape[:2])
    fill = [(0, -array.shape[0] % down), (0, -array.shape[1] % across)]
    array = np.pad(array, fill + [(0, 0)] * (array.ndim - 2), mode="edge")
    shape = (array.shape[0] // down, down, array.shape[1] // across, across, *array.shape[2:])
    return reduce(array.reshape(shape), axis=(1, 3))


# --- step 2: ink -------------------------------------------------------------------------------


def ink(grey: np.ndarray) -> np.ndarray:
    """Tell ink from paper, whichever of the two is darker.

    The paper may be grey, unevenly lit and noisy: its brightness is estimated
    around each pixel and divided out.

    Parameters
    ----------
    grey : ndarray, shape (H, W)
        Grey levels, 0 to 1, as :func:`to_grey` returns them.

    Returns
    -------
    ndarray of float32, shape (H, W)
        1 for ink, 0 for paper, between them along the edge of a stroke.

    Raises
    ------
    NoDigit
        If the picture is blank.
    """
    grey = np.asarray(grey, np.float32)
    dark_ink = _is_ink_dark(grey)
    paper, constant = _paper(grey, dark_ink)
    strength = paper - grey if dark_ink else grey - paper
    if not constant and dark_ink:  # ink in a shadow is as black, compared with its paper
        strength = strength / np.maximum(paper, 0.2)
    noise, strength = _quiet(strength)
    level = _level(strength)
    if level < max(_FAINT, 4 * noise):
        raise NoDigit("The picture is blank: draw one digit, in a colour unlike the paper's.")
    low = max(0.05 * level, min(3 * noise, 0.4 * level))
    strokes = np.clip((strength - low) / (0.95 * level - low), 0, 1).astype(np.float32)
    return _even_out(strokes) if max(strokes.shape) < _COARSE else strokes


def _even_out(strokes: np.ndarray) -> np.ndarray:
    """Make faint strokes as strong as the others, so that none of them breaks.

    A line thinner than a pixel is grey, more or less, as it lies on the grid. Each pixel is
    compared with the strongest around it.
    """
    peak = ndimage.gaussian_filter(ndimage.maximum_filter(strokes, 3), 0.75)
    return np.clip(strokes / np.clip(peak, 0.2, 1), 0, 1).astype(np.float32)


def _level(strength: np.ndarray) -> float:
    """How strong ink is: typical of as many of the strongest pixels as a hairline would have."""
    count = max(max(strength.shape) // 8, 4)
    strongest = np.partition(strength.ravel(), -min(count, strength.size))[-count:]
    return float(np.median(strongest))


def _otsu(values: np.ndarray) -> float:
    """Otsu's threshold (1979): it splits the values into the two most compact groups."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    between = np.nan_to_num(between)
    # Between two clean groups every threshold is as good: take the middle one.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + best].mean())


def _is_ink_dark(grey: np.ndarray) -> bool:
    """Whether the picture shows dark ink on lighter paper."""
    small = _shrink(grey, 256)
    dark = small < _otsu(small)
    vote = 0.7 * dark[_border(dark)].mean() + 0.3 * dark.mean()
    ink_is_dark = bool(vote <= 0.5)
    if min(small.shape) < 100 or _is_even(small, ink_is_dark):
        return ink_is_dark
    # Uneven light, or a shadow: compare each pixel with those around it. Noise and the edge of a
    # shadow go both ways alike, strokes one way.
    small = _shrink(small, 128)
    window = min(small.shape) // 7 | 1
    local = small - ndimage.median_filter(small, window, mode="nearest")
    return bool((local**3).sum() < 0)


def _border(picture: np.ndarray) -> np.ndarray:
    """A mask of the picture's outermost pixels, a twentieth of it on each side."""
    rim = max(1, min(picture.shape) // 20)
    border = np.ones(picture.shape, bool)
    border[rim:-rim, rim:-rim] = False
    return border


def _is_even(grey: np.ndarray, dark_ink: bool) -> bool:
    """Whether the paper has the same brightness everywhere."""
    is_paper = (grey >= _otsu(grey)) == dark_ink
    if is_paper.all() or not is_paper.any():
        return True
    paper, rest = grey[is_paper], grey[~is_paper]
    contrast = abs(float(np.median(paper)) - float(np.median(rest)))
    spread = float(np.subtract(*np.percentile(paper, [80, 20])))
    around = is_paper[_border(grey)].mean()
    if spread < max(0.12 * contrast, 0.01) and around > 0.7:
        return True
    # A drawing has two colours, and its thick digit may lie along the edge. Where one of the two is
    # a shadow, the ink in it is darker still.
    ends = (98, 2) if dark_ink else (2, 98)
    tails = [
        abs(np.percentile(one, q) - np.median(one))
        for one, q in zip((paper, rest), ends, strict=True)
    ]
    return bool(spread < 0.01 and around > 0.4 and max(tails) < 0.1)


def _paper(grey: np.ndarray, dark_ink: bool) -> tuple[np.ndarray | float, bool]:
    """The paper's brightness, one number if it is even, else one for each pixel."""
    if min(grey.shape) < 100 or _is_even(grey, dark_ink):
        paper = grey[(grey >= _otsu(grey)) == dark_ink]
        return float(np.median(paper if paper.size else grey)), True
    small = _shrink(grey, 200)
    small = ndimage.median_filter(small, 3, mode="nearest")
    window = max(3, int(0.35 * min(small.shape))) | 1
    fill = ndimage.grey_closing if dark_ink else ndimage.grey_opening
    # At the picture's edge a slope would look like ink: take it out first, and put it back.
    slopes = [_slope(small), _slope(small.T)]
    plane = np.add.outer(*(k * np.arange(n) for k, n in zip(slopes, small.shape, strict=True)))
    small = fill(small - plane, window, mode="reflect") + plane
    small = ndimage.gaussian_filter(small, 1.5, mode="nearest")
    return _resize(small, grey.shape, Image.Resampling.BILINEAR), False


def _slope(grey: np.ndarray) -> float:
    """How much brighter the picture becomes from one row to the next, typically."""
    step = max(1, len(grey) // 20)  # short, so that few pairs lie across a shadow's edge
    return float(np.median(grey[step:] - grey[:-step])) / step


def _quiet(strength: np.ndarray) -> tuple[float, np.ndarray]:
    """Smooth a noisy picture a little; return the noise that is left, and the picture."""
    noise, smooth = _noise(strength), strength
    for sigma in (1.0, 1.5, 2.5):
        if min(strength.shape) < 40 * sigma or noise < 0.06 * _level(smooth):
            break
        smooth = ndimage.gaussian_filter(smooth, sigma, mode="nearest")
        # Most pixels are paper, so the median deviation is the paper's.
        noise = 1.4826 * float(np.median(np.abs(smooth - np.median(smooth))))
    return noise, smooth


def _noise(values: np.ndarray) -> float:
    """The standard deviation of pixel noise (Immerkaer 1996, with a median for robustness)."""
    if min(values.shape) < 40:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    return 1.4826 * float(np.median(np.abs(ndimage.convolve(values, kernel)[1:-1, 1:-1])))


# --- step 3: one digit -------------------------------------------------------------------------


def one_digit(strokes: np.ndarray) -> np.ndarray:
    """Keep the digit's own strokes: no specks, no ruled lines, nothing at the picture's edge.

    A digit written in several strokes that do not touch keeps all of them.

    Parameters
    ----------
    strokes : ndarray, shape (H, W)
        1 for ink, 0 for paper, as :func:`ink` returns it.

    Returns
    -------
    ndarray of float32, shape (H, W)
        The same, 0 away from the digit.

    Raises
    ------
    NoDigit
        If nothing is left, if the digit is only a few pixels large, or if
        there are two digits or more.
    """
    strokes = np.asarray(strokes, np.float32)
    mask = strokes > 0.3
    for axis in (0, 1):
        mask = _without_rules(mask, axis)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count == 0:
        raise NoDigit("There is no ink in the picture: draw one digit and try again.")
    strongest = ndimage.maximum(strokes, labels, np.arange(1, count + 1))
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = np.array(
        [
            (rows.start, rows.stop, columns.start, columns.stop)
            for rows, columns in ndimage.find_objects(labels)
        ]
    )
    side = np.maximum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2])
    real = strongest > 0.5
    real &= ~_at_edge(labels, boxes, side, area, real)
    if not real.any():
        raise NoDigit("There is no clear ink in the picture: draw one digit, in a darker colour.")
    main = int(np.argmax(np.where(real, side * np.sqrt(area), 0)))
    if side[main] < _SMALLEST:
        raise NoDigit("The ink is only a speck: draw the digit larger and try again.")
    if side[main] < 0.15 * max(mask.shape) and area[real].sum() > 12 * area[main]:
        raise NoDigit("There is only noise in the picture: draw one digit in thicker strokes.")
    body = labels == main + 1
    fills = side[main] >= 0.9 * max(mask.shape) and area[main] > 0.4 * mask.size
    if fills and ndimage.label(~body)[1] > 20:  # a sponge
        raise NoDigit("There is only noise in the picture: draw one digit in thicker strokes.")
    gap = _gaps(boxes, main)
    keep = real & (
        ((side >= 0.18 * side[main]) & (area >= 0.02 * area[main]) & (gap <= 0.35 * side[main]))
        | ((side >= 0.5 * side[main]) & (area >= 0.15 * area[main]))
    )
    keep[main] = True
    _refuse_several(boxes[keep])
    near = np.concatenate([[False], keep])[labels]
    near = ndimage.binary_dilation(near, np.ones((3, 3)), 1 if max(mask.shape) < 100 else 2)
    near &= ~((labels > 0) & ~np.concatenate([[False], keep])[labels])
    return np.where(near, strokes, 0).astype(np.float32)


def _gaps(boxes: np.ndarray, main: int) -> np.ndarray:
    """How far each box is from the main one, 0 where they overlap."""
    top, bottom, left, right = boxes[main]
    down = np.maximum(np.maximum(boxes[:, 0] - bottom, top - boxes[:, 1]), 0)
    across = np.maximum(np.maximum(boxes[:, 2] - right, left - boxes[:, 3]), 0)
    return np.hypot(down, across)


def _at_edge(labels, boxes, side, area, real) -> np.ndarray:
    """Which components lie along the picture's edge while a real digit lies inside it."""
    height, width = labels.shape
    if min(height, width) < 48:
        return np.zeros(len(boxes), bool)
    rims = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    touch = [np.bincount(rim, minlength=len(boxes) + 1)[1:] for rim in rims]
    along = np.sum(touch, 0)
    inside = real & (along == 0) & (side >= 0.12 * max(height, width))
    if not inside.any():
        return np.zeros(len(boxes), bool)
    largest = side[inside].max()
    # The digit's own strokes may reach the edge too: then they start close to the rest of it.
    gap = _gaps(boxes, int(np.argmax(np.where(inside, side, 0))))
    own = (gap <= max(2, 0.06 * largest)) & (side < 0.8 * largest) & (area > 0.01 * largest**2)
    return (along > 0) & ((along > 0.3 * side) | (side < 0.5 * largest)) & ~own


def _without_rules(mask: np.ndarray, axis: int) -> np.ndarray:
    """Take out thin straight lines that run from one edge of the picture to the other.

    A tight crop of a 7 has such a line too, its bar. Ruled lines are at least
    two, or thinner than the strokes, and something else is left without them.
    """
    turned = mask if axis == 1 else mask.T
    height, width = turned.shape
    if min(height, width) < 48:
        return mask
    run = max(8, width // 24)
    rim = max(2, width // 33)
    runs = ndimage.binary_opening(turned, np.ones((1, run)))
    columns_of_ink, _ = ndimage.label(turned, [[0, 1, 0]] * 3)
    depth = np.bincount(columns_of_ink.ravel())[columns_of_ink]  # how tall the ink is at a pixel
    labels, _ = ndimage.label(runs, np.ones((3, 3)))
    rules, thickness = np.zeros_like(turned), []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        line = labels[box] == number
        start, stop = box[1].start, box[1].stop
        if start > rim or stop < width - rim or line.any(0).mean() < 0.8:
            continue
        thinnest = np.where(line, depth[box], height).min(0)
        typical = float(np.median(thinnest[line.any(0)]))
        if typical > height / 25:
            continue
        thin = line & (depth[box] <= 1.5 * typical + 1)  # elsewhere the digit crosses the line
        rules[box] |= thin
        # A digit can tie several rules together, and they still reach both edges one by one. The
        # two long strokes of a large 4 do not: they meet at its tip.
        ends = (thin[:, : rim - start + 1], thin[:, width - rim - start - 1 :])
        thickness += [typical] * min(ndimage.label(end.any(1))[1] for end in ends)
    if not thickness:
        return mask
    rest = turned & ~rules
    _, pieces = ndimage.label(rest, np.ones((3, 3)))
    # Strokes of a pixel or two are too fine to say that a line is thinner than they are.
    thin = bool(rest.any()) and max(thickness) < 0.6 * stroke_width(rest) > 2
    if pieces == 0 or not (len(thickness) >= 2 or thin):
        return mask
    return rest if axis == 1 else rest.T


def _refuse_several(boxes: np.ndarray) -> None:
    """Raise if two boxes, each of a digit's size, lie apart from each other."""
    for axis in (0, 1):  # one above the other, side by side
        low, high = boxes[:, 2 * axis], boxes[:, 2 * axis + 1]
        order = np.argsort(low)
        reach = np.maximum.accumulate(high[order])
        for cut in range(1, len(order)):
            first, second = boxes[order[:cut]], boxes[order[cut:]]
            gap = low[order[cut]] - reach[cut - 1]
            sizes = [
                (part[:, 1].max() - part[:, 0].min(), part[:, 3].max() - part[:, 2].min())
                for part in (first, second)
            ]
            tall = [size[0] for size in sizes]
            if axis == 0 and any(size[0] < 0.9 * size[1] for size in sizes):
                continue  # the two halves of a broken 3 are each wider than tall
            if min(tall) >= 0.5 * max(tall) and gap > 0.2 * max(tall):
                raise NoDigit(
                    "There is more than one digit in the picture: "
                    "cut out one of them and try again."
                )


# --- step 4: crop ------------------------------------------------------------------------------


def crop(strokes: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Cut to the smallest rectangle that holds all ink.

    Parameters
    ----------
    strokes : ndarray, shape (H, W)
        Ink is above `threshold`.
    threshold : float, default 0

    Returns
    -------
    ndarray, shape (h, w)
        A copy, with ink in its first and last row and column.

    Raises
    ------
    NoDigit
        If there is no ink.
    """
    strokes = np.asarray(strokes)
    rows = np.flatnonzero((strokes > threshold).any(axis=1))
    columns = np.flatnonzero((strokes > threshold).any(axis=0))
    if rows.size == 0:
        raise NoDigit("There is no ink in the picture: draw one digit and try again.")
    return strokes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()


# --- step 5: stroke width ----------------------------------------------------------------------


def stroke_width(strokes: np.ndarray) -> float:
    """Measure how wide the strokes are, in pixels.

    In a stroke of width w the mean distance to the stroke's edge is w / 4: it
    grows evenly from 0 at one edge to w / 2 in the middle. So the mean over all
    ink, times 4, is a typical width, whatever the stroke's course.

    Parameters
    ----------
    strokes : ndarray, shape (H, W)
        Ink is above 0.5. Good for strokes of two pixels or more.

    Returns
    -------
    float
        0 if there is no ink.
    """
    mask = np.pad(np.asarray(strokes) > 0.5, 1)
    if not mask.any():
        return 0.0
    return 4 * float(ndimage.distance_transform_edt(mask)[mask].mean() - 0.5)


def normalise_stroke(
    strokes: np.ndarray, box: int = 20, limits: tuple[float, float] = STROKE
) -> np.ndarray:
    """Thicken thin strokes, thin thick ones, until they are like MNIST's.

    MNIST's strokes are typically 2.7 pixels wide in the 20 x 20 box. A stroke
    within `limits` is left as it is; any other is brought to the nearer limit
    by moving its edge outwards or inwards by the same distance everywhere.

    Parameters
    ----------
    strokes : ndarray, shape (H, W)
        1 for ink, 0 for paper, cropped.
    box : int, default 20
        The size for :func:`fit_box`, which comes next.
    limits : (float, float)
        Thinnest and thickest stroke, in pixels of that box.

    Returns
    -------
    ndarray of float32
        The digit with the new strokes, cropped, 1 for ink and 0 for paper. A
        small picture comes back larger and a large one smaller (the digit is
        then 160 to 640 pixels high or wide), so that an edge can be moved by a
        fraction of a final pixel.
    """
    strokes = np.asarray(strokes, np.float32)
    fine = 8 * box  # eight pixels to one of the box
    side = max(strokes.shape)
    if side < fine:
        shape = [round((n + 4) * fine / side) for n in strokes.shape]
        large = _resize(np.pad(strokes, 2), shape)
        mask = large > 0.5 * large.max()
    else:
        mask = strokes > 0.5 * strokes.max()
        k = side // (2 * fine)
        if k > 1:  # any ink makes a block ink: a hairline must not fade
            mask = _blocks(mask, k, np.any)
    mask = crop(mask)
    side, width = max(mask.shape), stroke_width(mask)
    low, high = (limit / box for limit in limits)
    if low <= width / side <= high and max(strokes.shape) < 3 * box:
        return strokes.copy()
    # Moving the edge by r changes the width by 2 r, and the longer side too:
    # (width + 2 r) / (side + 2 r) = target.
    target = min(max(width / side, low), high)
    r = (target * side - width) / (2 * (1 - target))
    outside = int(np.ceil(max(r, 0))) + 2
    mask = np.pad(mask, outside)
    inner = ndimage.distance_transform_edt(mask)
    if r < 0:  # not so far that the thinner parts of the stroke vanish
        ridge = mask & (inner == ndimage.maximum_filter(inner, 3))
        r = max(r, -0.6 * float(np.percentile(inner[ridge], 20)))
    distance = ndimage.distance_transform_edt(~mask) - inner  # negative in ink, never 0
    distance -= 0.5 * np.sign(distance)
    return crop(np.clip(0.5 + r - distance, 0, 1).astype(np.float32))


# --- step 6: the box ---------------------------------------------------------------------------


def fit_box(image: np.ndarray, size: int = 20) -> np.ndarray:
    """Scale a picture, as it is, so that its longer side is `size` pixels.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        Crop it first: margins are scaled too.
    size : int, default 20

    Returns
    -------
    ndarray of float32, shape (h, w)
        max(h, w) is `size` and h / w is H / W as nearly as whole pixels allow.
        A pixel is the mean of the area it covers (anti-aliasing); where a
        picture is enlarged, values between pixels are interpolated.
    """
    image = np.asarray(image, np.float32)
    if image.ndim != 2 or image.size == 0:
        raise PictureError(f"An array of shape {image.shape} is not a grey picture: crop it first.")
    if size < 1:
        raise ValueError(f"size is {size}: it must be 1 or more.")
    side = max(image.shape)
    shape = [max(1, round(n * size / side)) for n in image.shape]
    return _resize(image, shape)


def _resize(image: np.ndarray, shape, method: Image.Resampling | None = None) -> np.ndarray:
    if tuple(shape) == image.shape:
        return image.copy()
    if method is None:
        shrinks = max(shape) <= max(image.shape)
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    resized = np.asarray(picture.resize((int(shape[1]), int(shape[0])), method))
    return np.clip(resized, image.min(), image.max())


# --- step 7: the centre ------------------------------------------------------------------------


def centre_by_mass(image: np.ndarray, size: int = 28) -> np.ndarray:
    """Put a picture on a black square so that its centre of mass is at the centre.

    The centre is the point (size / 2, size / 2), counting pixels from 0, as in
    MNIST: (14, 14) for 28 x 28. The picture is moved by whole pixels, which
    blurs nothing, so the centre of mass ends up within half a pixel of it in
    each direction.

    Parameters
    ----------
    image : ndarray, shape (h, w)
        Not negative.
    size : int, default 28

    Returns
    -------
    ndarray of float32, shape (size, size)
        What does not fit into the square is cut off; a 20 x 20 box on 28 x 28
        loses something only if its ink is nearly all at one end.

    Raises
    ------
    NoDigit
        If there is no ink: nothing has no centre.
    """
    image = np.asarray(image, np.float32)
    total = float(image.sum())
    if total <= 0:
        raise NoDigit("There is no ink in the picture: draw one digit and try again.")
    placed = np.zeros((size, size), np.float32)
    starts = []
    for axis, n in enumerate(image.shape):
        centre = float(image.sum(axis=1 - axis) @ np.arange(n)) / total
        starts.append(int(np.floor(size / 2 - centre + 0.5)))
    (top, left), (h, w) = starts, image.shape
    rows = slice(max(top, 0), min(top + h, size))
    columns = slice(max(left, 0), min(left + w, size))
    placed[rows, columns] = image[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return placed


# --- all steps, and the reading ----------------------------------------------------------------


def prepare(image) -> np.ndarray:
    """Make any picture of one digit into what a network trained on MNIST expects.

    Parameters
    ----------
    image : PIL.Image.Image, array_like, str, path or open binary file
        See :func:`to_grey`.

    Returns
    -------
    ndarray of float32, shape (28, 28)
        0 is paper, 1 is ink. For a network add the batch and channel axes:
        ``prepare(picture)[None, :, :, None]``.

    Raises
    ------
    NoDigit
        If there is no digit in the picture, or more than one.
    PictureError
        If the picture cannot be opened or used.
    """
    grey = to_grey(image)
    strokes = ink(grey)
    inside = _panel(strokes)
    if inside is not None:
        with contextlib.suppress(NoDigit):  # nothing in it: an angular 0?
            strokes = ink(grey[inside])
    strokes = crop(one_digit(strokes))
    if stroke_width(strokes) > 0.5 * max(strokes.shape):
        raise NoDigit("The ink is one solid patch: crop the picture to the digit and try again.")
    return centre_by_mass(fit_box(normalise_stroke(strokes)))


def _panel(strokes: np.ndarray) -> tuple[slice, slice] | None:
    """Where the inside is of a sheet on a table, or of a box on a form, if that is the ink."""
    labels, count = ndimage.label(strokes > 0.5, np.ones((3, 3)))
    if count == 0:
        return None
    boxes = ndimage.find_objects(labels)
    spans = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in boxes]
    number = int(np.argmax(spans))
    own = labels[boxes[number]] == number + 1
    if min(own.shape) < max(48, 0.6 * max(own.shape)):
        return None
    rim = max(own.shape) // 16
    edges = (own[:rim].any(0), own[-rim:].any(0), own[:, :rim].any(1), own[:, -rim:].any(1))
    if min(edge.mean() for edge in edges) < 0.85:  # a digit is not a rectangle
        return None
    rows, columns = boxes[number]
    return slice(rows.start + rim, rows.stop - rim), slice(columns.start + rim, columns.stop - rim)


@dataclass(frozen=True, eq=False)
class Reading:
    """What a network reads in a picture.

    Attributes
    ----------
    digit : int
        The most probable digit.
    probabilities : ndarray of float, shape (10,)
        One for each digit; they sum to 1.
    sure : bool
        Whether the probability of `digit` is at least `SURE`.
    statement : str
        The same in words; names the runner-up when not sure.
    """

    digit: int
    probabilities: np.ndarray
    sure: bool
    statement: str


def read(image, model) -> Reading:
    """Read the digit in a picture.

    Parameters
    ----------
    image : PIL.Image.Image, array_like, str, path or open binary file
        See :func:`to_grey`.
    model : keras.Model or callable
        Maps float32 (N, 28, 28, 1), 0 to 1, to (N, 10): probabilities, or
        logits, which are recognised by not being probabilities.

    Returns
    -------
    Reading

    Raises
    ------
    NoDigit, PictureError
        As :func:`prepare`.
    ValueError
        If the model does not answer with ten finite numbers for a picture.
    """
    batch = prepare(image)[None, :, :, None]
    answer = model.predict(batch, verbose=0) if hasattr(model, "predict") else model(batch)
    answer = np.asarray(answer, float)
    if answer.shape != (1, 10) or not np.isfinite(answer).all():
        raise ValueError(
            f"The model answers with shape {answer.shape} for one picture: "
            "it must answer with (1, 10), ten finite numbers."
        )
    scores = answer[0]
    if scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3:
        probabilities = scores / scores.sum()
    else:
        powers = np.exp(scores - scores.max())
        probabilities = powers / powers.sum()
    second, first = (int(digit) for digit in np.argsort(probabilities, kind="stable")[-2:])
    sure = bool(probabilities[first] >= SURE)
    share = f"{probabilities[first]:.0%}"
    if sure:
        statement = f"This is a {first} ({share})."
    else:
        statement = (
            f"Not sure: perhaps a {first} ({share}), "
            f"perhaps a {second} ({probabilities[second]:.0%})."
        )
    return Reading(first, probabilities, sure, statement)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read pictures from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m firstcnn.handwriting", description="Read the digit in each picture."
    )
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="a PNG or JPEG file")
    parser.add_argument(
        "--model",
        metavar="MODEL.keras",
        help="a trained network, as model.save() writes it; by default the course's own",
    )
    options = parser.parse_args(arguments)
    from firstcnn import reader

    try:
        model = reader.load(options.model)
    except reader.ModelError as error:
        parser.error(str(error))
    status = 0
    for picture in options.pictures:
        try:
            reading = read(picture, model)
        except ValueError as error:  # the picture's fault, or the model's
            print(f"{picture}: {error}")
            status = 1
        else:
            doubt = "" if reading.sure else f"  {reading.statement}"
            print(f"{picture}: {reading.digit} {reading.probabilities[reading.digit]:.3f}{doubt}")
    return status


if __name__ == "__main__":
    sys.exit(main())
