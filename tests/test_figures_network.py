"""The figures of lesson 4 say, in their text alternative, what the model is."""

import importlib

import numpy as np
import pytest

from firstcnn import figures

# The function of the same name hides the module from a plain import.
module = importlib.import_module("firstcnn.figures.network")

keras = pytest.importorskip("keras")


@pytest.fixture
def shown(monkeypatch):
    alts = []
    monkeypatch.setattr(module, "show", lambda alt, figure: alts.append((alt, figure)))
    yield alts
    for _, figure in alts:
        module.plt.close(figure)


def chain():
    layers = keras.layers
    return [
        layers.Conv2D(16, 5, strides=2, activation="relu"),
        layers.Conv2D(32, 5, padding="same"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.25),
        layers.Dense(10, activation="softmax"),
    ]


def sequential():
    return keras.Sequential([keras.Input((28, 28, 1)), *chain()], name="one")


def functional():
    start = end = keras.Input((28, 28, 1))
    for layer in chain():
        end = layer(end)
    return keras.Model(start, end, name="one")


@pytest.mark.parametrize("make", [sequential, functional])
def test_network_tells_shapes_settings_and_parameters(shown, make):
    figures.network(make())
    alt, figure = shown[0]
    assert "Input of shape (28, 28, 1)" in alt
    assert "Conv2D, 16 filters, 5 x 5, strides 2 x 2, relu, 416 parameters" in alt
    assert "padding same, 12,832 parameters, gives (12, 12, 32)" in alt
    assert "Flatten, no parameters, gives (1152,)" in alt
    assert "Dropout, rate 0.25, no parameters" in alt
    assert "Dense, 10 units, softmax, 11,530 parameters, gives (10,)" in alt
    assert "In all 24,778 parameters" in alt
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [texts.count(shape) for shape in ("(28, 28, 1)", "(12, 12, 16)", "(10,)")] == [1, 1, 1]


def test_network_wants_a_chain_that_knows_its_shapes(shown):
    with pytest.raises(ValueError, match=r"keras\.Input"):
        figures.network(keras.Sequential(chain()))
    start = keras.Input((8,))
    branch = keras.layers.Dense(8)(start)
    added = keras.layers.Add()([start, branch])
    with pytest.raises(ValueError, match="chain"):
        figures.network(keras.Model(start, added))


def test_maps_by_layer_shows_the_layers_that_give_maps(shown, recwarn):
    figures.maps_by_layer(sequential(), np.ones((28, 28, 1), dtype="float32"), maps=3)
    alt, _ = shown[0]
    assert "Conv2D, 12 x 12 pixels, 3 of 16 maps" in alt
    assert "MaxPooling2D, 6 x 6 pixels, 3 of 32 maps" in alt
    assert "Dense" not in alt
    assert not [one for one in recwarn if "structure" in str(one.message)]


def test_maps_by_layer_refuses_a_model_without_maps(shown):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="feature maps"):
        figures.maps_by_layer(model, np.ones((28, 28, 1)))


def test_relu_counts_what_it_cuts(shown):
    figures.relu(np.array([[-2.0, 1.0], [3.0, 0.0]]))
    assert "from -2.0 to 3.0; 25% are negative" in shown[0][0]
