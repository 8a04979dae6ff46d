"""A submission is copied out and put in order before any kernel or nbgrader itself sees it.

nbgrader trusts the files that students hand in: one repeated name in one notebook stops the
grading of a class. So it gets other files: the lesson's notebook, found and repaired, those files
beside it that the release has too, and modules and data of the student's own, if they can do no
harm (`firstcnn.grading.own`). What was handed in is only read.

`PreparedExporter` does this for ``nbgrader autograde`` and for formgrader's button::

    c.Autograde.exporter_class = "firstcnn.grading.preflight.PreparedExporter"
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import logging
import os
import re
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import parse_utc
from traitlets import Unicode

from firstcnn.grading.choice import choose
from firstcnn.grading.intake import Folder, Refused, read_file
from firstcnn.grading.lesson import Lesson
from firstcnn.grading.own import brought
from firstcnn.grading.private import private_folder
from firstcnn.grading.repairs import Prepared, quoted, refused, repair

__all__ = [
    "Prepared",
    "PreparedExporter",
    "Release",
    "Submission",
    "prepare",
    "submissions",
    "take_over",
    "with_note",
    "write",
]

_LOG = logging.getLogger(__name__)
_LARGEST_OTHER = 16 * 2**20
_TIMESTAMP = "timestamp.txt"
_SECRET = "submission_secret.txt"
#: What nbgrader puts beside a submission.
NBGRADERS = (_TIMESTAMP, _SECRET)


class Release:
    """An assignment as students get it.

    Parameters
    ----------
    folder : pathlib.Path
        The assignment's folder in ``course/``.
    ignore : iterable of str, optional
        Patterns of names that belong neither to a release nor to a submission.

    Attributes
    ----------
    lessons : dict of str to Lesson
        Its notebooks, by name.
    files : list of str
        Its other files, by their path in the folder.

    Raises
    ------
    FileNotFoundError
        If there is no notebook in it.
    """

    def __init__(self, folder: Path, ignore: Iterable[str] = ()) -> None:
        self.ignore = tuple(ignore)
        folder = folder.resolve()
        found = Folder(folder, self.ignore).files
        notebooks = [name for name in found if name.endswith(".ipynb")]
        self.files = [name for name in found if name not in notebooks]
        self.lessons = {
            name.removesuffix(".ipynb"): Lesson(nbformat.read(folder / name, as_version=4))
            for name in notebooks
            if "/" not in name
        }
        if not self.lessons:
            raise FileNotFoundError(f"{folder} holds no notebook")


def prepare(submission: Path, release: Release) -> dict[str, Prepared]:
    """Put the notebooks of a submission in order.

    Parameters
    ----------
    submission : pathlib.Path
        The folder that was handed in; nothing in it is changed.
    release : Release
        What the student had been given.

    Returns
    -------
    dict of str to Prepared
        Each of the release's notebooks, by name. One that is missing or cannot be read is the
        untouched one, with the reason.
    """
    folder = Folder(submission, release.ignore)
    if submission.is_symlink():
        reason = "What was handed in is a link, and no folder."
        return {name: refused(lesson, reason) for name, lesson in release.lessons.items()}
    made, used = {}, {*release.files, *brought(folder, release.files)}
    for name, lesson in release.lessons.items():
        try:
            choice = choose(folder, name, lesson, set(release.lessons) - {name})
            if choice.draft is None:
                made[name] = refused(lesson, choice.reason)
            else:
                made[name] = repair(choice.draft, lesson)
                made[name].repairs[:0] = choice.repairs
                used.add(choice.place)
        except Exception:  # whatever a submission is made of, it costs no one else their grade
            _LOG.exception("Preflight failed on %s of %s", name, submission)
            made[name] = refused(lesson, "The notebook could not be read.")
    for prepared in made.values():
        prepared.repairs += _about_others(folder, used)
    return made


def _about_others(folder: Folder, used: set[str]) -> list[str]:
    tops = {place.split("/")[0] for place in used}
    left = [
        name
        for name in folder.entries
        if name.rstrip("/") not in tops and not name.lower().endswith(".ipynb")
    ]
    if not left:
        return []
    shown = ", ".join(map(quoted, left[:5])) + (" and others" if len(left) > 5 else "")
    return [f"What is not part of the lesson was left out: {shown}."]


# ---- what nbgrader gets -----------------------------------------------------------------------


def with_note(prepared: Prepared) -> NotebookNode:
    """Return a prepared notebook that says what was done to it.

    Parameters
    ----------
    prepared : Prepared
        The notebook; it is changed.

    Returns
    -------
    NotebookNode
        With a first cell for the student, if there is anything to say, and with ``repairs`` and
        ``refusals`` in its metadata, under ``firstcnn``, for the steps that follow.
    """
    notebook, refusals = prepared.notebook, dict(prepared.refusals)
    whole = refusals.pop("", None)
    lines = [f"- `{name}` earns no points. {reason}" for name, reason in refusals.items()]
    lines += [f"- {one}" for one in prepared.repairs]
    heading = "**Before this notebook was graded, it was put in order.**"
    if whole is not None:
        heading = "**The untouched notebook stands here, without points.**"
        lines.insert(0, f"- {whole}")
    if lines:
        taken = {cell.get("id") for cell in notebook.cells}
        name = next(name for n in range(len(taken) + 1) if (name := f"preflight-{n}") not in taken)
        notebook.cells.insert(0, new_markdown_cell("\n".join([heading, "", *lines]), id=name))
    notebook.metadata["firstcnn"] = {
        "repairs": list(prepared.repairs),
        "refusals": dict(prepared.refusals),
    }
    return notebook


def write(submission: Path, release: Release, place: Path) -> dict[str, Prepared]:
    """Write a copy of a submission that nbgrader can grade.

    Parameters
    ----------
    submission : pathlib.Path
        The folder that was handed in.
    release : Release
        What the student had been given.
    place : pathlib.Path
        The folder to write, which does not exist yet.

    Returns
    -------
    dict of str to Prepared
        As `prepare` returns it; the notebooks are `with_note`.
    """
    made = prepare(submission, release)
    folder = Folder(submission, release.ignore)
    place.mkdir(parents=True)
    own = brought(folder, release.files)
    for name in (*sorted(set(release.files) & set(folder.files)), *own):
        try:
            content = folder.read(name, _LARGEST_OTHER)
        except Refused as error:
            for prepared in made.values():
                prepared.repairs.append(f"{quoted(name)} was left out. {error}")
            continue
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    if (timestamp := _timestamp(submission)) is not None:
        (place / _TIMESTAMP).write_text(timestamp, encoding="utf-8")
    if (secret := _secret(submission)) is not None:
        (place / _SECRET).write_text(secret, encoding="utf-8")
    for name, prepared in made.items():
        text = nbformat.writes(with_note(prepared))
        (place / f"{name}.ipynb").write_text(text + "\n", encoding="utf-8")
    return made


def _timestamp(submission: Path) -> str | None:
    """Return what nbgrader wrote of when a submission was made, if that is a time."""
    if not os.path.lexists(submission / _TIMESTAMP):
        return None
    try:
        text = read_file(submission, _TIMESTAMP, 1000).decode().strip()
        return text if text and parse_utc(text) else None
    except Exception:  # dateutil raises errors of many kinds
        _LOG.warning("The time of %s cannot be read, so it counts as in time", submission)
        return None


def _secret(submission: Path) -> str | None:
    """Return the word by which nbgrader knows where a student looks for feedback."""
    if not os.path.lexists(submission / _SECRET):
        return None
    try:
        text = read_file(submission, _SECRET, 1000).decode()
    except (Refused, UnicodeDecodeError):
        _LOG.warning("%s of %s cannot be read: there can be no feedback", _SECRET, submission)
        return None
    return text if text.isprintable() else None


class _PreparedDirectory(CourseDirectory):
    """A course whose submissions are the prepared ones."""

    prepared = Unicode(help="The folder that holds them, by student and assignment.")

    def format_path(self, nbgrader_step, student_id, assignment_id, escape=False):
        """Return the path of one step of one submission; with `escape`, as a pattern."""
        if nbgrader_step != self.submitted_directory:
            return super().format_path(nbgrader_step, student_id, assignment_id, escape=escape)
        root = re.escape(self.prepared) if escape else self.prepared
        return os.path.join(root, student_id, assignment_id)


def take_over(converter: Autograde) -> None:
    """Have a converter grade prepared copies of the submissions that it was about to grade.

    Parameters
    ----------
    converter : nbgrader.converters.Autograde
        The converter. Its course directory is replaced by one whose submissions are the copies,
        and so is its list of notebooks. The copies last as long as the converter.

    Raises
    ------
    nbgrader.converters.base.NbGraderException
        If the assignment was never released.
    """
    course = converter.coursedir
    if isinstance(course, _PreparedDirectory):
        return
    assignment = course.assignment_id
    released = Path(course.format_path(course.release_directory, ".", assignment))
    try:
        release = Release(released, course.ignore)
    except FileNotFoundError as error:
        converter.log.error("%s: run `nbgrader generate_assignment %s`", error, assignment)
        raise NbGraderException(str(error)) from None
    held = contextlib.ExitStack()
    private = held.enter_context(private_folder())
    weakref.finalize(converter, held.close)
    own = _PreparedDirectory(
        prepared=str(private),
        **{name: getattr(course, name) for name in course.trait_names(config=True)},
    )
    assignments = {}
    for one in submissions(converter):
        if not one.is_due:
            graded = converter._format_dest(assignment, one.student)
            converter.log.info("Skipping existing assignment: %s", graded)
            continue
        place = Path(own.format_path(own.submitted_directory, one.student, assignment))
        for name, prepared in write(one.folder, release, place).items():
            for line in (*prepared.repairs, *prepared.refusals.values()):
                converter.log.info("%s, %s: %s", one.student, name, line)
        names = fnmatch.filter(release.lessons, own.notebook_id)
        assignments[str(place)] = [str(place / f"{name}.ipynb") for name in names]
    converter.coursedir, converter.assignments = own, assignments


@dataclass(frozen=True)
class Submission:
    """What one student has handed in for an assignment.

    Parameters
    ----------
    folder : pathlib.Path
        Where it is.
    student : str
        Whose it is.
    is_due : bool
        Whether nbgrader would grade it now, which it does once unless told otherwise.
    """

    folder: Path
    student: str
    is_due: bool


def submissions(converter: Autograde) -> list[Submission]:
    """List the submissions that nbgrader would look at, in order.

    Parameters
    ----------
    converter : nbgrader.converters.Autograde
        With the course directory, the assignment and the students; with ``force``, all are due.
    """
    course = converter.coursedir
    excluded = course.student_id_exclude.split(",")
    found = []
    pattern = re.compile(
        course.format_path(
            course.submitted_directory, "(?P<student>.*)", course.assignment_id, escape=True
        )
    )
    for path in sorted(
        glob.glob(
            course.format_path(course.submitted_directory, course.student_id, course.assignment_id)
        )
    ):
        match = pattern.fullmatch(path)
        if match is None or not match["student"].isprintable() or not os.path.isdir(path):
            converter.log.error("This is no submission, and is not graded: %r", path)
        elif (student := match["student"]) not in excluded:
            found.append(Submission(Path(path), student, _is_due(converter, path, student)))
    return found


def _is_due(converter: Autograde, path: str, student: str) -> bool:
    course = converter.coursedir
    graded = converter._format_dest(course.assignment_id, student)
    if converter.force or course.notebook_id != "*" or not os.path.exists(graded):
        return True
    new, old = _timestamp(Path(path)), _timestamp(Path(graded))
    return new is not None and old is not None and parse_utc(new) > parse_utc(old)


class PreparedExporter(NotebookExporter):
    """nbgrader's exporter of notebooks; being made, it puts the submissions in order.

    nbgrader makes it when it has listed the submissions and has opened none.
    """

    def __init__(self, config=None, **options) -> None:
        super().__init__(config=config, **options)
        if isinstance(self.parent, Autograde):
            take_over(self.parent)
