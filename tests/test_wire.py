"""Values become data and values again, and whatever else is sent does no harm."""

import collections
import json
import math
import random
from decimal import Decimal
from fractions import Fraction

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from firstcnn import check
from firstcnn.check.outcome import describe
from firstcnn.grading import networks, wire
from firstcnn.grading.wire import Packet, WireError, decode, encode


def there_and_back(value):
    return decode(Packet.from_bytes(encode(value).to_bytes()))


def packet(tree, *blobs):
    return Packet(json.dumps(tree).encode(), blobs)


def same(a, b):
    """Tell whether two values are alike, in type as well, and nan like nan."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype.kind == "O":
            return all(same(x, y) for x, y in zip(a.flat, b.flat, strict=True))
        return a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) for x, y in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float | complex | np.floating):
        return repr(a) == repr(b)
    return bool(a == b)


VALUES = [
    None,
    ...,
    NotImplemented,
    True,
    0,
    -(2**63),
    2**63,
    -(17**4000),
    0.1,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    Fraction(-10, 3),
    Decimal("-0.10"),
    Decimal("1.5E+20"),
    1 - 2.5j,
    complex(math.nan, -0.0),
    "",
    "softmax \n ü \U0001f600 \ud800",
    "long, " * 1000,
    b"\x00\xff",
    [],
    [1, [2.5, "three"], (None,)],
    (),
    {"loss": [1.0, 0.5], 3: (4,), (5, 6): None},
    set(),
    {1, "b", (2, 3)},
    frozenset({1.5}),
    collections.deque([1, 2]),
    range(2, 20, 3),
    slice(None, 5, -1),
    slice("a", 1.5, None),
    np.arange(6, dtype="uint8").reshape(2, 3),
    np.arange(6.0).reshape(2, 3).T,
    np.array([[0.1, np.nan]], dtype="float16"),
    np.array([1 + 2j]),
    np.array([True, False]),
    np.array(["a", "lö"]),
    np.array([b"a", b"bc"]),
    np.array(3.5),
    np.zeros((0, 28, 28), "float32"),
    np.array([1], dtype=">i4"),
    np.array([[1, "a"], [None, [2]]], dtype=object),
    np.float32(0.1),
    np.int64(-3),
    np.bool_(True),
    np.str_("x"),
    np.complex64(1j),
    np.dtype("float32"),
    tf.float32,
    tf.TensorShape([None, 28, 28]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_values_arrive_as_they_were(value):
    assert same(there_and_back(value), value)


@pytest.mark.parametrize("value", [Decimal("1E+999999"), Decimal("nan"), Fraction(2**2000)])
def test_numbers_that_take_long_to_reckon_with_stay(value):
    assert isinstance(there_and_back(value), wire.Opaque)


def test_an_array_arrives_as_memory_of_its_own():
    arrived = there_and_back(np.zeros((2, 3), order="F"))
    arrived[0, 0] = 1
    assert arrived.flags.f_contiguous
    assert there_and_back(np.arange(12).reshape(3, 4)[:, ::2]).tolist() == [[0, 2], [4, 6], [8, 10]]


class Liar(float):
    def __eq__(self, other):
        return True

    def __float__(self):
        return 0.98

    __hash__ = float.__hash__


class Shout(str):
    def __str__(self):
        return "B"


class Whole(int):
    def __index__(self):
        return 42

    __int__ = __index__


class Many(list):
    def __len__(self):
        return 10

    def __iter__(self):
        return iter(range(10))


class Book(dict):
    def items(self):
        return [("a", 1)]


class Same(np.ndarray):
    def __array_finalize__(self, other):
        pass

    def tobytes(self, order="C"):
        return b"\1" * 8


@pytest.mark.parametrize(
    ("lie", "truth"),
    [
        (Liar(0.1), 0.1),
        (Shout("A"), "A"),
        (Whole(7), 7),
        (Many([1]), [1]),
        (Book(b=2), {"b": 2}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (np.array([0.0]).view(Same), np.array([0.0])),
    ],
)
def test_what_lies_about_itself_arrives_plain(lie, truth):
    assert same(there_and_back(lie), truth)
    assert same(there_and_back({"of": (lie,)}), {"of": (truth,)})


def test_tensors_arrive_as_tensors():
    numbers = np.array([[1.5, 2.5]], "float32")
    for tensor in (tf.constant(numbers), tf.Variable(numbers), keras.Variable(numbers)):
        arrived = there_and_back(tensor)
        assert type(arrived) is type(tensor)
        assert same(np.asarray(arrived), numbers)
    symbol = keras.Input((28, 28, 1))
    assert there_and_back(symbol).shape == (None, 28, 28, 1)
    assert describe(there_and_back(symbol)) == describe(symbol)


def test_a_history_arrives_with_its_numbers():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=2, verbose=0)
    arrived = there_and_back(history)
    assert type(arrived) is keras.callbacks.History
    assert arrived.history == history.history
    assert arrived.epoch == [0, 1]
    check.history("history", arrived, epochs=2)


def _generator():
    yield 1


@pytest.mark.parametrize(
    "value",
    [
        _generator(),
        filter(None, [1]),
        {"a": 1}.keys(),
        math,
        object(),
        np.random.default_rng(),
        tf.data.Dataset.range(3),
        np.mean,
        np.exp,
        len,
        dict,
        lambda: 1,
        keras.layers.Softmax(),
        keras.losses.CategoricalCrossentropy,
        np.random.normal,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_travel_is_described_as_it_was(value):
    arrived = there_and_back(value)
    assert describe(arrived) == describe(value)
    assert callable(arrived) == callable(value)
    assert f"{arrived!r:.80}" == f"{value!r:.80}"
    assert type(arrived).__name__ == type(value).__name__
    if callable(value):
        with pytest.raises(TypeError, match="under a name"):
            arrived(1)


def test_the_numbers_of_another_library_arrive():
    column, table = pd.Series([3, 1, 2]), pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    arrived = there_and_back(column)
    assert describe(arrived) == describe(column) == "a Series of shape (3,)"
    check.array("column", arrived, dtype="integer", equals=[3, 1, 2])
    assert (len(arrived), arrived[0]) == (3, 3)
    arrived = there_and_back(table)
    assert describe(arrived) == describe(table) == "a DataFrame"
    check.array("table", arrived, dtype="integer", equals=[[1, 3], [2, 4]])


def test_a_type_with_the_name_of_a_container_confuses_nobody():
    fake = type("list", (), {"__repr__": lambda self: 1 / 0})()
    assert describe(there_and_back([fake])) == "[<list>]"


def test_what_is_too_much_is_refused_on_both_sides(monkeypatch):
    cases = {
        "MAX_BYTES": np.zeros(100),
        "MAX_ITEMS": [0] * 100,
        "MAX_DEPTH": [[[[0]]]],
        "MAX_DOCUMENT": [1.5] * 100,
    }
    limits = {"MAX_BYTES": 700, "MAX_ITEMS": 50, "MAX_DEPTH": 3, "MAX_DOCUMENT": 200}
    for name, value in cases.items():
        whole = encode(value)
        data = whole.to_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(wire, name, limits[name])
            with pytest.raises(WireError, match="too much to be graded"):
                encode(value)
            with pytest.raises(WireError, match="too much to be graded"):
                decode(Packet.from_bytes(data))
            with pytest.raises(WireError, match="too much to be graded"):
                decode(whole)


def test_what_holds_itself_is_refused():
    ring = [1]
    ring.append({"again": ring})
    with pytest.raises(WireError, match="holds itself"):
        encode(ring)
    twice = [1]
    assert there_and_back([twice, twice]) == [[1], [1]]


# ---- bytes that nobody here has written -------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        *["{}", '{"list": []}', "[]", "[[]]", '["nothing"]', '["list", {}]', '["..." , 1]', "NaN"],
        *['["int", "x"]', '["int", 5]', '["float", "1"]', '["float", NaN]', '["complex", 1, "a"]'],
        *['["fraction", 1, 0]', '["fraction", 1, 2.0]', f'["fraction", ["int", "{10**400:x}"], 1]'],
        *['["decimal", 1]', '["decimal", "1E+999"]', '["decimal", "sNaN"]', '["decimal", "x"]'],
        *['["text", 0]', '["bytes", -1]', '["bytes", true]', '["bytes", "a"]', '["bytes", 1e3]'],
        *['["dict", 1]', '["dict", ["list"], 1]', '["set", ["list"]]', '["range", 0, 1, 0]'],
        *['["range", 0.5, 1, 1]', '["slice", 1]', '["dtype", "|O"]', '["dtype", "os"]'],
        *['["objects", ["list", 2]]', '["objects", 1, 2]', '["objects", ["tuple", -1]]'],
        *['["opaque", "a"]', '["opaque", 1, 2]', '["function", "a", 1, "b"]'],
        *['["tensor", 1]', '["tensor dtype", "os"]', '["tensor shape", "a"]', '["history", 1, 2]'],
        *['["symbol", ["tuple", 1e99], "float32"]', '["model", 1]', '["model", ["dict"]]'],
        *['["keras variable", ["list"]]', "\\", '"a', "[" * 100_000, "1" * 5000, "\x00"],
        *['["list", ' * 60 + "1" + "]" * 60, '["text"' + ", 1" * 10 + "]"],
    ],
    ids=lambda text: text[:30],
)
def test_a_wrong_document_is_refused(document):
    with pytest.raises(WireError):
        decode(Packet(document.encode()))


def array(dtype, shape, data, order="C"):
    return packet(["array", dtype, shape, order, 0], data)


@pytest.mark.parametrize(
    "wrong",
    [
        array("<f8", [2], b"12345678"),
        array("<f8", [2**40, 2**40], b"12345678"),
        array("<f8", [-1], b"12345678"),
        array("<f8", [1.0], b"12345678"),
        array("<f8", [True], b"12345678"),
        array("<f8", [1], b"12345678", "K"),
        array("|O", [1], b"12345678"),
        array("|V8", [1], b"12345678"),
        array("<M8[s]", [1], b"12345678"),
        array("<f16", [1], bytes(16)),
        array("<i8,<i8", [1], bytes(16)),
        array("<U0", [5], b""),
        array("<U99999", [2**40], b""),
        array("<U1", [1], b"\xff\xff\xff\x7f"),
        packet(["list", ["bytes", 0], ["bytes", 0]], b"twice"),
        packet(["scalar", "<f8", 0], b"1234"),
        packet(["text", 0], b"\xff\xfe"),
    ],
    ids=lambda one: one.document.decode()[:40],
)
def test_a_wrong_array_is_refused(wrong):
    with pytest.raises(WireError):
        decode(wrong)


def test_a_shape_of_many_axes_is_refused_before_they_are_multiplied():
    with pytest.raises(WireError, match="has no shape"):
        decode(array("<f8", [1] * 65, b"12345678"))


def test_bytes_of_a_truth_value_are_made_true_or_false():
    arrived = decode(array("|b1", [3], b"\x00\x01\x02"))
    assert arrived.tobytes() == b"\x00\x01\x01"


def test_a_packet_cut_short_is_refused():
    data = encode({"a": np.arange(5), "b": [1.5, "x" * 2000], "c": None}).to_bytes()
    for length in range(len(data)):
        with pytest.raises(WireError):
            decode(Packet.from_bytes(data[:length]))
    with pytest.raises(WireError, match="not as long"):
        Packet.from_bytes(data + b"\0")


def test_a_packet_with_wrong_bits_is_refused_or_is_some_value():
    values = {"a": np.arange(5), "b": [1.5, -3, "text", (None, ...)], "c": {1: b"2"}, "d": len}
    data = encode(values).to_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(3000):
        wrong = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 5))):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        try:
            decode(Packet.from_bytes(wrong))
        except WireError:
            refused += 1
    assert 1000 < refused < 3000


def test_the_text_of_a_foreign_value_is_one_line():
    arrived = decode(packet(["opaque", "Thing", "a\n\x1b[31mred\u202e" + "x" * 999]))
    assert repr(arrived) == "a[31mred" + "x" * 192


def test_many_empty_lists_are_refused_before_they_are_built(monkeypatch):
    monkeypatch.setattr(wire, "MAX_ITEMS", 1000)
    monkeypatch.setattr(wire.json, "loads", lambda *args, **kwargs: pytest.fail("it was parsed"))
    with pytest.raises(WireError, match="values"):
        decode(Packet(b'["list"' + b',["list"]' * 5000 + b"]"))


def test_many_foreign_types_are_refused():
    with pytest.raises(WireError, match="values"):
        decode(packet(["list", *(["opaque", f"T{i}", ""] for i in range(20_000))]))


# ---- models -----------------------------------------------------------------------------------


def small(**settings):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.25),
            keras.layers.Dense(4, activation="softmax", **settings),
        ]
    )


def functional():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, activation=tf.nn.relu, use_bias=False)(inputs / 255)
    x = keras.ops.relu(x) + keras.activations.relu(keras.layers.Conv2D(2, 3)(inputs))
    seen = keras.layers.Normalization(axis=None)
    seen.adapt(np.arange(4.0))
    known = keras.layers.Normalization(axis=None, mean=0.5, variance=4.0)
    inner = keras.Sequential([keras.Input((6, 6, 2)), seen, keras.layers.Flatten(), known])
    inner.compile(loss=lambda y, p: 0.0)
    x = keras.layers.Dense(
        4, kernel_regularizer="l2", kernel_initializer=keras.initializers.Constant(0.1)
    )(inner(x))
    return keras.Model(inputs, keras.layers.Activation(tf.nn.softmax)(x))


class OwnSequential(keras.Sequential):
    def __init__(self, units):
        super().__init__([keras.Input((8, 8, 1)), *small().layers])
        self.add(keras.layers.Dense(units))

    def get_config(self):
        return {"units": 2}


class OwnFunctional(keras.Model):
    def __init__(self, units):
        inputs = keras.Input((8, 8, 1))
        super().__init__(inputs, keras.layers.Dense(units)(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    "make", [small, functional, lambda: OwnSequential(2), lambda: OwnFunctional(2)]
)
def test_a_model_arrives_with_layers_and_weights(make):
    model = make()
    images = np.random.default_rng(0).random((5, 8, 8, 1)).astype("float32")
    arrived = there_and_back(model)
    assert type(arrived).__module__.startswith("keras.")
    assert isinstance(model, type(arrived))
    assert arrived.count_params() == model.count_params()
    assert [type(one) for one in arrived.layers] == [type(one) for one in model.layers]
    np.testing.assert_array_equal(
        check.outputs("arrived", arrived, images), check.outputs("model", model, images)
    )
    assert not arrived.compiled


def test_a_model_arrives_as_it_was_compiled_and_trained():
    model = small()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100, warmup_target=0.1, warmup_steps=5)
    model.compile(
        keras.optimizers.Adam(schedule),
        [keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
        metrics=["acc", keras.metrics.SparseCategoricalAccuracy()],
    )
    model.fit(np.zeros((6, 8, 8, 1)), np.zeros(6), batch_size=2, verbose=0)
    arrived = there_and_back(model)
    assert arrived.get_compile_config() == model.get_compile_config()
    assert int(arrived.optimizer.iterations) == 3
    assert arrived.optimizer.get_config() == model.optimizer.get_config()
    check.compiled("arrived", arrived, optimizer="adam", from_logits=True, metric="accuracy")
    data = np.zeros((6, 8, 8, 1)), np.zeros(6)
    assert arrived.evaluate(*data, verbose=0) == pytest.approx(model.evaluate(*data, verbose=0))


def message_of(value, **settings):
    with pytest.raises(check.CheckFailed) as failure:
        check.compiled("model", value, **settings)
    return str(failure.value)


def own_loss(labels, outputs):
    return outputs


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.25


class OwnOptimizer(keras.optimizers.SGD):
    pass


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"loss": own_loss}, {"loss": "mean_squared_error"}),
        ({"loss": lambda y, p: p}, {"loss": "mean_squared_error"}),
        ({"loss": keras.losses.CategoricalCrossentropy}, {"loss": "mean_squared_error"}),
        ({"loss": "softmax"}, {"loss": "mean_squared_error"}),
        ({"optimizer": OwnOptimizer(0.5), "loss": "mse"}, {"optimizer": "adam"}),
        ({"optimizer": OwnOptimizer(0.5), "loss": "mse"}, {"learning_rate": 0.1}),
        ({"optimizer": keras.optimizers.SGD(OwnSchedule())}, {"learning_rate": 0.1}),
        ({"optimizer": "sgd", "metrics": [own_loss]}, {"metric": "accuracy"}),
        ({}, {"loss": "mean_squared_error"}),
    ],
)
def test_of_a_model_that_is_compiled_wrongly_the_same_is_said(settings, asked):
    model = small()
    model.compile(**settings)
    assert message_of(there_and_back(model), **asked) == message_of(model, **asked)


def test_an_optimizer_of_its_own_raises_what_the_original_raises():
    model = small()
    model.compile(keras.optimizers.SGD(OwnSchedule()), "mse")
    for one in (model, there_and_back(model)):
        with pytest.raises(NotImplementedError):
            one.optimizer.get_config()


class OwnModel(keras.Model):
    def call(self, inputs):
        return inputs


class Subclassed(keras.Model):
    """A network as it is written in PyTorch."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(3, 3, activation="relu")
        self.flatten, self.dropout = keras.layers.Flatten(), keras.layers.Dropout(0.5)
        self.dense = keras.layers.Dense(10, activation="softmax")

    def call(self, inputs, training=None):
        flat = self.flatten(self.convolution(inputs))
        return self.dense(self.dropout(flat, training=training))


def trained(images):
    model = Subclassed()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, np.arange(len(images)) % 10, verbose=0)
    return model


def test_a_model_of_a_class_of_its_own_does_what_it_did_and_says_no_more():
    images = np.random.default_rng(0).random((64, 8, 8, 1)).astype("float32")
    model = trained(images)
    arrived = there_and_back(model)
    assert type(arrived).__name__ == "Subclassed"
    assert [type(one) for one in arrived.layers] == [type(one) for one in model.layers]
    assert arrived.count_params() == model.count_params()
    assert arrived.loss == "sparse_categorical_crossentropy"
    assert arrived.optimizer.iterations == model.optimizer.iterations
    for ask in (
        lambda one: one.predict(images, verbose=0),
        lambda one: np.asarray(one(images, training=False)),
        lambda one: one.evaluate(images, np.zeros(64), verbose=0),
    ):
        np.testing.assert_allclose(ask(arrived), ask(model), rtol=1e-6)
    # The dropout is there in training, and only then.
    assert np.ptp(np.asarray(arrived(np.repeat(images[:1], 64, 0), training=True)), 0).max() > 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: check.model("model", model, layers=[check.layer("Conv2D")]),
        lambda model: check.accuracy("model", model, np.ones((9, 8, 8, 1)), [1] * 9, at_least=1.1),
        lambda model: check.outputs("model", model, np.ones((9, 5, 5, 1))),
        lambda model: check.compiled("model", model, loss="mse"),
    ],
)
def test_of_a_model_of_a_class_of_its_own_the_same_is_said(ask):
    model = trained(np.zeros((64, 8, 8, 1), "float32"))
    said = []
    for one in (model, there_and_back(model)):
        with pytest.raises(check.CheckFailed) as caught:
            ask(one)
        said.append(str(caught.value))
    assert said[0] == said[1]


class Mixed(Subclassed):
    """One of its layers is of a class of its own."""

    def __init__(self):
        super().__init__()
        self.dense = OwnLayer(10)


class Loose(Subclassed):
    """What it does is not all done by layers."""

    def call(self, inputs, training=None):
        return super().call(tf.convert_to_tensor(inputs), training=training)


@pytest.mark.parametrize("make", [Mixed, Loose])
def test_what_keras_cannot_say_of_it_answers_nothing(make):
    model = make()
    model(np.zeros((1, 8, 8, 1), "float32"))
    arrived = there_and_back(model)
    assert arrived.layers == []
    with pytest.raises(NotImplementedError):
        arrived.predict(np.zeros((1, 8, 8, 1), "float32"), verbose=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.Sequential([keras.layers.Dense(3)]),
        lambda: keras.Sequential(),
        lambda: OwnModel(),
    ],
)
def test_of_a_model_that_is_not_built_the_same_is_said(make):
    model = make()
    said = []
    for one in (model, there_and_back(model)):
        with pytest.raises(check.CheckFailed) as failure:
            check.model("model", one)
        said.append(str(failure.value))
    assert said[0] == said[1]


class OwnLayer(keras.layers.Dense):
    pass


@keras.saving.register_keras_serializable("mine")
class Registered(keras.layers.Dense):
    pass


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: keras.layers.Lambda(lambda x: x), "uses a Lambda layer, which cannot be graded"),
        (lambda: OwnLayer(3), "uses OwnLayer, which is not one of Keras' own classes"),
        (lambda: Registered(3), "uses Registered, which is not one of Keras' own classes"),
        (lambda: keras.layers.TimeDistributed(OwnLayer(3)), "uses OwnLayer"),
        (
            lambda: keras.layers.Dense(3, activation=lambda x: x),
            "uses a lambda in its Dense layer, which cannot be graded",
        ),
        (
            lambda: keras.layers.Dense(3, activation=own_loss),
            "uses own_loss in its Dense layer, which cannot be graded",
        ),
        (lambda: keras.layers.StringLookup(vocabulary=["a"]), "uses a StringLookup layer"),
    ],
)
def test_a_layer_that_is_not_keras_own_is_refused_by_name(layer, says):
    model = keras.Sequential([keras.Input((4, 4)), layer()])
    with pytest.raises(WireError) as refusal:
        there_and_back(model)
    assert says in str(refusal.value)


def hostile(change):
    """Return what `networks.described` would say of a model, but for a change."""
    description = networks.described(small())
    change(description, description["config"]["layers"][-1])
    return description


def _set(*keys, value):
    def change(description, layer):
        inner = layer
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("module", value="os"),
        _set("module", value=None),
        _set("module", value="keras.src.utils"),
        _set("module", value=["keras.layers"]),
        _set("class_name", value="system"),
        _set("class_name", value="TFSMLayer"),
        _set("class_name", value="Layer.mro"),
        _set("class_name", value="__lambda__"),
        _set("class_name", value="__typespec__"),
        _set("class_name", value=None),
        _set("config", value="popen"),
        _set("config", "units", value="x"),
        _set("config", "units", value=-1),
        _set("config", "units", value=5),
        _set("config", "units", value=10**9),
        _set("config", "name", value={"module": "os", "class_name": "system", "config": {}}),
        _set("config", "activation", value={"class_name": "function", "config": "system"}),
        _set("config", "activation", value={"class_name": "__lambda__", "config": {"value": "x"}}),
        _set("config", "activation", value=object),
        _set("config", "activation", value={"class_name": "__numpy__", "config": {}}),
        _set("config", value={"unknown": 1}),
        lambda description, layer: description.update(weights=[]),
        lambda description, layer: description.update(weights=None),
        lambda description, layer: description["weights"].reverse(),
        lambda description, layer: description["weights"].append(np.array(["x"])),
        lambda description, layer: description.update(config=None),
        lambda description, layer: description.update(config={"layers": 5}),
        lambda description, layer: description.update(type=5),
        lambda description, layer: description.update({"compiled": True}),
    ],
)
def test_a_model_that_nobody_built_is_refused(change):
    data = encode(hostile(lambda description, layer: None)).to_bytes()
    networks.built(decode(Packet.from_bytes(data)))  # without the change all is well
    tree = json.loads(encode(hostile(change)).document)
    blobs = encode(hostile(change)).blobs
    with pytest.raises(WireError):
        decode(packet(["model", tree], *blobs))
    # A layer of a billion units must not wait for the next who needs memory.
    with keras.StatelessScope():
        pass
    there_and_back(small())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("class_name", value="InputSpec"), "not one of Keras' own classes"),
        (
            _set(
                "config",
                "activation",
                value={"class_name": "__numpy__", "config": {"value": [1], "dtype": "V10000000"}},
            ),
            "is no model",
        ),
    ],
)
def test_a_model_is_refused_before_keras_sees_it(change, says, monkeypatch):
    monkeypatch.setattr(keras.Sequential, "from_config", lambda config: pytest.fail("it was made"))
    with pytest.raises(WireError, match=says):
        networks.built(hostile(change))


@pytest.mark.parametrize("name", ["kernel_initializer", "bias_regularizer", "kernel_constraint"])
@pytest.mark.parametrize(
    "value",
    [
        {"class_name": "__numpy__", "config": {"value": [1], "dtype": "V10000000"}},
        {"module": "os", "class_name": "system", "config": {"command": "true"}},
        {"class_name": "__lambda__", "config": {"value": "x"}},
    ],
)
def test_what_is_done_with_is_left_out_where_it_is_not_keras_own(name, value):
    """Its weights are there: nobody needs what has set or held them, and nothing is made of it."""
    arrived = networks.built(hostile(_set("config", name, value=value)))
    assert arrived.layers[-1].get_config()[name] is None
    np.testing.assert_array_equal(arrived.get_weights()[-1], small().get_weights()[-1])


def test_weights_are_counted_before_a_model_takes_memory(monkeypatch):
    data = encode(hostile(_set("config", "units", value=5))).to_bytes()
    initial = keras.initializers.GlorotUniform
    monkeypatch.setattr(initial, "__call__", lambda *args, **kwargs: pytest.fail("it was made"))
    with pytest.raises(WireError, match="do not fit"):
        networks.built(decode(Packet.from_bytes(data)))
