"""Checks on functions: called on several inputs and compared with a reference."""

from __future__ import annotations

import contextlib
import copy
import io
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from firstcnn.check.arrays import _check_dtype, close, diagnose
from firstcnn.check.outcome import CheckFailed, NotAnswered, describe, fail, passed, require_answer


class Remote:
    """A student's function that is in another process; the judge of submissions makes them."""

    def run(self, args: tuple, kwargs: Mapping) -> tuple[Any, tuple, Mapping]:
        """Call it, and return its answer and the arguments as they are after the call.

        Raises
        ------
        RemoteError
            If it stops with an error, or does not answer.
        """
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it as if it were here."""
        return self.run(args, kwargs)[0]


class RemoteError(Exception):
    """What became of a call in another process, if not an answer.

    Parameters
    ----------
    ending : str
        What the function does: "stops with ValueError: ...".
    """

    # Of a KeyError too, which would put its words into quotes.
    __str__ = Exception.__str__


def call(name: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a student's function and return its answer; an error becomes a message.

    Parameters
    ----------
    name : str
        What the notebook calls the function.
    function : callable
        The student's function.
    *args, **kwargs
        Its arguments. It gets copies, so that it cannot change the caller's.

    Returns
    -------
    object
        What the function returned.

    Raises
    ------
    NotAnswered
        If there is no function, its body is still the dots, or it returns None.
    CheckFailed
        If it is not a function, if it stops with an error, or if it changes
        an array that it was given.
    """
    result = _run(name, function, args, kwargs)
    if result is None:
        raise _nothing(_written(name, args, kwargs))
    return result


def _run(name: str, function: Callable, args: tuple, kwargs: Mapping) -> Any:
    """Call a student's function as :func:`call` does, and return what it returns, None too."""
    require_answer(name, function)
    if not callable(function):
        fail(f"{name} is {describe(function)}. It should be a function.")
    given = copy.deepcopy((args, kwargs))
    written = _written(name, args, kwargs)
    try:
        # A warning or a progress bar goes to stderr, and would cost a right answer's points.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            if isinstance(function, Remote):
                result, *given = function.run(*given)
            else:
                result = function(*given[0], **given[1])
    except NotImplementedError:
        raise NotAnswered(f"the body of {name} is not written yet.") from None
    except CheckFailed:
        raise
    except RecursionError:
        fail(f"{written} calls itself without end (RecursionError).")
    except RemoteError as error:
        fail(f"{written} {error}")
    except (Exception, SystemExit) as error:
        fail(f"{written} {ending(error)}")
    if result is Ellipsis or result is NotImplemented:
        raise NotAnswered(f"the body of {name} is not written yet.")
    if _changed(args, given[0]) or _changed(kwargs, given[1]):
        arrays = any(isinstance(one, np.ndarray) for one in (*args, *kwargs.values()))
        what = "the array" if arrays else "what"
        fail(f"{written} changes {what} it was given. Work on a copy, and return that.")
    return result


def _nothing(written: str) -> NotAnswered:
    message = f"{written} returns None. Are there dots left in it, or is a return missing?"
    return NotAnswered(message)


def function(
    name: str,
    function: Callable,
    *,
    like: Callable | Mapping[tuple, Any],
    cases: Iterable[tuple | Mapping] | None = None,
    dtype: str | tuple[str, ...] | None = None,
    tolerance: float = 1e-5,
    hint: str = "",
) -> None:
    """Check a function against a reference on several inputs.

    Parameters
    ----------
    name : str
        What the notebook calls the function.
    function : callable
        The student's function.
    like : callable or mapping
        The reference, called with the same arguments; or the expected answers
        by their positional arguments, which are then the cases.
    cases : iterable of tuple or mapping, optional
        Positional arguments (a tuple) or keyword arguments (a mapping) of each call.
    dtype : str or tuple of str, optional
        Allowed dtypes of an array that it returns; see :func:`firstcnn.check.array`.
    tolerance : float, optional
        As in :func:`firstcnn.check.array`.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no function, or its body is still the dots.
    CheckFailed
        At the first case for which the function fails or answers otherwise
        than the reference.
    """
    if isinstance(like, Mapping):
        answers = dict(like)
        cases, like = answers, lambda *args: answers[args]
    count = 0
    for case in cases or ():
        args, kwargs = ((), dict(case)) if isinstance(case, Mapping) else (tuple(case), {})
        expected = like(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        result = _run(name, function, args, kwargs)
        if result is None and expected is not None and not count:
            raise _nothing(_written(name, args, kwargs))
        _compare(_written(name, args, kwargs), result, expected, dtype, tolerance, hint)
        count += 1
    if not count:
        raise ValueError("check.function needs at least one case.")
    passed(name, f"answers {count} calls as it should" if count > 1 else "answers as it should")


def _compare(
    written: str, result: Any, expected: Any, dtype: Any, tolerance: float, hint: str
) -> None:
    if result is None and expected is not None:
        fail(f"{written} returns None. Does every way through the function end in return?", hint)
    if expected is None:
        if result is not None:
            fail(f"{written} returns {describe(result)}. Expected None.", hint)
    elif isinstance(expected, str | bool | np.bool_):
        if not isinstance(result, str | bool | np.bool_) or result != expected:
            fail(f"{written} returns {describe(result)}. Expected {expected!r}.", hint)
    elif isinstance(expected, tuple | list):
        if not isinstance(result, tuple | list):
            fail(
                f"{written} returns {describe(result)}. "
                f"Expected a {type(expected).__name__} of {len(expected)}.",
                hint,
            )
        if len(result) != len(expected):
            fail(f"{written} returns {len(result)} values. Expected {len(expected)}.", hint)
        if _swapped(result, expected, tolerance):
            fail(f"{written} returns the right values, but they have changed places.", hint)
        for i, (have, want) in enumerate(zip(result, expected, strict=True)):
            _compare(f"value {i} of {written}", have, want, dtype, tolerance, hint)
    elif isinstance(expected, Mapping):
        if not isinstance(result, Mapping) or set(result) != set(expected):
            keys = ", ".join(map(repr, expected))
            fail(f"{written} returns {describe(result)}. Expected a dict with {keys}.", hint)
        for key, want in expected.items():
            _compare(f"{written}[{key!r}]", result[key], want, dtype, tolerance, hint)
    else:
        _compare_numbers(written, result, np.asarray(expected), dtype, tolerance, hint)


def _swapped(have: Any, want: Any, tolerance: float) -> bool:
    """Tell whether these are two right answers, of which each stands in the other's place."""
    try:
        first, second = map(np.asarray, have)
        expected = [np.asarray(one) for one in want]
        return (
            close(first, expected[1], tolerance)
            and close(second, expected[0], tolerance)
            and not close(first, expected[0], tolerance)
        )
    except Exception:
        return False


def _compare_numbers(
    written: str, result: Any, expected: np.ndarray, dtype: Any, tolerance: float, hint: str
) -> None:
    try:
        value = np.asarray(result)
    except Exception:
        value = np.asarray(None)
    if value.dtype.kind not in "biuf" or isinstance(result, list | tuple | bool):
        wanted = f"an array of shape {expected.shape}" if expected.ndim else "a number"
        fail(f"{written} returns {describe(result)}. Expected {wanted}.", hint)
    if value.shape != expected.shape:
        swapped = value.shape == expected.T.shape
        fail(
            f"{written} returns {describe(value)}. "
            + (f"Expected shape {expected.shape}." if expected.ndim else "Expected a number.")
            + (" Are rows and columns swapped?" if swapped else ""),
            hint,
        )
    if dtype is not None and expected.ndim:
        _check_dtype(f"what {written} returns", value, _as_tuple(dtype), hint)
    if close(value, expected, tolerance):
        return
    if not expected.ndim:
        fail(f"{written} returns {value.item():.6g}. Expected {expected.item():.6g}.", hint)
    have, want = value.astype(float), expected.astype(float)
    difference = np.nan_to_num(np.abs(have - want), nan=np.inf)
    at = np.unravel_index(int(difference.argmax()), difference.shape)
    advice = diagnose(have, want, tolerance)
    fail(
        f"{written} returns the right shape, but not the right values: "
        f"at [{', '.join(str(int(i)) for i in at)}] {have[at]:.5g}, expected {want[at]:.5g}."
        + (f" {advice}" if advice else ""),
        hint,
    )


def _as_tuple(dtype: str | tuple[str, ...]) -> tuple[str, ...]:
    return (dtype,) if isinstance(dtype, str) else dtype


def _argument(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<array {value.shape}>"
    return describe(value)


def _written(name: str, args: tuple, kwargs: Mapping) -> str:
    parts = [_argument(value) for value in args]
    parts += [f"{key}={_argument(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(parts)})"


def ending(error: BaseException) -> str:
    """Say with which error a function stops, and in which of the student's lines."""
    told = ": ".join(filter(None, [type(error).__name__, _short(error)]))
    return f"stops with {told}{_where(error)}"


def _short(error: BaseException) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # Keras sets its messages in bold
    text = " ".join(text.split())
    return text if len(text) <= 140 else text[:137] + "..."


def _where(error: BaseException) -> str:
    """Name the student's own line: the innermost frame whose source is a notebook cell."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "ipykernel" in frame.filename or frame.filename.startswith("<ipython"):
            line = f": {frame.line.strip()}" if frame.line else ""
            return f" (line {frame.lineno} of your cell{line[:70]})"
    return ""


def _changed(before: Any, after: Any) -> bool:
    if isinstance(before, np.ndarray):
        return not np.array_equal(before, after, equal_nan=before.dtype.kind == "f")
    if isinstance(before, Mapping):
        return before.keys() != after.keys() or any(
            _changed(value, after[key]) for key, value in before.items()
        )
    if isinstance(before, list | tuple):
        return (
            not hasattr(after, "__len__")
            or len(before) != len(after)
            or any(_changed(b, a) for b, a in zip(before, after, strict=True))
        )
    if isinstance(before, int | float | str):
        # A nan equals nothing, itself not either.
        return np.ndim(after) > 0 or bool(before != after and before == before)
    return False
