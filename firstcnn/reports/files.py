"""All that a report is made of, written into one folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from firstcnn.course import CourseError
from firstcnn.reports import platforms, tables
from firstcnn.reports.page import page
from firstcnn.reports.survey import Survey, survey

__all__ = ["write"]

# Spreadsheets take a file without this mark for one in another encoding; platforms want none.
_MARK = "\ufeff"


def write(
    root: Path, folder: Path, lessons: Sequence[str] = (), *, missing_as_zero: bool = False
) -> Survey:
    """Write the report on a class.

    Parameters
    ----------
    root : pathlib.Path
        The checkout, with ``nbgrader_config.py``.
    folder : pathlib.Path
        Where to; it is made if it is not there, and older files of the same names are replaced.
    lessons : sequence of str, optional
        Some lessons; by default all of which something has been graded.
    missing_as_zero : bool, optional
        Whether the files for Canvas and Moodle give 0 to those who have handed in nothing.

    Returns
    -------
    Survey
        What is told in it.

    Raises
    ------
    CourseError
        If there is nothing to report, or the folder cannot be written.
    """
    found = survey(root, lessons)
    to_platforms = {
        f"{name}.csv": tables.text(make(found, missing_as_zero=missing_as_zero))
        for name, make in (("canvas", platforms.canvas), ("moodle", platforms.moodle))
    }
    made = {
        "report.html": page(found, datetime.now()),
        "grades.csv": _MARK + tables.text(tables.grades(found)),
        "exercises.csv": _MARK + tables.text(tables.exercises(found)),
        "messages.csv": _MARK + tables.text(tables.messages(found)),
        **to_platforms,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in made.items():
            _replace(folder / name, content)
    except OSError as error:
        raise CourseError(f"The report cannot be written to {folder}: {error.strerror}.") from error
    return found


def _replace(path: Path, content: str) -> None:
    """Write a file that is there as a whole or not at all, for its owner: it holds grades."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode("utf-8", errors="replace"))
    draft.replace(path)
