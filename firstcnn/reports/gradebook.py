"""What nbgrader's gradebook knows of a class. It is only read, and opened so that it cannot change.

nbgrader's own `Gradebook` makes tables and a course where there are none. So its tables are read
here through a connection that cannot write.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import nbformat
from nbgrader import api
from nbgrader.coursedir import CourseDirectory
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from firstcnn.course import Course, CourseError, instructors_config

__all__ = ["Class", "Exercise", "Lesson", "Student", "Submission", "course_directory", "read"]


@dataclass(frozen=True)
class Student:
    """A student, as far as nbgrader knows.

    Parameters
    ----------
    id : str
        By which nbgrader knows them.
    first_name, last_name, email, lms_user_id : str
        Empty where nobody has told nbgrader.
    """

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_user_id: str = ""

    @property
    def name(self) -> str:
        """How a list of a class names them: the last name first, or their id."""
        return ", ".join(filter(None, [self.last_name, self.first_name])) or self.id


@dataclass(frozen=True)
class Exercise:
    """What is graded together: an answer cell, and the cells that check it.

    Parameters
    ----------
    name, title : str
        The name of its cells, and its heading.
    cells : tuple of str
        The graded cells.
    possible : float
        Their points.
    """

    name: str
    title: str
    cells: tuple[str, ...]
    possible: float


@dataclass(frozen=True)
class Submission:
    """What a student has handed in, and what it has earned.

    Parameters
    ----------
    student : Student
        Whose it is.
    points : dict of str to float
        By graded cell, before anything is taken off for being late.
    penalty : float
        Points taken off for being late.
    time : datetime or None
        When it was handed in, in UTC.
    waiting : tuple of str
        The cells that a person has yet to grade.
    """

    student: Student
    points: dict[str, float]
    penalty: float = 0.0
    time: datetime | None = None
    waiting: tuple[str, ...] = ()

    @property
    def raw_score(self) -> float:
        """Points before the penalty."""
        return sum(self.points.values())

    @property
    def score(self) -> float:
        """Points that count: what nbgrader exports."""
        return max(0.0, self.raw_score - self.penalty)

    def earned(self, exercise: Exercise) -> float:
        """Return the points of an exercise."""
        return sum(self.points.get(cell, 0.0) for cell in exercise.cells)


@dataclass(frozen=True)
class Lesson:
    """One assignment of which something has been graded.

    Parameters
    ----------
    name : str
        nbgrader's name for it.
    notebooks : tuple of str
        The names of its notebooks.
    exercises : tuple of Exercise
        In the order of the notebook.
    submissions : tuple of Submission
        Those that were graded, by student.
    ungraded : tuple of Student
        Whose submission nbgrader knows of without grades: its grading was cut short.
    """

    name: str
    notebooks: tuple[str, ...]
    exercises: tuple[Exercise, ...]
    submissions: tuple[Submission, ...]
    ungraded: tuple[Student, ...] = ()

    @property
    def possible(self) -> float:
        """Points that there are."""
        return sum(exercise.possible for exercise in self.exercises)

    def of(self, student: Student) -> Submission | None:
        """Return what a student has handed in, if it has been graded."""
        return next((one for one in self.submissions if one.student.id == student.id), None)


@dataclass(frozen=True)
class Class:
    """All students, and the lessons of which something has been graded.

    Parameters
    ----------
    students : tuple of Student
        By id.
    lessons : tuple of Lesson
        By name.
    """

    students: tuple[Student, ...] = ()
    lessons: tuple[Lesson, ...] = field(default=())


# ---- where it is -------------------------------------------------------------------------------


def course_directory(root: Path) -> CourseDirectory:
    """Return nbgrader's course directory, configured as nbgrader's own commands would have it.

    Parameters
    ----------
    root : pathlib.Path
        The checkout, with ``nbgrader_config.py``. Those of the machine and the user count too.

    Raises
    ------
    CourseError
        If one of these cannot be read.
    """
    config = instructors_config(Course(root))
    course = CourseDirectory(config=config)
    if "root" not in config.CourseDirectory:
        course.root = str(root)
    return course


@contextlib.contextmanager
def _session(db_url: str) -> Iterator[Session]:
    shown = make_url(db_url).render_as_string()  # without the password
    try:
        with Session(_read_only(make_url(db_url))) as session:
            yield session
    except ImportError as error:
        raise CourseError(
            f"The gradebook {shown} needs a driver for its database: {error}. Install it with pip."
        ) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise CourseError(
            f"The gradebook {shown} cannot be read: {reason}. If another version of nbgrader has "
            "made it, run `nbgrader db upgrade`."
        ) from error


def _read_only(url: URL) -> Engine:
    """Connect so that nothing can be written; a file that is not there is not made."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, poolclass=NullPool).execution_options(
            **({"postgresql_readonly": True} if url.get_backend_name() == "postgresql" else {})
        )
    path = Path(url.database or "")
    if not path.is_file():
        raise CourseError(
            f"There is no gradebook at {path}. nbgrader makes it when it grades: run "
            "`nbgrader autograde LESSON` first."
        )
    place = f"file:{quote(str(path.resolve()))}?mode=ro"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(place, uri=True, timeout=60),
        poolclass=NullPool,
    )


# ---- what is in it -----------------------------------------------------------------------------


def read(course: CourseDirectory, lessons: Sequence[str] = ()) -> Class:
    """Read a class from the gradebook.

    Parameters
    ----------
    course : CourseDirectory
        Where it is, see `course_directory`.
    lessons : sequence of str, optional
        Some lessons; by default all of which something has been graded.

    Raises
    ------
    CourseError
        If there is no gradebook, or it cannot be read, or it does not know a lesson, or nothing
        of it has been graded.
    """
    with _session(course.db_url) as session:
        known = {
            one.name: one
            for one in session.query(api.Assignment)
            .filter_by(course_id=course.course_id)
            .order_by(api.Assignment.name)
        }
        for name in lessons:
            if name not in known:
                raise CourseError(
                    f"The gradebook has no lesson {name!r}. It has: {', '.join(known) or 'none'}."
                )
        students = {one.id: _student(one) for one in session.query(api.Student)}
        found = tuple(
            _lesson(course, assignment, students)
            for name, assignment in known.items()
            if not lessons or name in lessons
        )
    for one in found:
        if lessons and not one.submissions:
            raise CourseError(
                f"Nothing of {one.name} has been graded yet: run `nbgrader autograde {one.name}`."
            )
    graded = tuple(one for one in found if one.submissions)
    if not graded:
        raise CourseError("Nothing has been graded yet: run `nbgrader autograde LESSON`.")
    return Class(tuple(students[key] for key in sorted(students)), graded)


def _student(one: api.Student) -> Student:
    names = ("first_name", "last_name", "email", "lms_user_id")
    return Student(one.id, **{name: (getattr(one, name) or "").strip() for name in names})


def _lesson(
    course: CourseDirectory, assignment: api.Assignment, students: dict[str, Student]
) -> Lesson:
    notebooks = sorted(assignment.notebooks, key=lambda one: one.name)
    names = tuple(one.name for one in notebooks)
    # Names of cells are unique in a notebook only.
    prefixes = {name: "" if len(names) == 1 else f"{name}/" for name in names}
    exercises: list[Exercise] = []
    for notebook in notebooks:
        cells = (*notebook.grade_cells, *notebook.task_cells)
        possible = {cell.name: cell.max_score for cell in cells}
        layout = _layout(course, assignment.name, notebook.name)
        exercises += _exercises(layout, possible, prefixes[notebook.name])
    submissions, ungraded = [], []
    for one in sorted(assignment.submissions, key=lambda one: one.student_id):
        student = students[one.student_id]
        if not all(map(_is_graded, one.notebooks)):
            ungraded.append(student)
            continue
        grades = {
            prefixes[notebook.name] + grade.name: grade
            for notebook in one.notebooks
            for grade in notebook.grades
        }
        submissions.append(
            Submission(
                student,
                points={name: grade.score for name, grade in grades.items()},
                penalty=one.late_submission_penalty or 0.0,
                time=one.timestamp,
                waiting=tuple(name for name, grade in grades.items() if grade.needs_manual_grade),
            )
        )
    return Lesson(assignment.name, names, tuple(exercises), tuple(submissions), tuple(ungraded))


def _is_graded(notebook: api.SubmittedNotebook) -> bool:
    """Tell whether all checks were made. nbgrader enters a submission before it grades it."""
    of_it = notebook.notebook
    by_hand = {cell.name for cell in (*of_it.solution_cells, *of_it.task_cells)}
    return all(
        grade.name in by_hand or grade.auto_score is not None or grade.manual_score is not None
        for grade in notebook.grades
    )


# ---- which cells belong together ---------------------------------------------------------------

#: Name and heading of an exercise, and its graded cells.
_Layout = list[tuple[str, str, list[str]]]


def _layout(course: CourseDirectory, lesson: str, notebook: str) -> _Layout:
    """Return the exercises of a notebook, from the source or else from what students got."""
    for step in (course.source_directory, course.release_directory):
        path = Path(course.format_path(step, ".", lesson)) / f"{notebook}.ipynb"
        if path.is_file():
            try:
                return _layout_of(nbformat.read(path, as_version=4))
            except Exception as error:
                raise CourseError(f"{path} is not a notebook: {error}") from error
    return []


def _layout_of(notebook: nbformat.NotebookNode) -> _Layout:
    heading, answer, found = "", "", {}
    for cell in notebook.cells:
        told = cell.metadata.get("nbgrader", {})
        name = told.get("grade_id", "")
        if cell.cell_type == "markdown" and (match := re.search(r"^##+ (.+)$", cell.source, re.M)):
            heading, answer = _title(match[1]), ""
        if told.get("solution"):
            answer = name
        if told.get("grade") or told.get("task"):
            found.setdefault(answer or name, (heading, []))[1].append(name)
    return [(name.removesuffix("-answer"), *rest) for name, rest in found.items()]


def _title(heading: str) -> str:
    """Return a heading without its number and its points."""
    heading = re.sub(r"^Exercise \d+[^:]*: ", "", heading.strip())
    heading = re.sub(r" \([\d.]+ points?\)$", "", heading)
    return heading[:1].upper() + heading[1:]


def _exercises(layout: _Layout, possible: dict[str, float], prefix: str) -> Iterator[Exercise]:
    """Yield those exercises that have cells in the gradebook, and its other cells, each alone."""
    left = dict(possible)
    for name, title, cells in layout:
        points = {cell: left.pop(cell) for cell in cells if cell in left}
        if points:
            names = tuple(prefix + cell for cell in points)
            yield Exercise(prefix + name, title or name, names, sum(points.values()))
    for name in sorted(left):
        yield Exercise(prefix + name, name, (prefix + name,), left[name])
