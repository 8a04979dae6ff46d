"""Checks on single values: a number, a shape, a choice."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstcnn.check.outcome import describe, fail, passed, require_answer


@dataclass(frozen=True)
class Sealed:
    """An expected value, known only by its digest."""

    digest: str

    def __post_init__(self):
        if len(self.digest) != 12:
            raise ValueError("a seal has 12 hexadecimal digits: make one with check.seal(value)")


def _canonical(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(_canonical(item) for item in value)) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_canonical(item) for item in value) + ")"
    if value is None:
        return "none"
    return f"{float(value):.6g}"


def seal(value: Any) -> str:
    """Return the digest by which a check can recognise a value without showing it.

    Parameters
    ----------
    value : number, str, tuple or set
        The right answer. Numbers are rounded to six significant digits, text
        is compared without regard to case and spacing.

    Returns
    -------
    str
        Twelve hexadecimal digits, for :func:`sealed`.
    """
    return hashlib.sha256(f"first-cnn {_canonical(value)}".encode()).hexdigest()[:12]


def sealed(digest: str) -> Sealed:
    """Return an expected value that only its digest tells; see :func:`seal`."""
    return Sealed(digest)


def _same(value: Any, expected: Any, tolerance: float = 0.0) -> bool:
    if isinstance(expected, Sealed):
        return seal(value) == expected.digest
    if isinstance(value, float):
        return abs(value - float(expected)) <= max(tolerance, 1e-9 * abs(float(expected)))
    return _canonical(value) == _canonical(expected)


def _compare(
    name: str,
    value: Any,
    expected: Any,
    *,
    tolerance: float = 0.0,
    slips: Mapping | None = None,
    hint: str = "",
    shown: str = "",
) -> None:
    if _same(value, expected, tolerance):
        passed(name)
        return
    for slip, message in (slips or {}).items():
        if _same(value, slip, tolerance):
            fail(f"{name} is {shown or describe(value)}. {message}", hint)
    known = "" if isinstance(expected, Sealed) else f" Expected {describe(expected)}."
    fail(f"{name} is {shown or describe(value)}, and that is not it.{known}", hint)


def number(
    name: str,
    value: Any,
    equals: float | Sealed,
    *,
    tolerance: float = 0.0,
    slips: Mapping | None = None,
    hint: str = "",
) -> None:
    """Check a single number.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : int, float, NumPy scalar, or array or tensor with one element
        The student's answer; ``True`` and text are not numbers.
    equals : float or Sealed
        The right answer.
    tolerance : float, optional
        Largest absolute difference that is still right. A sealed value is
        compared to six significant digits.
    slips : mapping, optional
        Wrong answers that say what went wrong: value (or sealed value) to message.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no answer.
    CheckFailed
        If it is not a number, not finite, or not the right one.
    """
    require_answer(name, value)
    if isinstance(value, bool | np.bool_ | str | bytes):
        fail(f"{name} is {describe(value)}, which is not a number.", hint)
    try:
        as_array = np.asarray(value)
        is_number = as_array.dtype.kind in "iuf"
        value = float(as_array.reshape(())) if is_number else value
    except Exception:
        is_number = False
    if not is_number:
        fail(f"{name} is {describe(value)}. Give a single number.", hint)
    if not math.isfinite(value):
        fail(f"{name} is {value}, which is not a finite number.", hint)
    shown = f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:.6g}"
    _compare(name, value, equals, tolerance=tolerance, slips=slips, hint=hint, shown=shown)


def shape(
    name: str,
    value: Any,
    equals: tuple | Sealed,
    *,
    slips: Mapping | None = None,
    hint: str = "",
) -> None:
    """Check a shape that the student wrote down.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : tuple, list or tensor shape
        The student's answer: whole numbers, or ``None`` for an open axis.
    equals : tuple or Sealed
        The right shape.
    slips : mapping, optional
        Wrong shapes that say what went wrong: shape (or sealed shape) to message.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no answer.
    CheckFailed
        If it is not a shape, or not the right one.
    """
    require_answer(name, value)
    unordered = isinstance(value, str | set | frozenset | Mapping | Iterator)
    if unordered or not isinstance(value, Iterable):
        fail(f"{name} is {describe(value)}. A shape is a tuple, such as (28, 28).", hint)
    try:
        value = tuple(None if axis is None else operator.index(axis) for axis in value)
    except (TypeError, NotImplementedError):  # the latter from a tensor of Keras
        floats = isinstance(value, list | tuple) and any(isinstance(one, float) for one in value)
        advice = " To divide whole numbers into whole numbers, write //." if floats else ""
        fail(f"{name} is {describe(value)}. A shape holds whole numbers only.{advice}", hint)
    if isinstance(equals, tuple):
        if len(value) != len(equals):
            hint = hint or f"{len(equals)} axes are expected, and yours has {len(value)}."
        elif sorted(map(str, value)) == sorted(map(str, equals)):
            hint = "The numbers are right, their order is not."
    _compare(name, value, equals, slips=slips, hint=hint)


def choice(
    name: str,
    value: Any,
    among: Iterable[str],
    equals: str | Sealed,
    *,
    slips: Mapping | None = None,
    hint: str = "",
) -> None:
    """Check one choice among a few.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : str
        The student's answer. Case and spacing do not count.
    among : iterable of str
        The possible answers, all of them.
    equals : str or Sealed
        The right one.
    slips : mapping, optional
        Wrong choices that say what went wrong: choice (or sealed) to message.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no answer.
    CheckFailed
        If it is not one of the choices, or not the right one.
    """
    require_answer(name, value)
    among = list(among)
    if not isinstance(value, str):
        fail(f'{name} is {describe(value)}. Give one of these as text: "{_listed(among)}".')
    if _canonical(value) not in map(_canonical, among):
        fail(f'{name} is {describe(value)}, which is not one of "{_listed(among)}".')
    _compare(name, value, equals, slips=slips, hint=hint)


def choices(
    name: str,
    value: Any,
    among: Iterable[str],
    equals: Iterable[str] | Sealed,
    *,
    slips: Mapping | None = None,
    hint: str = "",
) -> None:
    """Check a selection of any size among a few, in any order.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : set, list or tuple of str, or one str
        The student's answer.
    among : iterable of str
        The possible answers, all of them.
    equals : iterable of str or Sealed
        The right selection.
    slips : mapping, optional
        Wrong selections that say what went wrong: selection (or sealed set) to message.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no answer.
    CheckFailed
        If it holds something else than the choices, or the selection is not right.
    """
    require_answer(name, value)
    among = list(among)
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, set | frozenset | list | tuple) or not all(
        isinstance(item, str) for item in items
    ):
        fail(f'{name} is {describe(value)}. Give a set of these: "{_listed(among)}".')
    known = set(map(_canonical, among))
    for item in items:
        if _canonical(item) not in known:
            fail(f'{name} holds {describe(item)}, which is not one of "{_listed(among)}".')
    chosen = frozenset(map(_canonical, items))
    expected = equals if isinstance(equals, Sealed) else frozenset(map(_canonical, equals))
    if not _same(chosen, expected):
        for slip, said in (slips or {}).items():
            if _same(chosen, slip if isinstance(slip, Sealed) else frozenset(slip)):
                fail(f"{name} is {describe(value)}. {said}", hint)
        fail(f"{name} is {describe(value)}, and that is not the right selection.", hint)
    passed(name)


def _listed(among: list[str]) -> str:
    return '", "'.join(among)
