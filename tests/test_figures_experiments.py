"""The figure of lesson 7 sorts the settings, and says so in its text alternative."""

import importlib

import pytest

from firstcnn import figures

module = importlib.import_module("firstcnn.figures.experiments")

RESULTS = [
    {"name": "plain", "scores": [0.90, 0.92]},
    {"name": "worse", "scores": [0.10, 0.30, 0.20]},
    {"name": "better", "scores": (0.95,)},
]


@pytest.fixture
def shown(monkeypatch):
    alts = []
    monkeypatch.setattr(module, "show", lambda alt, figure: alts.append((alt, figure)))
    yield alts
    for _, figure in alts:
        module.plt.close(figure)


def test_comparison_puts_the_highest_mean_on_top(shown):
    figures.comparison(RESULTS, "Three", baseline="plain")
    alt, figure = shown[0]
    assert alt == (
        "Three, from top to bottom, mean and range over the seeds: better 95.0 % (95.0 to 95.0); "
        "plain 91.0 % (90.0 to 92.0); worse 20.0 % (10.0 to 30.0)."
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "plain", "worse"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert axes.get_title() == "Three"
    assert axes.get_ylabel()


def test_comparison_keeps_the_order_that_it_is_given(shown):
    figures.comparison(RESULTS, sort=False)
    labels = [label.get_text() for label in shown[0][1].axes[0].get_yticklabels()]
    assert labels == ["plain", "worse", "better"]


@pytest.mark.parametrize(
    ("results", "baseline", "message"),
    [
        ([], None, "nothing to draw"),
        ([{"name": "empty", "scores": []}], None, "nothing to draw"),
        (RESULTS, "absent", "absent"),
    ],
)
def test_comparison_refuses_what_it_cannot_draw(shown, results, baseline, message):
    with pytest.raises(ValueError, match=message):
        figures.comparison(results, baseline=baseline)
    assert not shown
