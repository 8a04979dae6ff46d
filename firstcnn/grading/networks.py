"""Keras models as data: a description of plain values and arrays, and a model built from it.

`described` is for the process that has the model, `built` for the one that must not trust it.
A saved file would need a reader of zip archives and of HDF5, both written in C and both fed by a
stranger; and a file can only be read if every part of it can be made again, down to a loss that
was misspelt. Here a model is its configuration, which `built` holds against Keras' own classes
before anything is made of it, and its weights as arrays. How it was compiled is kept as it was
said, so that a check can tell what is wrong with it.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional

from firstcnn.grading.wire import WireError, standin

_KINDS = {"Sequential": keras.Sequential, "Functional": keras.Model}
_OWN = "of a class of its own"

# Where Keras says that its objects are from, and what may be taken from there.
_BASES = {
    "keras": (keras.Model, keras.DTypePolicy),
    "keras.layers": (keras.layers.Layer,),
    "keras.random": (keras.random.SeedGenerator,),
    "keras.initializers": (keras.initializers.Initializer,),
    "keras.regularizers": (keras.regularizers.Regularizer,),
    "keras.constraints": (keras.constraints.Constraint,),
    "keras.losses": (keras.losses.Loss,),
    "keras.metrics": (keras.metrics.Metric,),
    "keras.optimizers": (keras.optimizers.Optimizer,),
    "keras.optimizers.schedules": (keras.optimizers.schedules.LearningRateSchedule,),
    "keras.src.activations.activations": (keras.Operation,),
    "keras.src.models.functional": (Functional,),
    "keras.src.ops.core": (keras.Operation,),
    "keras.src.ops.image": (keras.Operation,),
    "keras.src.ops.linalg": (keras.Operation,),
    "keras.src.ops.math": (keras.Operation,),
    "keras.src.ops.nn": (keras.Operation,),
    "keras.src.ops.numpy": (keras.Operation,),
}
# Keras' own, and still the way to code or files from elsewhere.
_FOREIGN = {
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("TextVectorization", "StringLookup", "IntegerLookup"),
}
_MARKERS = {"__keras_tensor__", "__numpy__", "__tensor__", "__ellipsis__", "__slice__"}
_NUMBERS = {"bool", "uint8", "int32", "int64", "float16", "float32", "float64"}


# ---- where the model is -----------------------------------------------------------------------


def described(model: keras.Model) -> dict[str, Any]:
    """Describe a model in plain values and arrays.

    Parameters
    ----------
    model : keras.Model
        The student's model.

    Returns
    -------
    dict

    Raises
    ------
    WireError
        If Keras cannot tell what it is made of.
    """
    found = {
        "type": type(model).__name__,
        "name": model.name,
        "built": bool(model.built),
        "compiled": bool(model.compiled),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lambdas, which the other side refuses by name
        if isinstance(model, keras.Sequential | Functional):
            found |= _layers(model)
        elif (traced := _traced(model)) is not None:
            found |= {**_layers(traced), "kind": _OWN}
        if model.compiled:
            found["compiled with"] = _said(model.get_compile_config)
            found["optimizer"] = _optimizer(model.optimizer)
    return found


def _layers(model: keras.Model) -> dict[str, Any]:
    """Describe a model's layers and weights."""
    for layer in model.layers:
        if not _is_keras(layer):
            raise WireError(_not_ours(type(layer).__name__))
    try:
        # A class that is derived from these two need not be able to describe itself.
        if isinstance(model, keras.Sequential):
            kind, config = "Sequential", keras.Sequential.get_config(model)
        else:
            model = keras.Model(model.inputs, model.outputs, name=model.name)
            kind, config = "Functional", model.get_config()
    except Exception as error:
        raise WireError(f"cannot be described by Keras ({type(error).__name__})") from error
    # Layers may have weights in a model that has none yet; those of no dimension are no arrays.
    weights = [np.asarray(one) for one in model.get_weights()]
    return {"kind": kind, "config": config, "weights": weights}


def _traced(model: keras.Model) -> keras.Model | None:
    """Return what a model of a class of its own does as a functional one, with the same weights.

    None where it has not seen an input yet, or does more than to pass it through Keras' own layers.
    """
    try:
        inputs = keras.Input(tuple(model.get_build_config()["input_shape"][1:]))
        traced = keras.Model(inputs, model.call(inputs), name=model.name)
    except Exception:
        return None
    return traced if all(map(_is_keras, traced.layers)) else None


def _is_keras(layer: keras.layers.Layer) -> bool:
    return type(layer).__module__.startswith("keras.")


def _said(ask: Callable[[], Any]) -> dict[str, Any]:
    """Return what a call answers, or which error it raises."""
    try:
        return {"value": ask()}
    except Exception as error:
        return {"raises": type(error).__name__}


def _optimizer(optimizer: Any) -> dict[str, Any] | None:
    if optimizer is None:
        return None
    return {
        "type": type(optimizer).__name__,
        "object": _said(lambda: keras.saving.serialize_keras_object(optimizer)),
        "config": _said(optimizer.get_config),
        "learning rate": _said(lambda: float(np.asarray(optimizer.learning_rate))),
        "iterations": int(np.asarray(getattr(optimizer, "iterations", 0))),
    }


# ---- where it is judged -----------------------------------------------------------------------


def built(description: dict[str, Any]) -> keras.Model:
    """Build the model that a description describes; nothing in it is believed.

    Parameters
    ----------
    description : dict
        What `described` returned, or anything that claims to be.

    Returns
    -------
    keras.Model
        A model of Keras' own layers, with its weights. If it was of a class of its own, a model
        of that name: it does what the original does, or, if that cannot be told in Keras' layers,
        has none and answers nothing.

    Raises
    ------
    WireError
        If it holds a layer or function that is not Keras' own or is a way to code from elsewhere;
        the message names it. If its weights do not fit it.
    """
    if not isinstance(description.get("type"), str):
        raise WireError("is no model")
    kind, name = description.get("kind"), str(description.get("name"))[:80]
    if kind in _KINDS:
        model = _made(_KINDS[kind], description)
    elif kind == _OWN:
        model = standin(_Own, description["type"])
        model.__init__(_made(keras.Model, description), name)
    else:
        model = standin(keras.Model, description["type"])
        model.__init__(name=name)
        model.built = description.get("built") is True
    if description.get("compiled") is True:
        _compile(model, description)
    return model


class _Own(keras.Model):
    """A model of a class of its own, which like the original does not say what it takes.

    Parameters
    ----------
    does : keras.Model
        What it does with an input. Checks find its layers here, too.
    name : str
        Its name.
    """

    def __init__(self, does: keras.Model, name: str) -> None:
        super().__init__(name=name)
        # Where Keras does not see it, which would take it for a layer and count weights twice.
        self.__dict__["does"] = does
        self.parts = [one for one in does.layers if not isinstance(one, keras.layers.InputLayer)]
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Do what the original does."""
        return self.__dict__["does"](inputs, training=training)


def _made(base: type, description: dict[str, Any]) -> keras.Model:
    config = _admitted(description.get("config"))
    weights = description.get("weights")
    if not isinstance(config, dict) or not isinstance(weights, list):
        raise WireError("is no model")
    if not all(type(one) is np.ndarray and one.dtype.kind in "biuf" for one in weights):
        raise WireError("is no model: its weights are not numbers")
    try:
        # Nothing takes any memory yet: a layer may claim a billion units.
        with keras.StatelessScope(initialize_variables=False):
            model = base.from_config(config)
            fits = [tuple(one.shape) for one in model.weights] == [one.shape for one in weights]
        if not fits:
            raise WireError("has weights that do not fit its layers")
        with keras.StatelessScope():
            pass  # leaving it gives the variables their first values
        model.set_weights(weights)
    except Exception as error:
        keras.utils.clear_session()  # forgets variables that still wait for a value
        if isinstance(error, WireError):
            raise
        raise WireError(f"cannot be built again by Keras ({type(error).__name__})") from error
    for layer in _flat(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # takes mean and variance from its weights
    return model


def _flat(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        yield from _flat(layer) if isinstance(layer, keras.Model) else ()


def _admitted(node: Any, owner: str = "") -> Any:
    """Copy a configuration, if all that it names is Keras' own.

    Parameters
    ----------
    node : object
        A part of the configuration.
    owner : str
        The class of the layer that it is a part of.
    """
    if isinstance(node, list | tuple):
        return [_admitted(one, owner) for one in node]
    if not isinstance(node, dict):
        if node is None or isinstance(node, str | bool | int | float):
            return node
        if isinstance(node, np.generic):
            return node.item()
        raise WireError(_within(owner, f"a {type(node).__name__}"))
    if not all(isinstance(key, str) for key in node):
        raise WireError("is no model")
    named = node.get("class_name")
    if named is None and not node.keys() & {"module", "registered_name"}:
        _refuse_lambda(node, owner)
        return {key: _setting(key, value, owner) for key, value in node.items()}
    if not isinstance(named, str):
        raise WireError("is no model")
    if named == "function":
        return _function(node, owner)
    if named not in _MARKERS:
        _require_own(node, named, owner)
    elif named in ("__numpy__", "__tensor__") and node["config"]["dtype"] not in _NUMBERS:
        raise WireError("is no model")
    # How a model inside the model was compiled does not matter.
    inside = {key: value for key, value in node.items() if key != "compile_config"}
    is_layer = node.get("module") == "keras.layers"
    return {
        key: _admitted(value, named if is_layer else owner) if key != "class_name" else value
        for key, value in inside.items()
    }


def _setting(name: str, value: Any, owner: str) -> Any:
    """Copy one setting of a layer."""
    try:
        return _admitted(value, owner)
    except WireError:
        # Done with, where the weights are known: a function that has set them at first, or has
        # held them down in training, is not missed.
        if name.endswith(("_initializer", "_regularizer", "_constraint")):
            return None
        raise


def _refuse_lambda(node: dict, owner: str) -> None:
    if set(node) == {"value"} and isinstance(node["value"], list | tuple):
        raise WireError(_within(owner, "a lambda"))


def _function(node: dict, owner: str) -> str:
    """Return the name of one of Keras' functions, by which it may stand."""
    name = node.get("config")
    # tf.nn.softmax calls itself softmax_v2.
    plain = name.removesuffix("_v2") if isinstance(name, str) else ""
    for module in (keras.activations, keras.losses, keras.metrics):
        found = getattr(module, plain, None)
        if callable(found) and not isinstance(found, type) and not plain.startswith("_"):
            return plain
    raise WireError(_within(owner, name[:60] if isinstance(name, str) else "a function"))


def _require_own(node: dict, named: str, owner: str) -> None:
    """Refuse a class that is not one of Keras' own kinds."""
    module = node.get("module")
    found = None
    if module in _BASES and named not in _FOREIGN:
        found = vars(importlib.import_module(module)).get(named)
    own = isinstance(found, type) and issubclass(found, _BASES.get(module, ()))
    if own and found.__module__.startswith("keras.src."):
        return
    if named in _FOREIGN:
        raise WireError(f"uses a {named} layer, which cannot be graded")
    if named == "__lambda__":
        raise WireError(_within(owner, "a lambda"))
    raise WireError(_not_ours(named))


def _not_ours(kind: str) -> str:
    return f"uses {kind[:60]}, which is not one of Keras' own classes and cannot be graded"


def _within(owner: str, what: str) -> str:
    return f"uses {what} in {'its ' + owner + ' layer' if owner else 'it'}, which cannot be graded"


# ---- how it was compiled ----------------------------------------------------------------------


def _compile(model: keras.Model, description: dict[str, Any]) -> None:
    """Compile a model as far as Keras can, and have it say what the original says."""
    said = description.get("compiled with")
    told = description.get("optimizer")
    if not isinstance(said, dict):
        raise WireError("is no model")
    model.compiled = True
    model.optimizer = _restored(told) if isinstance(told, dict) else None
    with contextlib.suppress(Exception):  # a loss that Keras does not know, for one
        config = keras.saving.deserialize_keras_object(_admitted(said.get("value")))
        model.compile(**{**config, "optimizer": model.optimizer})
    model.get_compile_config = lambda: _answer(said)


def _restored(told: dict[str, Any]) -> Any:
    count = told.get("iterations")
    count = count if type(count) is int and 0 <= count < 2**63 else 0
    try:
        config = _admitted(told["object"]["value"])
        optimizer = keras.saving.deserialize_keras_object(config)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise WireError("is no model")
        optimizer.iterations.assign(count)
        return optimizer
    except Exception:
        one = standin(_Optimizer, str(told.get("type")))
        one.told, one.iterations = told, count
        return one


class _Optimizer:
    """What is known of an optimizer that is not one of Keras' own."""

    told: dict[str, Any]
    iterations: int

    def get_config(self) -> Any:
        """Return what the original returns, or raise what it raises."""
        return _answer(self.told.get("config"))

    @property
    def learning_rate(self) -> Any:
        """The original's, as a number."""
        return _answer(self.told.get("learning rate"))


def _answer(said: Any) -> Any:
    if isinstance(said, dict) and "value" in said:
        return said["value"]
    kind = str(said.get("raises")) if isinstance(said, dict) else "Exception"
    known = getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, Exception):
        raise known()
    raise standin(Exception, kind)
