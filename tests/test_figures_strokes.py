"""The figures of lesson 8 are drawn, closed, and described in words; so are its pictures."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_words import words

from firstcnn import figures, handwriting, strokes

matplotlib.use("agg")


def test_steps_tell_sizes_and_centres(shown):
    spot = np.zeros((6, 8))
    spot[2, 5] = 1
    figures.steps({"raw": np.ones((3, 4)), "spot": spot}, "Stages", mark_centre=True)
    text = words(shown)
    assert "raw, 3 x 4 pixels, mean intensity 1.00" in text
    assert "spot, 6 x 8 pixels, mean intensity 0.02, centre of mass at row 2.0, column 5.0" in text


def test_shrunk_tells_sizes_and_ink(shown):
    sheets, small = np.full((3, 20, 20), 255, np.uint8), np.zeros((3, 5, 5))
    sheets[:, 4:10, 7], small[:, 1:5, 2] = 0, 0.5
    figures.shrunk(sheets, small, title="Two rows", below="turned dark")
    assert words(shown) == (
        "Two rows: 3 pictures of 20 x 20 pixels, dark ink on white, about 30% of the picture's "
        "height, with a strongest contrast of 100%. Below each the same turned dark, "
        "5 x 5 pixels, bright ink on black, about 80% of the picture's height, "
        "with a strongest contrast of 50%."
    )


def test_ladder_tells_every_score_in_order(shown):
    figures.ladder({"none": 0.1, "all": 0.975}, "Worth")
    assert words(shown) == "Worth, bars from top to bottom: none 10.0%, all 97.5%."


def test_nothing_to_show_is_said():
    with pytest.raises(ValueError, match="no pictures"):
        figures.steps({}, "None")
    with pytest.raises(ValueError, match="no scores"):
        figures.ladder({})
    with pytest.raises(ValueError, match="2 large pictures and 1 small"):
        figures.shrunk(np.zeros((2, 9, 9)), np.zeros((1, 3, 3)))
    assert not plt.get_fignums()


@pytest.mark.parametrize("digit", range(10))
def test_a_drawn_digit_is_dark_where_it_was_asked(digit):
    sheet = strokes.draw(digit, side=200, size=80, width=4, centre=(60, 130))
    assert sheet.shape == (200, 200)
    assert sheet.dtype == np.uint8
    assert (sheet.min(), sheet.max()) == (0, strokes.PAPER)
    rows, columns = np.nonzero(sheet < 128)
    assert abs(rows.min() + rows.max() - 2 * 60) < 16
    assert abs(columns.min() + columns.max() - 2 * 130) < 25
    assert 70 < np.ptp(rows) < 95
    assert handwriting.prepare(sheet).shape == (28, 28)


def test_an_unsteady_hand_is_another_for_each_seed():
    first, again, other, steady = (strokes.draw(3, seed=seed) for seed in (1, 1, 2, None))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(steady, strokes.draw(3))


def test_there_are_ten_digits():
    with pytest.raises(ValueError, match="no digit 10"):
        strokes.draw(10)


def test_on_paper_is_thin_dark_and_anywhere():
    images = np.zeros((6, 28, 28), np.uint8)
    images[:, 5:24, 12:16] = 255
    sheets = strokes.on_paper(images, side=100, seed=3)
    assert sheets.shape == (6, 100, 100)
    assert sheets.dtype == np.uint8
    assert np.array_equal(sheets, strokes.on_paper(images, side=100, seed=3))
    boxes = [handwriting.crop(255 - sheet, 127).shape for sheet in sheets]
    assert all(25 <= height <= 65 and width < height / 5 for height, width in boxes)
    assert len({int(np.nonzero(sheet < 128)[1].min()) for sheet in sheets}) > 3
