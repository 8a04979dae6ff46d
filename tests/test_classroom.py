"""A class graded in parallel: as nbgrader grades it, each submission once, whatever is killed."""

import contextlib
import errno
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, LocalCluster, get_worker
from nbgrader.api import Gradebook
from nbgrader_course import NbgraderCourse
from notebooks import cell, lesson, write_course
from rich.console import Console

from firstcnn.course import Course, CourseError
from firstcnn.grading import classroom, cluster, preflight, recording, spool, summary, task
from firstcnn.grading.classroom import Outcome, Report, grade_class
from firstcnn.grading.nursery import SOCKET_VARIABLE, Nursery, NurseryError
from firstcnn.grading.parcel import pack

RIGHT = ["a_value = 5", "b_value = 6", "c_value = 7", "d_value = 8"]
ANSWERS = {
    "right": [*RIGHT, "Because it is so.", "An essay."],
    "partly": ["a_value = 5", "b_value = 5", "c_value = 7", "d_value ="],
    "wrong": ["a_value = 6", "b_value = 5", "c_value = 6", "d_value = 9"],
    "blank": [],
    "crash": ["a_value = 5", "b_value = 6", "import os\nos._exit(1)", "d_value = 8"],
}
CONFIG = """
import os
def count(assignment, student, notebooks):
    path, = notebooks
    with open({starts!r}, "a") as file:
        file.write(path.split(os.sep)[-3] + "\\n")
    {more}
c.Autograde.pre_convert_hook = count
"""


class Class(NbgraderCourse):
    """A course with a small lesson, and a class that has handed it in."""

    def __init__(self, folder: Path, config: str = "") -> None:
        super().__init__(folder, [])
        by_hand = cell("answer", "why", "Why?")
        by_hand.metadata.nbgrader |= {"grade": True, "points": 3}
        essay = cell("md", "essay", "Your essay.")
        essay.metadata["nbgrader"] = {**by_hand.metadata.nbgrader, "grade_id": "essay"}
        made = lesson(by_hand, essay)
        write_course(self.root, small=made)
        with open(self.root / "nbgrader_config.py", "a") as file:
            file.write(config)
        (self.root / "source" / "small" / "beside.txt").write_text("from the source")
        self.nbgrader("generate_assignment", "small")

    @classmethod
    def copy(cls, origin: "Class", folder: Path) -> "Class":
        """Return a class in the same state, in another place."""
        made = cls.__new__(cls)
        made.root, made.exchange = folder / "instructor", folder / "exchange"
        made.exchange.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(origin.root), str(made.root)], check=True)
        return made

    @property
    def checkout(self) -> Course:
        return Course(self.root)

    def hand_in(self, student: str, sources: list[str]) -> Path:
        return self.answer(student, "small", sources)

    def hook(self, more: str = "pass") -> Path:
        """Have the configuration count what is begun, and do more; return the file."""
        starts = self.root / "starts"
        with open(self.root / "nbgrader_config.py", "a") as file:
            file.write(CONFIG.format(starts=str(starts), more=textwrap.indent(more, "    ")[4:]))
        return starts

    @property
    def database(self) -> Path:
        return self.root / "gradebook.db"

    @property
    def rows(self) -> dict[str, dict]:
        return rows(f"sqlite:///{self.database}")

    @property
    def journal(self) -> list[dict]:
        path = self.root / "grading" / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def noted(self, what: str) -> list[str]:
        return sorted(line["student"] for line in self.journal if line["what"] == what)

    def firstcnn(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", "from firstcnn.cli import main; main()", "grade", *arguments],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def rows(url: str) -> dict[str, dict]:
    """Return all that a gradebook says of each student's work."""
    with Gradebook(url, "first-cnn") as gradebook:
        return {
            submission.student.id: {
                "score": submission.score,
                "needs_manual_grade": submission.needs_manual_grade,
                "timestamp": submission.timestamp,
                "penalties": [one.late_submission_penalty for one in submission.notebooks],
                "grades": sorted(
                    (one.name, one.auto_score, one.manual_score, one.needs_manual_grade)
                    for notebook in submission.notebooks
                    for one in notebook.grades
                ),
                "comments": sorted(
                    (one.name, one.auto_comment or "", one.manual_comment or "")
                    for notebook in submission.notebooks
                    for one in notebook.comments
                ),
            }
            for submission in gradebook.assignment_submissions("small")
        }


def tree(folder: Path) -> dict[str, tuple]:
    """Return what is in a folder, whatever it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        if path.is_symlink():
            content = os.readlink(path).encode()
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, digest)
    return found


def autograded(folder: Path) -> dict[str, tuple]:
    """Return the autograded files, without what differs from one time to the next."""
    found = {}
    for path in sorted((folder / "autograded").rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".ipynb":
            notebook = json.loads(content)
            for name in ("seconds", "memory"):
                notebook["metadata"].get("firstcnn", {}).pop(name, None)
            content = json.dumps(notebook)
        found[str(path.relative_to(folder))] = (oct(path.stat().st_mode), content)
    return found


pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return Class(tmp_path_factory.mktemp("class"))


@pytest.fixture
def school(empty, tmp_path):
    """Return a class that has handed in nothing yet."""
    return Class.copy(empty, tmp_path / "class")


@pytest.fixture
def six(school):
    """Return a class of six who are right in part, each in another."""
    for number in range(6):
        school.hand_in(f"s{number}", RIGHT[: number % 5])
    return school


SIX = [f"s{number}" for number in range(6)]
SIX_POINTS = [0, 1, 3, 6, 10, 0]


def scores(school: Class) -> list[float]:
    """Return the points of all, in the order of names."""
    return [one["score"] for _, one in sorted(school.rows.items())]


def wait_until(true, seconds=600):
    """Wait for something that must come; only what is broken takes so long."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def dask_workers(process: psutil.Process | None = None) -> list[psutil.Process]:
    """Return the worker processes of a process, which are forked from one server."""
    found = []
    for child in (process or psutil.Process()).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "multiprocessing.forkserver" in str(child.cmdline()):
                found += filter(is_worker, child.children())
    return found


def is_worker(process: psutil.Process) -> bool:
    """Tell workers from those that were killed, which are there until the server hears of it."""
    try:
        return "forkserver" in str(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def is_over(process: psutil.Process) -> bool:
    """Tell whether a process has ended, even if nobody has asked yet how."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# ---- as nbgrader does ----------------------------------------------------------------------------


def test_grades_files_and_rows_are_nbgraders(school, tmp_path):
    """Right, partly right, wrong, blank, crashing, late, broken, missing, with files beside."""
    with open(school.root / "nbgrader_config.py", "a") as file:
        file.write("\nc.LateSubmissionPlugin.penalty_method = 'zero'\n")
    for student, sources in ANSWERS.items():
        school.hand_in(student, sources)
    late = school.hand_in("late", RIGHT)
    (late / "timestamp.txt").write_text("2026-03-02 10:00:00 UTC")
    (late / "submission_secret.txt").write_text("feedback goes here")
    early = school.hand_in("early", RIGHT)
    (early / "timestamp.txt").write_text("2026-02-02 10:00:00 UTC")
    (early / "beside.txt").write_text("of the student")
    (early / "more.doc").write_text("of the student")
    (school.hand_in("broken", []) / "small.ipynb").write_text("no notebook")
    (school.hand_in("missing", []) / "small.ipynb").unlink()
    odd = school.hand_in("odd [1]* name", RIGHT)
    (odd / "keras.py").write_text("raise SystemExit")
    (odd / "link.txt").symlink_to("/etc/passwd")
    os.mkfifo(odd / "pipe")
    with Gradebook(f"sqlite:///{school.database}", "first-cnn") as gradebook:
        gradebook.update_or_create_assignment("small", duedate="2026-03-01 10:00:00 UTC")
    stock = Class.copy(school, tmp_path / "stock")
    before = tree(school.root / "submitted")

    stock.nbgrader("autograde", "small")
    report = grade_class(school.checkout, ["small"], workers=3)

    assert report.status == 0
    assert school.rows == stock.rows
    assert autograded(school.root) == autograded(stock.root)
    assert tree(school.root / "submitted") == before
    earned = {student: row["score"] for student, row in school.rows.items()}
    assert (earned["right"], earned["partly"], earned["late"], earned["missing"]) == (10, 4, 10, 0)
    assert school.rows["late"]["penalties"] == [10]
    told = {one.student: one for one in report.outcomes}
    assert {student: one.score for student, one in told.items()} == {**earned, "late": 0}
    assert told["right"].needs_manual_grade
    assert [student for student, one in told.items() if one.refusals] == ["broken", "missing"]
    assert [student for student, one in told.items() if one.repairs] == ["early", "odd [1]* name"]

    # Graded once more, after somebody has graded by hand.
    for one in (school, stock):
        with Gradebook(f"sqlite:///{one.database}", "first-cnn") as gradebook:
            grade = gradebook.find_grade("why", "small", "small", "right")
            grade.manual_score, grade.needs_manual_grade = 2, False
            comment = gradebook.find_comment("why", "small", "small", "right")
            comment.manual_comment = "Say more."
            gradebook.db.commit()
    stock.nbgrader("autograde", "small", "--force", "--student=right")
    assert grade_class(school.checkout, students=["right"], again=True).status == 0
    assert school.rows == stock.rows
    assert school.rows["right"]["score"] == 12
    assert autograded(school.root) == autograded(stock.root)


def test_what_is_graded_is_skipped_until_it_is_newer(six):
    six.hand_in("s0", RIGHT)
    assert grade_class(six.checkout).status == 0
    report = grade_class(six.checkout)
    assert {one.status for one in report.outcomes} == {"skipped"}
    assert (report.due, report.status) == (0, 0)
    for student in ("s1", "s2"):
        folder = six.hand_in(student, RIGHT)
        (folder / "timestamp.txt").write_text("2026-03-02 10:00:00 UTC")
    graded = six.root / "autograded" / "s1" / "small"
    graded.chmod(0o755)
    (graded / "timestamp.txt").write_text("2026-03-01 10:00:00 UTC")
    report = grade_class(six.checkout, ["small"])
    assert [one.student for one in report.outcomes if one.status == "graded"] == ["s1"]
    assert scores(six) == [10, 10, 3, 6, 10, 0]
    report = grade_class(six.checkout, students=["s2", "s5"], again=True)
    assert [(one.student, one.status) for one in report.outcomes] == [
        ("s2", "graded"),
        ("s5", "graded"),
    ]
    assert scores(six) == [10, 10, 10, 6, 10, 0]


def test_folders_are_shared_where_instructors_share_them(six):
    with open(six.root / "nbgrader_config.py", "a") as file:
        file.write("\nc.CourseDirectory.groupshared = True\n")
    grade_class(six.checkout, students=["s1"])
    folder = six.root / "autograded" / "s1" / "small"
    assert folder.stat().st_mode & 0o7777 == 0o2775
    assert (folder / "small.ipynb").stat().st_mode & 0o777 == 0o664
    assert (six.root / "autograded").stat().st_mode & 0o2070 == 0o2070


# ---- who and what there is -----------------------------------------------------------------------


def test_what_is_not_there_is_named(six):
    with pytest.raises(CourseError, match=r"no lesson 'smal' .* Lessons: small\."):
        grade_class(six.checkout, ["smal"])
    with pytest.raises(CourseError, match=r"by s9, t for small\. Students: s0, s1, .*s5\."):
        grade_class(six.checkout, ["small"], students=["s1", "s9", "t"])
    six.database.unlink()
    with pytest.raises(CourseError, match="run `nbgrader generate_assignment small --force` first"):
        grade_class(six.checkout)
    shutil.rmtree(six.root / "submitted")
    with pytest.raises(CourseError, match=r"Nobody has handed in small: .*submitted/STUDENT/small"):
        grade_class(six.checkout, ["small"])
    report = grade_class(six.checkout)
    assert (report.outcomes, report.status) == ([], 0)
    with open(six.root / "nbgrader_config.py", "a") as file:
        file.write("\nthis is no Python\n")
    with pytest.raises(CourseError, match=r"nbgrader_config\.py cannot be read"):
        grade_class(six.checkout)


def test_two_at_once_are_refused(six):
    refused = pytest.raises(CourseError, match="Another `firstcnn grade` runs in this course")
    with spool.Spool(six.root / "grading").lock(), refused:
        grade_class(six.checkout)
    assert not (six.root / "autograded").exists()


def test_no_scheduler_is_said(six):
    report = grade_class(six.checkout, scheduler="tcp://127.0.0.1:9", patience=1)
    assert report.stopped.startswith("No scheduler answers at tcp://127.0.0.1:9 ")
    assert (report.outcomes, report.status) == ([], 1)


# ---- exactly once --------------------------------------------------------------------------------


def test_workers_killed_at_random_lose_nothing(school):
    """Eight workers; one of them is killed each time that something was recorded."""
    students = [f"s{number:02}" for number in range(12)]
    for number, student in enumerate(students):
        school.hand_in(student, RIGHT[: number % 5])
    chance, killed = random.Random(0), []

    def kill(done, of):
        if done and len(killed) < 8:
            victim = chance.choice(dask_workers())
            victim.kill()
            killed.append(victim.pid)

    report = grade_class(school.checkout, workers=8, on_progress=kill)
    assert len(killed) == 8
    assert report.status == 0
    assert school.noted("graded") == school.noted("recorded") == students
    assert scores(school) == [[0, 1, 3, 6, 10][number % 5] for number in range(12)]


def test_who_kills_each_worker_stops_nobody_else(six, monkeypatch):
    most = 4
    monkeypatch.setattr(cluster, "MOST_ENDS", most)
    starts = six.hook("if '/s3/' in path: os.kill(os.getpid(), 9)")
    report = grade_class(six.checkout, workers=2)
    assert report.status == 1
    (failed,) = [one for one in report.outcomes if one.status == "failed"]
    assert failed.student == "s3"
    assert failed.error.startswith(f"Each of {most} workers that graded it ended")
    assert failed.error in (six.root / failed.log).read_text()
    assert sorted(starts.read_text().split()) == sorted([*SIX, *["s3"] * (most - 1)])
    assert six.noted("recorded") == [student for student in SIX if student != "s3"]
    assert not (six.root / "autograded" / "s3").exists()
    assert grade_class(six.checkout, workers=2).due == 1  # and it is still to be graded


def test_an_error_is_that_submissions_own(six):
    six.hook("pass")
    with open(six.root / "nbgrader_config.py", "a") as file:
        file.write(
            "\nfrom firstcnn.grading.execute import GradeApart\n"
            "class Failing(GradeApart):\n"
            "    def preprocess(self, nb, resources):\n"
            "        if resources['nbgrader']['student'] == 's3': raise KeyError('a fault')\n"
            "        return super().preprocess(nb, resources)\n"
            "steps = c.Autograde.autograde_preprocessors\n"
            "steps[0] = Failing\n"
        )
    report = grade_class(six.checkout)
    (failed,) = [one for one in report.outcomes if one.status == "failed"]
    assert (failed.student, failed.error, report.status) == ("s3", "'a fault'", 1)
    assert "Traceback" in (six.root / failed.log).read_text()
    assert len(six.noted("recorded")) == 5


def killed_while_it_waits(school: Class, process: subprocess.Popen) -> list[str]:
    """Hold the gradebook, wait until something is graded, and kill; return what is waiting."""
    wait_until(lambda: (school.root / "grading" / "lock").exists() or process.poll())
    waiting = school.root / "grading" / "small"
    wait_until(lambda: len(list(waiting.glob("*/result.zip"))) >= 3 or process.poll())
    workers = dask_workers(psutil.Process(process.pid))
    assert workers
    process.kill()
    process.wait()
    wait_until(lambda: all(map(is_over, workers)))  # they end by themselves
    return sorted(path.parent.name for path in waiting.glob("*/result.zip"))


def test_killed_in_the_middle_nothing_is_graded_twice(six):
    starts = six.hook()
    with contextlib.closing(sqlite3.connect(six.database, isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        process = six.firstcnn("--workers", "3")
        waiting = killed_while_it_waits(six, process)
        held.execute("ROLLBACK")
    assert len(waiting) >= 3
    assert not list((six.root / "autograded").glob("*/small"))
    report = grade_class(six.checkout)
    assert report.status == 0
    assert report.due == 6
    begun = starts.read_text().split()
    assert [begun.count(student) for student in waiting] == [1] * len(waiting)
    assert six.noted("recorded") == SIX
    assert scores(six) == SIX_POINTS
    assert not list((six.root / "grading").glob("*/*/result.zip"))


def test_ctrl_c_keeps_what_is_done(six):
    starts = six.hook("import time; time.sleep(600 if '/s5/' in path else 0)")
    process = six.firstcnn("--workers", "2", "--json")
    wait_until(lambda: len(six.noted("recorded")) >= 3 or process.poll())
    workers = dask_workers(psutil.Process(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    wait_until(lambda: all(map(is_over, workers)))
    assert "Traceback" not in err
    told = json.loads(out)
    assert told["stopped"] == "Interrupted."
    recorded = six.noted("recorded")
    assert sorted(one["student"] for one in told["submissions"]) == recorded
    config = six.root / "nbgrader_config.py"
    config.write_text(config.read_text().replace("time.sleep(600", "time.sleep(0"))
    assert grade_class(six.checkout).status == 0
    assert six.noted("graded") == six.noted("recorded") == SIX
    begun = starts.read_text().split()
    assert [begun.count(student) for student in recorded] == [1] * len(recorded)
    assert scores(six) == SIX_POINTS


@pytest.mark.parametrize("step", ["put", "note", "done"])
def test_ctrl_c_at_any_step_of_the_books(six, monkeypatch, step):
    """What the journal says was recorded is reported, and what was graded is recorded."""
    starts = six.hook()
    plain, calls = getattr(spool.Spool, step), []

    def interrupted(self, *arguments, **more):
        plain(self, *arguments, **more)
        if arguments[0] != "graded":
            calls.append(arguments)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(spool.Spool, step, interrupted)
    report = grade_class(six.checkout, workers=2)
    assert (report.status, report.stopped) == (130, "Interrupted.")
    reported = [one.student for one in report.outcomes if one.status == "graded"]
    recorded = six.noted("recorded")
    assert reported == recorded
    waiting = {path.parent.name for path in (six.root / "grading").glob("*/*/result.zip")}
    assert sorted({*recorded, *waiting}) == six.noted("graded")
    assert six.noted("graded")
    assert grade_class(six.checkout, workers=2).status == 0
    assert six.noted("graded") == six.noted("recorded") == SIX
    begun = starts.read_text().split()
    assert {begun.count(student) for student in (*recorded, *waiting)} == {1}


def test_ctrl_c_while_something_is_recorded_waits_for_that(six, monkeypatch):
    """But who presses it twice need not wait: a database may not answer for long."""
    plain, times = recording.SaveAutoGrades._add_score, [1]

    def interrupted(self, *arguments):
        for _ in range(times.pop() if times else 0):
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *arguments)

    monkeypatch.setattr(recording.SaveAutoGrades, "_add_score", interrupted)
    report = grade_class(six.checkout, students=["s1"], workers=1)
    assert (report.status, [one.status for one in report.outcomes]) == (130, ["graded"])
    assert scores(six) == [1]
    times.append(2)
    report = grade_class(six.checkout, students=["s2"], workers=1)
    assert (report.status, report.outcomes) == (130, [])
    assert (six.noted("graded"), six.noted("recorded")) == (["s1", "s2"], ["s1"])
    assert grade_class(six.checkout, students=["s2"], workers=1).status == 0
    assert six.noted("graded") == six.noted("recorded") == ["s1", "s2"]


def test_ctrl_c_is_heard_while_workers_are_started(six, monkeypatch):
    """And stops what was started: two seconds are long for who has seen that something is wrong."""
    plain, made = cluster.LocalCluster, []

    def interrupted(*arguments, **options):
        made.append(plain(*arguments, **options))
        os.kill(os.getpid(), signal.SIGINT)
        return made[0]

    monkeypatch.setattr(cluster, "LocalCluster", interrupted)
    report = grade_class(six.checkout, workers=1)
    assert (report.status, report.stopped) == (130, "Interrupted.")
    assert report.outcomes == []
    assert made[0].status.name == "closed"
    wait_until(lambda: not dask_workers())


def test_ctrl_c_in_a_terminal_does_not_reach_the_nursery(monkeypatch):
    """Which is ended in good order, with the kernels that it has forked."""
    asked = []

    def none(**options):
        asked.append((options, signal.getsignal(signal.SIGINT)))
        raise NurseryError("not in this test")

    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    monkeypatch.setattr(cluster, "Nursery", none)
    before = signal.getsignal(signal.SIGINT)
    with cluster.local(1):
        assert asked == [({"process_group": 0, "wait": False}, before)]


def test_dask_leaves_the_cores_to_kernels():
    """By default it looks at each worker's stack a hundred times a second."""

    def often():
        callbacks = get_worker().periodic_callbacks
        return {name for name, one in callbacks.items() if one.callback_time < 500}

    answers = []
    with cluster.local(1) as workers:
        workers.send("task", often)
        wait_until(lambda: answers.extend(workers.finished(0.2)) or answers)
    assert answers == [("task", set())]


def test_without_a_nursery_kernels_are_started_cold(six, monkeypatch):
    class Ending(Nursery):
        def wait_until_ready(self):
            self._process.kill()
            super().wait_until_ready()

    monkeypatch.delenv(SOCKET_VARIABLE, raising=False)
    monkeypatch.setattr(cluster, "Nursery", Ending)
    report = grade_class(six.checkout, students=["s1"], workers=1)
    assert (report.status, scores(six)) == (0, [1])
    (one,) = report.outcomes
    assert "starting a cold one" in (six.root / one.log).read_text()


def test_ctrl_c_is_heard_while_something_is_thrown_away(six, monkeypatch):
    """What is raised in a finalizer is dropped by Python."""
    plain, main, asked = cluster.Future.__del__, threading.current_thread(), []

    def interrupted(self):
        if threading.current_thread() is main and not asked:
            asked.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        plain(self)

    monkeypatch.setattr(cluster.Future, "__del__", interrupted)
    report = grade_class(six.checkout, workers=1)
    assert asked
    assert (report.status, report.stopped) == (130, "Interrupted.")
    assert len(report.outcomes) < 6


def test_a_request_to_end_where_something_failed(six, monkeypatch):
    plain = spool.Spool.note

    def stopped(self, what, *arguments, **more):
        plain(self, what, *arguments, **more)
        if what == "failed":
            os.kill(os.getpid(), signal.SIGTERM)

    def failing(*arguments):
        raise KeyError("a fault")

    monkeypatch.setattr(spool.Spool, "note", stopped)
    monkeypatch.setattr(classroom, "record", failing)
    report = grade_class(six.checkout, students=["s0", "s1"], workers=2)
    assert report.status == 130
    (failed,) = report.outcomes
    assert failed.status == "failed"
    assert failed.log == f"grading/small/{failed.student}/autograde.log"


def test_what_takes_longest_is_begun_first():
    """So that no core is idle at the end for long."""
    nowhere = SimpleNamespace(put=lambda *it: None, note=lambda *it: None)
    run = classroom._Run(SimpleNamespace(spool=nowhere), classroom._Requests(), 1, print, print)
    run.due.extend((lesson, student) for lesson in "abc" for student in "12345")
    assert [run._next() for _ in range(4)] == [("a", "1"), ("b", "1"), ("c", "1"), ("a", "2")]
    for name, seconds in (("a", 2.0), ("b", 3.0), ("b", 5.0), ("c", 9.0), ("c", 1.0)):
        error = "It has no kernel." if seconds == 9 else ""
        run._keep(task.Result(name, "1", "", seconds=seconds, error=error))
    assert [run._next()[0] for _ in range(11)] == [*"bbbb", *"aaa", *"cccc"]
    assert not run.due


def test_what_changes_while_it_is_graded_is_graded_again(six):
    new = six.hand_in("new", RIGHT)
    target = six.root / "submitted" / "s0" / "small" / "small.ipynb"
    source = new / "small.ipynb"
    starts = six.hook(
        f"import shutil\nif '/s0/' in path: shutil.copy({str(source)!r}, {str(target)!r})"
    )
    report = grade_class(six.checkout, students=["s0"])
    assert report.status == 0
    assert scores(six) == [10]
    assert six.noted("changed") == ["s0"]
    assert starts.read_text().split() == ["s0", "s0"]


def test_what_cannot_be_graded_while_it_is_replaced_is_graded_again(six):
    target = six.root / "submitted" / "s4" / "small" / "beside.txt"
    with open(six.root / "nbgrader_config.py", "a") as file:
        file.write(
            "\nfrom firstcnn.grading.execute import GradeApart\n"
            "class Failing(GradeApart):\n"
            "    def preprocess(self, nb, resources):\n"
            f"        if not os.path.exists({str(target)!r}):\n"
            f"            open({str(target)!r}, 'w').close()\n"
            "            raise KeyError('half of it')\n"
            "        return super().preprocess(nb, resources)\n"
            "steps = c.Autograde.autograde_preprocessors\n"
            "steps[0] = Failing\n"
        )
    report = grade_class(six.checkout, students=["s4"])
    assert (report.status, [one.status for one in report.outcomes]) == (0, ["graded"])
    assert (six.noted("changed"), scores(six)) == (["s4"], [10])


def test_what_changes_all_the_time_fails(six):
    target = six.root / "submitted" / "s0" / "small" / "small.ipynb"
    six.hook(f"if '/s0/' in path: open({str(target)!r}, 'a').write(' ')")
    report = grade_class(six.checkout, students=["s0", "s4"])
    assert [(one.student, one.status) for one in report.outcomes] == [
        ("s0", "failed"),
        ("s4", "graded"),
    ]
    assert report.outcomes[0].error == "It changed 5 times while it was graded."


def test_a_result_of_something_else_is_not_recorded(six, monkeypatch):
    """What waits since before a submission or the lesson changed is graded anew."""

    def impossible(*arguments):
        if six.noted("graded") == ["s1", "s2"]:
            os.kill(os.getpid(), signal.SIGTERM)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(classroom, "record", impossible)
        report = grade_class(six.checkout, students=["s1", "s2"], workers=2)
    assert (report.status, report.outcomes) == (130, [])
    assert six.noted("graded") == ["s1", "s2"]
    six.hand_in("s1", RIGHT)
    report = grade_class(six.checkout, students=["s1", "s2"])
    assert six.noted("graded") == ["s1", "s1", "s2"]
    assert scores(six) == [10, 3]


def test_what_cannot_be_recorded_is_kept_until_it_can(six, monkeypatch):
    starts = six.hook()
    with monkeypatch.context() as patch:
        patch.setattr(recording.SaveAutoGrades, "preprocess", lambda *arguments: 1 / 0)
        report = grade_class(six.checkout, students=["s1"])
        assert report.outcomes[0].error == "It could not be recorded: division by zero"
        assert not (six.root / "autograded" / "s1" / "small").exists()
    assert grade_class(six.checkout, students=["s1"]).status == 0
    assert starts.read_text().split() == ["s1"]
    assert scores(six) == [1]


def unavailable_for(do, times):
    """Return a function that at first fails as if there were no space on the disk."""
    left = [times]

    def sometimes(*arguments, **more):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")
        return do(*arguments, **more)

    return sometimes


# ---- what is not to be had -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["put", "note", "log"])
def test_a_full_disk_is_waited_for(six, monkeypatch, place):
    said = []
    whole = getattr(spool.Spool, place)
    monkeypatch.setattr(spool.Spool, place, unavailable_for(whole, 2))
    report = grade_class(six.checkout, students=["s1", "s4"], say=said.append)
    assert report.status == 0
    assert scores(six) == [1, 10]
    assert said == [
        "There is no space left on the disk (/somewhere). Trying again for 600 s.",
    ]
    assert set(six.noted("recorded")) == {"s1", "s4"}


def test_a_disk_that_stays_full_stops_the_run(six):
    """A small disk of its own, where that may be made."""
    place = six.root / "grading"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], capture_output=True
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        (place / "filling").write_bytes(b"1" * 8192)
        said = []
        report = grade_class(six.checkout, ["small"], patience=1, say=said.append)
        assert report.status == 1
        assert report.stopped.startswith("There is no space left on the disk")
        assert len(said) == 1
        assert not list(place.glob("*/*/.result.zip"))
        (place / "filling").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(place)], check=True)
        assert grade_class(six.checkout, ["small"]).status == 0
        assert scores(six) == SIX_POINTS
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_workers_without_space_are_waited_for(six, monkeypatch):
    """The disk of the worker that grades is full for the first who come."""
    marks = six.root / "marks"
    marks.mkdir()
    starts = six.hook("")
    with open(six.root / "nbgrader_config.py", "a") as file:
        file.write(
            "\nfrom firstcnn.grading.execute import GradeApart\n"
            "class Full(GradeApart):\n"
            "    def preprocess(self, nb, resources):\n"
            f"        if len(os.listdir({str(marks)!r})) < 2:\n"
            f"            open(os.path.join({str(marks)!r}, str(os.urandom(4).hex())), 'w')\n"
            "            raise OSError(28, 'No space left on device')\n"
            "        return super().preprocess(nb, resources)\n"
            "steps = c.Autograde.autograde_preprocessors\n"
            "steps[0] = Full\n"
        )
    said = []
    report = grade_class(six.checkout, workers=1, say=said.append)
    assert report.status == 0
    assert scores(six) == SIX_POINTS
    assert len(starts.read_text().split()) == 8
    assert said[0].startswith("There is no space left on the disk, where small/s0 was graded.")


def test_a_gradebook_that_is_locked_is_waited_for(six):
    """Everything is graded while somebody else has it; it is recorded when it is free."""
    held = sqlite3.connect(six.database, isolation_level=None, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    said = []

    def release():
        wait_until(lambda: six.noted("graded") == SIX and said)
        held.execute("ROLLBACK")

    other = threading.Thread(target=release)
    other.start()
    report = grade_class(six.checkout, workers=2, say=said.append)
    other.join()
    held.close()
    assert report.status == 0
    assert said == ["The gradebook is not to be had: database is locked. Trying again for 600 s."]
    assert six.noted("graded") == six.noted("recorded") == SIX
    assert scores(six) == SIX_POINTS


def test_a_gradebook_that_stays_locked_keeps_results_waiting(six):
    starts = six.hook()
    with contextlib.closing(sqlite3.connect(six.database, isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        report = grade_class(six.checkout, students=["s1", "s2"], workers=2, patience=1)
        assert report.status == 1
        assert "database is locked. Waited 1 s." in report.stopped
        held.execute("ROLLBACK")
    assert not list((six.root / "autograded").glob("*/small"))
    waiting = [path.parent.name for path in (six.root / "grading").glob("*/*/result.zip")]
    assert waiting
    report = grade_class(six.checkout, students=["s1", "s2"])
    assert report.status == 0
    assert scores(six) == [1, 3]
    begun = starts.read_text().split()
    assert [begun.count(student) for student in waiting] == [1] * len(waiting)


# ---- the one writer ------------------------------------------------------------------------------


@pytest.fixture
def result(six):
    """Return a class, and one of its submissions graded in this process."""
    with contextlib.chdir(six.root):
        desk = classroom._Desk(six.checkout, (), False)
        given = desk.assignment("small")
        made = task.grade(given, "s4", given.pack(six.root / "submitted" / "s4" / "small"))
    assert made.error == ""
    return six, desk, made


def test_a_task_touches_nothing_outside(result):
    six, _, made = result
    assert sorted(made.files) == ["beside.txt", "small.ipynb"]
    assert made.files["beside.txt"] == b"from the source"
    assert "INFO Autograding" in made.log
    assert made.seconds > 0
    assert six.rows == {}
    assert not (six.root / "autograded").exists()


def test_recorded_twice_is_recorded_once(result):
    six, desk, made = result
    first = recording.record(desk.directory, desk.config, "s4", "small", made.files)
    assert (first.score, first.max_score, first.needs_manual_grade) == (10, 16, False)
    before, files = six.rows, autograded(six.root)
    assert recording.record(desk.directory, desk.config, "s4", "small", made.files) == first
    assert six.rows == before
    assert autograded(six.root) == files


@pytest.mark.parametrize("step", ["init_assignment", "set_permissions", "rename"])
def test_recording_that_stops_anywhere_is_done_again(result, monkeypatch, step):
    six, desk, made = result
    whole = recording.record(desk.directory, desk.config, "s4", "small", made.files)
    rows, files = six.rows, autograded(six.root)
    owner = Path if step == "rename" else recording.Autograde
    monkeypatch.setattr(owner, step, unavailable_for(getattr(owner, step), 1))
    with pytest.raises(recording.Unavailable, match="no space left"):
        recording.record(desk.directory, desk.config, "s4", "small", made.files)
    assert autograded(six.root).keys() >= files.keys()  # the old folder is still there
    again = recording.record(desk.directory, desk.config, "s4", "small", made.files)
    assert again == whole
    assert six.rows == rows
    assert autograded(six.root) == files


def test_scores_are_there_before_the_folder(result, monkeypatch):
    six, desk, made = result
    seen = []
    rename = Path.rename

    def watched(path, target):
        if path.name == ".small.incoming":
            seen.append((scores(six), (six.root / "autograded" / "s4" / "small").exists()))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    recording.record(desk.directory, desk.config, "s4", "small", made.files)
    assert seen == [([10], False)]


def test_a_result_that_is_not_whole_is_dropped(result, monkeypatch):
    six, _, made = result
    place = spool.Spool(six.root / "grading")
    place.put(made)
    assert place.waiting() == [made]
    path = six.root / "grading" / "small" / "s4" / "result.zip"
    path.write_bytes(path.read_bytes()[:-30])
    assert place.waiting() == []
    assert not path.exists()


def test_errors_that_do_not_pass_are_told_apart():
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        from sqlalchemy import create_engine, exc, text

        engine = create_engine("sqlite://", creator=lambda: database)
        with pytest.raises(exc.OperationalError) as caught, engine.connect() as connection:
            connection.execute(text("SELECT * FROM nothing"))
    assert recording.unavailable(caught.value) is None
    assert recording.unavailable(OSError(errno.EACCES, "no")) is None
    assert recording.unavailable(OSError(errno.EDQUOT, "full")).startswith("There is no space left")
    hidden = ValueError("of nbgrader")
    hidden.__context__ = OSError(errno.ENOSPC, "full")
    assert recording.unavailable(hidden).startswith("There is no space left")


# ---- what is sent --------------------------------------------------------------------------------


def test_a_folder_arrives_as_preflight_would_find_it(six, tmp_path):
    """Links, pipes, files that are too large, folders, litter: preflight says the same."""
    release = preflight.Release(six.root / "course" / "small")
    folder = six.hand_in("s4", RIGHT)
    (folder / "more").mkdir()
    (folder / "more" / "deep.ipynb").write_text("{}")
    (folder / "nothing").mkdir()
    (folder / "link.ipynb").symlink_to(folder / "small.ipynb")
    (folder / "link.txt").symlink_to("/etc/passwd")
    (folder / "keras.py").write_text("raise SystemExit")
    os.mkfifo(folder / "pipe")
    (folder / "timestamp.txt").write_text("2026-03-02 10:00:00 UTC")
    (folder / "submission_secret.txt").symlink_to("/etc/passwd")
    with open(folder / "beside.txt", "wb") as file:
        file.truncate(17 * 2**20)
    with open(folder / "huge.ipynb", "wb") as file:
        file.truncate(65 * 2**20)
    parcel = pack(folder, beside=preflight.NBGRADERS)
    assert parcel.holes == {"huge.ipynb": 65 * 2**20}
    parcel.unpack(tmp_path / "there")
    here = preflight.write(folder, release, tmp_path / "one")
    there = preflight.write(tmp_path / "there", release, tmp_path / "two")
    assert here == there
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert "timestamp.txt" in files
    assert "submission_secret.txt" not in files
    assert any("`beside.txt` was left out. It is larger than 16 MB." in one.repairs[-1]
               for one in there.values())  # fmt: skip


def test_only_what_can_be_graded_is_sent(six):
    with contextlib.chdir(six.root):
        given = classroom._Desk(six.checkout, (), False).assignment("small")
    folder = six.hand_in("s4", RIGHT)
    (folder / "beside.txt").write_text("of the release")
    (folder / "data.bin").write_bytes(b"1" * 1000)
    before = given.pack(folder)
    assert sorted(before.files) == ["beside.txt", "small.ipynb"]
    assert before.holes == {"data.bin": 1000}
    (folder / "beside.txt").write_text("of the releasE")
    assert given.pack(folder).digest != before.digest
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))
    assert given.pack(folder).is_link


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_tells_programs_and_people(six):
    process = six.firstcnn("small", "--students", "s1,s2", "--students", "s4", "--json")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert [(one["student"], one["score"]) for one in told["submissions"]] == [
        ("s1", 1),
        ("s2", 3),
        ("s4", 10),
    ]
    assert told["lessons"]["small"]["graded"] == 3
    assert told["status"] == 0
    log = six.root / told["submissions"][0]["log"]
    assert "INFO Autograding" in log.read_text()
    assert {path.name for path in six.root.iterdir()} == {
        *("autograded", "course", "gradebook.db", "grading", "nbgrader_config.py"),
        *("source", "submitted"),
    }
    process = six.firstcnn("large")
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out) == (1, "")
    assert "There is no lesson 'large'" in err


def test_the_table_counts_and_says_how_to_go_on():
    outcomes = [
        Outcome("a", "1", "graded", 2.0, repairs=["one"]),
        Outcome("a", "2", "graded", 3.0, repairs=["one"], refusals=["two"]),
        Outcome("a", "3", "skipped"),
        Outcome("b", "1", "failed", 1.0, error="[bold]why[/]", log="grading/b/1/autograde.log"),
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    summary.show(Report(outcomes, 5, 7.0, "Interrupted.", is_interrupted=True), console)
    shown = console.export_text()
    plain = [re.sub(r"[^\w.-]+", " ", line).split() for line in shown.splitlines()]
    assert ["a", "2", "1", "2", "1", "-", "5.0"] in plain
    assert ["b", "-", "-", "-", "-", "1", "1.0"] in plain
    assert "FAILED b 1: [bold]why[/]\n  see grading/b/1/autograde.log" in shown
    assert "2 of 5 graded in 7 s." in shown
    assert "run the same command again to go on" in shown


# ---- other machines ------------------------------------------------------------------------------


class Late:
    """A future whose result comes by a way that is slow, or lost at first."""

    status = "finished"

    def __init__(self, *errors: Exception, seconds: float = 0) -> None:
        self.errors, self.seconds, self.asked = list(errors), seconds, 0

    def add_done_callback(self, call):
        call(self)

    def result(self, timeout):
        self.asked += 1
        if self.errors:
            raise self.errors.pop()
        if timeout < self.seconds:
            raise TimeoutError
        return "there"


class Scheduler:
    """A client with one task, and a scheduler that tells of no worker by itself."""

    status = "running"

    def __init__(self, future: Late) -> None:
        self.future = future
        self.scheduler = self

    def identity(self, n_workers):
        return {"workers": {"tcp://somewhere:1": {"nthreads": 1}} if n_workers else {}}

    def scheduler_info(self, n_workers):
        return self.identity(0)  # what the client's own call has put there meanwhile

    def sync(self, do, **arguments):
        return do(**arguments)

    def submit(self, *arguments, **options):
        return self.future


@pytest.mark.parametrize("future", [Late(seconds=100), Late(OSError("lost"), OSError("lost"))])
def test_a_result_that_comes_late_is_no_failure(future):
    workers = cluster.Cluster(Scheduler(future))
    workers.send("task", len, "")
    answers = []
    while not answers and future.asked < 99:
        answers += workers.finished(0)
    assert answers == [("task", "there")]


def test_an_error_of_the_task_is_its_answer():
    future = Late(error := FileNotFoundError("no data"))
    future.status = "error"
    workers = cluster.Cluster(Scheduler(future))
    workers.send("task", len, "")
    assert list(workers.finished(0)) == [("task", error)]


def test_workers_are_asked_for_each_time():
    client = Scheduler(Late())
    workers = cluster.Cluster(client, is_alone=True)
    assert workers.room == 1
    client.identity = lambda n_workers: (_ for _ in ()).throw(OSError("in a moment"))
    assert workers.room == 1


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_result_that_is_lost_with_its_worker_is_made_again(is_alone, tmp_path):
    """The worker ends when the result was there, and was not fetched yet."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path),
        ) as others,
        Client(others, set_as_default=False) as client,
    ):
        workers = cluster.Cluster(client, is_alone=is_alone)
        workers.send("task", os.getpid)
        future = workers._tasks["task"].future
        wait_until(lambda: future.status == "finished")
        first = future.result(600)
        (nanny,) = others.workers.values()
        nanny.auto_restart = False  # nobody does it again before this has seen that it is lost
        psutil.Process(first).kill()
        wait_until(lambda: future.status == "lost")
        others.scale(2)
        # Only now is it looked at; Dask calls this an end, too.
        wait_until(lambda: not workers._finished.empty())
        answers = []
        wait_until(lambda: answers.extend(workers.finished(0.2)) or answers)
        ((name, second),) = answers
        assert (name, workers._tasks) == ("task", {})
        assert second != first


def test_a_schedulers_file_is_read_when_it_is_whole(six):
    file = six.root / "scheduler.json"
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as other:

        def write():
            file.write_text("{")
            time.sleep(0.5)
            file.write_text(json.dumps({"address": other.scheduler_address}))

        writing = threading.Thread(target=write)
        writing.start()
        with cluster.remote(str(file), patience=300) as there:
            assert there.room == 16
        writing.join()
    file.unlink()
    with pytest.raises(cluster.Lost, match=r"No scheduler answers at .*scheduler\.json"):
        cluster.remote(str(file), patience=0.1).__enter__()


def test_any_dask_scheduler_will_do(six):
    """Workers of its own, of which one ends while it grades."""
    mark = six.root / "mark"
    starts = six.hook(
        f"if '/s3/' in path and not os.path.exists({str(mark)!r}):\n"
        f"    open({str(mark)!r}, 'w').close()\n"
        "    os.kill(os.getpid(), 9)"
    )
    with LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        dashboard_address="127.0.0.1:0",
        local_directory=str(six.root.parent),
    ) as other:
        report = grade_class(six.checkout, scheduler=other.scheduler_address)
    assert report.status == 0
    assert six.noted("graded") == six.noted("recorded") == SIX
    assert scores(six) == SIX_POINTS
    assert starts.read_text().split().count("s3") == 2


def test_a_scheduler_that_is_lost_is_said(six):
    six.hook("import time; time.sleep(600 if '/s5/' in path else 0)")
    other = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        local_directory=str(six.root.parent),
    )

    def stop():
        wait_until(lambda: len(six.noted("recorded")) >= 3)
        other.close(timeout=600)

    ending = threading.Thread(target=stop)
    ending.start()
    report = grade_class(six.checkout, scheduler=other.scheduler_address)
    ending.join()
    assert report.status == 1
    assert report.stopped.startswith("The scheduler ")
    assert len(report.outcomes) >= 3
