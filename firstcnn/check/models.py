"""Checks on Keras models: layers, shapes, how they are compiled, what they predict."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstcnn import data
from firstcnn.check.outcome import NotAnswered, describe, fail, passed, require_answer
from firstcnn.check.values import Sealed, _compare

#: What a model must reach on the small fallback data, from which no accuracy is claimed.
FALLBACK_ACCURACY = 0.8


@dataclass(frozen=True)
class Layer:
    """What is asked of one layer: its class, and settings by their Keras names."""

    kind: str
    settings: Mapping[str, Any]

    def __str__(self):
        inside = ", ".join(f"{key}={_plain(value)!r}" for key, value in self.settings.items())
        return f"{self.kind}({inside})"


def layer(kind: str, **settings: Any) -> Layer:
    """Describe a layer that :func:`model` should find.

    Parameters
    ----------
    kind : str
        Its Keras class, such as ``"Conv2D"``.
    **settings
        Settings that must hold, by their Keras names. A pair with equal
        members may be given as one number. What is not named is left open.

    Returns
    -------
    Layer
    """
    return Layer(kind, settings)


def _as_model(name: str, value: Any, hint: str = "") -> Any:
    import keras

    require_answer(name, value)
    if not isinstance(value, keras.Model):
        fail(f"{name} is {describe(value)}. It should be a Keras model.", hint)
    return value


def model(
    name: str,
    value: Any,
    *,
    layers: Sequence[Layer] | None = None,
    skip: Iterable[str] = (),
    input_shape: tuple[int | None, ...] | None = None,
    output_shape: tuple[int | None, ...] | None = None,
    parameters: int | None = None,
    what: str = "is right",
    hint: str = "",
) -> None:
    """Check a model by its layers, shapes and number of parameters.

    Sequential and functional models are alike here, and so are an
    ``activation`` argument and an activation layer or function right after,
    and layers in a model inside the model. A ``Reshape`` to a vector is a
    ``Flatten``.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : keras.Model
        The student's model.
    layers : sequence of Layer, optional
        The layers in order, without the input; see :func:`layer`.
    skip : iterable of str, optional
        Layer classes that are not looked at, where another check is for them.
    input_shape, output_shape : tuple, optional
        Shapes without the batch axis.
    parameters : int, optional
        The number of parameters.
    what : str, optional
        What is said of a model that holds, where more checks of it follow.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no model.
    CheckFailed
        At the first thing that does not hold.
    """
    value = _as_model(name, value, hint)
    if not getattr(value, "inputs", None):
        fail(
            f"{name} does not know its input shape yet. Start it with "
            f"keras.Input({input_shape or '(28, 28, 1)'}).",
            hint,
        )
    if input_shape is not None and tuple(value.input_shape[1:]) != tuple(input_shape):
        fail(
            f"{name} takes inputs of shape {tuple(value.input_shape[1:])}. "
            f"Expected {tuple(input_shape)}, without the batch axis.",
            hint,
        )
    if layers is not None:
        _check_layers(name, _layers(value), layers, hint, frozenset(skip))
    if output_shape is not None and tuple(value.output_shape[1:]) != tuple(output_shape):
        fail(
            f"{name} gives outputs of shape {tuple(value.output_shape[1:])}. "
            f"Expected {tuple(output_shape)}, without the batch axis.",
            hint,
        )
    if parameters is not None and value.count_params() != parameters:
        fail(
            f"{name} has {value.count_params():,} parameters. Expected {parameters:,}.",
            hint,
        )
    passed(name, what)


_ACTIVATIONS = {"ReLU": "relu", "Relu": "relu", "Softmax": "softmax"}
_DEFAULTS = {"max_value": None, "negative_slope": 0, "threshold": 0, "axis": -1}


def _alone(kind: str, settings: Mapping) -> Any:
    """Return the activation that a layer or function of its own is, if it is the usual one."""
    if kind == "Activation":
        return settings.get("activation")
    usual = all(settings.get(key, default) == default for key, default in _DEFAULTS.items())
    return _ACTIVATIONS.get(kind) if usual else None


def _settings(one: Any) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a lambda's, which would cost the points
        try:
            return dict(one.get_config())
        except Exception:  # of a function whose arguments or source Keras cannot tell
            return {}


def _flat(value: Any) -> Iterator[Any]:
    """Go through the layers, those of models inside too, and functions such as keras.ops.relu."""
    for one in getattr(value, "operations", value.layers):
        if hasattr(one, "layers"):
            yield from _flat(one)
        else:
            yield one


def _layers(value: Any) -> list[tuple[str, dict]]:
    """List the layers as (class, settings), an activation layer folded into the one before."""
    found: list[tuple[str, dict]] = []
    for one in _flat(value):
        kind, settings = type(one).__name__, _settings(one)
        if kind == "InputLayer":
            continue
        if kind == "Reshape" and len(settings.get("target_shape", ())) == 1:
            kind = "Flatten"
        alone = _alone(kind, settings)
        if alone and found and found[-1][1].get("activation") == "linear":
            found[-1][1]["activation"] = alone
            continue
        found.append((kind, settings))
    return found


def _plain(setting: Any) -> Any:
    if isinstance(setting, list | tuple):
        members = tuple(_plain(item) for item in setting)
        return members[0] if len(set(map(str, members))) == 1 else members
    if isinstance(setting, Mapping) and "config" in setting:
        kind, config = setting["class_name"], setting["config"]
        if isinstance(config, str):
            return _plain(config)
        return (_plain(_alone(kind, config)) if isinstance(config, Mapping) else None) or kind
    # tf.nn.softmax calls itself softmax_v2.
    return setting.casefold().removesuffix("_v2") if isinstance(setting, str) else setting


def _check_layers(
    name: str,
    found: list[tuple[str, dict]],
    wanted: Sequence[Layer],
    hint: str,
    skip: Set[str] = frozenset(),
) -> None:
    kinds = [kind for kind, _ in found]
    wanted_kinds = [one.kind for one in wanted]
    places = [i for i, kind in enumerate(kinds) if kind not in skip]
    for number, want in enumerate(wanted):
        if number >= len(places):
            fail(
                f"{name} has {len(found)} layers: {', '.join(kinds) or 'none'}. "
                f"{'Besides' if skip else 'After'} them {_a(str(want))} is expected.",
                hint,
            )
        i = places[number]
        kind, settings = found[i]
        if kind != want.kind:
            fail(
                f"Layer {i + 1} of {name} is {_a(kind)}. Expected {_a(want.kind)}; "
                f"in order: {', '.join(wanted_kinds)}.",
                hint,
            )
        for key, expected in want.settings.items():
            have = settings.get(key)
            if isinstance(expected, float) and isinstance(have, int | float):
                right = abs(have - expected) < 1e-6
            else:
                right = _plain(have) == _plain(expected)
            if not right:
                fail(
                    f"Layer {i + 1} of {name}, {_a(kind)}, has {key}={_shown(have)}. "
                    f"Expected {key}={_shown(expected)}.",
                    hint,
                )
    if len(places) > len(wanted):
        extra = ", ".join(kinds[i] for i in places[len(wanted) :])
        where = "" if skip else " at its end"
        fail(f"{name} has more layers than expected{where}: {extra}.", hint)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _shown(setting: Any) -> str:
    plain = _plain(setting)
    return repr(plain) if not isinstance(plain, str) else f'"{plain}"'


_CLASSES = {
    "SparseCategoricalCrossentropy": "sparse_categorical_crossentropy",
    "CategoricalCrossentropy": "categorical_crossentropy",
    "BinaryCrossentropy": "binary_crossentropy",
    "MeanSquaredError": "mean_squared_error",
    "mse": "mean_squared_error",
    "MSE": "mean_squared_error",
}


def _loss(config: Any) -> tuple[str, bool]:
    """Return the loss's snake-case name and whether it expects logits."""
    if isinstance(config, list | tuple) and len(config) == 1:  # one loss for the one output
        config = config[0]
    if isinstance(config, Mapping):
        inside = config.get("config", {})
        if isinstance(inside, str):
            return _CLASSES.get(inside, inside), False
        kind = config.get("class_name", "unknown")
        return _CLASSES.get(kind, kind), bool(inside.get("from_logits", False))
    return _CLASSES.get(str(config), str(config)), False


def compiled(
    name: str,
    value: Any,
    *,
    loss: str | Iterable[str] | Sealed | None = None,
    from_logits: bool | None = None,
    optimizer: str | Iterable[str] | None = None,
    learning_rate: float | None = None,
    metric: str | None = None,
    slips: Mapping | None = None,
    hint: str = "",
) -> None:
    """Check how a model was compiled.

    Text and objects are alike: ``"adam"`` and ``keras.optimizers.Adam()``,
    ``"sparse_categorical_crossentropy"`` and the class of that name.

    Parameters
    ----------
    name : str
        What the notebook calls the model.
    value : keras.Model
        The student's model.
    loss : str, iterable of str or Sealed, optional
        Allowed losses by their snake-case names. What is sealed is one such
        name, followed by ``" from logits"`` if the loss must expect logits.
    from_logits : bool, optional
        Whether the loss must expect logits.
    optimizer : str or iterable of str, optional
        Allowed optimizers by class name, in any case.
    learning_rate : float, optional
        The optimizer's learning rate; not compared where a schedule sets it.
    metric : str, optional
        A metric that must be among those reported, such as ``"accuracy"``.
    slips : mapping, optional
        With a sealed loss: wrong losses that say what went wrong, written or
        sealed in the same way, to message.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no model, or it is not compiled.
    CheckFailed
        If it is compiled otherwise than asked.
    """
    value = _as_model(name, value, hint)
    if not value.compiled:
        raise NotAnswered(
            f"{name} is not compiled. Call {name}.compile(optimizer=, loss=, metrics=)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a lambda's, as above
            config = value.get_compile_config() or {}
    except Exception as error:
        fail(
            f"{name} cannot say how it is compiled ({type(error).__name__}). Is there a class "
            "without its brackets, as in CategoricalCrossentropy(), or a function of your own?",
            hint,
        )
    have_loss, have_logits = _loss(config.get("loss"))
    if isinstance(loss, Sealed):
        have = have_loss + (" from logits" if have_logits else "")
        _compare(f"the loss of {name}", have, loss, slips=slips, hint=hint)
    elif loss is not None:
        allowed = [loss] if isinstance(loss, str) else list(loss)
        if have_loss not in allowed:
            fail(f"{name} has the loss {have_loss}. Expected {' or '.join(allowed)}.", hint)
    if from_logits is not None and have_logits != from_logits:
        fail(f"The loss of {name} has from_logits={have_logits}. Expected {from_logits}.", hint)
    if optimizer is not None:
        allowed = [optimizer] if isinstance(optimizer, str) else list(optimizer)
        have = type(value.optimizer).__name__
        if have.casefold() not in [option.casefold() for option in allowed]:
            fail(f"{name} has the optimizer {have}. Expected {' or '.join(allowed)}.", hint)
    if learning_rate is not None:
        have = float(np.asarray(value.optimizer.learning_rate))
        if abs(have - learning_rate) > 1e-3 * learning_rate:
            fail(f"{name} has a learning rate of {have:g}. Expected {learning_rate:g}.", hint)
    if metric is not None:
        names = _metric_names(config.get("metrics"))
        # The accuracy for labels of the other form compares what is never equal.
        wanted = _ACCURACIES - {_OTHER_FORM.get(have_loss)} if metric == "accuracy" else {metric}
        if not wanted & names:
            shown = ", ".join(sorted(names)) or "no metric"
            if _OTHER_FORM.get(have_loss) in names:
                shown += ", which is for labels of another form than those of its loss"
            fail(f'{name} reports {shown}. Ask compile for metrics=["{metric}"].', hint)
    passed(name, "is compiled as it should be")


_ACCURACIES = {"accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy"}
_OTHER_FORM = {
    "categorical_crossentropy": "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy": "categorical_accuracy",
}


def _metric_names(config: Any) -> set[str]:
    if config is None:
        return set()
    if isinstance(config, list | tuple):
        return set().union(*map(_metric_names, config)) if config else set()
    if isinstance(config, Mapping):
        if "class_name" not in config:
            return set().union(*map(_metric_names, config.values())) if config else set()
        inside = config.get("config", {})
        named = inside if isinstance(inside, str) else inside.get("name", config["class_name"])
        return {_metric_alias(config["class_name"], named)}
    return {str(config).casefold()}


def _metric_alias(kind: str, named: str) -> str:
    kinds = {
        "CategoricalAccuracy": "categorical_accuracy",
        "SparseCategoricalAccuracy": "sparse_categorical_accuracy",
    }
    if kind in kinds or kind == "function":
        return kinds.get(kind, str(named).casefold())
    # Another class may bear that name: plain Accuracy compares labels with probabilities,
    # which are never equal.
    return kind if str(named).casefold() in _ACCURACIES else str(named).casefold()


def outputs(name: str, value: Any, x: np.ndarray, *, hint: str = "") -> np.ndarray:
    """Return what a model predicts; an error becomes a message.

    The model is called in batches rather than through ``predict``: TensorFlow
    writes a warning when several models' ``predict`` are traced in one
    process, and Keras warns of a model made with a list of one input, which is
    right all the same. Either warning would cost the points.

    Parameters
    ----------
    name : str
        What the notebook calls the model.
    value : keras.Model
        The student's model.
    x : numpy.ndarray
        What the model takes.
    hint : str, optional
        Where to look.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    NotAnswered
        If there is no model.
    CheckFailed
        If it cannot predict for `x`.
    """
    value = _as_model(name, value, hint)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The structure of `inputs`")
            batches = [x[start : start + 512] for start in range(0, len(x), 512)]
            return np.concatenate([np.asarray(value(one, training=False)) for one in batches])
    except Exception as error:
        fail(f"{name} cannot predict for images of shape {x.shape}: {type(error).__name__}.", hint)


def accuracy(
    name: str,
    value: Any,
    x: np.ndarray,
    y: np.ndarray,
    *,
    at_least: float,
    hint: str = "",
) -> None:
    """Check the fraction of images that a model classifies right.

    The way in which the model was compiled does not matter. On the fallback
    data, from which no accuracy is claimed, :data:`FALLBACK_ACCURACY` is enough.

    Parameters
    ----------
    name : str
        What the notebook calls the model.
    value : keras.Model
        The student's model, with one output for each class.
    x : numpy.ndarray
        Images, as the model takes them.
    y : numpy.ndarray of int, shape (n,)
        Labels.
    at_least : float
        The accuracy that is asked, between 0 and 1.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no model.
    CheckFailed
        If it cannot predict for `x`, or is right less often than asked.
    """
    value = _as_model(name, value, hint)
    if getattr(value, "inputs", None) and value.input_shape[1:] != x.shape[1:]:
        fail(
            f"{name} takes inputs of shape {value.input_shape[1:]}, and the images have "
            f"shape {x.shape[1:]}.",
            hint,
        )
    predicted = outputs(name, value, x)
    if predicted.ndim != 2 or predicted.shape[0] != len(y):
        fail(f"{name} gives outputs of shape {predicted.shape}. Expected ({len(y)}, 10).", hint)
    if not np.isfinite(predicted).all():
        fail(f"{name} predicts nan: its training went wrong. Was the learning rate too high?", hint)
    reached = float((predicted.argmax(axis=1) == y).mean())
    asked = at_least if data.is_complete() else min(at_least, FALLBACK_ACCURACY)
    if reached < asked:
        fail(
            f"{name} is right on {reached:.2%} of {len(y):,} images. Expected {asked:.2%} or more.",
            hint,
        )
    passed(name, f"is right on {reached:.1%} of {len(y):,} images")


def history(
    name: str,
    value: Any,
    *,
    epochs: int | None = None,
    keys: Iterable[str] = ("loss",),
    hint: str = "",
) -> None:
    """Check what a training recorded.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : keras.callbacks.History or dict
        What ``fit`` returned, or its ``history``.
    epochs : int, optional
        How many epochs it should cover.
    keys : iterable of str, optional
        What it should hold for each epoch.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is none.
    CheckFailed
        If it is not a history, lacks a key, or has another number of epochs.
    """
    require_answer(name, value)
    record = value if isinstance(value, Mapping) else getattr(value, "history", None)
    if not isinstance(record, Mapping):
        fail(f"{name} is {describe(value)}. Keep what {name} = model.fit(...) returns.", hint)
    if not record:
        fail(f"{name} is empty: fit did not run to its end.", hint)
    for key in keys:
        if key not in record:
            missing = (
                " Give fit validation data." if key.startswith("val_") else " Ask compile for it."
            )
            fail(f'{name} holds {", ".join(record)}, but not "{key}".{missing}', hint)
    length = len(next(iter(record.values())))
    if epochs is not None and length != epochs:
        fail(f"{name} covers {length} epochs. Expected {epochs}.", hint)
    passed(name, "holds what it should")
