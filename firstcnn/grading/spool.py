"""The folder ``grading/`` of a course: results that are not recorded yet, and logs.

::

    grading/journal                         a line for each thing that was done, appended
    grading/LESSON/STUDENT/result.zip       graded, and not yet recorded
    grading/LESSON/STUDENT/autograde.log    what nbgrader and the grader said, the last time

A result is here, whole, before anything is done with it, until all of it is recorded. So whoever
grades may be killed at any time, and what came back is not graded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from firstcnn.grading.task import Result

__all__ = ["Busy", "Spool"]

_RESULT, _LOG, _FILES = "result.zip", "autograde.log", "autograded/"


class Busy(RuntimeError):
    """Somebody else is grading in this course; the message says what to do."""


class Spool:
    """What of grading is on its way.

    Parameters
    ----------
    root : pathlib.Path
        The folder ``grading/`` of a course; it is made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others out, for as long as this process lives and wants to.

        Raises
        ------
        Busy
            If somebody else does.
        """
        with open(self.root / "lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    "Another `firstcnn grade` runs in this course: wait until it is done. "
                    "(To grade more at a time, give it more --workers.)"
                ) from None
            yield

    def put(self, result: Result) -> None:
        """Keep a result until it is recorded; return when it is on the disk."""
        told = asdict(result)
        del told["files"]
        folder = self._folder(result.lesson, result.student)
        folder.mkdir(parents=True, exist_ok=True)
        incoming = folder / f".{_RESULT}"
        try:
            with open(incoming, "wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                    archive.writestr("result.json", json.dumps(told))
                    for name, content in result.files.items():
                        archive.writestr(_FILES + name, content)
                file.flush()
                os.fsync(file.fileno())
            incoming.rename(folder / _RESULT)
        except OSError:
            incoming.unlink(missing_ok=True)
            raise

    def waiting(self) -> list[Result]:
        """Return the results that are not recorded; one that cannot be read is dropped."""
        found = []
        for path in sorted(self.root.glob(f"*/*/{_RESULT}")):
            try:
                with zipfile.ZipFile(path) as archive:
                    told = json.loads(archive.read("result.json"))
                    files = {
                        name.removeprefix(_FILES): archive.read(name)
                        for name in archive.namelist()
                        if name.startswith(_FILES)
                    }
                found.append(Result(**told, files=files))
            except (zipfile.BadZipFile, ValueError, KeyError, TypeError):
                path.unlink()
        return found

    def done(self, lesson: str, student: str) -> None:
        """Drop a result: it is recorded, or of no use."""
        (self._folder(lesson, student) / _RESULT).unlink(missing_ok=True)

    def log(self, lesson: str, student: str, text: str, *, add: bool = False) -> Path:
        """Write the log of a submission, or more of it; return its path."""
        folder = self._folder(lesson, student)
        folder.mkdir(parents=True, exist_ok=True)
        with open(
            folder / _LOG, "a" if add else "w", encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
        return folder / _LOG

    def note(self, what: str, lesson: str, student: str, **more: object) -> None:
        """Add a line to the journal."""
        line = {"at": round(time.time(), 3), "what": what, "lesson": lesson, "student": student}
        with open(self.root / "journal", "a", encoding="utf-8") as file:
            file.write(json.dumps({**line, **more}) + "\n")

    def _folder(self, lesson: str, student: str) -> Path:
        return self.root / lesson / student
