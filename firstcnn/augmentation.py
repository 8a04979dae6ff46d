"""Training digits changed as people's hands change them.

MNIST has 60,000 ways to write a digit, and the next person writes in another. :func:`distort`
makes small changes that leave a digit what it is: where it stands, how it leans, how large it is,
how thick its strokes are. :func:`flag_ones` adds a habit that MNIST, written in the United States,
hardly shows: a 1 with an upstroke, or flag, and sometimes a foot. Without it a network reads
such a 1 as a 7.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from firstcnn import handwriting

__all__ = ["distort", "flag_ones"]

SHIFT = 1.5
"""The farthest that a digit is moved, in pixels, down or across."""

ROTATION = math.radians(12)
"""The farthest that a digit is turned, in radians."""

SHEAR = 0.3
"""The most that a digit leans: columns for each row."""

SCALE = 0.12
"""The natural logarithm of the most that a digit is stretched or shrunk, each way for itself."""

STROKE = (-0.5, 0.6)
"""From thinnest to thickest: minus 1 takes a pixel from each edge of a stroke, 1 adds one."""


def distort(images, seed):
    """Change each image a little, in its own way.

    Parameters
    ----------
    images : tensor or array of float32, shape (N, 28, 28, 1)
        Bright ink on black, 0 to 1.
    seed : tensor or sequence of two integers
        The same changes for the same two. So a ``tf.data`` pipeline may call this
        in parallel, with the batch's number in the seed.

    Returns
    -------
    tensor of float32, shape (N, 28, 28, 1)
    """
    import keras
    import tensorflow as tf

    count = tf.shape(images)[0]
    changes = tf.random.stateless_uniform((7, count), seed, minval=-1.0)
    low, high = STROKE
    width = ((high - low) * changes[0] + high + low)[:, None, None, None] / 2
    thicker = keras.ops.max_pool(images, 3, strides=1, padding="same")
    thinner = -keras.ops.max_pool(-images, 3, strides=1, padding="same")
    images = images + tf.nn.relu(width) * (thicker - images)
    images = images + tf.nn.relu(-width) * (thinner - images)

    # For each output pixel, the place in the input that it is taken from: turned, leaned and
    # stretched about the centre, then moved. One resampling for all, since each one blurs.
    angle, lean = ROTATION * changes[1], SHEAR * changes[2]
    down, across = tf.exp(SCALE * changes[3]), tf.exp(SCALE * changes[4])
    cosine, sine = tf.cos(angle), tf.sin(angle)
    a, b = cosine / across, (lean * cosine - sine) / across
    d, e = sine / down, (cosine + lean * sine) / down
    centre = 28 / 2
    c = centre - centre * (a + b) + SHIFT * changes[5]
    f = centre - centre * (d + e) + SHIFT * changes[6]
    zero = tf.zeros_like(a)
    return keras.ops.image.affine_transform(
        images,
        tf.stack([a, b, c, d, e, f, zero, zero], axis=1),
        interpolation="bilinear",
        fill_mode="constant",
        data_format="channels_last",
    )


def flag_ones(
    images: np.ndarray, labels: np.ndarray, share: float = 0.7, seed: int = 0
) -> np.ndarray:
    """Give some of the ones a flag, sharp or round at its tip, and some of these a foot.

    Parameters
    ----------
    images : numpy.ndarray of float32, shape (N, 28, 28)
        Bright ink on black, 0 to 1.
    labels : numpy.ndarray of int, shape (N,)
        The digits; only images of a 1 are changed.
    share : float, default 0.7
        Of the ones, how many get a flag, 0 to 1.
    seed : int, default 0
        Decides which, and how.

    Returns
    -------
    numpy.ndarray of float32, shape (N, 28, 28)
        A copy; a changed image is fitted and centred anew, as MNIST's are.

    Raises
    ------
    ValueError
        If `share` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: give a number from 0 to 1.")
    rng = np.random.default_rng(seed)
    images = np.array(images, np.float32)
    ones = np.flatnonzero(np.asarray(labels) == 1)
    for index in ones[rng.random(len(ones)) < share]:
        images[index] = _flagged(images[index], rng)
    return images


def _flagged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a flag on one 1, the way people do: from below on the left up to the stem's tip."""
    inked = np.flatnonzero(image.max(axis=1) > 0.5)
    if len(inked) < 8:  # a 1 that lies down, or a faint one
        return image
    top, bottom = inked[0] + 1, inked[-1] - 1
    height = bottom - top
    width = float(np.clip(image.sum() / (height + 2), 1.5, 4))
    tip = _on_stem(image, top)
    length = rng.uniform(0.2, 0.75)
    angle = np.radians(rng.uniform(32, 72))  # near the horizontal it would be the bar of a 7
    start = tip + height * length * np.array([np.sin(angle), -np.cos(angle)])
    if rng.random() < 0.4:
        image = np.maximum(image, _line([start, tip], width * rng.uniform(0.8, 1)))
        if rng.random() < 0.5:
            foot, reach = _on_stem(image, bottom), [0, height * rng.uniform(0.15, 0.35)]
            image = np.maximum(image, _line([foot - reach, foot + reach], 0.9 * width))
    else:  # the pen turns round in a bow, from the flag to a point down the stem
        turn = top + round(height * rng.uniform(0.15, 0.5))
        end = _on_stem(image, turn)
        t = np.linspace(0, 1, 9)[:, None]
        bow = (1 - t) ** 2 * start + 2 * t * (1 - t) * tip + t**2 * end
        image = np.where(np.arange(28)[:, None] >= turn, image, 0)
        image = np.maximum(image, _line(bow, width))
    # As MNIST's makers would have placed it: with a bow for a tip, the 1 has become lower.
    return handwriting.centre_by_mass(handwriting.fit_box(handwriting.crop(image, 0.1)))


def _on_stem(image: np.ndarray, row: int) -> np.ndarray:
    """Return the (row, column) of the middle of the ink in a row."""
    ink = image[row] + 1e-6
    return np.array([row, ink @ np.arange(28) / ink.sum()])


def _line(points, width: float) -> np.ndarray:
    """Draw a line through (row, column) points: 28 x 28, 1 on it, grey along its edges."""
    pixels = np.stack(np.indices((28, 28)), axis=-1)
    distance = np.full((28, 28), np.inf)
    for p, q in itertools.pairwise(points):
        along = np.clip((pixels - p) @ (q - p) / ((q - p) @ (q - p)), 0, 1)
        nearest = p + along[..., None] * (q - p)
        distance = np.minimum(distance, np.linalg.norm(pixels - nearest, axis=-1))
    return np.clip(0.5 + width / 2 - distance, 0, 1).astype(np.float32)
