"""Pictures of digits as people make them: thin dark lines, somewhere on a large white sheet.

Lesson 8 needs such pictures and no picture files. :func:`draw` draws a digit from lines of
its own, in one of several styles that people have; :func:`on_paper` takes real handwriting from
MNIST and puts it back onto paper, as it may have looked before MNIST's makers prepared it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from firstcnn import handwriting

__all__ = ["PAPER", "draw", "lines", "on_paper", "styles"]

PAPER = 255
"""The grey level of the paper; ink is 0."""


def _arc(column, row, across, down, start, stop):
    """Return points on an ellipse, from one angle to another: 0 is right, 90 is down."""
    angles = np.radians(np.linspace(start, stop, 14))
    return list(zip(column + across * np.cos(angles), row + down * np.sin(angles), strict=True))


# Each digit as lines of (column, row) in a unit square; corners are rounded when drawn, but not
# where a point is written twice. This is the first style; the others follow.
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

_OTHER_STYLES = {
    0: [
        [_arc(0.5, 0.5, 0.42, 0.5, -90, 270)],
        [_arc(0.5, 0.5, 0.3, 0.5, -60, 310)],
        [_arc(0.5, 0.5, 0.42, 0.5, -110, 225)],
    ],
    1: [
        [[(0.5, 0), (0.5, 1)]],
        [[(0.3, 0.22), (0.55, 0), (0.55, 0), (0.55, 1)]],  # a flag
        [[(0.25, 0.25), (0.5, 0), (0.5, 0), (0.5, 1)], [(0.2, 1), (0.8, 1)]],  # flag and foot
        [[(0.1, 0.4), (0.55, 0), (0.55, 1)]],  # a long flag, round at the tip
    ],
    2: [
        [[*_arc(0.5, 0.3, 0.38, 0.3, -170, 40), (0.1, 1), (0.1, 1), (0.9, 1)]],
        [[*_arc(0.5, 0.27, 0.35, 0.27, -170, 50), (0.25, 0.85), (0.1, 0.95), (0.12, 0.8),
          (0.35, 0.85), (0.6, 1), (0.95, 0.92)]],  # a loop
        [[(0.1, 0.05), (0.85, 0.05), (0.85, 0.05), (0.85, 0.5), (0.85, 0.5), (0.1, 0.5),
          (0.1, 0.5), (0.1, 1), (0.1, 1), (0.9, 1)]],  # angular
    ],
    3: [
        [[*_arc(0.45, 0.26, 0.38, 0.26, -150, 90), *_arc(0.45, 0.74, 0.42, 0.26, -90, 150)]],
        [[(0.1, 0), (0.85, 0), (0.85, 0), (0.42, 0.4), (0.42, 0.4),
          *_arc(0.45, 0.7, 0.42, 0.3, -80, 150)]],  # a flat top
    ],
    4: [
        [[(0.65, 1), (0.65, 0), (0.65, 0), (0.05, 0.65), (0.05, 0.65), (0.95, 0.65)]],  # closed
        [[(0.15, 0), (0.12, 0.5), (0.12, 0.5), (0.85, 0.5)], [(0.85, 0), (0.85, 1)]],
        [[(0.2, 0), (0.15, 0.45), (0.3, 0.55), (0.8, 0.4)], [(0.8, 0), (0.7, 1)]],
    ],
    5: [
        [[(0.2, 0), (0.15, 0.45), (0.15, 0.45), *_arc(0.45, 0.68, 0.42, 0.32, -110, 140)],
         [(0.2, 0), (0.9, 0.02)]],  # the bar last
        [[(0.9, 0.02), (0.15, 0.02), (0.15, 0.02), (0.15, 0.48), (0.15, 0.48), (0.85, 0.48),
          (0.85, 0.48), (0.85, 1), (0.85, 1), (0.1, 1)]],  # angular
    ],
    6: [
        [[(0.75, 0.02), (0.35, 0.25), (0.12, 0.65), *_arc(0.47, 0.72, 0.35, 0.28, 180, -170)]],
        [[(0.3, 0), (0.12, 0.6), *_arc(0.45, 0.74, 0.35, 0.26, 170, -160)]],
    ],
    7: [
        [[(0.1, 0), (0.9, 0), (0.9, 0), (0.35, 1)], [(0.3, 0.5), (0.8, 0.5)]],  # crossed
        [[(0.1, 0.18), (0.1, 0), (0.1, 0), (0.9, 0), (0.9, 0), (0.5, 1)]],
        [[(0.15, 0), (0.85, 0), (0.85, 0), (0.8, 1)]],
    ],
    8: [
        [_arc(0.5, 0.25, 0.33, 0.25, 0, 360), _arc(0.5, 0.75, 0.4, 0.25, 0, 360)],  # two rings
        [[(0.85, 0.15), (0.5, 0), (0.15, 0.2), (0.5, 0.48), (0.88, 0.78), (0.5, 1), (0.12, 0.8),
          (0.5, 0.48), (0.85, 0.15)]],
    ],
    9: [
        [[*_arc(0.45, 0.28, 0.36, 0.28, 0, -360), (0.81, 0.28), (0.75, 1)]],
        [[*_arc(0.45, 0.27, 0.36, 0.27, 0, -360), (0.8, 0.6), (0.6, 0.97), (0.15, 0.95)]],
        [[(0.85, 0.03), (0.15, 0.03), (0.15, 0.03), (0.15, 0.48), (0.15, 0.48), (0.85, 0.48)],
         [(0.85, 0.03), (0.85, 1)]],  # angular
    ],
}  # fmt: skip


def styles(digit: int) -> int:
    """Return in how many styles a digit can be drawn.

    Raises
    ------
    ValueError
        If there is no such digit.
    """
    return len(_styles(digit))


def _styles(digit: int) -> list:
    if digit not in _LINES:
        raise ValueError(f"There is no digit {digit!r}: give one of 0 to 9.")
    return [_LINES[digit], *_OTHER_STYLES[digit]]


def lines(digit: int, style: int = 0) -> list[np.ndarray]:
    """Return the pen's lines for a digit.

    Parameters
    ----------
    digit : int
        0 to 9.
    style : int, default 0
        Which of the ways to write it, from 0 to `styles(digit)` - 1.

    Returns
    -------
    list of numpy.ndarray of float, shape (N, 2)
        For each line its points (column, row), in a square from 0 to 1.

    Raises
    ------
    ValueError
        If there is no such digit or style.
    """
    return [_rounded(line) for line in _corners(digit, style)]


def _corners(digit: int, style: int) -> list[np.ndarray]:
    known = _styles(digit)
    if style not in range(len(known)):
        raise ValueError(f"There are {len(known)} styles of {digit}, from 0; {style!r} is none.")
    return [np.array(line) for line in known[style]]


def draw(
    digit: int,
    *,
    style: int = 0,
    side: int = 280,
    size: float = 120,
    width: float = 4,
    centre: tuple[float, float] | None = None,
    slant: float = 0,
    seed: int | None = None,
) -> np.ndarray:
    """Draw a digit with a pen: dark lines on a white square sheet.

    Parameters
    ----------
    digit : int
        0 to 9.
    style : int, default 0
        Which of the ways to write it, from 0 to `styles(digit)` - 1.
    side : int, default 280
        Rows and columns of the sheet.
    size : float, default 120
        The height of the digit, in pixels.
    width : float, default 4
        The width of the pen, in pixels.
    centre : (float, float), optional
        Row and column of the digit's middle; by default the middle of the sheet.
    slant : float, default 0
        How far the digit leans to the right: columns for each row.
    seed : int, optional
        Makes the hand unsteady, in another way for each seed.

    Returns
    -------
    numpy.ndarray of uint8, shape (side, side)
        0 is ink, 255 is paper.

    Raises
    ------
    ValueError
        If there is no such digit or style.
    """
    corners = _corners(digit, style)
    middle = np.array(centre or (side / 2, side / 2))[::-1]
    tremor = 0 if seed is None else 0.03
    rng = np.random.default_rng(seed)
    fine = 4  # drawn four times as large and averaged, so that edges are smooth
    picture = Image.new("L", (side * fine, side * fine), PAPER)
    pen = ImageDraw.Draw(picture)
    radius = width * fine / 2
    for line in corners:
        points = _rounded(line + tremor * rng.normal(size=line.shape))
        points = (points - 0.5) * (0.8 * size, size)
        points[:, 0] -= slant * points[:, 1]
        points = (points + middle) * fine
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
