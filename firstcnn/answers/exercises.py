"""Write ``docs/exercises.md``: every exercise, what it teaches, and the mistakes it catches."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from firstcnn.answers.bank import Exercise, load
from firstcnn.course import Course, read

_HEAD = """\
# Exercises

Made by `firstcnn build` from the notebooks in `source/` and the answer bank in `tests/answers/`; \
`firstcnn verify` proves that it is current.

Each exercise is graded by itself: a mistake in one costs nothing in another.
Where an exercise has parts, each part earns its own points.
Every mistake named here is one that the tests hand in, and for which they see the points lost \
and the student told why.
"""


def exercises_file(course: Course) -> Path:
    """Return the path of the page."""
    return course.root / "docs" / "exercises.md"


def write(course: Course) -> None:
    """Make the page anew; a checkout without an answer bank has none."""
    if (course.root / "tests" / "answers").is_dir():
        exercises_file(course).write_text(page(course), encoding="utf-8")


def verify(course: Course) -> list[str]:
    """Tell in what the committed page differs from what would be made now, a line each."""
    if not (course.root / "tests" / "answers").is_dir():
        return []
    path = exercises_file(course)
    have = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [
        f"docs/exercises.md: {line}"
        for line in difflib.unified_diff(have, page(course).splitlines(), lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]


def page(course: Course) -> str:
    """Return the page as Markdown text.

    Raises
    ------
    CourseError
        If the answer bank of a lesson is missing or not in its form.
    """
    return "\n".join([_HEAD, *_contents(course)]).rstrip("\n") + "\n"


def _contents(course: Course) -> Iterator[str]:
    by_lesson = {lesson: load(course, lesson) for lesson in course.lessons}
    yield "| Lesson | Exercises | Points | Right answers tried | Wrong answers tried |"
    yield "|---|--:|--:|--:|--:|"
    for lesson, exercises in by_lesson.items():
        points = sum(sum(exercise.checks.values()) for exercise in exercises)
        right = sum(answer.kind == "right" for one in exercises for answer in one.answers)
        wrong = sum(answer.kind != "right" for one in exercises for answer in one.answers)
        title = _title(course, lesson)
        yield f"| {title} | {len(exercises)} | {points:g} | {right} | {wrong} |"
    for lesson, exercises in by_lesson.items():
        yield f"\n## {_title(course, lesson)}"
        for exercise in exercises:
            yield from _section(exercise)


def _title(course: Course, lesson: str) -> str:
    return read(course.source(lesson)).cells[0].source.split("\n")[0].removeprefix("# ")


def _section(exercise: Exercise) -> Iterator[str]:
    points = sum(exercise.checks.values())
    parts = ""
    if len(exercise.checks) > 1:
        named = (f"{number:g} in `{check}`" for check, number in exercise.checks.items())
        parts = f": {', '.join(named)}"
    yield f"\n### {exercise.title[0].upper()}{exercise.title[1:]}\n"
    yield f"`{exercise.cell}`, {points:g} {'point' if points == 1 else 'points'}{parts}.\n"
    yield f"{exercise.teaches}\n"
    yield "It catches:\n"
    for answer in exercise.answers:
        if answer.kind == "wrong":
            kept = sum(exercise.expected(answer).values())
            yield f"- {answer.label}" + (f" (keeps {kept:g})" if kept else "")
