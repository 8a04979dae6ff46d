"""Everything that a report tells, worked out once, for pages and tables alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firstcnn.reports import statistics
from firstcnn.reports.gradebook import (
    Class,
    Exercise,
    Lesson,
    Student,
    Submission,
    course_directory,
    read,
)
from firstcnn.reports.messages import Group, grouped
from firstcnn.reports.notebooks import Trace, trace

__all__ = ["ExerciseSurvey", "LessonSurvey", "Survey", "survey"]


@dataclass(frozen=True)
class ExerciseSurvey:
    """How a class has done in an exercise.

    Parameters
    ----------
    exercise : Exercise
        The exercise.
    difficulty, discrimination : float or None
        See `firstcnn.reports.statistics`.
    full, none : int
        How many have all of its points, and none of them.
    messages : list of Group
        What its failing checks said, the most frequent first.
    """

    exercise: Exercise
    difficulty: float | None
    discrimination: float | None
    full: int
    none: int
    messages: list[Group]


@dataclass(frozen=True)
class LessonSurvey:
    """How a class has done in a lesson.

    Parameters
    ----------
    lesson : Lesson
        The lesson, with its submissions.
    traces : dict of str to Trace
        How each was graded, by the student's id.
    scores, seconds, memory : statistics.Summary or None
        Of the scores that count, of the time in seconds, of the memory in MiB.
    histogram : list of int
        Scores by tenths of the maximum; empty where there is nothing to earn.
    exercises : tuple of ExerciseSurvey
        In the order of the notebook.
    missing : tuple of Student
        Those who have handed in nothing.
    """

    lesson: Lesson
    traces: dict[str, Trace]
    scores: statistics.Summary | None
    seconds: statistics.Summary | None
    memory: statistics.Summary | None
    histogram: list[int]
    exercises: tuple[ExerciseSurvey, ...]
    missing: tuple[Student, ...]

    def trace(self, submission: Submission) -> Trace:
        """Return how a submission was graded."""
        return self.traces[submission.student.id]

    @property
    def waiting(self) -> list[Submission]:
        """Submissions that a person has yet to grade in part."""
        return [one for one in self.lesson.submissions if one.waiting]


@dataclass(frozen=True)
class Survey:
    """How a class has done.

    Parameters
    ----------
    group : Class
        The class.
    lessons : tuple of LessonSurvey
        By name.
    """

    group: Class
    lessons: tuple[LessonSurvey, ...]


def survey(root: Path, lessons: Sequence[str] = ()) -> Survey:
    """Read the gradebook and the autograded notebooks of a checkout, and work out the numbers.

    Parameters
    ----------
    root : pathlib.Path
        The checkout, with ``nbgrader_config.py``.
    lessons : sequence of str, optional
        Some lessons; by default all of which something has been graded.

    Raises
    ------
    CourseError
        As `firstcnn.reports.gradebook.read` does.
    """
    course = course_directory(root)
    group = read(course, lessons)
    found = []
    for lesson in group.lessons:
        traces = {one.student.id: trace(course, lesson, one) for one in lesson.submissions}
        found.append(_survey(group, lesson, traces))
    return Survey(group, tuple(found))


def _survey(group: Class, lesson: Lesson, traces: dict[str, Trace]) -> LessonSurvey:
    scores = [one.score for one in lesson.submissions]
    there = {one.student.id for one in lesson.submissions} | {one.id for one in lesson.ungraded}
    return LessonSurvey(
        lesson,
        traces,
        scores=statistics.summary(scores),
        seconds=statistics.summary([t.seconds for t in traces.values() if t.seconds is not None]),
        memory=statistics.summary([t.memory for t in traces.values() if t.memory is not None]),
        histogram=statistics.histogram(scores, lesson.possible) if lesson.possible > 0 else [],
        exercises=tuple(_exercise(one, lesson, traces) for one in lesson.exercises),
        missing=tuple(one for one in group.students if one.id not in there),
    )


def _exercise(exercise: Exercise, lesson: Lesson, traces: dict[str, Trace]) -> ExerciseSurvey:
    earned = [one.earned(exercise) for one in lesson.submissions]
    heard = [
        (one.student.id, message)
        for one in lesson.submissions
        for cell in exercise.cells
        if (message := traces[one.student.id].messages.get(cell))
    ]
    return ExerciseSurvey(
        exercise,
        difficulty=statistics.difficulty(earned, exercise.possible),
        discrimination=statistics.discrimination(
            earned, [one.raw_score for one in lesson.submissions]
        ),
        full=sum(points >= exercise.possible for points in earned),
        none=sum(points <= 0 for points in earned),
        messages=grouped(heard),
    )
