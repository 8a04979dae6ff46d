"""Pictures of digits as people make them: thin dark lines, somewhere on a large white sheet.

Lesson 8 needs such pictures and no picture files. :func:`draw` draws a digit from lines of
its own; :func:`on_paper` takes real handwriting from MNIST and puts it back onto paper, as
it may have looked before MNIST's makers prepared it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from firstcnn import handwriting

__all__ = ["PAPER", "draw", "lines", "on_paper"]

PAPER = 255
"""The grey level of the paper; ink is 0."""

# Each digit as lines of (column, row) in a unit square; corners are rounded when drawn.
_LINES = {
    0: [[(0.55, 0), (0.2, 0.05), (0.1, 0.5), (0.2, 0.95), (0.55, 1), (0.85, 0.9), (0.9, 0.5),
         (0.85, 0.1), (0.55, 0), (0.4, 0.02)]],
    1: [[(0.35, 0.2), (0.55, 0), (0.52, 0.5), (0.48, 1)]],
    2: [[(0.15, 0.25), (0.25, 0), (0.8, -0.05), (0.9, 0.4), (0.1, 1), (0.1, 1), (0.95, 0.97)]],
    3: [[(0.15, 0.1), (0.5, -0.06), (0.95, 0.1), (0.8, 0.45), (0.4, 0.47), (0.4, 0.47),
         (0.9, 0.5), (0.95, 0.9), (0.5, 1.08), (0.1, 0.9)]],
    4: [[(0.3, 0), (0.1, 0.6), (0.1, 0.6), (0.95, 0.58)], [(0.7, 0.2), (0.62, 1)]],
    5: [[(0.85, 0), (0.3, 0), (0.3, 0), (0.22, 0.45), (0.22, 0.45), (0.5, 0.33), (0.95, 0.5),
         (0.9, 0.95), (0.45, 1.08), (0.1, 0.9)]],
    6: [[(0.7, 0), (0.25, 0.3), (0.05, 0.8), (0.4, 1.08), (0.85, 0.95), (0.85, 0.6),
         (0.45, 0.5), (0.15, 0.75)]],
    7: [[(0.1, 0.02), (0.88, 0), (0.88, 0), (0.6, 0.5), (0.4, 1)]],
    8: [[(0.8, 0.15), (0.5, -0.08), (0.1, 0.1), (0.25, 0.4), (0.75, 0.6), (0.95, 0.9),
         (0.5, 1.1), (0.05, 0.9), (0.25, 0.6), (0.75, 0.4), (0.85, 0.2), (0.75, 0.08)]],
    9: [[(0.85, 0.15), (0.5, -0.06), (0.1, 0.15), (0.2, 0.5), (0.65, 0.5), (0.85, 0.15),
         (0.85, 0.15), (0.82, 0.6), (0.7, 1)]],
}  # fmt: skip


def lines(digit: int) -> list[np.ndarray]:
    """Return the pen's lines for a digit.

    Parameters
    ----------
    digit : int
        0 to 9.

    Returns
    -------
    list of numpy.ndarray of float, shape (N, 2)
        For each line its points (column, row), in a square from 0 to 1.

    Raises
    ------
    ValueError
        If there is no such digit.
    """
    return [_rounded(line) for line in _corners(digit)]


def _corners(digit: int) -> list[np.ndarray]:
    if digit not in _LINES:
        raise ValueError(f"There is no digit {digit!r}: give one of 0 to 9.")
    return [np.array(line) for line in _LINES[digit]]


def draw(
    digit: int,
    *,
    side: int = 280,
    size: float = 120,
    width: float = 4,
    centre: tuple[float, float] | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """Draw a digit with a pen: dark lines on a white square sheet.

    Parameters
    ----------
    digit : int
        0 to 9.
    side : int, default 280
        Rows and columns of the sheet.
    size : float, default 120
        The height of the digit, in pixels.
    width : float, default 4
        The width of the pen, in pixels.
    centre : (float, float), optional
        Row and column of the digit's middle; by default the middle of the sheet.
    seed : int, optional
        Makes the hand unsteady, in another way for each seed.

    Returns
    -------
    numpy.ndarray of uint8, shape (side, side)
        0 is ink, 255 is paper.

    Raises
    ------
    ValueError
        If there is no such digit.
    """
    corners = _corners(digit)
    middle = np.array(centre or (side / 2, side / 2))[::-1]
    tremor = 0 if seed is None else 0.03
    rng = np.random.default_rng(seed)
    fine = 4  # drawn four times as large and averaged, so that edges are smooth
    picture = Image.new("L", (side * fine, side * fine), PAPER)
    pen = ImageDraw.Draw(picture)
    radius = width * fine / 2
    for line in corners:
        points = _rounded(line + tremor * rng.normal(size=line.shape))
        points = ((points - 0.5) * (0.8 * size, size) + middle) * fine
        pen.line([tuple(point) for point in points], fill=0, width=max(1, round(2 * radius)))
        for x, y in points:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=0)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def _rounded(points: np.ndarray) -> np.ndarray:
    """Round a line's corners by cutting them, four times (Chaikin 1974); its ends stay."""
    for _ in range(4):
        first, second = points[:-1], points[1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], axis=1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


def on_paper(images: np.ndarray, *, side: int = 280, seed: int = 0) -> np.ndarray:
    """Put MNIST's digits onto paper: real handwriting in thin lines, each anywhere on a sheet.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (N, 28, 28)
        Digits as MNIST has them.
    side : int, default 280
        Rows and columns of each sheet.
    seed : int, default 0
        Decides how large each digit is, and where: its longer side is between
        three and six tenths of the sheet.

    Returns
    -------
    numpy.ndarray of uint8, shape (N, side, side)
        0 is ink, 255 is paper.
    """
    rng = np.random.default_rng(seed)
    sheets = np.full((len(images), side, side), PAPER, np.uint8)
    for sheet, image in zip(sheets, images, strict=True):
        strokes = handwriting.crop(np.asarray(image, np.float32) / 255, 0.2)
        thin = handwriting.normalise_stroke(strokes, limits=(0.8, 0.8))
        digit = handwriting.fit_box(thin, round(side * rng.uniform(0.3, 0.6)))
        height, width = digit.shape
        top = rng.integers(side // 20, side - height - side // 20)
        left = rng.integers(side // 20, side - width - side // 20)
        sheet[top : top + height, left : left + width] = np.round(PAPER * (1 - digit))
    return sheets
