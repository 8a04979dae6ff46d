"""Have nbgrader grade rounds of answers, and tell which grades and messages are not right.

The way is nbgrader's own: a course folder with the course's configuration, ``generate_assignment``,
a submission for each round, and `nbgrader.converters.Autograde` over them. Answers are graded as
submissions are (`firstcnn.grading.execute`), or, which is faster, each in one kernel, as Validate
does; then kernels are forked from a warm process in place of being started cold.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.converters import Autograde, GenerateAssignment
from nbgrader.preprocessors import Execute

from firstcnn import kernel
from firstcnn.answers.bank import Answer, Exercise, load
from firstcnn.answers.rounds import (
    Round,
    needed_cells,
    needs_training,
    notebook,
    rounds,
    without_training,
)
from firstcnn.check import CheckFailed, NotAnswered
from firstcnn.course import Course, nbgrader_config, run_nbgrader
from firstcnn.grading.execute import GradeApart
from firstcnn.grading.nursery import SOCKET_VARIABLE, Nursery

#: A message must be read at a glance.
LONGEST_MESSAGE = 400

#: Submissions in one task: enough to pay for its course folder, few enough to share the work.
_ROUNDS_AT_A_TIME = 4

#: Notebooks at a time: one more than cores, since each waits for its kernel now and then.
WORKERS = (os.cpu_count() or 1) + 1

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Graded:
    """What became of one answer in one round.

    Parameters
    ----------
    exercise : Exercise
        The exercise.
    answer : Answer
        The answer.
    points : dict of str to float
        Points by check.
    messages : dict of str to str
        What each failing check says, by check, as the student reads it.
    stderr : dict of str to str
        What checks wrote to stderr.
    beside : dict of str to str
        The labels of the answers to the other exercises in the round.
    """

    exercise: Exercise
    answer: Answer
    points: dict[str, float]
    messages: dict[str, str]
    stderr: dict[str, str]
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The first failing check's message."""
        return next(iter(self.messages.values()), "")

    @property
    def faults(self) -> list[str]:
        """What is not as it should be, a line each."""
        return list(_faults(self))


def _faults(graded: Graded) -> Iterator[str]:
    answer, message = graded.answer, graded.message
    expected = graded.exercise.expected(answer)
    if graded.points != expected:
        yield f"got {_shown(graded.points)}, should get {_shown(expected)}" + (
            f": {message}" if message else ""
        )
    for check, text in graded.stderr.items():
        yield f"{check} wrote to stderr: {text[:200]}"
    for check, text in graded.messages.items():
        if not text.startswith((CheckFailed.heading, NotAnswered.heading)):
            yield f"{check} stops with an error of its own in place of a message: {text[:400]}"
    if answer.kind == "right":
        return
    if answer.says and _plain(answer.says) not in _plain(message):
        yield f"its message does not say {answer.says!r}: {message}"
    for check, text in graded.messages.items():
        if len(text) >= LONGEST_MESSAGE:
            yield f"the message of {check} has {len(text)} characters: {text}"
        if not any(re.search(rf"\b{name}\b", text) for name in _given_names(graded.exercise)):
            yield f"the message of {check} does not name what the student has: {text}"


def _plain(text: str) -> str:
    """Leave out white space: messages are wrapped where a line is full."""
    return re.sub(r"\s+", "", text)


def _shown(points: dict[str, float]) -> str:
    return ", ".join(f"{check} {number:g}" for check, number in points.items())


def _given_names(exercise: Exercise) -> set[str]:
    from firstcnn.source_rules import assigned_names

    blank = next(answer for answer in exercise.answers if answer.kind == "blank")
    right = [answer for answer in exercise.answers if answer.kind == "right"]
    common = set.intersection(*(assigned_names(answer.code) for answer in right))
    return assigned_names(blank.code) | common


# ---- grading ----------------------------------------------------------------------------------


class Desk:
    """A course folder in which nbgrader grades; its lessons are generated when first asked for.

    Parameters
    ----------
    course : Course
        The checkout whose source notebooks say what is right.
    root : pathlib.Path
        An empty folder to work in.
    apart : bool, optional
        Grade as submissions are graded: in a sandbox, with the checks in another process.
    """

    def __init__(self, course: Course, root: Path, *, apart: bool = False) -> None:
        self.course, self.root, self.apart = course, root, apart
        self.graded: list[str] = []
        self._generated: dict[str, NotebookNode] = {}

    def released(self, lesson: str) -> NotebookNode:
        """Return the notebook that students get, made by nbgrader from the source.

        Raises
        ------
        CourseError
            If nbgrader fails.
        """
        if lesson not in self._generated:
            path = self._release(lesson) / f"{lesson}.ipynb"
            if not path.exists():
                run_nbgrader(GenerateAssignment, lesson, self._config(lesson))
            self._generated[lesson] = nbformat.read(path, as_version=4)
        return self._generated[lesson]

    def grade(
        self,
        lesson: str,
        submissions: dict[str, NotebookNode],
        environment: dict[str, str] | None = None,
    ) -> dict[str, tuple[dict[str, float], NotebookNode]]:
        """Grade notebooks as nbgrader's autograde does.

        Parameters
        ----------
        lesson : str
            The lesson.
        submissions : dict of str to NotebookNode
            What students hand in, by a name for each that was not used here before.
        environment : dict of str, optional
            More environment variables for the kernels.

        Returns
        -------
        dict
            By name, the points by check and the autograded notebook.

        Raises
        ------
        CourseError
            If nbgrader fails.
        """
        self.released(lesson)
        config = self._config(lesson)
        config.GradeApart.environment = environment or {}
        beside = shutil.ignore_patterns("*.ipynb")
        for student, work in submissions.items():
            place = self.root / "submitted" / student / lesson
            shutil.copytree(self._release(lesson), place, ignore=beside)
            nbformat.write(work, place / f"{lesson}.ipynb")
        with self._warm_kernels(environment or {}), warnings.catch_warnings():
            # nbgrader's own gradebook is not quiet on SQLAlchemy 2.
            warnings.simplefilter("ignore")
            run_nbgrader(Autograde, lesson, config)
        self.graded += submissions
        graded = {}
        for student in submissions:
            points = _points(config.CourseDirectory.db_url, lesson, student)
            path = self.root / "autograded" / student / lesson / f"{lesson}.ipynb"
            graded[student] = points, nbformat.read(path, as_version=4)
        return graded

    def _release(self, lesson: str) -> Path:
        return self.root / "course" / lesson

    def stand_ins(self, lesson: str, exercises: Iterable[Exercise]) -> dict[str, str]:
        """Train once what the cells before exercises train, so that not every round does.

        Parameters
        ----------
        lesson : str
            The lesson.
        exercises : iterable of Exercise
            Its exercises.

        Returns
        -------
        dict of str to str
            For each such cell's id, the same cell with the weights read from a file, which is
            part of the release from now on: all that a kernel in a sandbox sees is in its folder.
        """
        release = self.released(lesson)
        codes = [answer.code for one in exercises for answer in one.answers]
        needed = needed_cells(release, codes)
        made = {}
        for cell in release.cells:
            if cell.id in needed and ".fit(" in cell.source:
                stand_in = without_training(cell.source, f"{cell.id}.weights.h5")
                if stand_in is not None:
                    before = [one.source for one in release.cells if one.id in needed]
                    before = before[: before.index(cell.source) + 1]
                    save = stand_in.replace("load_weights", "save_weights", 1)
                    (saving,) = [line for line in save.splitlines() if "save_weights" in line]
                    self._run([*before, saving], self._release(lesson))
                    made[cell.id] = stand_in
        return made

    def _run(self, sources: Sequence[str], folder: Path) -> None:
        """Run cells in a kernel of the course."""
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        resources = {"metadata": {"path": str(folder)}}
        with self._warm_kernels({}):
            NotebookClient(
                nbformat.v4.new_notebook(cells=cells),
                kernel_name="python3",
                timeout=600,
                startup_timeout=300,
                iopub_timeout=300,
                resources=resources,
                shutdown_kernel="immediate",
            ).execute()

    def _config(self, lesson: str) -> Any:
        config = nbgrader_config(self.course, lesson)
        config.CourseDirectory.root = str(self.root)
        config.CourseDirectory.source_directory = str(self.course.root / "source")
        config.CourseDirectory.db_url = f"sqlite:///{self.root}/gradebook.db"
        config.Execute.shutdown_kernel = "immediate"
        if not self.apart:
            steps = config.Autograde.autograde_preprocessors
            config.Autograde.autograde_preprocessors = [
                Execute if step is GradeApart else step for step in steps
            ]
            config.Autograde.exporter_class = NotebookExporter
        return config

    @contextlib.contextmanager
    def _warm_kernels(self, environment: dict[str, str]) -> Iterator[None]:
        """Let every kernel that is started meanwhile be the course's own, and a warm one."""
        spec = json.loads(Path(kernel.jupyter_path(), "kernels/python3/kernel.json").read_text())
        spec["env"] |= environment
        spec["metadata"]["kernel_provisioner"] = {"provisioner_name": "firstcnn-warm"}
        place = self.root / "jupyter" / "kernels" / "python3"
        place.mkdir(parents=True, exist_ok=True)
        (place / "kernel.json").write_text(json.dumps(spec))
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = str(self.root / "jupyter")
        try:
            yield
        finally:
            os.environ.pop("JUPYTER_PATH")
            if before is not None:
                os.environ["JUPYTER_PATH"] = before


def _points(database: str, lesson: str, student: str) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with Gradebook(database, "first-cnn") as gradebook:
        submission = gradebook.find_submission(lesson, student)
        return {grade.name: grade.score for book in submission.notebooks for grade in book.grades}


def graded_round(
    exercises: Iterable[Exercise], one: Round, points: dict[str, float], made: NotebookNode
) -> list[Graded]:
    """Tell what became of each answer of a round, from its points and its autograded notebook."""
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in made.cells}
    found = []
    for exercise in exercises:
        messages, stderr = {}, {}
        for check in exercise.checks:
            for output in cells[check].outputs:
                if output.output_type == "error":
                    messages[check] = _ANSI.sub("", "\n".join(output.traceback)).strip()
                elif output.output_type == "stream" and output.name == "stderr":
                    stderr[check] = output.text
        beside = {name: answer.label for name, answer in one.items() if name != exercise.name}
        earned = {check: points[check] for check in exercise.checks}
        found.append(Graded(exercise, one[exercise.name], earned, messages, stderr, beside))
    return found


# ---- the whole bank ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Task:
    """Some rounds of one lesson, to be graded in one course folder.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.
    ready : pathlib.Path
        A desk's folder, in which the lesson is generated; it is copied and stays as it is.
    lesson : str
        The lesson.
    exercises : tuple of Exercise
        Those whose answers are tried.
    rounds : tuple of (Round, NotebookNode)
        The answers that meet, and the notebooks with them.
    environment : dict of str
        More environment variables for the kernels.
    apart : bool
        As `Desk` has it.
    """

    root: Path
    ready: Path
    lesson: str
    exercises: tuple[Exercise, ...]
    rounds: tuple[tuple[Round, NotebookNode], ...]
    environment: dict[str, str]
    apart: bool


#: A process's desks, by the folders that they are copies of.
_desks: dict[Path, Desk] = {}


def _grade_task(task: Task) -> list[Graded]:
    if task.ready not in _desks:
        folder = tempfile.TemporaryDirectory(prefix="firstcnn-answers-")
        atexit.register(folder.cleanup)
        shutil.copytree(task.ready, folder.name, dirs_exist_ok=True)
        _desks[task.ready] = Desk(Course(task.root), Path(folder.name), apart=task.apart)
    desk = _desks[task.ready]
    names = [f"submission-{len(desk.graded) + i}" for i in range(len(task.rounds))]
    works = dict(zip(names, (work for _, work in task.rounds), strict=True))
    graded = desk.grade(task.lesson, works, task.environment)
    return [
        found
        for name, (one, _) in zip(names, task.rounds, strict=True)
        for found in graded_round(task.exercises, one, *graded[name])
    ]


def _dealt(
    exercises: Sequence[Exercise], chosen: Sequence[Exercise], release: NotebookNode, seed: int
) -> list[Round]:
    """Deal out the answers of the chosen exercises; the others are answered right."""
    solved = {one.name: one.answers[0] for one in exercises}
    slow = {
        id(answer) for one in chosen for answer in one.answers if needs_training(release, answer)
    }
    return [solved | one for one in rounds(chosen, seed, lambda answer: id(answer) in slow)]


def try_answers(
    course: Course,
    lessons: Iterable[str] | None = None,
    *,
    only: Sequence[str] = (),
    seed: int = 0,
    workers: int = WORKERS,
    environment: dict[str, str] | None = None,
    whole: bool = False,
    apart: bool = False,
    most_rounds: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[Graded], float]:
    """Grade every answer of the bank.

    Parameters
    ----------
    course : Course
        The checkout.
    lessons : iterable of str, optional
        Some lessons' names; by default all.
    only : sequence of str, optional
        The names of exercises, where not all are wanted.
    seed : int, optional
        Which answers meet in a notebook.
    workers : int, optional
        How many notebooks are graded at a time.
    environment : dict of str, optional
        More environment variables for the kernels.
    whole : bool, optional
        Run every cell of the lesson, and not only those that exercises need.
    apart : bool, optional
        Grade as submissions are graded: in a sandbox, with the checks in another process.
    most_rounds : int, optional
        Grade no more than so many rounds of each lesson.
    on_progress : callable, optional
        Called with the number of rounds done, and of all.

    Returns
    -------
    graded : list of Graded
        One for each answer and round, in the bank's order of lessons.
    seconds : float
        Wall time.
    """
    start = time.perf_counter()
    environment = _threads(workers) | (environment or {})
    with tempfile.TemporaryDirectory(prefix="firstcnn-answers-") as folder, shared_nursery():
        desk = Desk(course, Path(folder), apart=apart)
        tasks = []
        for lesson in course.choose(lessons):
            exercises = load(course, lesson)
            chosen = tuple(one for one in exercises if not only or one.name in only)
            release = desk.released(lesson)
            stand_ins = {} if whole else desk.stand_ins(lesson, chosen)
            made = [
                (one, notebook(release, one, whole=whole, stand_ins=stand_ins))
                for one in _dealt(exercises, chosen, release, seed)[:most_rounds]
            ]
            for first in range(0, len(made), _ROUNDS_AT_A_TIME):
                some = tuple(made[first : first + _ROUNDS_AT_A_TIME])
                tasks.append(Task(course.root, desk.root, lesson, chosen, some, environment, apart))
        total, done = sum(len(task.rounds) for task in tasks), 0
        found: dict[Task, list[Graded]] = {}
        # Lessons that train take longest: they go first, so that no core waits at the end.
        slow = ("06", "05", "07", "08")
        order = sorted(tasks, key=lambda task: task.lesson[:2] not in slow)
        for task, graded in _graded_tasks(order, workers):
            found[task] = graded
            done += len(task.rounds)
            on_progress(done, total)
    return [one for task in tasks for one in found[task]], time.perf_counter() - start


def _threads(workers: int) -> dict[str, str]:
    """Share the cores out: TensorFlow's threads wait by spinning, and hold each other up."""
    each = max(1, (os.cpu_count() or 1) // workers)
    return {"TF_NUM_INTRAOP_THREADS": str(each), "TF_NUM_INTEROP_THREADS": "1"}


def _graded_tasks(tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, list[Graded]]]:
    if workers == 1:
        for task in tasks:
            yield task, _grade_task(task)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_grade_task, task): task for task in tasks}
        for future in as_completed(running):
            yield running[future], future.result()


@contextlib.contextmanager
def shared_nursery() -> Iterator[None]:
    """Let all processes that are started meanwhile have their kernels from one nursery."""
    nursery = Nursery()
    os.environ[SOCKET_VARIABLE] = nursery.socket
    try:
        yield
    finally:
        del os.environ[SOCKET_VARIABLE]
        nursery.close()


def counts(graded: Iterable[Graded]) -> tuple[int, int, int, int]:
    """Count right answers and those accepted, wrong answers and those rejected as they should be.

    An answer that was tried in several rounds counts once, and only if all went well.
    """
    faultless: dict[tuple[str, str, str], bool] = {}
    kinds: dict[tuple[str, str, str], str] = {}
    for one in graded:
        key = (one.exercise.lesson, one.exercise.name, one.answer.label)
        kinds[key] = one.answer.kind
        faultless[key] = faultless.get(key, True) and not one.faults
    right = [key for key, kind in kinds.items() if kind == "right"]
    wrong = [key for key, kind in kinds.items() if kind != "right"]
    good = sum(faultless[key] for key in right), sum(faultless[key] for key in wrong)
    return len(right), good[0], len(wrong), good[1]
