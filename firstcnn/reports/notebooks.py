"""What the autograded notebooks of a submission tell: messages, time, memory, what was odd."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import is_grade

from firstcnn.reports.gradebook import Lesson, Submission

__all__ = ["Trace", "trace"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: Whoever fills a page with one message helps nobody.
_LONGEST = 500


@dataclass
class Trace:
    """What is known of how a submission was graded.

    Parameters
    ----------
    found : bool
        Whether all of its autograded notebooks were there to be read.
    seconds : float or None
        How long its cells ran, if that was measured.
    memory : float or None
        The most memory that its kernel was seen to use, in MiB, if that was measured.
    repairs : list of str
        What was changed before it was graded.
    refusals : list of str
        Why it, or parts of it, were not graded.
    flags : list of str
        What else happened: its kernel ended, a cell was stopped.
    messages : dict of str to str
        What each failing check said, by graded cell.
    """

    found: bool = True
    seconds: float | None = None
    memory: float | None = None
    repairs: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)


def trace(course: CourseDirectory, lesson: Lesson, submission: Submission) -> Trace:
    """Read the autograded notebooks of a submission.

    Parameters
    ----------
    course : CourseDirectory
        Where they are.
    lesson : Lesson
        Whose notebooks to look for.
    submission : Submission
        Whose they are. Messages are those of checks that did not earn all they could.
    """
    folder = Path(
        course.format_path(course.autograded_directory, submission.student.id, lesson.name)
    )
    made = Trace()
    for name in lesson.notebooks:
        try:
            # Without nbformat's validation, which takes half of the time of a report.
            text = (folder / f"{name}.ipynb").read_text(encoding="utf-8")
            notebook = nbformat.from_dict(json.loads(text))
            _add(made, notebook, "" if len(lesson.notebooks) == 1 else f"{name}/")
        except Exception:  # a damaged notebook raises whatever it likes, and costs its own traces
            made.found = False
    return made


def _add(made: Trace, notebook: nbformat.NotebookNode, prefix: str) -> None:
    told = notebook.metadata.get("firstcnn", {})
    made.repairs += [str(line) for line in told.get("repairs", [])]
    for name, reason in told.get("refusals", {}).items():
        made.refusals.append(f"{prefix}{name}: {reason}" if name else str(reason))
    if "seconds" in told:
        made.seconds = (made.seconds or 0.0) + float(told["seconds"])
    if "memory" in told:
        made.memory = max(made.memory or 0.0, float(told["memory"]))
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        for output in cell.outputs:
            if output.output_type != "error":
                continue
            kind, words = output.get("ename", ""), _words(output)
            if kind == "NotGraded":  # as the refusals tell already
                continue
            if is_grade(cell):
                made.messages.setdefault(prefix + name, words)
            elif kind == "CellTimeoutError" or (kind == "KernelEnded" and not _is_echo(words)):
                made.flags.append(words)


def _is_echo(words: str) -> bool:
    """Tell whether a cell was not run for what had happened in another."""
    return words.startswith("Not run:")


def _words(output: Any) -> str:
    """Return what an error says, without the line breaks of a narrow page."""
    text = str(output.get("evalue") or "\n".join(output.get("traceback", [])))
    lines = "\n".join(_unwrapped(_ANSI.sub("", text)))
    return lines if len(lines) <= _LONGEST else lines[: _LONGEST - 3] + "..."


def _unwrapped(text: str) -> Iterator[str]:
    """Yield a message and its hint, each on a line of its own."""
    for part in re.split(r"\n(?=Hint: )", text.strip()):
        yield " ".join(part.split())
