"""One submission graded, wherever there is a processor: a task for a worker.

`grade` is pure. All that it needs is in its arguments: what the student handed in, and an
`Assignment` with the lesson's files, its rows of the gradebook and nbgrader's configuration. Of
these it makes a private course, has nbgrader's own Autograde grade it, and returns the files that
came out. It writes into no gradebook but the private one: `firstcnn.grading.recording` does that,
where there is only one writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import pickle
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cloudpickle
from nbgrader.api import Base, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import find_all_files
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.exc import SAWarning

from firstcnn.grading.choice import may_be_notebook
from firstcnn.grading.own import may_be_brought
from firstcnn.grading.parcel import Parcel, pack
from firstcnn.grading.preflight import NBGRADERS
from firstcnn.grading.private import private_folder
from firstcnn.grading.recording import is_recording_step, unavailable, write_files

__all__ = ["Assignment", "Result", "grade", "logged"]


@dataclass(frozen=True)
class Assignment:
    """What all submissions of a lesson are graded with; it can be sent anywhere.

    Parameters
    ----------
    lesson : str
        Its name.
    ignore : tuple of str
        Patterns of names that belong to no submission.
    others : frozenset of str
        The release's files, besides notebooks.
    packed : bytes
        The rest.
    digest : str
        A name for all that decides about grades.
    """

    lesson: str
    ignore: tuple[str, ...]
    others: frozenset[str]
    packed: bytes
    digest: str

    def pack(self, submission: Path) -> Parcel:
        """Read a submission, as far as it can be graded."""
        return pack(submission, self.ignore, wanted=self._may_be_used, beside=NBGRADERS)

    def _may_be_used(self, name: str) -> bool:
        return name in self.others or may_be_notebook(name) or may_be_brought(name)


@dataclass(frozen=True)
class _Content:
    config: bytes
    source: dict[str, bytes]
    release: Parcel
    gradebook: bytes


@dataclass(frozen=True)
class Result:
    """What became of a submission.

    Parameters
    ----------
    lesson, student : str
        Which one it is.
    digest : str
        Of the assignment and of the submission that were graded, see `digest_of`.
    files : dict of str to bytes
        The autograded folder; empty if there is an error.
    log : str
        What nbgrader and the grader said.
    seconds : float
        From start to end.
    error : str
        Why it was not graded; nothing if it was.
    is_passing : bool
        Whether the error may be gone in a moment, like a lack of space.
    """

    lesson: str
    student: str
    digest: str
    files: dict[str, bytes] = field(default_factory=dict)
    log: str = ""
    seconds: float = 0.0
    error: str = ""
    is_passing: bool = False


def digest_of(assignment: Assignment, submission: Parcel) -> str:
    """Return a name for a submission and all that decides about its grade."""
    return hashlib.sha256(f"{assignment.digest}{submission.digest}".encode()).hexdigest()


# ---- what is sent ------------------------------------------------------------------------------


def assignment(course: CourseDirectory, config: Any, lesson: str) -> Assignment:
    """Gather what submissions of a lesson are graded with.

    Parameters
    ----------
    course : nbgrader.coursedir.CourseDirectory
        The course.
    config : traitlets.config.Config
        Its configuration.
    lesson : str
        The assignment.

    Raises
    ------
    nbgrader.api.MissingEntry
        If the gradebook does not know it.
    """
    source = Path(course.format_path(course.source_directory, ".", lesson))
    files = {
        os.path.relpath(path, source): Path(path).read_bytes()
        for path in find_all_files(str(source), [*course.ignore, "*.ipynb"])
    }
    released = Path(course.format_path(course.release_directory, ".", lesson))
    release = pack(released.resolve(), course.ignore) if released.is_dir() else Parcel()
    gradebook, rows = _copy_of_gradebook(course.db_url, lesson)
    own = deepcopy(config)
    # Names that mean nothing elsewhere, whatever they are here.
    for name in ("root", "db_url", "student_id", "student_id_exclude", "notebook_id",
                 "directory_structure", "groupshared"):  # fmt: skip
        own.CourseDirectory.pop(name, None)
    for step in ("source", "release", "submitted", "autograded"):
        own.CourseDirectory[f"{step}_directory"] = step
    own.CourseDirectory.assignment_id = lesson
    own.CourseDirectory.course_id = course.course_id
    content = _Content(cloudpickle.dumps(own), files, release, gradebook)
    seen = repr((rows, sorted(files.items()), release.digest)).encode()
    return Assignment(
        lesson,
        tuple(course.ignore),
        frozenset(name for name in release.files if not name.endswith(".ipynb")),
        zlib.compress(pickle.dumps(content), 1),
        hashlib.sha256(seen).hexdigest(),
    )


def _copy_of_gradebook(url: str, lesson: str) -> tuple[bytes, str]:
    """Return a gradebook, as SQLite keeps it, with one assignment; and what is in it.

    nbgrader would make one too, but takes seconds for it.
    """
    tables = Base.metadata.tables
    origin, copy = create_engine(url), create_engine("sqlite://")
    unknown = MissingEntry(f"No such assignment: {lesson}")
    if origin.dialect.name == "sqlite" and not os.path.exists(origin.url.database or ""):
        raise unknown  # to ask would be to make it
    try:
        with origin.connect() as old, copy.connect() as new:
            Base.metadata.create_all(new)
            row = old.execute(select(tables["assignment"]).filter_by(name=lesson)).first()
            if row is None:
                raise unknown
            rows = repr(tuple(row))

            def take(table: str, column: str, among: Iterable[str]) -> list[str]:
                nonlocal rows
                chosen = tables[table]
                query = select(chosen).where(chosen.c[column].in_(list(among)))
                found = old.execute(query.order_by(chosen.c.id)).mappings().all()
                if found:
                    new.execute(chosen.insert(), [dict(one) for one in found])
                rows += repr([tuple(one.values()) for one in found])
                return [one["id"] for one in found]

            take("course", "id", [row.course_id])
            notebooks = take("notebook", "assignment_id", take("assignment", "id", [row.id]))
            cells = take("base_cell", "notebook_id", notebooks)
            for table in ("grade_cells", "solution_cells", "task_cells"):
                take(table, "id", cells)
            take("source_cell", "notebook_id", notebooks)
            new.commit()
            return _serialized(new), rows
    finally:
        origin.dispose()
        copy.dispose()


def _serialized(connection: Connection) -> bytes:
    database: sqlite3.Connection = connection.connection.driver_connection
    return database.serialize()


# ---- what is done with it ----------------------------------------------------------------------

#: nbgrader changes the folder of its process and its environment: one at a time in each.
_ALONE = threading.Lock()


def grade(given: Assignment, student: str, submission: Parcel) -> Result:
    """Grade a submission.

    Parameters
    ----------
    given : Assignment
        What it is graded with.
    student : str
        Whose it is.
    submission : Parcel
        What was handed in.

    Returns
    -------
    Result
        With an error in place of an exception, whatever happens.
    """
    with _ALONE, logged() as log:
        start = time.monotonic()
        result = Result(given.lesson, student, digest_of(given, submission))
        try:
            result = replace(result, files=_graded(given, student, submission))
        except Exception as error:
            lacking = unavailable(error)
            words = lacking or str(error) or type(error).__name__
            result = replace(result, error=words, is_passing=lacking is not None)
        seconds = round(time.monotonic() - start, 2)
        return replace(result, log=log.getvalue(), seconds=seconds)


@contextlib.contextmanager
def logged() -> Iterator[io.StringIO]:
    """Collect what nbgrader and this package log in this thread, in place of showing it."""
    text, thread = io.StringIO(), threading.get_ident()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(lambda entry: entry.thread == thread)
    loggers = [logging.getLogger(name) for name in ("traitlets", "firstcnn")]
    before = [(one, one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
        one.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's ways, which work
            yield text
    finally:
        for one, level, propagate in before:
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = propagate


class _Autograde(Autograde):
    """nbgrader's Autograde for the one submission of a private course; it says why it failed."""

    failure: Exception | None = None

    def init_notebooks(self) -> None:
        """Find the submission, even if there is no notebook in it."""
        with contextlib.suppress(NbGraderException):
            super().init_notebooks()

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        """Begin as nbgrader does."""
        with self._failing():
            super().init_assignment(assignment_id, student_id)

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """Grade a notebook as nbgrader does."""
        with self._failing():
            super().convert_single_notebook(notebook_filename)

    def run_post_convert_hook(self) -> None:
        """Leave this to who records the submission."""

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = error
            raise


def _graded(given: Assignment, student: str, submission: Parcel) -> dict[str, bytes]:
    content: _Content = pickle.loads(zlib.decompress(given.packed))
    config = cloudpickle.loads(content.config)
    with private_folder() as root:
        place = root / "submitted" / student / given.lesson
        place.parent.mkdir(parents=True)
        submission.unpack(place)
        write_files(root / "source" / given.lesson, content.source)
        write_files(root / "release" / given.lesson, content.release.files)
        (root / "gradebook.db").write_bytes(content.gradebook)
        config.CourseDirectory.root = str(root)
        config.CourseDirectory.db_url = f"sqlite:///{root / 'gradebook.db'}"
        converter = _Autograde(coursedir=CourseDirectory(config=config), config=config)
        steps = converter.autograde_preprocessors
        converter.autograde_preprocessors = [one for one in steps if not is_recording_step(one)]
        try:
            converter.start()
        except NbGraderException as error:
            raise converter.failure or error from None
        graded = root / "autograded" / student / given.lesson
        files = {
            path.relative_to(graded).as_posix(): path.read_bytes()
            for path in sorted(graded.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        if not files:
            raise NbGraderException("There is no notebook in it.")
        return files
