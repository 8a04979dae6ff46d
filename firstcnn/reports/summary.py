"""A report in a few lines, for a terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from firstcnn.reports.survey import Survey
from firstcnn.reports.tables import number

__all__ = ["table"]


def table(survey: Survey) -> Table:
    """Return a row for each lesson."""
    made = Table(box=None, pad_edge=False)
    made.add_column("lesson")
    for name in ("graded", "missing", "median", "of", "waiting"):
        made.add_column(name, justify="right")
    for one in survey.lessons:
        made.add_row(
            escape(one.lesson.name),
            str(len(one.lesson.submissions)),
            str(len(one.missing)),
            number(one.scores.median) if one.scores else "",
            number(one.lesson.possible),
            str(len(one.waiting)),
        )
    return made
