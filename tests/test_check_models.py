"""Checks on Keras models: every right way passes, and each wrong one is named."""

import warnings
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from test_check import message

from firstcnn import check, data
from firstcnn.check.models import FALLBACK_ACCURACY

WANTED = [
    check.layer("Conv2D", filters=4, kernel_size=3, activation="relu"),
    check.layer("Flatten"),
    check.layer("Dropout", rate=0.25),
    check.layer("Dense", units=10, activation="softmax"),
]
PARAMETERS = 3 * 3 * 4 + 4 + 4 * 36 * 10 + 10


def sequential(**changes):
    settings = {"filters": 4, "kernel_size": 3, "rate": 0.25, "units": 10, "last": "softmax"}
    settings |= changes
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(settings["filters"], settings["kernel_size"], activation="relu"),
            layers.Flatten(),
            layers.Dropout(settings["rate"]),
            layers.Dense(settings["units"], activation=settings["last"]),
        ]
    )


def functional():
    inputs = keras.Input((8, 8, 1))
    x = layers.ReLU()(layers.Conv2D(4, (3, 3))(inputs))
    x = layers.Dropout(0.25)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Softmax()(layers.Dense(10)(x)))


def added():
    model = keras.Sequential()
    model.add(layers.Input((8, 8, 1)))
    model.add(layers.Conv2D(4, 3))
    model.add(layers.Activation("relu"))
    for layer in (layers.Flatten(), layers.Dropout(0.25), layers.Dense(10, keras.ops.softmax)):
        model.add(layer)
    return model


def with_functions():
    inputs = keras.Input((8, 8, 1))
    x = keras.ops.relu(layers.Conv2D(4, 3)(inputs))
    x = layers.Dropout(0.25)(layers.Flatten()(x))
    return keras.Model(inputs, keras.activations.softmax(layers.Dense(10)(x)))


def nested():
    first = keras.Sequential([layers.Conv2D(4, 3, activation=tf.nn.relu), layers.Flatten()])
    last = [layers.Dropout(0.25), layers.Dense(10, activation=tf.nn.softmax)]
    return keras.Sequential([keras.Input((8, 8, 1)), first, *last])


def with_layers_as_activations():
    model = keras.Sequential([layers.Conv2D(4, 3, activation=layers.ReLU()), layers.Reshape((-1,))])
    model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation=layers.Softmax()))
    model.build((None, 8, 8, 1))
    return model


BUILT = [sequential, functional, added, with_functions, nested, with_layers_as_activations]


def saved_and_loaded(folder):
    path = folder / "model.keras"
    sequential().save(path)
    return keras.saving.load_model(path)


def check_all(model):
    check.model(
        "model",
        model,
        layers=WANTED,
        input_shape=(8, 8, 1),
        output_shape=(10,),
        parameters=PARAMETERS,
    )


@pytest.mark.parametrize("build", BUILT)
def test_every_way_of_building_the_same_network_is_right(build):
    check_all(build())


def test_a_model_that_was_saved_and_loaded_is_the_same_to_a_check(tmp_path):
    check_all(saved_and_loaded(tmp_path))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: "model", "It should be a Keras model"),
        (lambda: layers.Dense(10), "It should be a Keras model"),
        (
            lambda: keras.Sequential([layers.Dense(10)]),
            "does not know its input shape yet. Start it with keras.Input((8, 8, 1))",
        ),
        (
            lambda: sequential(units=20),
            "Layer 4 of model, a Dense, has units=20. Expected units=10",
        ),
        (lambda: sequential(filters=8), "filters=8. Expected filters=4"),
        (lambda: sequential(kernel_size=(3, 5)), "kernel_size=(3, 5). Expected kernel_size=3"),
        (lambda: sequential(rate=0.5), "rate=0.5. Expected rate=0.25"),
        (lambda: sequential(last="relu"), 'activation="relu". Expected activation="softmax"'),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()]),
            "Layer 1 of model is a Flatten. Expected a Conv2D",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu")]
            ),
            "model has 1 layers: Conv2D. After them a Flatten() is expected",
        ),
        (
            lambda: keras.Sequential([*sequential().layers, layers.Dense(10)]),
            "more layers than expected at its end: Dense",
        ),
        (
            lambda: keras.Sequential([keras.Input((28, 28, 1)), *sequential().layers[1:2]]),
            "takes inputs of shape (28, 28, 1). Expected (8, 8, 1)",
        ),
    ],
)
def test_wrong_models_are_named(model, said):
    model = model()
    if getattr(model, "layers", None) and not model.built and len(model.layers) > 1:
        model.build((None, 8, 8, 1))
    text = message(
        check.model, "model", model, layers=WANTED, input_shape=(8, 8, 1), output_shape=(10,)
    )
    assert said in text


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("last", "right"),
    [
        (layers.ReLU(negative_slope=0.1), False),
        (layers.Softmax(axis=1), False),
        (layers.Activation("relu"), True),
        (layers.ReLU(), True),
    ],
)
def test_only_the_usual_relu_is_an_activation_like_its_name(last, right):
    wanted = [check.layer("Dense", activation="relu")]
    for model in (
        keras.Sequential([keras.Input((4,)), layers.Dense(4), last]),
        keras.Sequential([keras.Input((4,)), layers.Dense(4, activation=last)]),
    ):
        if right:
            check.model("model", model, layers=wanted)
        else:
            assert "has activation=" in message(check.model, "model", model, layers=wanted)


def test_a_model_of_a_class_of_its_own_is_told_how_to_start():
    text = message(check.model, "model", Subclassed(), input_shape=(8, 8, 1))
    assert "Start it with keras.Input((8, 8, 1))" in text


def test_a_lambda_writes_nothing(recwarn):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation=lambda x: x * x)])
    wanted = [check.layer("Dense", activation="relu")]
    assert "has activation=" in message(check.model, "model", model, layers=wanted)
    assert not recwarn.list


def test_parts_of_a_model_are_checked_one_without_the_other():
    picture, rest = ("Conv2D", "MaxPooling2D"), ("Flatten", "Dropout", "Dense")
    check.model("model", sequential(units=20), layers=WANTED[:1], skip=rest)
    check.model("model", sequential(filters=8), layers=WANTED[1:], skip=picture)
    for part, skip, model, said in [
        (WANTED[:1], rest, sequential(filters=8), "Layer 1 of model, a Conv2D, has filters=8"),
        (WANTED[1:], picture, sequential(units=20), "Layer 4 of model, a Dense, has units=20"),
        (
            [*WANTED[:1], check.layer("MaxPooling2D")],
            rest,
            sequential(),
            "4 layers: Conv2D, Flatten, Dropout, Dense. Besides them a MaxPooling2D() is expected",
        ),
        ([], rest, sequential(), "has more layers than expected: Conv2D."),
    ]:
        assert said in message(check.model, "model", model, layers=part, skip=skip)


def test_output_shape_and_parameters():
    model = sequential(units=20)
    text = message(check.model, "model", model, output_shape=(10,))
    assert "gives outputs of shape (20,). Expected (10,)" in text
    assert "Expected 1,490" in message(check.model, "model", model, parameters=PARAMETERS)
    assert PARAMETERS == 1490


LOSSES = [
    "sparse_categorical_crossentropy",
    keras.losses.SparseCategoricalCrossentropy(),
    keras.losses.sparse_categorical_crossentropy,
    [keras.losses.SparseCategoricalCrossentropy()],
]


@pytest.mark.parametrize("loss", LOSSES, ids=["text", "class", "function", "list"])
@pytest.mark.parametrize(
    "optimizer", ["adam", keras.optimizers.Adam, "Adam"], ids=["text", "class", "capital"]
)
@pytest.mark.parametrize(
    "metrics",
    [["accuracy"], ["acc"], [keras.metrics.SparseCategoricalAccuracy()]],
    ids=["accuracy", "acc", "class"],
)
def test_every_way_of_compiling_alike_is_right(loss, optimizer, metrics):
    model = sequential()
    model.compile(optimizer() if isinstance(optimizer, type) else optimizer, loss, metrics=metrics)
    check.compiled(
        "model",
        model,
        loss="sparse_categorical_crossentropy",
        from_logits=False,
        optimizer="adam",
        learning_rate=0.001,
        metric="accuracy",
    )


SEALED = "categorical_crossentropy from logits"


def test_a_sealed_loss_is_recognised_with_its_from_logits(capsys):
    model = sequential()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["categorical_accuracy"])
    check.compiled("model", model, loss=check.sealed(check.seal(SEALED)), metric="accuracy")
    assert "Correct: the loss of model is right." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("categorical_crossentropy", "is 'categorical_crossentropy'. It takes probabilities."),
        ("mse", "is 'mean_squared_error', and that is not it."),
    ],
)
def test_a_loss_other_than_the_sealed_one_is_named_but_the_right_one_is_not(loss, said):
    model = sequential()
    model.compile("adam", loss)
    slips = {check.sealed(check.seal("categorical_crossentropy")): "It takes probabilities."}
    sealed = check.sealed(check.seal(SEALED))
    text = message(check.compiled, "model", model, loss=sealed, slips=slips)
    assert f"the loss of model {said}" in text
    assert "from logits" not in text


@pytest.mark.parametrize(
    ("compiled", "said"),
    [
        (
            {"loss": "categorical_crossentropy"},
            "has the loss categorical_crossentropy. Expected sparse_categorical_crossentropy",
        ),
        ({"loss": "mse"}, "has the loss mean_squared_error"),
        (
            {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
            "from_logits=True. Expected False",
        ),
        (
            {"loss": partial(keras.losses.sparse_categorical_crossentropy, from_logits=True)},
            "cannot say how it is compiled",
        ),
        (
            {"loss": lambda y, p: keras.losses.sparse_categorical_crossentropy(y, p)},
            "has the loss __lambda__. Expected sparse_categorical_crossentropy",
        ),
        (
            {"loss": keras.losses.SparseCategoricalCrossentropy},
            "cannot say how it is compiled (TypeError). Is there a class without its brackets",
        ),
        ({"optimizer": "sgd"}, "has the optimizer SGD. Expected adam"),
        (
            {"optimizer": keras.optimizers.Adam(0.1)},
            "has a learning rate of 0.1. Expected 0.001",
        ),
        ({"metrics": []}, 'reports no metric. Ask compile for metrics=["accuracy"]'),
        ({"metrics": ["mae"]}, "reports mae"),
        ({"metrics": [keras.metrics.Accuracy(name="exact")]}, "reports exact"),
        ({"metrics": [keras.metrics.Accuracy()]}, "reports Accuracy. Ask compile"),
        ({"metrics": [keras.metrics.BinaryAccuracy(name="acc")]}, "reports BinaryAccuracy"),
        (
            {"metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")]},
            "reports categorical_accuracy, which is for labels of another form",
        ),
    ],
)
def test_wrong_compilations_are_named(compiled, said):
    model = sequential()
    right = {"optimizer": "adam", "loss": LOSSES[0], "metrics": ["accuracy"]}
    model.compile(**(right | compiled))
    wanted = {"loss": "sparse_categorical_crossentropy", "from_logits": False}
    wanted |= {"optimizer": "adam", "learning_rate": 0.001, "metric": "accuracy"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras warns of a lambda, and a warning costs the points
        assert said in message(check.compiled, "model", model, **wanted)


def test_a_model_that_is_not_compiled_is_no_answer_yet():
    text = message(check.compiled, "model", sequential(), metric="acc", kind=check.NotAnswered)
    assert "model is not compiled. Call model.compile" in text


def test_a_setting_that_is_an_object_is_asked_for_as_keras_has_it():
    usual = layers.Dense(1).get_config()
    names = ("kernel_initializer", "kernel_regularizer")
    wanted = [check.layer("Dense", **{name: usual[name] for name in names})]
    own = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    check.model("model", own, layers=wanted)
    own = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_regularizer="l2")])
    text = message(check.model, "model", own, layers=wanted)
    assert 'has kernel_regularizer="L2". Expected kernel_regularizer=None' in text
    own = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_initializer="ones")])
    text = message(check.model, "model", own, layers=wanted)
    assert 'has kernel_initializer="Ones". Expected kernel_initializer="GlorotUniform"' in text
    none = keras.Sequential([keras.Input((4,)), layers.Flatten()])
    text = message(check.model, "model", none, layers=wanted, skip=["Flatten"])
    assert "Dense(kernel_initializer='GlorotUniform', kernel_regularizer=None) is expected" in text


def perfect():
    """A model that reads its answer off the image."""
    inputs = keras.Input((10,))
    return keras.Model(inputs, layers.Identity()(inputs))


def images(labels, wrong):
    x = np.eye(10, dtype=np.float32)[labels]
    x[:wrong] = np.roll(x[:wrong], 1, axis=1)
    return x


LABELS = np.tile(np.arange(10), 10)


def test_accuracy_counts_right_answers(capsys, monkeypatch):
    monkeypatch.setattr(data, "is_complete", lambda: True)
    check.accuracy("model", perfect(), images(LABELS, 2), LABELS, at_least=0.98)
    assert capsys.readouterr().out == "Correct: model is right on 98.0% of 100 images.\n"
    text = message(check.accuracy, "model", perfect(), images(LABELS, 3), LABELS, at_least=0.98)
    assert "model is right on 97.00% of 100 images. Expected 98.00% or more" in text


def test_the_fallback_data_asks_for_less_but_not_for_nothing(monkeypatch):
    monkeypatch.setattr(data, "is_complete", lambda: False)
    share = round((1 - FALLBACK_ACCURACY) * 100)
    check.accuracy("model", perfect(), images(LABELS, share), LABELS, at_least=0.98)
    message(check.accuracy, "model", perfect(), images(LABELS, share + 1), LABELS, at_least=0.98)


def test_accuracy_names_what_does_not_fit():
    x = images(LABELS, 0)
    text = message(check.accuracy, "model", sequential(), x, LABELS, at_least=0.9)
    assert "takes inputs of shape (8, 8, 1), and the images have shape (10,)" in text
    text = message(check.accuracy, "model", perfect(), x * np.nan, LABELS, at_least=0.9)
    assert "predicts nan" in text
    inputs = keras.Input((10,))
    pixels = keras.Model(inputs, layers.Reshape((5, 2))(inputs))
    text = message(check.accuracy, "model", pixels, x, LABELS, at_least=0.9)
    assert "gives outputs of shape (100, 5, 2). Expected (100, 10)" in text


def test_histories_of_both_kinds():
    record = {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}
    history = keras.callbacks.History()
    history.history = record
    for one in (record, history):
        check.history("history", one, epochs=2, keys=("loss", "val_loss"))
    for value, said in [
        (sequential(), "Keep what history = model.fit(...) returns"),
        ([1.0], "Keep what history = model.fit(...) returns"),
        ({}, "history is empty"),
        ({"loss": [1.0]}, 'but not "val_loss". Give fit validation data'),
        ({"val_loss": [1.0]}, 'but not "loss". Ask compile for it'),
        ({"loss": [1.0], "val_loss": [1.0]}, "history covers 1 epochs. Expected 2"),
    ]:
        text = message(check.history, "history", value, epochs=2, keys=("loss", "val_loss"))
        assert said in text


def test_outputs_are_those_of_predict_for_every_batch():
    x = np.random.default_rng(0).normal(size=(1100, 8, 8, 1)).astype("float32")
    model = sequential()
    have = check.outputs("model", model, x)
    assert have.shape == (1100, 10)
    np.testing.assert_allclose(have, model.predict(x, verbose=0), atol=1e-6)


def test_outputs_are_silent_for_a_model_with_listed_inputs_and_for_many_models(capfd, recwarn):
    x = np.zeros((4, 10), "float32")
    for _ in range(8):
        inputs = keras.Input((10,))
        check.outputs("model", keras.Model([inputs], layers.Dense(3)(inputs)), x)
    assert capfd.readouterr().err == ""
    assert [one for one in recwarn if issubclass(one.category, UserWarning)] == []


def test_a_model_check_may_name_what_it_proves(capsys):
    check.model("model", sequential(), output_shape=(10,), what="has ten outputs")
    assert capsys.readouterr().out == "Correct: model has ten outputs.\n"


def test_settings_of_another_kind_than_the_expected_are_named():
    def parts(**expected):
        return [WANTED[0], WANTED[1], check.layer("Dropout", **expected), WANTED[3]]

    model = sequential()
    text = message(check.model, "model", model, layers=parts(seed=1.5))
    assert "has seed=None. Expected seed=1.5" in text
    model.layers[2].seed = 1
    text = message(check.model, "model", model, layers=parts(seed=None))
    assert "has seed=1. Expected seed=None" in text
    leaky = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation=layers.LeakyReLU())]
    )
    text = message(check.model, "model", leaky, layers=WANTED[:1])
    assert 'has activation="LeakyReLU"' in text


def test_a_model_without_layers_or_inputs():
    inputs = keras.Input((8, 8, 1))
    text = message(check.model, "model", keras.Model(inputs, inputs), layers=WANTED)
    assert "model has 0 layers: none." in text
    text = message(check.model, "model", keras.Sequential([layers.Dense(2)]))
    assert "Start it with keras.Input((28, 28, 1))." in text


def test_one_of_two_losses_is_not_the_loss():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [layers.Dense(1)(inputs), layers.Dense(1)(inputs)])
    model.compile(loss=["mean_squared_error", "mean_absolute_error"])
    text = message(check.compiled, "model", model, loss="mean_squared_error")
    assert "has the loss ['mean_squared_error', 'mean_absolute_error']" in text


def test_a_model_that_does_not_tell_how_it_was_compiled():
    model = sequential()
    model.compile(loss="mse")
    model.get_compile_config = lambda: None
    assert "has the loss None" in message(check.compiled, "model", model, loss="mse")


class Own(keras.Model):
    """A network that knows no input shape before it is called."""

    def call(self, x):
        return x


class Raising(keras.Model):
    """A network that cannot be called."""

    def call(self, x):
        raise ValueError("no")


class First(keras.Model):
    """A network that answers for one picture of all."""

    def call(self, x):
        return x[:1]


def test_networks_of_classes_of_their_own_are_judged_by_what_they_answer():
    x = images(LABELS, 0)
    check.accuracy("model", Own(), x, LABELS, at_least=0.9)
    text = message(check.outputs, "model", Raising(), x)
    assert text == "model cannot predict for images of shape (100, 10): ValueError."
    text = message(check.accuracy, "model", First(), x, LABELS, at_least=0.9)
    assert "gives outputs of shape (1, 10). Expected (100, 10)" in text
    x[3] = np.nan
    assert "predicts nan" in message(check.accuracy, "model", perfect(), x, LABELS, at_least=0.9)


def test_a_history_of_any_number_of_epochs():
    check.history("history", {"loss": [2.0, 1.0]})
