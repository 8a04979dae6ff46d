"""The one writer: what was graded elsewhere comes into the gradebook and into ``autograded/``.

The steps are nbgrader's own, run on notebooks that have been graded: `Autograde.init_assignment`
(student, time, notebooks that are missing), `SaveAutoGrades` and `AssignLatePenalties`. So manual
grades, comments and penalties come out as under ``nbgrader autograde``.

Scores come first, and the folder is put in place last and at once: whoever sees it has its scores.
All of it can be done again, with the same outcome, as often as a database or a disk was not to be
had in the middle of it.
"""

from __future__ import annotations

import errno
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import AssignLatePenalties, SaveAutoGrades
from nbgrader.utils import rmtree
from sqlalchemy import exc
from traitlets import Unicode
from traitlets.utils.importstring import import_item

from firstcnn.grading.private import private_folder

__all__ = [
    "Recorded",
    "Unavailable",
    "is_recording_step",
    "record",
    "unavailable",
    "write_files",
]


class Unavailable(RuntimeError):
    """A database or a disk that is not to be had now, but may be later; with the reason."""


@dataclass(frozen=True)
class Recorded:
    """What the gradebook says of a submission.

    Parameters
    ----------
    score, max_score : float
        Points, with those given by hand, without those taken off for being late.
    needs_manual_grade : bool
        Whether a person has to look at it.
    """

    score: float
    max_score: float
    needs_manual_grade: bool


def is_recording_step(step: Any) -> bool:
    """Tell whether one of nbgrader's preprocessors writes into the gradebook.

    Parameters
    ----------
    step : type, str or object
        As ``Autograde.autograde_preprocessors`` lists it.
    """
    step = import_item(step) if isinstance(step, str) else step
    kind = step if isinstance(step, type) else type(step)
    return issubclass(kind, SaveAutoGrades | AssignLatePenalties)


def record(
    course: CourseDirectory, config: Any, student: str, lesson: str, files: dict[str, bytes]
) -> Recorded:
    """Record one graded submission.

    Parameters
    ----------
    course : nbgrader.coursedir.CourseDirectory
        The course.
    config : traitlets.config.Config
        Its configuration.
    student, lesson : str
        Whose submission it is, and for what.
    files : dict of str to bytes
        The autograded folder: notebooks, and all other files, by their paths.

    Raises
    ------
    Unavailable
        If the database or the disk is not to be had. What was recorded until then does no harm.
    """
    try:
        with private_folder() as private, warnings.catch_warnings():
            warnings.simplefilter("ignore", exc.SAWarning)  # nbgrader's ways, which work
            return _record(course, config, student, lesson, files, str(private))
    except Exception as error:
        if reason := unavailable(error):
            raise Unavailable(reason) from error
        raise


class _StagedDirectory(CourseDirectory):
    """A course into which one submission comes: from one folder, by way of another."""

    private = Unicode()
    staging = Unicode()

    def format_path(self, nbgrader_step, student_id, assignment_id, escape=False):
        """Return the path of one step of one submission."""
        if student_id != "." and not escape:
            if nbgrader_step == self.submitted_directory:
                return self.private
            if nbgrader_step == self.autograded_directory:
                return self.staging
        return super().format_path(nbgrader_step, student_id, assignment_id, escape=escape)


def _record(
    course: CourseDirectory,
    config: Any,
    student: str,
    lesson: str,
    files: dict[str, bytes],
    private: str,
) -> Recorded:
    place = Path(course.format_path(course.autograded_directory, student, lesson))
    staging = place.with_name(f".{place.name}.incoming")
    own = _StagedDirectory(
        private=private,
        staging=str(staging),
        **{name: getattr(course, name) for name in course.trait_names(config=True)},
    )
    own.student_id, own.assignment_id = student, lesson
    converter = Autograde(coursedir=own, config=config)
    write_files(Path(private), files)
    notebooks = [name for name in files if "/" not in name and name.endswith(".ipynb")]
    converter.notebooks = [os.path.join(private, name) for name in notebooks]
    _remove(staging)
    staging.mkdir(parents=True)
    converter.init_assignment(lesson, student)
    write_files(staging, {name: files[name] for name in notebooks})
    for path in converter.notebooks:
        notebook = nbformat.read(path, as_version=4)
        told = {"student": student, "assignment": lesson, "notebook": Path(path).stem}
        resources = {"nbgrader": {**told, "db_url": own.db_url}}
        for step in filter(is_recording_step, converter.autograde_preprocessors):
            step = import_item(step) if isinstance(step, str) else step
            made = step(parent=converter) if isinstance(step, type) else step
            made(notebook, resources)
    with Gradebook(own.db_url, own.course_id) as gradebook:
        submission = gradebook.find_submission(lesson, student)
        # As nbgrader exports it.
        score = max(0.0, submission.score - (submission.late_submission_penalty or 0.0))
        recorded = Recorded(score, submission.max_score, submission.needs_manual_grade)
    converter.set_permissions(lesson, student)
    _keep(staging)
    outgoing = place.with_name(f".{place.name}.outgoing")
    _remove(outgoing)
    if os.path.lexists(place):
        place.rename(outgoing)
    staging.rename(place)
    _sync(place.parent)
    _remove(outgoing)
    converter.run_post_convert_hook()
    return recorded


def write_files(place: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, by their paths."""
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        rmtree(str(place))
    elif os.path.lexists(place):
        place.unlink()


def _keep(folder: Path) -> None:
    """Have a folder's files on the disk before its name says that they are there."""
    for path, _, names in os.walk(folder):
        for name in names:
            _sync(Path(path, name))
        _sync(Path(path))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- what may be better in a moment --------------------------------------------------------------

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_SQLITE = ("is locked", "disk is full", "disk I/O error", "unable to open database file")


def unavailable(error: BaseException) -> str | None:
    """Say what is not to be had, if an error is about that, in words.

    nbgrader hides some of the database's errors behind its own: those before it count too.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NO_SPACE:
            where = f" ({seen.filename})" if seen.filename else ""
            return f"There is no space left on the disk{where}"
        if isinstance(seen, exc.DBAPIError) and _may_pass(seen):
            said = str(seen.orig or seen).strip().splitlines()
            return f"The gradebook is not to be had: {said[0] if said else seen}"
        seen = seen.__cause__ or seen.__context__
    return None


def _may_pass(error: exc.DBAPIError) -> bool:
    if isinstance(error, exc.ProgrammingError | exc.IntegrityError | exc.DataError):
        return False
    origin = type(error.orig).__module__
    if origin.startswith("sqlite3"):
        return any(words in str(error.orig) for words in _SQLITE)
    return isinstance(error, exc.OperationalError | exc.InterfaceError) or (
        error.connection_invalidated
    )
