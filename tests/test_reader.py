"""The network that comes with the package, and how it is trained."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from notebooks import ROOT

from firstcnn import data, handwriting, reader, strokes


@pytest.fixture(scope="module")
def shipped():
    return reader.load()


def share_read(model, pictures, digits):
    return np.mean(np.argmax(model(np.stack(pictures)[..., None]), axis=1) == digits)


def test_shipped_network_is_the_one_that_is_built_here(shipped):
    def settings(model):
        return [layer.get_config() | {"name": ""} for layer in model.layers]

    assert settings(shipped) == settings(reader.build())
    assert shipped.count_params() == 46_730
    assert reader.SHIPPED.stat().st_size < 300_000  # no optimizer's state


def test_shipped_network_reads_more_than_99_of_100_test_images(shipped, official_mnist):
    _, (images, digits) = data.load_mnist()
    assert share_read(shipped, images / np.float32(255), digits) > 0.992


def test_shipped_network_reads_all_styles_of_drawn_digits(shipped):
    drawn = [
        (digit, strokes.draw(digit, style=style, side=140, size=80, width=width, seed=seed))
        for digit in range(10)
        for style in range(strokes.styles(digit))
        for seed, width in enumerate((1.5, 4, 10))
    ]
    digits, sheets = zip(*drawn, strict=True)
    assert share_read(shipped, [handwriting.prepare(sheet) for sheet in sheets], digits) >= 0.97


def test_shipped_network_comes_with_an_installation():
    listed = subprocess.run(
        ["git", "check-ignore", "-q", str(reader.SHIPPED)], cwd=ROOT, check=False
    )
    assert listed.returncode == 1, "git ignores the network, so a clone lacks it"


def test_batches_hold_every_image_once_an_epoch_and_others_in_the_next():
    images = np.zeros((300, 28, 28), np.uint8)
    images[:, 8:20, 13:15] = 255
    labels = np.arange(300)  # each its own, so that they can be told apart
    made = reader.batches(images, labels, batch_size=128, seed=1)
    epochs = [list(made.as_numpy_iterator()) for _ in range(2)]
    for batches in epochs:
        assert [len(digits) for _, digits in batches] == [128, 128, 44]
        assert sorted(np.concatenate([digits for _, digits in batches])) == list(range(300))
        pictures = np.concatenate([pictures for pictures, _ in batches])
        assert pictures.shape == (300, 28, 28, 1)
        assert pictures.dtype == np.float32
        assert pictures.min() >= 0
        assert 0.9 < pictures.max() <= 1 + 1e-6
    assert not np.array_equal(epochs[0][0][1], epochs[1][0][1]), "the order is the same"


def test_batches_leave_the_images_as_they_are():
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 4:24, 13:15] = 255
    kept = images.copy()
    list(reader.batches(images, np.ones(20, int)))
    assert np.array_equal(images, kept)


def test_training_learns():
    (images, digits), (x_test, y_test) = data.load_mnist()
    order = np.random.default_rng(0).permutation(len(images))[:4000]
    model = reader.train(images[order], digits[order], epochs=4)
    assert share_read(model, x_test[:2000] / np.float32(255), y_test[:2000]) > 0.9
    assert float(model.optimizer.learning_rate) < 1e-4  # it has come down


def test_saved_without_the_optimizer_and_reads_the_same(tmp_path):
    model = reader.build()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    reader.save(model, tmp_path / "mine.keras")
    loaded = reader.load(tmp_path / "mine.keras")
    picture = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    assert np.allclose(loaded(picture), model(picture), atol=1e-6)
    assert (tmp_path / "mine.keras").stat().st_size < 300_000


def test_no_such_model_and_no_model(tmp_path):
    with pytest.raises(reader.ModelError, match=r"There is no model .*none\.keras"):
        reader.load(tmp_path / "none.keras")
    (tmp_path / "text.keras").write_text("no archive")
    with pytest.raises(reader.ModelError, match=r"text\.keras' is not a Keras model"):
        reader.load(tmp_path / "text.keras")


def test_code_in_a_model_file_is_not_run(tmp_path):
    layers = [keras.Input((28, 28, 1)), keras.layers.Lambda(lambda x: x)]
    keras.Sequential(layers).save(tmp_path / "lambda.keras")
    with pytest.raises(reader.ModelError, match="is not a Keras model"):
        reader.load(tmp_path / "lambda.keras")


def test_command_refuses_another_ending(tmp_path):
    command = [Path(sys.executable).with_name("firstcnn"), "train", str(tmp_path / "model.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 1
    assert "does not end in .keras" in done.stderr
