"""The figures of a report, drawn as SVG: without scripts, sharp on paper, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from firstcnn.reports.statistics import BARS, Summary
from firstcnn.reports.tables import number

__all__ = ["bar", "histogram"]

_BLUE, _ORANGE, _INK, _LINE = "#0072B2", "#A23F00", "#1a1a1a", "#8a8a8a"
# Small enough that its letters are still read when it is scaled to the width of a phone.
_WIDTH, _HEIGHT, _TOP, _BOTTOM, _SIDE = 440, 190, 34, 40, 10


def histogram(counts: Sequence[int], possible: float, scores: Summary) -> str:
    """Return a score distribution, with its quartiles above it.

    Parameters
    ----------
    counts : sequence of int
        As `firstcnn.reports.statistics.histogram` returns them.
    possible : float
        Points of full marks.
    scores : Summary
        Of the same scores.
    """
    ticks = [number(possible * i / (BARS - 1), 1) for i in range(BARS)]
    told = [
        f"{count} with {ticks[i] if i == BARS - 1 else f'{ticks[i]} to under {ticks[i + 1]}'}"
        for i, count in enumerate(counts)
        if count
    ]
    words = f"Score distribution, in points: {'; '.join(told)}. Median {number(scores.median)}."
    step = (_WIDTH - 2 * _SIDE) / BARS
    floor = _HEIGHT - _BOTTOM
    tallest = max(counts, default=0) or 1
    parts = []
    for i, count in enumerate(counts):
        left, middle = _SIDE + i * step, _SIDE + (i + 0.5) * step
        height = (floor - _TOP - 16) * count / tallest
        if count:
            parts += [
                f'<rect x="{left + 3:.1f}" y="{floor - height:.1f}" width="{step - 6:.1f}" '
                f'height="{height:.1f}" fill="{_BLUE}"/>',
                _text(middle, floor - height - 5, str(count)),
            ]
        parts.append(_text(middle, floor + 17, ticks[i]))
    parts += [
        f'<line x1="{_SIDE}" x2="{_WIDTH - _SIDE}" y1="{floor}" y2="{floor}" stroke="{_LINE}"/>',
        _text(_WIDTH / 2, _HEIGHT - 5, "points: from this number to under the next"),
    ]
    # Whole points, which most scores are, have the middle of their bar.
    low, middle, high = (
        _SIDE + (min(max(value / possible, 0), 1) * (BARS - 1) + 0.5) * step
        for value in (scores.lower_quartile, scores.median, scores.upper_quartile)
    )
    parts += [
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="9" y2="9" stroke="{_ORANGE}" '
        'stroke-width="5" stroke-opacity="0.45"/>',
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="2" y2="16" stroke="{_ORANGE}" '
        'stroke-width="3"/>',
    ]
    return _svg(_WIDTH, _HEIGHT, words, "".join(parts), "histogram")


def bar(share: float) -> str:
    """Return a bar for a share from 0 to 1; the number stands beside it."""
    width = 72 * min(max(share, 0), 1)
    drawn = (
        f'<rect width="72" height="10" fill="#dfe6ea"/>'
        f'<rect width="{width:.1f}" height="10" fill="{_BLUE}"/>'
    )
    return _svg(72, 10, f"{share:.0%} of the points", drawn, "bar")


def _svg(width: int, height: int, words: str, drawn: str, kind: str) -> str:
    words = escape(words)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">'
        f"<title>{words}</title>{drawn}</svg>"
    )


def _text(x: float, y: float, words: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="13" fill="{_INK}">'
        f"{escape(words)}</text>"
    )
