"""A class graded: every submission that is due, each once, several at a time.

Workers grade (`firstcnn.grading.task`), on this machine or on any Dask cluster
(`firstcnn.grading.cluster`). What comes back lies in the spool (`firstcnn.grading.spool`) until
this process, the only one that writes into the gradebook, has recorded it
(`firstcnn.grading.recording`). Killed at any moment and run again, it goes on where it was.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from distributed import KilledWorker
from nbgrader.api import MissingEntry
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SQLAlchemyError

from firstcnn.course import Course, CourseError, environment_on_path, instructors_config
from firstcnn.grading import cluster, task
from firstcnn.grading.preflight import Submission, submissions
from firstcnn.grading.recording import Unavailable, record, unavailable
from firstcnn.grading.sandbox import Sandbox, SandboxUnavailable, is_trusted
from firstcnn.grading.spool import Busy, Spool

__all__ = ["Outcome", "Report", "grade_class"]

#: Workers on this machine: one more than cores, since each waits for its kernel now and then.
WORKERS = (os.cpu_count() or 1) + 1
#: How often a submission that changes while it is graded is graded anew.
_MOST_CHANGES = 5
_Key = tuple[str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of one submission.

    Parameters
    ----------
    lesson, student : str
        Which one it is.
    status : str
        "graded", "skipped" since it had been graded before, or "failed".
    seconds : float
        For grading it.
    repairs : list of str
        What preflight has put in order, as the student reads it.
    refusals : list of str
        What it could not, and why that earns no points.
    score, max_score : float or None
        Points in the gradebook.
    needs_manual_grade : bool
        Whether a person has to look at it.
    error : str
        Why it failed.
    log : str
        The path of its log, from the course's folder.
    """

    lesson: str
    student: str
    status: str
    seconds: float = 0.0
    repairs: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    score: float | None = None
    max_score: float | None = None
    needs_manual_grade: bool = False
    error: str = ""
    log: str = ""


@dataclass
class Report:
    """What became of a class.

    Parameters
    ----------
    outcomes : list of Outcome
        Of the submissions that were looked at.
    due : int
        How many there were to grade, at the beginning.
    seconds : float
        From start to end.
    stopped : str
        Why it stopped before the end; nothing if it did not.
    is_interrupted : bool
        Whether that was because somebody wanted it to.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    due: int = 0
    seconds: float = 0.0
    stopped: str = ""
    is_interrupted: bool = False

    @property
    def status(self) -> int:
        """The exit status: 0 if all was graded, 1 if not, 130 if it was interrupted."""
        if self.is_interrupted:
            return 130
        return int(bool(self.stopped) or any(one.status == "failed" for one in self.outcomes))


def grade_class(
    checkout: Course,
    lessons: Sequence[str] | None = None,
    *,
    students: Sequence[str] = (),
    again: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    patience: float = 600,
    say: Callable[[str], None] = print,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Grade what students have handed in and what is not graded yet.

    Parameters
    ----------
    checkout : Course
        The course.
    lessons : sequence of str, optional
        Their names; by default all that somebody has handed in.
    students : sequence of str, optional
        Their names; by default all.
    again : bool, optional
        Grade what was graded before, too.
    workers : int, optional
        How many submissions at a time, on this machine.
    scheduler : str, optional
        The address of a Dask scheduler, whose workers grade in place of this machine's.
    patience : float, optional
        Seconds to wait for a database or a disk that is not to be had.
    say : callable, optional
        Hears what somebody should know at once.
    on_progress : callable, optional
        Called with the numbers of submissions that are done and that are due.

    Raises
    ------
    CourseError
        If there is nothing of that name, the configuration or the gradebook cannot be read, the
        sandbox cannot be made, no scheduler answers, or somebody else is grading in this course.
    """
    start = time.monotonic()
    # nbgrader works in the course's folder, too.
    requests = _Requests()
    with contextlib.chdir(checkout.root), environment_on_path(), requests.heard():
        desk = _Desk(checkout, students, again)
        with desk.lock():
            run = _Run(desk, requests, patience, say, on_progress)
            try:
                run.record_what_waits()
                run.find(lessons)
                if run.due:
                    with contextlib.ExitStack() as stack:
                        there = _cluster(scheduler, workers, len(run.due), patience)
                        # Half of what is started here could not be stopped.
                        with contextlib.nullcontext() if scheduler else requests.after():
                            workers_there = stack.enter_context(there)
                        run.grade(workers_there)
            except KeyboardInterrupt:
                run.report.is_interrupted = True
                run.report.stopped = "Interrupted."
            except (Unavailable, cluster.Lost) as error:
                run.report.stopped = str(error)
    run.report.outcomes.sort(key=lambda one: (one.lesson, one.student))
    run.report.seconds = round(time.monotonic() - start, 1)
    return run.report


class _Requests:
    """Ctrl-C and requests to end, which wait until what is being done is done.

    Raised anywhere, they could be lost: Python drops what is raised in a finalizer.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._patience = 0

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Hear of them here; a request to end is what Ctrl-C is."""
        numbers = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            numbers.append(signal.SIGINT)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        if self._patience == 2 or (self._patience == 1 and not self._is_asked):
            self._is_asked = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def after(self, *, always: bool = False) -> Iterator[None]:
        """Let the first one, or always each, wait until after this."""
        before = self._patience
        self._patience = 2 if always else max(before, 1)
        try:
            yield
        finally:
            self._patience = before
            if not before:
                self.heed()

    def heed(self) -> None:
        """Stop here if somebody wants that."""
        if self._is_asked:
            self._is_asked = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def _cluster(
    scheduler: str | None, workers: int | None, most: int, patience: float
) -> Iterator[cluster.Cluster]:
    if scheduler is not None:
        with cluster.remote(scheduler, patience=min(patience, 30)) as there:
            yield there
        return
    if not is_trusted():
        try:
            with Sandbox(None):
                pass
        except SandboxUnavailable as error:
            raise CourseError(str(error)) from None
    with cluster.local(min(workers or WORKERS, most)) as there:
        yield there


# ---- the course ----------------------------------------------------------------------------------


class _Desk:
    """The course as nbgrader sees it."""

    def __init__(self, checkout: Course, students: Sequence[str], again: bool) -> None:
        self.checkout, self.students, self.again = checkout, students, again
        self.config = instructors_config(checkout)
        self.directory = CourseDirectory(config=self.config)
        self.spool = Spool(checkout.root / "grading")
        self._assignments: dict[str, task.Assignment] = {}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        try:
            with self.spool.lock():
                yield
        except Busy as error:
            raise CourseError(str(error)) from None

    def assignment(self, lesson: str) -> task.Assignment:
        """Return what submissions of a lesson are graded with."""
        if lesson not in self._assignments:
            try:
                made = task.assignment(self.directory, self.config, lesson)
            except (MissingEntry, SQLAlchemyError) as error:
                if reason := unavailable(error):
                    raise Unavailable(reason) from error
                if not isinstance(error, MissingEntry):
                    raise CourseError(
                        f"The gradebook cannot be read: {error}\nIf nbgrader was upgraded lately, "
                        "back up the gradebook, then run `nbgrader db upgrade`."
                    ) from None
                raise CourseError(
                    f"The gradebook does not know {lesson}: run "
                    f"`nbgrader generate_assignment {lesson} --force` first."
                ) from None
            self._assignments[lesson] = made
        return self._assignments[lesson]

    def submissions(self, lesson: str) -> list[Submission]:
        """Return what was handed in for a lesson."""
        own = CourseDirectory(config=self.config)
        own.assignment_id = lesson
        with task.logged():
            converter = Autograde(coursedir=own, config=self.config, force=self.again)
            found = submissions(converter)
        return [one for one in found if not self.students or one.student in self.students]

    def folder(self, lesson: str, student: str) -> Path:
        """Return where a submission is."""
        place = self.directory
        return Path(place.format_path(place.submitted_directory, student, lesson))

    def choose(self, lessons: Sequence[str] | None) -> dict[str, list[Submission]]:
        """Return the submissions of the named lessons, or of all.

        Raises
        ------
        CourseError
            If a lesson or a student is not there.
        """
        found = {lesson: self.submissions(lesson) for lesson in self.checkout.choose(lessons)}
        names = {one.student for several in found.values() for one in several}
        if unknown := [student for student in self.students if student not in names]:
            self.students = ()
            known = sorted({one.student for lesson in found for one in self.submissions(lesson)})
            raise CourseError(
                f"Nothing was handed in by {', '.join(unknown)}"
                f"{' for ' + ', '.join(lessons) if lessons else ''}. "
                f"Students: {', '.join(known) or 'none'}."
            )
        for lesson in lessons or ():
            if not found[lesson] and not self.students:
                handed = sorted(name for name in self.checkout.lessons if self.submissions(name))
                raise CourseError(
                    f"Nobody has handed in {lesson}: there is nothing in "
                    f"{self.directory.submitted_directory}/STUDENT/{lesson}/. "
                    f"Handed in: {', '.join(handed) or 'none'}."
                )
        return found


# ---- the run -------------------------------------------------------------------------------------


class _Run:
    """One run of `firstcnn grade`."""

    def __init__(
        self,
        desk: _Desk,
        requests: _Requests,
        patience: float,
        say: Callable[[str], None],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._desk, self._requests, self._patience = desk, requests, patience
        self._spool = desk.spool
        self._say, self._on_progress = say, on_progress
        self.report = Report()
        self.due: deque[_Key] = deque()
        self._results: deque[task.Result] = deque()
        self._changes: dict[_Key, int] = {}
        self._graded_now: set[_Key] = set()
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._tried: Counter[str] = Counter()
        self._record_at = 0.0
        self._lacking_since: float | None = None
        self._said: set[str] = set()

    def record_what_waits(self) -> None:
        """Record what a run before this one has graded, if that is what would be graded now."""
        self._results.extend(self._spool.waiting())
        while self._results:
            with self._requests.after():
                result = self._results[0]
                if not self._patiently(lambda one=result: self._is_current(one)):
                    self._spool.done(result.lesson, result.student)
                    self._results.popleft()
                elif self._settle_first():
                    self._graded_now.add((result.lesson, result.student))
                else:
                    time.sleep(_pause(self._patience))

    def find(self, lessons: Sequence[str] | None) -> None:
        """Find out what is to be done."""
        for lesson, found in self._desk.choose(lessons).items():
            for one in found:
                key = (lesson, one.student)
                if key in self._graded_now:
                    continue
                if one.is_due:
                    self.due.append(key)
                else:
                    self.report.outcomes.append(Outcome(*key, "skipped"))
        for lesson in dict.fromkeys(lesson for lesson, _ in self.due):
            self._patiently(lambda lesson=lesson: self._desk.assignment(lesson))
        self.report.due = len(self.due) + len(self._graded_now)
        self._tell()

    def grade(self, workers: cluster.Cluster) -> None:
        """Have it done. While the gradebook is not to be had, workers go on."""
        out: set[_Key] = set()
        send_at, lacking_since = 0.0, None
        try:
            while self.due or out or self._results:
                with self._requests.after():
                    now = time.monotonic()
                    while self.due and workers.room > 0 and now >= send_at:
                        key = self._next()
                        if self._send(workers, key):
                            out.add(key)
                    can_record = bool(self._results) and now >= self._record_at
                    has_arrived = False
                    # One by one: what is not taken yet when Ctrl-C is pressed can still be kept.
                    for name, answer in workers.finished(0 if can_record else 0.5):
                        has_arrived = True
                        key = tuple(name.split("/", 1))
                        out.discard(key)
                        if not (isinstance(answer, task.Result) and answer.is_passing):
                            self._keep(_as_result(key, answer))
                            lacking_since = None
                            continue
                        self.due.append(key)
                        lacking_since = lacking_since or now
                        self._wait(f"{answer.error}, where {name} was graded", lacking_since)
                        send_at = now + _pause(self._patience)
                    if can_record and not has_arrived:
                        self._settle_first()
                    elif not out and not has_arrived:
                        time.sleep(0.1)
        except KeyboardInterrupt:
            with self._requests.after():
                for name, answer in workers.finished(0):
                    self._keep(_as_result(tuple(name.split("/", 1)), answer))
            raise

    def _next(self) -> _Key:
        """Choose what takes longest, as far as is known: what is short fills up the end.

        Of a lesson that nothing is known of, one is tried first.
        """

        def seconds(lesson: str) -> tuple[float, int]:
            taken, tried = self._seconds[lesson], self._tried[lesson]
            return sum(taken) / len(taken) if taken else math.inf, -tried

        lesson = max(dict.fromkeys(lesson for lesson, _ in self.due), key=seconds)
        key = next(one for one in self.due if one[0] == lesson)
        self.due.remove(key)
        self._tried[lesson] += 1
        return key

    def _send(self, workers: cluster.Cluster, key: _Key) -> bool:
        lesson, student = key
        folder = self._desk.folder(lesson, student)
        if not folder.is_dir():
            self._fail(task.Result(lesson, student, "", error="It is not there any more."))
            return False
        given = self._desk.assignment(lesson)
        workers.send("/".join(key), task.grade, given, student, given.pack(folder))
        return True

    def _keep(self, result: task.Result) -> None:
        """Put a result where it is safe."""
        if not result.error:
            self._patiently(lambda: self._put(result))
            self._seconds[result.lesson].append(result.seconds)
        self._results.append(result)

    def _put(self, result: task.Result) -> None:
        with self._requests.after(always=True):
            self._spool.put(result)
            self._spool.note("graded", result.lesson, result.student)

    def _settle_first(self) -> bool:
        """Record the first result, if the gradebook and the disk let that be done.

        Raises
        ------
        Unavailable
            If they have not for too long.
        """
        result = self._results[0]
        try:
            with _in_words():
                self._settle(result)
        except Unavailable as error:
            self._lacking_since = self._lacking_since or time.monotonic()
            self._wait(str(error), self._lacking_since)
            self._record_at = time.monotonic() + _pause(self._patience)
            return False
        self._results.popleft()
        self._lacking_since = None
        return True

    def _settle(self, result: task.Result) -> None:
        """Record a result, or grade what has changed meanwhile again."""
        key = (result.lesson, result.student)
        # An error, too, may be that of what was just being replaced; a lost worker's has no digest.
        if result.digest and not self._is_current(result):
            self._changes[key] = self._changes.get(key, 0) + 1
            self._spool.note("changed", *key)
            self._spool.done(*key)
            if self._changes[key] < _MOST_CHANGES:
                self.due.append(key)
            else:
                words = f"It changed {_MOST_CHANGES} times while it was graded."
                self._fail(task.Result(*key, "", error=words))
        elif result.error:
            self._fail(result)
        else:
            self._record(result)

    def _is_current(self, result: task.Result) -> bool:
        folder = self._desk.folder(result.lesson, result.student)
        if not folder.is_dir():
            return False
        try:
            given = self._desk.assignment(result.lesson)
        except CourseError:
            return False
        return task.digest_of(given, given.pack(folder)) == result.digest

    def _record(self, result: task.Result) -> None:
        desk, key = self._desk, (result.lesson, result.student)
        with task.logged() as log:
            try:
                recorded = record(
                    desk.directory, desk.config, result.student, result.lesson, result.files
                )
            except Exception as error:
                if isinstance(error, Unavailable) or unavailable(error):
                    raise
                words = f"It could not be recorded: {error or type(error).__name__}"
                text = result.log + log.getvalue()
                self._fail(task.Result(*key, "", log=text, error=words))
                if desk.again:  # else it may be recorded when that is mended
                    self._spool.done(*key)
                return
        # What the journal says is recorded is reported, too.
        with self._requests.after(always=True):
            place = self._spool.log(*key, result.log + log.getvalue())
            self._spool.note("recorded", *key, seconds=result.seconds)
            self._spool.done(*key)
            self._add(
                Outcome(
                    *key,
                    "graded",
                    result.seconds,
                    *_preflight(result.files),
                    recorded.score,
                    recorded.max_score,
                    recorded.needs_manual_grade,
                    log=self._shown(place),
                )
            )

    def _fail(self, result: task.Result) -> None:
        key = (result.lesson, result.student)
        with self._requests.after(always=True):
            place = self._spool.log(*key, f"{result.log}{result.error}\n")
            self._spool.note("failed", *key, error=result.error)
            self._add(
                Outcome(*key, "failed", result.seconds, error=result.error, log=self._shown(place))
            )

    def _shown(self, path: Path) -> str:
        return os.path.relpath(path, self._desk.checkout.root)

    def _add(self, outcome: Outcome) -> None:
        self.report.outcomes.append(outcome)
        self._tell()

    def _tell(self) -> None:
        done = sum(one.status != "skipped" for one in self.report.outcomes)
        self._on_progress(done, self.report.due)

    def _patiently(self, do: Callable[[], Any]) -> Any:
        """Do something again until the disk and the database let it be done.

        Raises
        ------
        Unavailable
            If that takes too long.
        """
        since = time.monotonic()
        while True:
            try:
                with self._requests.after(), _in_words():
                    return do()
            except Unavailable as error:
                self._wait(str(error), since)
                self._requests.heed()
                time.sleep(_pause(self._patience))

    def _wait(self, reason: str, since: float) -> None:
        """Say once what is waited for, and stop when that takes too long."""
        if time.monotonic() - since > self._patience:
            raise Unavailable(f"{reason}. Waited {self._patience:g} s.")
        if reason not in self._said:
            self._said.add(reason)
            self._say(f"{reason}. Trying again for {self._patience:g} s.")


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Say of errors that may pass what is not to be had."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        if reason := unavailable(error):
            raise Unavailable(reason) from error
        raise


def _pause(patience: float) -> float:
    """Return after how many seconds to try something again."""
    return min(2.0, patience / 4)


def _as_result(key: _Key, answer: Any) -> task.Result:
    """Return a worker's answer, or what became of it, as a result."""
    if isinstance(answer, task.Result):
        return answer
    if isinstance(answer, KilledWorker):
        words = (
            f"Each of {cluster.MOST_ENDS} workers that graded it ended: it may need more memory "
            "than there is."
        )
    else:
        words = f"The worker that graded it could not: {answer or type(answer).__name__}"
    return task.Result(*key, "", error=words)


def _preflight(files: dict[str, bytes]) -> tuple[list[str], list[str]]:
    """Return the repairs and refusals that are told in autograded notebooks."""
    repairs: list[str] = []
    refusals: list[str] = []
    for name, content in files.items():
        if name.endswith(".ipynb"):
            told = nbformat.reads(content.decode(), as_version=4).metadata.get("firstcnn", {})
            repairs += told.get("repairs", [])
            refusals += told.get("refusals", {}).values()
    return repairs, refusals
