"""Read the answer bank: one readable Markdown file for each lesson."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from firstcnn.course import Course, CourseError, nbgrader_config, read
from firstcnn.preprocessors import ClearAnswers

#: The least that an exercise needs: right answers of different kinds, and wrong ones.
LEAST = {"right": 3, "wrong": 5}


@dataclass(frozen=True)
class Answer:
    """One way to fill in an answer cell.

    Parameters
    ----------
    kind : str
        ``"right"``, ``"wrong"`` or ``"blank"``.
    label : str
        What it is an example of: a way to do it, or a misconception.
    code : str
        The whole cell.
    says : str, optional
        A phrase that the first failing check's message must hold.
    points : dict of str to float, optional
        Points by check, where a wrong answer keeps some.
    """

    kind: str
    label: str
    code: str
    says: str = ""
    points: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Exercise:
    """One exercise, as the source notebook and the bank describe it together.

    Parameters
    ----------
    lesson, name : str
        Where it is: ``NAME-answer`` is the cell that students fill in.
    title : str
        Its heading, without number and points.
    checks : dict of str to float
        The ids of its grade cells, in order, and the points of each.
    teaches : str
        What it teaches, in a sentence.
    answers : tuple of Answer
        Right ones, wrong ones, and the untouched cell.
    """

    lesson: str
    name: str
    title: str
    checks: dict[str, float]
    teaches: str
    answers: tuple[Answer, ...]

    @property
    def cell(self) -> str:
        """The id of the answer cell."""
        return f"{self.name}-answer"

    def expected(self, answer: Answer) -> dict[str, float]:
        """Return the points by check that an answer must get."""
        if answer.kind == "right":
            return dict(self.checks)
        return {check: answer.points.get(check, 0) for check in self.checks}


def bank_file(course: Course, lesson: str) -> Path:
    """Return the path of a lesson's answers."""
    return course.root / "tests" / "answers" / f"{lesson}.md"


def load(course: Course, lesson: str) -> list[Exercise]:
    """Read a lesson's answers, and hold them against its source notebook.

    Raises
    ------
    CourseError
        If the file is missing or not in the form that ``docs/contributing.md`` describes, or
        lacks an exercise, or an exercise lacks answers. The message names the line.
    """
    path = bank_file(course, lesson)
    if not path.is_file():
        raise CourseError(f"{path.relative_to(course.root)}: missing")
    sections = _Reader(path, course.root).sections()
    exercises = []
    blanks = _blanks(course, lesson)
    for name, title, checks in exercises_of(course, lesson):
        if name not in sections:
            raise CourseError(f"{path.name}: no section for the exercise {name}")
        teaches, answers = sections.pop(name)
        for kind, least in LEAST.items():
            count = sum(answer.kind == kind for answer in answers)
            if count < least:
                raise CourseError(f"{path.name}: {name} has {count} {kind} answers, not {least}")
        for answer in answers:
            if unknown := set(answer.points) - set(checks):
                raise CourseError(f"{path.name}: {name} has no check {', '.join(unknown)}")
        blank = Answer("blank", "no answer", blanks[f"{name}-answer"], says="No answer yet")
        exercises.append(Exercise(lesson, name, title, checks, teaches, (*answers, blank)))
    if sections:
        raise CourseError(f"{path.name}: no such exercise: {', '.join(sections)}")
    return exercises


def exercises_of(course: Course, lesson: str) -> list[tuple[str, str, dict[str, float]]]:
    """Return name, title and checks of each exercise of a source notebook, in order."""
    heading, found = "", []
    for cell in read(course.source(lesson)).cells:
        graded = cell.metadata.get("nbgrader", {})
        match = re.search(r"^### Exercise \d+[^:]*: (.*?) \(\d+ points?\)", cell.source, re.M)
        if cell.cell_type == "markdown" and match:
            heading = match[1]
        elif graded.get("solution"):
            found.append((cell.id.removesuffix("-answer"), heading, {}))
        elif graded.get("grade"):
            found[-1][2][cell.id] = graded.points
    return found


def _blanks(course: Course, lesson: str) -> dict[str, str]:
    """Return the answer cells as students get them, straight from the source notebook."""
    config = nbgrader_config(course, lesson)
    notebook, _ = ClearAnswers(config=config).preprocess(read(course.source(lesson)), {})
    return {
        cell.id: cell.source
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }


class _Reader:
    """Take a bank file apart, line by line."""

    def __init__(self, path: Path, root: Path) -> None:
        self._name = path.relative_to(root)
        self._lines = path.read_text(encoding="utf-8").split("\n")
        self._at = 0

    def sections(self) -> dict[str, tuple[str, list[Answer]]]:
        """Return what each exercise teaches, and its answers."""
        found: dict[str, tuple[str, list[Answer]]] = {}
        name, prose = "", []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if line.startswith("## "):
                name, prose = line[3:].strip(), []
                if name in found:
                    self._refuse(f"a second section {name}")
                found[name] = ("", [])
            elif line.startswith("### "):
                if not name:
                    self._refuse("an answer before the first exercise")
                if not prose:
                    self._refuse(f"{name} does not say what it teaches")
                found[name] = (" ".join(prose), found[name][1])
                found[name][1].append(self._answer(line[4:].strip(), found[name][1]))
            elif line.startswith("# ") or not line.strip():
                pass
            elif name and not found[name][1]:
                prose.append(line.strip())
            else:
                self._refuse(f"not expected here: {line[:60]!r}")
        return found

    def _answer(self, heading: str, others: list[Answer]) -> Answer:
        kind, colon, label = heading.partition(": ")
        if kind not in LEAST or not colon:
            self._refuse("an answer's heading is '### right: KIND' or '### wrong: MISTAKE'")
        if any(other.label == label for other in others):
            self._refuse(f"two answers labelled {label!r}")
        notes: dict[str, str] = {}
        while not self._lines[self._at].startswith("```"):
            line = self._lines[self._at]
            match = re.fullmatch(r"- (says|points): (.+)", line)
            if match:
                notes[match[1]] = match[2].strip()
            elif line.strip():
                self._refuse("expected '- says: ...', '- points: ...' or the code")
            self._at += 1
            if self._at == len(self._lines):
                self._refuse(f"the answer {label!r} has no code")
        code = []
        self._at += 1
        while self._at < len(self._lines) and self._lines[self._at] != "```":
            code.append(self._lines[self._at])
            self._at += 1
        if self._at == len(self._lines):
            self._refuse(f"the code of {label!r} does not end")
        self._at += 1
        if kind == "wrong" and "says" not in notes:
            self._refuse(f"the wrong answer {label!r} needs '- says: ...'")
        if kind == "right" and notes:
            self._refuse(f"the right answer {label!r} gets all points and no message")
        return Answer(kind, label, "\n".join(code), notes.get("says", ""), self._points(notes))

    def _points(self, notes: dict[str, str]) -> dict[str, float]:
        points = {}
        for part in filter(None, notes.get("points", "").split(",")):
            check, _, number = part.strip().rpartition(" ")
            try:
                points[check] = float(number)
            except ValueError:
                self._refuse(f"not points: {part.strip()!r}; write '- points: CHECK 1'")
        return points

    def _refuse(self, why: str) -> None:
        raise CourseError(f"{self._name}, line {min(self._at, len(self._lines))}: {why}")
