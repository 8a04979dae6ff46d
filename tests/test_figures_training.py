"""The figures of lesson 5 are drawn, closed, and described in words."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from firstcnn import figures
from firstcnn.figures import training

matplotlib.use("agg")

RECORD = {
    "accuracy": [0.5, 0.8, 0.9],
    "loss": [2.0, 1.0, 0.5],
    "val_accuracy": [0.6, 0.7, 0.7],
    "val_loss": [1.5, 1.2, 1.4],
}


class History:
    """What Keras' fit returns, as far as the figures know it."""

    history = RECORD


@pytest.fixture
def shown(monkeypatch):
    """Catch what is shown: a list of (words, figure); the figures are closed at the end."""
    seen = []
    monkeypatch.setattr(training, "show", lambda alt, figure: seen.append((alt, figure)))
    yield seen
    plt.close("all")


@pytest.mark.parametrize("history", [RECORD, History()], ids=["dict", "History"])
def test_learning_curves_put_the_loss_first_and_pair_training_with_validation(shown, history):
    figures.learning_curves(history, title="First", seen="Both fall.")
    [(alt, figure)] = shown
    assert alt == (
        "First: loss and accuracy on the training and validation images, 3 epochs. Both fall."
    )
    loss, accuracy = figure.axes
    assert [one.get_title() for one in figure.axes] == ["loss", "accuracy"]
    assert [list(line.get_ydata()) for line in loss.lines] == [RECORD["loss"], RECORD["val_loss"]]
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3]


def test_learning_curves_do_without_validation(shown):
    figures.learning_curves({"loss": [1.0], "learning_rate": [0.1]})
    [(alt, figure)] = shown
    assert alt == "Learning curves: loss on the training images, 1 epoch."
    assert len(figure.axes) == 1
    assert len(figure.axes[0].lines) == 1


def test_loss_panels_show_each_training_on_one_scale(shown):
    figures.loss_panels({"A": RECORD, "B": History()}, title="Two", seen="They are alike.")
    [(alt, figure)] = shown
    assert alt == "Two: the losses of A, B, a panel each. They are alike."
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


@pytest.mark.parametrize("log", [False, True])
def test_curves_name_each_line(shown, log):
    figures.curves({"slow": [3, 2.9], "fast": [3, 0.5, 0.1]}, "Rates", "loss", log=log)
    [(alt, figure)] = shown
    assert alt == "Rates: loss by epoch, a line each for slow, fast."
    [axes] = figure.axes
    assert axes.get_yscale() == ("log" if log else "linear")
    styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(styles) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["slow", "fast"]


def test_a_single_curve_may_have_places_of_its_own(shown):
    figures.curves({"rate": [0.1, 0.2]}, "One", "rate", xlabel="step", x=range(2), seen="Up.")
    [(alt, figure)] = shown
    assert alt == "One: rate by step. Up."
    assert list(figure.axes[0].lines[0].get_xdata()) == [0, 1]
    assert figure.axes[0].get_legend() is None


def test_descent_tells_where_each_path_ends(shown):
    figures.descent(np.square, {"good": [1.0, 0.5, 0.25], "bad": [1.0, -2.0]})
    [(alt, figure)] = shown
    assert "good: from 1 to 0.25 in 2 steps; bad: from 1 to -2 in 1 step." in alt
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.learning_curves({}),
        lambda: figures.loss_panels({}),
        lambda: figures.loss_panels({"A": {}}),
        lambda: figures.curves({}, "None", "loss"),
        lambda: figures.descent(np.square, {}),
    ],
)
def test_nothing_to_draw_is_refused(shown, draw):
    with pytest.raises(ValueError, match=r"no |empty"):
        draw()
    assert not plt.get_fignums()
