"""The numbers of a report: of scores, and of how well exercises tell students apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Bars of a score distribution: one for each tenth of the maximum, and one for full marks.
BARS = 11

#: With fewer submissions a correlation says next to nothing: its standard error is above 0.3.
FEWEST = 10


@dataclass(frozen=True)
class Summary:
    """A few numbers that stand for many.

    Parameters
    ----------
    lowest, lower_quartile, median, upper_quartile, highest : float
        Quartiles are interpolated linearly, as NumPy does.
    mean : float
        The arithmetic mean.
    """

    lowest: float
    lower_quartile: float
    median: float
    upper_quartile: float
    highest: float
    mean: float


def summary(values: Sequence[float]) -> Summary | None:
    """Return the quartiles and the mean, or None where there are no values."""
    if not len(values):
        return None
    return Summary(*map(float, np.percentile(values, [0, 25, 50, 75, 100])), float(np.mean(values)))


def histogram(scores: Sequence[float], possible: float) -> list[int]:
    """Count scores by tenths of the maximum.

    Parameters
    ----------
    scores : sequence of float
        Points.
    possible : float
        Points of full marks, more than 0. Who has more, by extra credit, is counted there.

    Returns
    -------
    list of int
        `BARS` counts: from 0 to under a tenth, and so on; the last one is of full marks.
    """
    counts = [0] * BARS
    for score in scores:
        # A score such as 0.7 of 1 must not fall short of its tenth by the last binary digit.
        tenth = int(score / possible * (BARS - 1) + 1e-9)
        counts[min(max(tenth, 0), BARS - 1)] += 1
    return counts


def difficulty(earned: Sequence[float], possible: float) -> float | None:
    """Return the share of an exercise's points that was earned; the lower, the harder.

    For exercises that are right or wrong, this is the share of students who have it right, which
    test theory calls the difficulty index p.

    Parameters
    ----------
    earned : sequence of float
        Points, one number for each submission.
    possible : float
        Points that there are.

    Returns
    -------
    float or None
        From 0 to 1; None where there is nothing to earn, or nobody to earn it.
    """
    if not len(earned) or possible <= 0:
        return None
    return float(np.mean(earned)) / possible


def discrimination(earned: Sequence[float], total: Sequence[float]) -> float | None:
    r"""Return how well an exercise tells those who do well from those who do not.

    The item-rest correlation: Pearson's correlation of the points :math:`x_i` of the exercise
    with those of all others, :math:`r_i = t_i - x_i`,

    .. math:: \frac{\sum (x_i - \bar x)(r_i - \bar r)}
                   {\sqrt{\sum (x_i - \bar x)^2 \sum (r_i - \bar r)^2}}

    For an exercise that is right or wrong, it equals the point-biserial correlation with the
    rest. With the total in place of the rest, an exercise would be correlated with itself [1]_.

    Parameters
    ----------
    earned : sequence of float
        Points of the exercise, one number for each submission.
    total : sequence of float
        Points of all exercises, in the same order.

    Returns
    -------
    float or None
        From -1 to 1; None where it is not defined: all have equally many points for it, or for
        the rest, or there are fewer than `FEWEST` submissions.

    References
    ----------
    .. [1] S. Henrysson, "Correction of item-total correlations in item analysis",
       *Psychometrika* 28 (2), 211-218, 1963.
    """
    item = np.asarray(earned, float)
    rest = np.asarray(total, float) - item
    if len(item) < FEWEST or np.ptp(item) < 1e-9 or np.ptp(rest) < 1e-9:
        return None
    return float(np.corrcoef(item, rest)[0, 1])
