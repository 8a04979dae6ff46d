"""The figures of lesson 6 are drawn, closed, and described in words."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_words import words

from firstcnn import figures

matplotlib.use("agg")

LABELS = np.array([0, 1, 1, 2, 2, 2])
CHANCES = np.array(
    [
        [0.90, 0.05, 0.05],
        [0.10, 0.70, 0.20],
        [0.60, 0.40, 0.00],  # a 1 read as 0
        [0.97, 0.01, 0.02],  # a 2 read as 0
        [0.55, 0.05, 0.40],  # a 2 read as 0
        [0.00, 0.00, 1.00],
    ]
)
PREDICTIONS = CHANCES.argmax(axis=1)
IMAGES = np.arange(6 * 12).reshape(6, 4, 3)


def test_confusion_matrix_names_the_most_frequent_mistakes(shown):
    figures.confusion_matrix(LABELS, PREDICTIONS, classes=3, title="Three")
    text = words(shown)
    assert text.startswith("Three: one row for each label")
    assert "3 of 6 pictures lie on the diagonal" in text
    assert text.endswith("Most frequent mistakes: 2 read as 0: 2; 1 read as 0: 1.")


def test_confusion_matrix_without_mistakes(shown):
    figures.confusion_matrix(LABELS.astype("uint8"), LABELS.astype("uint8"), classes=10)
    assert words(shown).endswith("There are no mistakes.")


def test_per_digit_names_the_lowest(shown):
    figures.per_digit(LABELS, PREDICTIONS, classes=4)  # there is no 3, and none is predicted
    text = words(shown)
    assert "Lowest recall: digit 2, 33.3%" in text
    assert "Lowest precision: digit 0, 25.0%" in text


@pytest.mark.parametrize("draw", [figures.confusion_matrix, figures.per_digit])
def test_one_prediction_for_each_label(draw):
    with pytest.raises(ValueError, match="one prediction"):
        draw(LABELS, PREDICTIONS[:-1])
    assert not plt.get_fignums()


def test_mistakes_come_most_confident_first(shown):
    figures.mistakes(IMAGES, LABELS, CHANCES, count=2, title="Two")
    assert words(shown) == (
        "Two: image 3, a 2, read as 0 at 97.0 %; image 2, a 1, read as 0 at 60.0 %."
    )


def test_mistakes_wants_a_mistake():
    with pytest.raises(ValueError, match="No picture"):
        figures.mistakes(IMAGES, PREDICTIONS, CHANCES)
    assert not plt.get_fignums()


def test_probabilities_tells_the_answers(shown):
    figures.probabilities(IMAGES[:2], CHANCES[:2], ["a zero", "a one"], title="Two")
    text = words(shown)
    assert text.startswith("Two, with a bar")
    assert text.endswith("a zero: 0 at 90.0 %; a one: 1 at 70.0 %.")


@pytest.mark.parametrize(("pictures", "titles"), [(2, 1), (1, 2), (0, 0)])
def test_probabilities_wants_one_title_for_each(pictures, titles):
    with pytest.raises(ValueError, match="one title"):
        figures.probabilities(IMAGES[:pictures], CHANCES[:pictures], ["a digit"] * titles)
    assert not plt.get_fignums()


def test_reliability_tells_claim_and_truth(shown):
    figures.reliability(LABELS, CHANCES, bins=2)
    text = words(shown)
    assert "79 % claimed, 50 % right (of 6)" in text


def test_reliability_wants_an_answer_for_each_label():
    with pytest.raises(ValueError, match="each label"):
        figures.reliability(LABELS, CHANCES[:3])
    assert not plt.get_fignums()
