"""The network that the course ends with: it reads digits that people draw.

It is the network of lesson 4, trained on MNIST's training images, changed a little and anew in
every epoch (`firstcnn.augmentation`). A trained one comes with the package, so that the drawing
pad and ``python -m firstcnn.handwriting`` work at once; ``firstcnn train`` makes it again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from firstcnn import augmentation, kernel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["SHIPPED", "ModelError", "batches", "build", "load", "save", "train"]

SHIPPED = Path(__file__).with_name("digits.keras")
"""The trained network that comes with the package."""

EPOCHS = 6
BATCH_SIZE = 128
PEAK_RATE = 0.004


class ModelError(ValueError):
    """A file that is not a network for digits; the message says what to do."""


def build() -> keras.Model:
    """Build the network, untrained.

    Returns
    -------
    keras.Model
        Maps float32 (N, 28, 28, 1), 0 to 1, to ten probabilities, (N, 10).
    """
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 5, strides=2, activation="relu"),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )


def batches(
    images: np.ndarray, labels: np.ndarray, *, batch_size: int = BATCH_SIZE, seed: int = 0
) -> tf.data.Dataset:
    """Return training images for `fit`: shuffled, and changed anew in every epoch.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (N, 28, 28)
        As `firstcnn.data.load_mnist` gives them.
    labels : numpy.ndarray of int, shape (N,)
        The digits.
    batch_size : int, optional
        Images in a batch.
    seed : int, default 0
        Decides the order and the changes.

    Returns
    -------
    tf.data.Dataset
        Of pairs: float32 (batch_size, 28, 28, 1), 0 to 1, and labels.
    """
    import tensorflow as tf

    ones = np.flatnonzero(np.asarray(labels) == 1)
    flagged = augmentation.flag_ones(images[ones] / 255, labels[ones], seed=seed)
    images = np.array(images)
    images[ones] = np.rint(255 * flagged)  # whole numbers: a quarter of the memory

    def change(number, batch):
        pictures, digits = batch
        return augmentation.distort(tf.cast(pictures, tf.float32) / 255, (seed, number)), digits

    shuffled = (
        tf.data.Dataset.from_tensor_slices((images[..., None], labels))
        .shuffle(len(images), seed=seed)
        .batch(batch_size)
    )
    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(), shuffled)
    return numbered.map(change, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def train(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    verbose: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.Model:
    """Build and train the network.

    The learning rate climbs to `PEAK_RATE` over the first quarter of the steps and then falls to
    0 along a cosine, as in lesson 5.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (N, 28, 28)
        As `firstcnn.data.load_mnist` gives them.
    labels : numpy.ndarray of int, shape (N,)
        The digits.
    epochs : int, optional
        How often each image is seen.
    seed : int, default 0
        Decides the weights to start from, the order and the changes.
    verbose : int, default 0
        2 for a line an epoch.
    callbacks : sequence of keras.callbacks.Callback, optional
        For `fit`.

    Returns
    -------
    keras.Model
        Trained and compiled.
    """
    keras = _keras()
    keras.utils.set_random_seed(seed)
    model = build()
    steps = epochs * math.ceil(len(images) / BATCH_SIZE)
    warmup = steps // 4
    rate = keras.optimizers.schedules.CosineDecay(
        PEAK_RATE / 10, steps - warmup, warmup_target=PEAK_RATE, warmup_steps=warmup
    )
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=16,
    )
    model.fit(
        batches(images, labels, seed=seed),
        epochs=epochs,
        shuffle=False,  # the batches are
        verbose=verbose,
        callbacks=list(callbacks),
    )
    return model


def save(model: keras.Model, path: str | os.PathLike) -> None:
    """Write a trained network of this kind to a file, without what only its training needs.

    Parameters
    ----------
    model : keras.Model
        As `train` returns it.
    path : str or path
        Ends in ``.keras``.
    """
    bare = build()
    bare.set_weights(model.get_weights())
    bare.save(path)


def load(path: str | os.PathLike | None = None) -> keras.Model:
    """Load a trained network.

    Parameters
    ----------
    path : str or path, optional
        A file that ``model.save()`` wrote; by default the one that comes with the package.

    Returns
    -------
    keras.Model
        Not compiled: for predictions. Nothing that a file may hold of Python code is run.

    Raises
    ------
    ModelError
        If there is no such file, or it is not a Keras model.
    """
    path = Path(SHIPPED if path is None else path)
    if not path.is_file():
        raise ModelError(
            f"There is no model {str(path)!r}: train one, and save it with model.save()."
        )
    keras = _keras()
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0][:150]
        raise ModelError(f"{str(path)!r} is not a Keras model: {reason}") from None


def _keras():
    """Import Keras without the lines with which TensorFlow greets."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with kernel.native_stderr_closed():
        import keras
    return keras
