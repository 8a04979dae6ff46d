"""Checks on arrays: dtype, axes, shape and values, with a diagnosis of common slips."""

from __future__ import annotations

from typing import Any

import numpy as np

from firstcnn.check.outcome import describe, fail, passed, require_answer


def as_array(name: str, value: Any, hint: str = "") -> np.ndarray:
    """Return an array or tensor as a NumPy array; anything else fails.

    Raises
    ------
    NotAnswered
        If there is no answer.
    CheckFailed
        If the value is not an array or a tensor.
    """
    require_answer(name, value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if not hasattr(value, "shape"):
        fail(f"{name} is {describe(value)}. It should be a NumPy array.", hint)
    try:
        return np.asarray(value)
    except Exception:
        fail(f"{name} is {describe(value)}, which cannot be read as a NumPy array.", hint)


def array(
    name: str,
    value: Any,
    *,
    dtype: str | tuple[str, ...] | None = None,
    shape: tuple[int | None, ...] | None = None,
    between: tuple[float, float] | None = None,
    equals: Any = None,
    tolerance: float = 1e-5,
    hint: str = "",
) -> None:
    """Check an array, from its kind to its values.

    Parameters
    ----------
    name : str
        What the notebook calls it.
    value : numpy.ndarray or tensor
        The student's answer.
    dtype : str or tuple of str, optional
        Allowed dtypes (``"float32"``) or kinds: ``"float"``, ``"integer"``,
        ``"bool"`` stand for any width.
    shape : tuple, optional
        The expected shape; ``None`` leaves an axis open.
    between : tuple of float, optional
        Smallest and largest value allowed.
    equals : array_like, optional
        The expected values; they give the expected shape too, whatever `shape` says.
    tolerance : float, optional
        Largest difference that is still right, absolute, and relative to the
        largest expected value where that exceeds 1.
    hint : str, optional
        Where to look.

    Raises
    ------
    NotAnswered
        If there is no answer.
    CheckFailed
        At the first step that does not hold.
    """
    value = as_array(name, value, hint)
    if dtype is not None:
        _check_dtype(name, value, (dtype,) if isinstance(dtype, str) else dtype, hint)
    elif value.dtype.kind not in "biuf":
        fail(f"{name} has dtype {value.dtype}. It should hold real numbers.", hint)
    expected = None if equals is None else np.asarray(equals)
    if expected is not None:
        shape = expected.shape
    if shape is not None:
        _check_shape(name, value, shape, expected, hint)
    if not np.isfinite(value).all():
        bad = int((~np.isfinite(value)).sum())
        fail(f"{name} holds {bad:,} values that are nan or infinite.", hint)
    if between is not None and value.size:
        low, high = between
        if value.min() < low or value.max() > high:
            fail(
                f"{name} runs from {value.min():.5g} to {value.max():.5g}. "
                f"All its values should be between {low:g} and {high:g}.",
                hint,
            )
    if expected is not None:
        _check_values(name, value, expected, tolerance, hint)
    passed(name)


_KINDS = {"float": "f", "integer": "iu", "bool": "b"}


def _check_dtype(name: str, value: np.ndarray, allowed: tuple[str, ...], hint: str) -> None:
    for option in allowed:
        if option in _KINDS and value.dtype.kind in _KINDS[option]:
            return
        if option not in _KINDS and value.dtype == np.dtype(option):
            return
    fail(f"{name} has dtype {value.dtype}. Expected {' or '.join(allowed)}.", hint)


def _check_shape(
    name: str,
    value: np.ndarray,
    shape: tuple[int | None, ...],
    expected: np.ndarray | None,
    hint: str,
) -> None:
    shown = str(shape).replace("None", "any")
    if not value.ndim and shape:
        fail(f"{name} is one number, {value.item()!r}. Expected an array of shape {shown}.", hint)
    if value.ndim != len(shape):
        axes = "1 axis" if value.ndim == 1 else f"{value.ndim} axes"
        fail(f"{name} has {axes}, shape {value.shape}. Expected shape {shown}.", hint)
    if any(
        want is not None and have != want for have, want in zip(value.shape, shape, strict=True)
    ):
        if expected is not None and value.T.shape == expected.shape:
            hint = hint or "The axes are in the wrong order."
        fail(f"{name} has shape {value.shape}. Expected shape {shown}.", hint)


def _check_values(
    name: str, value: np.ndarray, expected: np.ndarray, tolerance: float, hint: str
) -> None:
    if close(value, expected, tolerance):
        return
    have, want = value.astype(float), expected.astype(float)
    difference = np.abs(have - want)
    wrong = int((difference > _allowance(want, tolerance)).sum())
    at = np.unravel_index(int(difference.argmax()), difference.shape)
    place = ", ".join(str(int(i)) for i in at)
    advice = diagnose(have, want, tolerance)
    fail(
        f"{name} has the right shape, but {wrong:,} of its {value.size:,} values are not right. "
        f"{name}[{place}] is {have[at]:.5g}, expected {want[at]:.5g}."
        + (f" {advice}" if advice else ""),
        hint,
    )


def _allowance(expected: np.ndarray, tolerance: float) -> float:
    return tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))


def close(value: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Tell whether every value of an array is within a tolerance of another of its shape."""
    if value.shape != expected.shape:
        return False
    have, want = value.astype(float), expected.astype(float)
    return bool((np.abs(have - want) <= _allowance(want, tolerance)).all())


def diagnose(have: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    """Name the slip that turns the expected values into the student's, if it is a common one.

    Parameters
    ----------
    have, want : numpy.ndarray of float
        The student's values and the expected ones, of equal shape.
    tolerance : float
        As in :func:`array`.

    Returns
    -------
    str
        One sentence, or nothing.
    """
    if have.size < 2:
        return ""
    if have.ndim >= 2:
        swapped = np.swapaxes(want, 0, 1)
        if close(have, swapped, tolerance):
            return "Rows and columns are swapped."
    for axis in range(have.ndim):
        if close(have, np.flip(want, axis), tolerance):
            return f"It is in reverse order along axis {axis}."
    if close(np.sort(have, axis=None), np.sort(want, axis=None), tolerance):
        return "These are the right values in the wrong places."
    if not have.any():
        return "All your values are 0."
    filled = np.abs(want) > _allowance(want, tolerance)
    if filled.any():
        ratios = have[filled] / want[filled]
        ratio = float(np.median(ratios))
        slack = _allowance(want, tolerance) * max(1.0, abs(ratio))
        scaled = np.allclose(have, ratio * want, rtol=1e-4, atol=slack)
        if scaled and abs(ratio) > 1e-12 and abs(ratio - 1) > 1e-4:
            if abs(ratio) >= 1:
                return f"All your values are {ratio:.5g} times the expected ones."
            return f"All your values are the expected ones divided by {1 / ratio:.5g}."
    offset = float(np.median(have - want))
    if close(have - offset, want, tolerance):
        return f"All your values are off by {offset:+.5g}."
    if close(have, np.round(want), tolerance) or close(have, np.trunc(want), tolerance):
        return "Your values have lost their decimals."
    return ""
