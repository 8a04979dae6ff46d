"""Waiting for others no longer than one will, on a machine that may stand still meanwhile."""

from __future__ import annotations

import time

__all__ = ["Patience"]


class Patience:
    """Seconds to wait for someone; those in which this process was held up itself do not count.

    What came meanwhile is there then, but was not looked at. So a limit that is over on the clock
    is not over before there were as many looks as there should be.

    Parameters
    ----------
    seconds : float
        How long to wait.
    awake : float, optional
        Seconds from one look to the next. Whoever takes longer was held up.
    """

    def __init__(self, seconds: float, awake: float = 1.0) -> None:
        self._left, self._awake = seconds, awake
        self._looked = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that are left; 0 or less if it is over."""
        now = time.monotonic()
        self._left -= min(now - self._looked, self._awake)
        self._looked = now
        return self._left

    @property
    def over(self) -> bool:
        """Whether it is over."""
        return self.left <= 0
