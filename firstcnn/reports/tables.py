"""Tables for spreadsheets: grades, exercises and messages, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from firstcnn.reports.survey import Survey

__all__ = ["exercises", "grades", "harmless", "messages", "number", "text"]

Row = Sequence[str]


def harmless(words: str) -> str:
    """Return text that a spreadsheet does not take for a formula.

    Names and messages are in the hands of students. A cell that begins with ``=``, ``+``, ``-``,
    ``@`` or a control character gets an apostrophe in front; white space there is no disguise.
    """
    words = "".join(one if one.isprintable() else " " for one in words).strip()
    return f"'{words}" if words[:1] and words[0] in "=+-@＝＋－＠" else words  # noqa: RUF001


def number(value: float | None, digits: int = 2) -> str:
    """Return a number, without zeros that say nothing; nothing where there is none."""
    if value is None:
        return ""
    words = f"{round(value, digits) + 0.0:.{digits}f}"  # adding 0 makes 0 of -0
    return words.rstrip("0").rstrip(".") if "." in words else words


def text(rows: Iterable[Row]) -> str:
    """Return rows as CSV: separated by commas, one line each."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def grades(survey: Survey) -> Iterator[Row]:
    """Yield the header and a row for each student and lesson."""
    yield (
        *("lesson", "student", "last_name", "first_name", "status", "submitted_utc", "raw_score"),
        *("late_penalty", "score", "max_score", "seconds", "memory_mib"),
        *("repairs", "refusals", "flags"),
    )
    for one in survey.lessons:
        ungraded = {student.id for student in one.lesson.ungraded}
        for student in survey.group.students:
            names = (student.id, student.last_name, student.first_name)
            start = (one.lesson.name, *map(harmless, names))
            submission = one.lesson.of(student)
            if submission is None:
                status = "not graded" if student.id in ungraded else "missing"
                possible = number(one.lesson.possible)
                yield (*start, status, "", "", "", "", possible, "", "", "", "", "")
                continue
            trace = one.trace(submission)
            told = (trace.repairs, trace.refusals, trace.flags)
            yield (
                *start,
                "waiting for a person" if submission.waiting else "graded",
                submission.time.isoformat(" ", "seconds") if submission.time else "",
                number(submission.raw_score),
                number(submission.penalty),
                number(submission.score),
                number(one.lesson.possible),
                number(trace.seconds),
                number(trace.memory, 0),
                *(harmless(" ".join(lines)) for lines in told),
            )


def exercises(survey: Survey) -> Iterator[Row]:
    """Yield the header and a row for each exercise."""
    yield (
        *("lesson", "exercise", "title", "max_score", "submissions", "share_of_points_earned"),
        *("discrimination", "full_points", "no_points"),
    )
    for one in survey.lessons:
        for each in one.exercises:
            yield (
                harmless(one.lesson.name),
                harmless(each.exercise.name),
                harmless(each.exercise.title),
                number(each.exercise.possible),
                str(len(one.lesson.submissions)),
                number(each.difficulty, 3),
                number(each.discrimination, 3),
                str(each.full),
                str(each.none),
            )


def messages(survey: Survey) -> Iterator[Row]:
    """Yield the header and a row for each group of messages."""
    yield ("lesson", "exercise", "students", "message")
    for one in survey.lessons:
        for each in one.exercises:
            for group in each.messages:
                names = (one.lesson.name, each.exercise.name)
                yield (*map(harmless, names), str(group.students), harmless(group.example))
