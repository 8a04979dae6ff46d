"""A picture in, what the pad shows out: the one way that the page and the widget read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from firstcnn import handwriting
from firstcnn.app import AppError

__all__ = ["predictor", "read"]

SHAPE = (1, 28, 28, 1)
"""What a model is asked about: a batch of one picture."""


def predictor(model) -> Callable:
    """Compile a model for one picture at a time, and see that it can read one.

    Compiled so, an answer takes a few milliseconds; ``model.predict`` sets up a loop over
    batches first, which takes ten times as long.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    callable
        Maps float32 (1, 28, 28, 1) to (1, 10); safe to call from several threads.

    Raises
    ------
    AppError
        If the model does not take such a batch, or answers otherwise.
    """
    import tensorflow as tf  # two seconds: not before a model is there

    @tf.function(input_signature=[tf.TensorSpec(SHAPE, tf.float32)], autograph=False)
    def predict(batch):
        return model(batch, training=False)

    try:
        answer = np.asarray(predict(np.zeros(SHAPE, np.float32)))
    except Exception as error:  # whatever a layer of the model raises
        reason = str(error).strip().partition("\n")[0][:150]
        raise AppError(
            f"The model cannot read a picture of 28 x 28 pixels. It takes {_input(model)}; "
            f"the pad gives it (batch, 28, 28, 1). {reason}"
        ) from None
    if answer.shape != (1, 10) or not np.isfinite(answer).all():
        raise AppError(
            f"The model answers with shape {answer.shape} for one picture: "
            "it must answer with (1, 10), ten finite numbers, one for each digit."
        )
    return predict


def _input(model) -> str:
    """Say what a model takes, as far as it knows."""
    return str(getattr(model, "input_shape", "another shape"))


def read(picture: BinaryIO, predict: Callable) -> dict:
    """Read a picture, and say what the pad shows about it.

    Parameters
    ----------
    picture : open binary file
        See :func:`firstcnn.handwriting.to_grey`.
    predict : callable
        As :func:`predictor` returns it.

    Returns
    -------
    dict
        Ready for JSON: ``digit`` (int), ``probabilities`` (ten floats), ``sure`` (bool),
        ``statement`` (str), ``image`` (28 rows of 28 ints, 0 paper to 255 ink: what the
        network saw) and ``milliseconds`` (float). Where there is not exactly one digit,
        ``digit`` is None, ``statement`` says what to do, and there are only ``milliseconds``
        beside them.

    Raises
    ------
    firstcnn.handwriting.PictureError
        If the picture cannot be opened or used.
    ValueError
        If the model answers with numbers that are not finite.
    """
    seen = []

    def keep(batch):
        seen.append(batch[0, :, :, 0])
        return predict(batch)

    started = time.perf_counter()
    try:
        reading = handwriting.read(picture, keep)
    except handwriting.NoDigit as problem:
        answer = {"digit": None, "statement": str(problem)}
    else:
        answer = {
            "digit": reading.digit,
            "probabilities": reading.probabilities.tolist(),
            "sure": reading.sure,
            "statement": reading.statement,
            "image": np.rint(255 * seen[0]).astype(int).tolist(),
        }
    return answer | {"milliseconds": 1000 * (time.perf_counter() - started)}
