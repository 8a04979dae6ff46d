"""Students and an instructor who hand an assignment to and fro, on one machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
from lab import set_up
from nbgrader_course import NbgraderCourse
from notebooks import ROOT


def instructors_checkout(folder: Path, lesson: str) -> NbgraderCourse:
    """Make a checkout with one lesson, not yet generated, that ``make lab ROOT=.`` can open."""
    course = NbgraderCourse(folder, [lesson])
    # `make lab` would make, solve and execute what is missing.
    for made in ("course", "solutions"):
        shutil.copytree(ROOT / made / lesson, course.root / made / lesson)
    set_up(course.root)
    return course


def exchange_config(course: NbgraderCourse, student: str = "*") -> str:
    """Return what a shared machine's configuration says, and who the user is."""
    return (
        f"c.Exchange.root = {str(course.exchange)!r}\n"
        "c.CourseDirectory.course_id = 'first-cnn'\n"
        f"c.CourseDirectory.student_id = {student!r}\n"
        # All students of a test are one user of the machine.
        "c.ExchangeCollect.check_owner = False"
    )


@dataclass(frozen=True)
class Exercise:
    """Where an exercise's answer and the checks behind it are, and what its solution is."""

    answer: int
    checks: list[int]
    solution: str


def exercises(checkout: Path, lesson: str) -> list[Exercise]:
    """Return the exercises of a lesson, in order."""
    cells = nbformat.read(checkout / "course" / lesson / f"{lesson}.ipynb", as_version=4).cells
    solved = nbformat.read(checkout / "solutions" / lesson / f"{lesson}.ipynb", as_version=4).cells
    found: list[Exercise] = []
    for place, one in enumerate(cells):
        if one.metadata.get("nbgrader", {}).get("solution"):
            found.append(Exercise(place, [], solved[place].source))
        elif one.metadata.get("nbgrader", {}).get("grade"):
            found[-1].checks.append(place)
    return found


def hand_in(course: NbgraderCourse, student: str, lesson: str, keep: int) -> None:
    """Fetch a lesson, answer some of it and submit it, with nbgrader's commands."""
    desk = course.root.parent / student
    desk.mkdir()
    options = (f"--student={student}", "--course=first-cnn")
    course.nbgrader("fetch_assignment", lesson, *options, cwd=desk)
    path = desk / lesson / f"{lesson}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for one in exercises(course.root, lesson)[:keep]:
        notebook.cells[one.answer].source = one.solution
    nbformat.write(notebook, path)
    course.nbgrader("submit", lesson, *options, cwd=desk)
