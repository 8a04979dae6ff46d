"""How a check ends: it prints one line, or it raises one short message."""

from __future__ import annotations

import reprlib
import textwrap
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

#: Longest message, in characters. Longer values are shortened, never the advice.
LONGEST_MESSAGE = 390

# nbgrader's Validate indents by 4 and cuts what is beyond column 87.
_LINE_WIDTH = 80

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 6


class CheckFailed(AssertionError):
    """An answer that is not right yet.

    IPython shows the message alone: the check's own frames would only be in
    the way of the one sentence that helps.
    """

    heading = "Not right yet"

    def _render_traceback_(self) -> list[str]:
        text = f"{self.heading}: {self}"
        return [
            line
            for paragraph in text.splitlines()
            for line in textwrap.wrap(paragraph, _LINE_WIDTH) or [""]
        ]


class NotAnswered(CheckFailed):
    """An exercise that was not attempted: its dots are still there."""

    heading = "No answer yet"


def missing(name: str) -> NotAnswered:
    """Return what to raise where a check needs a name that the notebook does not have.

    Its answer's cell was not run, stopped with an error, or gave its value another name.
    """
    return NotAnswered(
        f"there is no {name} yet. Did the cell above stop with an error, or give it another name? "
        "Mend that first, and run it again."
    )


def describe(value: Any) -> str:
    """Say in a few words what a value is: its kind, its size, or itself if short."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, np.generic | np.ndarray):
        return f"{value.item()!r}"
    if isinstance(value, list | tuple | dict | set) and len(repr(value)) > 60:
        return f"a {type(value).__name__} of {len(value)}"
    if hasattr(value, "dtype") and isinstance(getattr(value, "shape", None), Iterable):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = _SHORT.repr(value)
    if isinstance(value, str | int | float | complex | tuple | list | dict | set | type(None)):
        return text
    return f"a {type(value).__name__}"


def fail(message: str, hint: str = "") -> NoReturn:
    """Raise :class:`CheckFailed` with a message and, on a line of its own, a hint.

    Parameters
    ----------
    message : str
        What the student has and what was expected. Shortened if the whole
        would be longer than :data:`LONGEST_MESSAGE`.
    hint : str, optional
        Where to look.

    Raises
    ------
    CheckFailed
        Always.
    """
    raise CheckFailed(_with_hint(message, hint))


def _with_hint(message: str, hint: str) -> str:
    room = LONGEST_MESSAGE - (len(hint) + 7 if hint else 0)
    message = message if len(message) <= room else message[: room - 3] + "..."
    return f"{message}\nHint: {hint}" if hint else message


def require_answer(name: str, value: Any) -> None:
    """Raise :class:`NotAnswered` if the value is still the dots, or nothing.

    Raises
    ------
    NotAnswered
        If `value` is ``...``, ``None`` or ``NotImplemented``.
    """
    if value is Ellipsis or value is NotImplemented:
        raise NotAnswered(f"replace the dots in the cell above with your {name}, and run it.")
    if value is None:
        raise NotAnswered(
            f"{name} is None. Give it a value in the cell above, and run that cell again."
        )


def passed(name: str, what: str = "is right") -> None:
    """Print the one line that a student sees when a check holds."""
    print(f"Correct: {name} {what}.")


def that(condition: Any, message: str, hint: str = "") -> None:
    """Fail with a message unless a condition holds.

    Parameters
    ----------
    condition : bool or numpy.bool_
        What must be true. An array is refused: say ``.all()`` or ``.any()``.
    message : str
        What the student has, and what was expected.
    hint : str, optional
        Where to look.

    Raises
    ------
    CheckFailed
        If the condition is false.
    TypeError
        If the condition is not a single truth value.
    """
    if not isinstance(condition, bool | np.bool_):
        raise TypeError(f"check.that needs True or False, not {describe(condition)}.")
    if not condition:
        fail(message, hint)
