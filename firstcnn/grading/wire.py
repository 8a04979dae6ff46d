"""Python values as data that is safe to read, whoever wrote it.

What a student's process hands out is not to be trusted: unpickling it, or evaluating it, would run
the student's code in the reader. Here a value becomes a `Packet`: a JSON document that says what
it is, and a list of byte strings for what is large. `decode` builds each value anew, and of an
exact type: what lies about ``==`` arrives as a plain number. It survives any bytes, with a
`WireError` at worst.

What travels: None, ``...``, NotImplemented, bool, int, float, complex, fractions and decimals of
moderate length, str, bytes, list, tuple, dict, set, frozenset, range, slice, NumPy's arrays,
scalars and dtypes, tensors, variables, shapes and dtypes of TensorFlow and Keras, what ``fit``
returns, Keras models (`networks`), and the numbers of other libraries' arrays. A function travels
as its name, and anything else as the name of its type and its text (`Opaque`).
"""

from __future__ import annotations

import functools
import json
import math
import re
import reprlib
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

#: The most that a packet may hold: bytes in all, bytes of its document, values, and how deep.
MAX_BYTES = 256 * 2**20
MAX_DOCUMENT = 32 * 2**20
MAX_ITEMS = 1_000_000
MAX_DEPTH = 50

_MAGIC = b"FCW1"
_LONGEST_INLINE = 1000  # characters of text within the document
_LONGEST_TEXT = 200  # of what Opaque says
_STANDIN = 100  # values that one Opaque counts for: it may need a class of its own

# Numbers of sizes that every machine has, and text. Objects, records and dates are not among them.
_DTYPE = re.compile(r"\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]c(8|16)|[<>]U\d{1,5}|\|S\d{1,5}")

# None that takes long to be reckoned with.
_DECIMAL = re.compile(r"-?[0-9]{1,50}(\.[0-9]{1,50})?(E[+-][0-9]{1,2})?")
_LARGEST = 2**1000  # of the two numbers of a fraction


class WireError(ValueError):
    """A value that cannot travel, or bytes that are no packet.

    The message is a phrase of which the value's name is the subject: "holds itself".
    """


@dataclass(frozen=True)
class Packet:
    """A value as data.

    Parameters
    ----------
    document : bytes
        JSON.
    blobs : tuple of bytes-like
        What the document refers to by number.
    """

    document: bytes
    blobs: tuple[bytes | memoryview, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the packet as one string of bytes."""
        parts = (self.document, *self.blobs)
        head = struct.pack(f"<4sI{len(parts)}Q", _MAGIC, len(parts), *map(len, parts))
        return b"".join((head, *parts))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Packet:
        """Take apart what `to_bytes` made.

        Raises
        ------
        WireError
            If it is something else, or too large.
        """
        view = memoryview(data)
        if len(view) > MAX_BYTES:
            raise WireError(_TOO_LARGE)
        try:
            magic, count = struct.unpack_from("<4sI", view)
            # Each part has its length in the head, so that the head cannot claim more than came.
            if magic != _MAGIC or not 0 < count <= len(view) // 8:
                raise WireError("is no packet")
            lengths = struct.unpack_from(f"<{count}Q", view, 8)
        except struct.error as error:
            raise WireError("is no packet") from error
        at, parts = 8 + 8 * count, []
        for length in lengths:
            parts.append(view[at : at + length])
            at += length
        if at != len(view):
            raise WireError("is no packet: its parts are not as long as it says")
        return cls(bytes(parts[0]), tuple(parts[1:]))


_TOO_LARGE = f"holds more than {MAX_BYTES // 2**20} MiB, which is too much to be graded"
_TOO_MANY = f"holds more than {MAX_ITEMS:,} values, which is too much to be graded"
_TOO_DEEP = f"is nested more than {MAX_DEPTH} deep, which is too much to be graded"


class Opaque:
    """Stands for a value that cannot travel: its type has the right name, and it the right text."""

    text = ""

    def __repr__(self) -> str:
        return self.text


class Function(Opaque):
    """Stands for a function, or anything else that can be called, and cannot be called here."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: where there is no name in the notebook, there is no way to it."""
        raise TypeError("only a function that the notebook has under a name can be called here")


class Arraylike(Opaque):
    """Stands for another library's array: NumPy makes an array of it, as of the original."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Any:
        return self.array[place]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype)


class TypedArraylike(Arraylike):
    """Stands for another library's array that has one dtype."""

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the array."""
        return self.array.dtype


def standin(base: type, kind: str) -> Any:
    """Return a bare instance of a subclass that bears a foreign type's name."""
    # reprlib chooses by the name of a type, and would take this one for a container.
    known = hasattr(reprlib.Repr, f"repr_{kind}")
    kind = kind if kind.isidentifier() and len(kind) <= 80 and not known else "object"
    one = _subclass(base, kind)
    return one.__new__(one)


@functools.lru_cache(maxsize=1000)
def _subclass(base: type, kind: str) -> type:
    return type(kind, (base,), {})


def printable(text: str) -> str:
    """Leave out what would move the cursor, change colours or begin another line."""
    return "".join(one for one in text if one.isprintable())


def encode(value: Any) -> Packet:
    """Turn a value into data.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    Packet

    Raises
    ------
    WireError
        If it is too large, too deep, holds itself, or is a model that cannot be described.
    """
    writer = _Writer()
    tree = writer.write(value, 0)
    document = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(document) > MAX_DOCUMENT:
        raise WireError(_TOO_MANY)
    packet = Packet(document, tuple(writer.blobs))
    if len(document) + 8 * len(writer.blobs) + writer.bytes + 64 > MAX_BYTES:
        raise WireError(_TOO_LARGE)
    return packet


def decode(packet: Packet) -> Any:
    """Build the value that a packet describes.

    Parameters
    ----------
    packet : Packet
        From whoever; nothing in it is believed.

    Returns
    -------
    object

    Raises
    ------
    WireError
        If it is no packet, or describes what is too large or not allowed.
    """
    document = packet.document
    if len(document) > MAX_DOCUMENT or sum(map(len, packet.blobs)) > MAX_BYTES:
        raise WireError(_TOO_LARGE)
    # Counted before it is parsed: a list of empty lists takes 30 times its text in memory.
    if sum(document.count(one) for one in (b",", b"[", b"{")) > 4 * MAX_ITEMS:
        raise WireError(_TOO_MANY)
    try:
        tree = json.loads(document, parse_constant=_refuse)
        return _Reader(packet.blobs).read(tree, 0)
    except WireError:
        raise
    # Whatever a wrong document leads to, in json, in NumPy or in Keras: it is the writer's fault.
    except Exception as error:
        raise WireError(f"is not to be understood ({type(error).__name__})") from error


def _refuse(text: str) -> None:
    raise WireError(f"is no packet: {text} is not JSON")


# ---- writing ----------------------------------------------------------------------------------


class _Writer:
    """Write values as trees of lists, text and numbers: a list begins with what it stands for."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.bytes = 0
        self._items = 0
        self._open: set[int] = set()

    def write(self, value: Any, depth: int) -> Any:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise WireError(_TOO_MANY)
        if depth > MAX_DEPTH:
            raise WireError(_TOO_DEEP)
        if value is None or value is True or value is False:
            return value
        if value is Ellipsis:
            return ["..."]
        if value is NotImplemented:
            return ["NotImplemented"]
        if isinstance(value, np.generic):
            return self._scalar(value)
        if isinstance(value, np.ndarray):
            return self._array(value.view(np.ndarray), value, depth)
        # The methods of the base class: a subclass has its own, and they may answer anything.
        if isinstance(value, int):
            return _whole(int.__index__(value))
        if isinstance(value, float):
            return _real(float.__float__(value))
        if isinstance(value, complex):
            parts = complex.real.__get__(value), complex.imag.__get__(value)
            return ["complex", *map(_real, parts)]
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, bytes):
            return ["bytes", self._blob(bytes.__getitem__(value, slice(None)))]
        for kind, name, items in _CONTAINERS:
            if isinstance(value, kind):
                return self._container(name, value, items(value), depth)
        if type(value) is Fraction and max(abs(value.numerator), value.denominator) < _LARGEST:
            return ["fraction", _whole(value.numerator), _whole(value.denominator)]
        if type(value) is Decimal and _DECIMAL.fullmatch(str(value)):
            return ["decimal", str(value)]
        if isinstance(value, range):
            return ["range", *map(_whole, (value.start, value.stop, value.step))]
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return ["slice", *(self.write(one, depth + 1) for one in parts)]
        if isinstance(value, np.dtype) and _DTYPE.fullmatch(value.str):
            return ["dtype", value.str]
        return self._of_a_library(value, depth) or self._arraylike(value, depth) or _named(value)

    def _container(self, name: str, value: Any, items: Iterable, depth: int) -> list:
        if id(value) in self._open:
            raise WireError("holds itself, which cannot be graded")
        self._open.add(id(value))
        written = [name, *(self.write(item, depth + 1) for item in items)]
        self._open.discard(id(value))
        return written

    def _blob(self, data: bytes) -> int:
        self.bytes += len(data)
        if self.bytes > MAX_BYTES:
            raise WireError(_TOO_LARGE)
        self.blobs.append(data)
        return len(self.blobs) - 1

    def _text(self, text: str) -> Any:
        if len(text) <= _LONGEST_INLINE:
            return text
        return ["text", self._blob(text.encode("utf-8", "surrogatepass"))]

    def _scalar(self, value: np.generic) -> list:
        array = np.array(value)
        if array.dtype.char in "gG":  # extended precision, which not every machine has
            array = array.astype("f8" if array.dtype.kind == "f" else "c16")
        if not _DTYPE.fullmatch(array.dtype.str):
            return _named(value)
        return ["scalar", array.dtype.str, self._blob(array.tobytes())]

    def _array(self, array: np.ndarray, value: Any, depth: int) -> list:
        if array.dtype.char in "gG":
            array = array.astype("f8" if array.dtype.kind == "f" else "c16")
        if array.dtype.kind == "O":
            return self._container("objects", value, (array.shape, *array.flat), depth)
        if not _DTYPE.fullmatch(array.dtype.str):
            return _named(value)
        if array.nbytes > MAX_BYTES:
            raise WireError(_TOO_LARGE)
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        blob = self._blob(array.tobytes(order))
        return ["array", array.dtype.str, list(array.shape), order, blob]

    def _of_a_library(self, value: Any, depth: int) -> list | None:
        """Write what is TensorFlow's or Keras', if they have been imported at all."""
        tf, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
        if tf is not None and hasattr(tf, "TensorShape"):
            if isinstance(value, tf.TensorShape) and value.rank is not None:
                return ["tensor shape", *(self.write(axis, depth + 1) for axis in value)]
            if isinstance(value, tf.DType):
                return ["tensor dtype", value.name]
            for name, kind in (("tensor", tf.Tensor), ("variable", tf.Variable)):
                if isinstance(value, kind) and hasattr(value, "numpy"):
                    return self._wrapped(name, value.numpy(), depth)
        if keras is not None and hasattr(keras, "Model"):
            if isinstance(value, keras.Model):
                return ["model", self.write(networks().described(value), depth + 1)]
            if isinstance(value, keras.callbacks.History):
                parts = dict(value.history), list(getattr(value, "epoch", ()))
                return ["history", *(self.write(one, depth + 1) for one in parts)]
            if isinstance(value, keras.KerasTensor):
                return ["symbol", self.write(tuple(value.shape), depth + 1), str(value.dtype)]
            if isinstance(value, keras.Variable):
                return self._wrapped("keras variable", value.numpy(), depth)
        return None

    def _arraylike(self, value: Any, depth: int) -> list | None:
        if isinstance(value, type) or not hasattr(value, "shape"):
            return None
        try:
            array = np.asarray(value)
        except Exception:
            return None
        if array.shape != value.shape or array.dtype.kind not in "biufc":
            return None
        name = "array of one type" if hasattr(value, "dtype") else "array of types"
        return [name, *_named(value)[1:3], self.write(array, depth + 1)]

    def _wrapped(self, name: str, inside: Any, depth: int) -> list | None:
        array = np.asarray(inside)
        if array.dtype.kind in "biufc" and _DTYPE.fullmatch(array.dtype.str):
            return [name, self.write(array, depth + 1)]
        return None


_CONTAINERS: tuple[tuple[type, str, Callable[[Any], Iterable]], ...] = (
    (list, "list", list.__iter__),
    (tuple, "tuple", tuple.__iter__),
    (dict, "dict", lambda value: (one for pair in dict.items(value) for one in pair)),
    (set, "set", set.__iter__),
    (frozenset, "frozenset", frozenset.__iter__),
    (deque, "deque", deque.__iter__),
)


def _whole(number: int) -> Any:
    # Beyond 64 bits in base 16: Python refuses to read long decimal numbers, which takes long.
    return number if -(2**63) <= number < 2**63 else ["int", hex(number)]


def _real(number: float) -> Any:
    return number if math.isfinite(number) else ["float", repr(number)]


def _named(value: Any) -> list:
    """Write what cannot travel by its type and text, and a function by its name."""
    kind = type(value).__name__
    try:
        text = repr(value)[:_LONGEST_TEXT]
    except Exception:
        text = f"<{kind}>"
    if not callable(value):
        return ["opaque", kind, text]
    try:
        name = value.__name__
    except Exception:
        name = None
    return ["function", kind, name[:_LONGEST_TEXT] if isinstance(name, str) else None, text]


def networks() -> Any:
    """Return the module for Keras models, which is imported only where one is met."""
    from firstcnn.grading import networks

    return networks


# ---- reading ----------------------------------------------------------------------------------


class _Reader:
    """Build values from a tree that may hold anything that JSON can say."""

    def __init__(self, blobs: tuple[bytes | memoryview, ...]) -> None:
        self._blobs: list[bytes | memoryview | None] = list(blobs)
        self._items = 0

    def _count(self, items: int) -> None:
        self._items += items
        if self._items > MAX_ITEMS:
            raise WireError(_TOO_MANY)

    def read(self, node: Any, depth: int) -> Any:
        self._count(1)
        if depth > MAX_DEPTH:
            raise WireError(_TOO_DEEP)
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if not isinstance(node, list) or not node or not isinstance(node[0], str):
            raise WireError("is no packet: it holds what stands for nothing")
        name, *parts = node
        if name in ("list", "tuple", "set", "frozenset", "dict", "deque", "objects"):
            return self._container(name, [self.read(part, depth + 1) for part in parts])
        match node:
            case ["..."]:
                return Ellipsis
            case ["NotImplemented"]:
                return NotImplemented
            case ["int", str(digits)]:
                return int(digits, 16)
            case ["float", "nan" | "inf" | "-inf" as text]:
                return float(text)
            case ["complex", real, imaginary]:
                return complex(*(self._exact(one, float, depth) for one in (real, imaginary)))
            case ["fraction", numerator, denominator]:
                parts = [self._exact(one, int, depth) for one in (numerator, denominator)]
                if max(map(abs, parts)) >= _LARGEST:
                    raise WireError("is no packet: it holds a fraction that is too long")
                return Fraction(*parts)
            case ["decimal", str(text)] if _DECIMAL.fullmatch(text):
                return Decimal(text)
            case ["text", number]:
                return bytes(self._blob(number)).decode("utf-8", "surrogatepass")
            case ["bytes", number]:
                return bytes(self._blob(number))
            case ["range", start, stop, step]:
                return range(*(self._exact(one, int, depth) for one in (start, stop, step)))
            case ["slice", start, stop, step]:
                return slice(*(self.read(one, depth + 1) for one in (start, stop, step)))
            case ["dtype", str(text)]:
                return _dtype(text)
            case ["scalar", str(text), number]:
                return self._array(_dtype(text), (), "C", number)[()]
            case ["array", str(text), list(shape), "C" | "F" as order, number]:
                return self._array(_dtype(text), _shape(shape), order, number)
            case ["opaque", str(kind), str(text)]:
                return self._named(Opaque, kind, text)
            case ["array of one type" | "array of types" as name, str(kind), str(text), inside]:
                base = TypedArraylike if name == "array of one type" else Arraylike
                one = self._named(base, kind, text)
                one.array = self._exact(inside, np.ndarray, depth)
                return one
            case ["function", str(kind), None | str() as own, str(text)]:
                one = self._named(Function, kind, text)
                if own is not None:
                    one.__name__ = printable(own)[:_LONGEST_TEXT]
                return one
        return self._of_a_library(node, depth)

    def _container(self, name: str, items: list) -> Any:
        if name == "dict":
            return dict(zip(items[::2], items[1::2], strict=True))
        if name == "objects":
            shape = _shape(items.pop(0))
            if math.prod(shape) != len(items):
                raise WireError("is no packet: an array is not as long as it says")
            array = np.empty(len(items), dtype=object)
            for i, item in enumerate(items):
                array[i] = item
            return array.reshape(shape)
        kinds = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
        return kinds[name](items) if name in kinds else items

    def _named(self, base: type, kind: str, text: str) -> Any:
        self._count(_STANDIN)
        one = standin(base, kind)
        one.text = printable(text)[:_LONGEST_TEXT]
        return one

    def _exact(self, node: Any, kind: type, depth: int) -> Any:
        value = self.read(node, depth + 1)
        if type(value) is not kind:
            raise WireError(f"is no packet: no {kind.__name__} where one is due")
        return value

    def _blob(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._blobs):
            raise WireError("is no packet: a part of it is missing")
        # Each but once: a large one that is named a thousand times would fill the memory.
        blob, self._blobs[number] = self._blobs[number], None
        return blob

    def _array(self, dtype: np.dtype, shape: tuple, order: str, number: Any) -> np.ndarray:
        data = self._blob(number)
        if math.prod(shape) * dtype.itemsize != len(data):
            raise WireError("is no packet: an array is not as long as it says")
        if not len(data):
            return np.empty(shape, dtype)
        flat = np.frombuffer(data, "u1" if dtype.kind == "b" else dtype)
        if (
            dtype.kind == "b"
        ):  # a byte that is neither 0 nor 1 would count as True, and not equal it
            flat = flat != 0
        if dtype.kind == "U" and flat.view(dtype.str[0] + "u4").max() > sys.maxunicode:
            raise WireError("is no packet: it holds text that is none")
        return flat.reshape(shape, order=order).copy("K")

    def _of_a_library(self, node: list, depth: int) -> Any:
        match node:
            case ["tensor shape", *axes]:
                import tensorflow as tf

                return tf.TensorShape([self.read(axis, depth + 1) for axis in axes])
            case ["tensor dtype", str(text)]:
                import tensorflow as tf

                return tf.as_dtype(text)
            case ["tensor", inside]:
                import tensorflow as tf

                return tf.constant(self._exact(inside, np.ndarray, depth))
            case ["variable", inside]:
                import tensorflow as tf

                return tf.Variable(self._exact(inside, np.ndarray, depth))
            case ["keras variable", inside]:
                import keras

                array = self._exact(inside, np.ndarray, depth)
                return keras.Variable(array, dtype=array.dtype.name)
            case ["symbol", shape, str(dtype)]:
                import keras

                return keras.KerasTensor(self._exact(shape, tuple, depth), dtype=dtype)
            case ["history", record, epochs]:
                import keras

                one = keras.callbacks.History()
                one.history = self._exact(record, dict, depth)
                one.epoch = self._exact(epochs, list, depth)
                return one
            case ["model", description]:
                return networks().built(self._exact(description, dict, depth))
        raise WireError(f"is no packet: {node[0][:40]!r} stands for nothing")


def _dtype(text: str) -> np.dtype:
    if not _DTYPE.fullmatch(text):
        raise WireError(f"holds numbers of a kind that cannot be graded: {text[:40]!r}")
    dtype = np.dtype(text)
    if not dtype.itemsize:
        raise WireError("is no packet: it holds text of no length")
    return dtype


def _shape(axes: Any) -> tuple[int, ...]:
    if not isinstance(axes, list | tuple) or len(axes) > 64:
        raise WireError("is no packet: an array has no shape")
    if any(type(axis) is not int or not 0 <= axis <= MAX_BYTES for axis in axes):
        raise WireError("is no packet: an array has an axis of no length")
    return tuple(axes)
