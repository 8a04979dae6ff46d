"""The figures of lessons 2 and 3 are drawn, closed, and described in words."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_words import words

from firstcnn import figures

matplotlib.use("agg")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 6, 5)).astype("uint8")
LABELS = np.arange(23) % 4


def test_digit_grid_tells_its_titles_in_order(shown):
    figures.digit_grid(IMAGES[:5], LABELS[:5], title="Five", columns=2)
    assert words(shown) == "Five: 5 pictures, with these words over them: 0, 1, 2, 3, 0."


@pytest.mark.parametrize("count", [0, 3])
def test_digit_grid_wants_a_title_for_each_image(count):
    with pytest.raises(ValueError, match="titles"):
        figures.digit_grid(IMAGES[:count], LABELS[: count // 2])
    assert not plt.get_fignums()


def test_mean_digits_names_the_sharpest_and_the_palest(shown):
    images = np.stack([np.full((3, 3), value, "uint8") for value in (10, 200, 90, 30)])
    figures.mean_digits(images, np.array([4, 7, 5, 4]), title="Means")
    text = words(shown)
    assert text.startswith("Means: 3 blurred shapes")
    assert "The mean 7 has the darkest pixel" in text
    assert "mean 4 is the palest" in text


def test_label_shares_counts_each_set_by_itself(shown):
    figures.label_shares({"training": np.array([0, 0, 0, 1]), "test": np.array([2, 2])})
    text = words(shown)
    assert "labels 0 to 2" in text
    assert "In the training set the shares run from 0.0 % (digit 2) to 75.0 % (digit 0)." in text
    assert "In the test set the shares run from 0.0 % (digit 0) to 100.0 % (digit 2)." in text


def test_intensities_tells_range_and_zeros(shown):
    figures.intensities({"raw": np.array([[0, 255]]), "scaled": np.array([0.0, 0, 0, 1])})
    assert "raw: from 0 to 255, 50% of the pixels are 0." in words(shown)
    assert "scaled: from 0 to 1, 75% of the pixels are 0." in words(shown)


def test_split_bar_adds_up(shown):
    figures.split_bar({"training": 50, "validation": 10, "test": 5})
    text = words(shown)
    assert "one bar of 65 images in 3 parts" in text
    assert text.endswith("training 50, validation 10, test 5.")
