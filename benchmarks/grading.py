"""Grade the same submissions with stock nbgrader and with ``firstcnn grade``, and compare.

Run ``python benchmarks/grading.py --help``; ``benchmarks/README.md`` says how to read the tables.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute
from rich.console import Console
from rich.table import Table

from firstcnn import kernel
from firstcnn.answers.bank import load
from firstcnn.answers.rounds import notebook, rounds
from firstcnn.course import Course
from firstcnn.grading.execute import GradeApart

LESSONS = ("04_model", "05_training", "06_evaluation")
CORES = os.cpu_count() or 1
STOCK = """
from nbconvert.exporters import NotebookExporter
from nbgrader.converters import Autograde
c.Autograde.exporter_class = NotebookExporter
c.Autograde.autograde_preprocessors = Autograde().autograde_preprocessors
"""


class Class:
    """A class that has handed in the same answers each time."""

    def __init__(self, folder, options, more=""):
        self.root, self.lessons = folder, options.lessons
        checkout = Course()
        shutil.copytree(checkout.root / "source", folder / "source")
        config = (checkout.root / "nbgrader_config.py").read_text()
        (folder / "nbgrader_config.py").write_text(config + more)
        for lesson in self.lessons:
            self.run("-m", "nbgrader", "generate_assignment", lesson)
            released = nbformat.read(folder / "course" / lesson / f"{lesson}.ipynb", as_version=4)
            for number, answers in enumerate(mixtures(checkout, lesson, options.each)):
                place = folder / "submitted" / f"s{number:02}" / lesson
                place.mkdir(parents=True)
                made = notebook(released, answers, whole=options.whole)
                nbformat.write(made, place / f"{lesson}.ipynb")

    def start(self, *arguments):
        """Start Python here, as somebody would who has the environment activated."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**os.environ, "PATH": path, "JUPYTER_PATH": kernel.jupyter_path()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments):
        """Run Python here; return the process and what it printed."""
        process = self.start(*arguments)
        out, err = process.communicate()
        if process.returncode:
            sys.exit(f"{' '.join(arguments)}\n{out}{err}")
        return out

    def firstcnn(self, *arguments):
        """Return the command line of ``firstcnn grade``."""
        command = "from firstcnn.cli import main; main()"
        return ["-c", command, "grade", *self.lessons, "--json", *arguments]

    def grades(self):
        """Return each grade in the gradebook."""
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}", "first-cnn") as gradebook:
            return {
                (lesson, submission.student.id, grade.name): grade.score
                for lesson in self.lessons
                for submission in gradebook.assignment_submissions(lesson)
                for one in submission.notebooks
                for grade in one.grades
            }


def mixtures(checkout, lesson, each):
    """Choose answers: a quarter of the submissions all right, a quarter all wrong, others mixed."""
    exercises = load(checkout, lesson)
    chance = random.Random(lesson)
    dealt = rounds(exercises)
    chance.shuffle(dealt)
    for number in range(each):
        kind = {0: "right", 1: "wrong"}.get(number % 4)
        if kind is None:
            yield dealt[number % len(dealt)]
        else:
            yield {
                one.name: chance.choice([it for it in one.answers if it.kind == kind])
                for one in exercises
            }


class Memory(threading.Thread):
    """Watch the memory of a process and all below it, shared pages counted once.

    To count them, the system goes through all pages of a process, which waits meanwhile where it
    asks for more. So the time between two looks grows with what a look takes.
    """

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.most = psutil.Process(process.pid), 0
        self.start()

    def run(self):
        while self.process.is_running():
            used, start = 0, time.monotonic()
            try:
                for one in (self.process, *self.process.children(recursive=True)):
                    try:
                        used += one.memory_full_info().pss
                    except psutil.Error:
                        continue
            except psutil.Error:
                return
            self.most = max(self.most, used)
            time.sleep(max(1, 30 * (time.monotonic() - start)))


def timed(school, *arguments):
    """Run something; return seconds, CPU seconds, the most MiB in use, and what it printed."""
    before, start = os.times(), time.perf_counter()
    process = school.start(*arguments)
    memory = Memory(process)
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}\n{out}{err}")
    seconds, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return seconds, cpu, memory.most / 2**20, out


def own_seconds(path):
    """Return the CPU seconds of a submission's own cells, with everything imported before."""
    work = nbformat.read(path, as_version=4)
    work.cells = [
        one for one in work.cells
        if not (graded := one.metadata.get("nbgrader", {})).get("grade") or graded.get("solution")
    ]  # fmt: skip
    work.cells.insert(0, new_code_cell(
        "import time, keras, matplotlib.pyplot, tensorflow, firstcnn.check, firstcnn.figures\n"
        "from firstcnn import data\ndata.load_mnist()\n_before = time.process_time()"
    ))  # fmt: skip
    work.cells.append(new_code_cell("print(time.process_time() - _before)"))
    quiet = ["--IPKernelApp.log_level=40"]
    NotebookClient(
        work, timeout=600, kernel_name="python3", allow_errors=True, extra_arguments=quiet
    ).execute()
    # A slow machine sends a line and its end apart.
    return float("".join(one.text for one in work.cells[-1].outputs))


def own_seconds_of_all(paths, at_a_time):
    """Return the CPU seconds of these submissions' own cells, so many of them run at a time."""
    with ThreadPoolExecutor(at_a_time) as pool:
        return sum(pool.map(own_seconds, paths))


def compare(folder, options, console):
    """Measure stock nbgrader, ``firstcnn grade`` and the floor."""
    stock, ours = Class(folder / "stock", options, STOCK), Class(folder / "ours", options)
    many = options.each * len(options.lessons)
    table = Table("", "s", "s each", "CPU s", "most MiB", "times stock", "times floor")
    os.environ["JUPYTER_PATH"] = kernel.jupyter_path()
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
    works = sorted((folder / "ours" / "submitted").glob("*/*/*.ipynb"))
    floor, full = (own_seconds_of_all(works, at_a_time) / CORES for at_a_time in (1, CORES))
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        del os.environ[name]
    measured = [timed(stock, "-m", "nbgrader", "autograde", lesson) for lesson in options.lessons]
    base = sum(one[0] for one in measured)
    cpu, most = sum(one[1] for one in measured), max(one[2] for one in measured)

    def row(name, seconds, cpu, most):
        ratio, above = f"{base / seconds:.2f}", f"{seconds / floor:.2f}"
        table.add_row(name, f"{seconds:.1f}", f"{seconds / many:.2f}", f"{cpu:.0f}",
                      f"{most:,.0f}" if most else "", ratio, above)  # fmt: skip

    row("stock nbgrader, in turn", base, cpu, most)
    for number in options.workers:
        shutil.rmtree(ours.root / "autograded", ignore_errors=True)
        seconds, cpu, most, out = timed(ours, *ours.firstcnn("--workers", str(number)))
        row(f"firstcnn grade, {number} workers", seconds, cpu, most)
        told = json.loads(out)["submissions"]
        assert len(told) == many
    row("students' own code, one at a time", floor, floor * CORES, 0)
    row("students' own code, one on each core", full, full * CORES, 0)
    console.print(table)
    theirs, own = stock.grades(), ours.grades()
    differ = {key: (theirs[key], own[key]) for key in own if theirs[key] != own[key]}
    console.print(f"{len(own)} grades, of which {len(differ)} differ from stock nbgrader's")
    for key, (old, new) in differ.items():
        console.print(f"  {' '.join(key)}: {old:g} with stock nbgrader, {new:g} with firstcnn")
    apart(ours, 10, console)


def apart(school, runs, console):
    """Measure what the sandbox and the judge cost: against one warm kernel for all cells."""
    lesson = school.lessons[0]
    released = school.root / "course" / lesson / f"{lesson}.ipynb"
    spec = json.loads(Path(kernel.jupyter_path(), "kernels/python3/kernel.json").read_text())
    spec["metadata"]["kernel_provisioner"] = {"provisioner_name": "firstcnn-warm"}
    place = school.root / "warm" / "kernels" / "python3"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(school.root / "warm")
    steps = {
        "one warm kernel": Execute(timeout=300, shutdown_kernel="immediate", kernel_name="python3"),
        "sandbox and judge": GradeApart(),
    }
    seconds = {name: [] for name in steps}
    for _ in range(runs + 1):
        for name, step in steps.items():
            work = nbformat.read(released, as_version=4)
            start = time.perf_counter()
            step.preprocess(work, {"metadata": {"path": str(released.parent)}})
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    for name, median in medians.items():
        console.print(f"{name}: {median:.2f} s for an untouched {lesson}")
    cost = medians["sandbox and judge"] - medians["one warm kernel"]
    console.print(f"sandbox and judge cost {cost:.2f} s a submission, medians of {runs}")


def kills(folder, options, console):
    """Kill workers and, once, the process that has them; then compare with a quiet run."""
    quiet, wild = Class(folder / "quiet", options), Class(folder / "wild", options)
    many = options.each * len(options.lessons)
    out = quiet.run(*quiet.firstcnn())
    console.print(f"undisturbed: {many} graded in {json.loads(out)['seconds']:.0f} s")
    journal = wild.root / "grading" / "journal"

    def noted(what):
        lines = map(json.loads, journal.read_text().splitlines()) if journal.exists() else ()
        return [(one["lesson"], one["student"]) for one in lines if one["what"] == what]

    chance, killed, start = random.Random(0), 0, time.monotonic()
    process, was_killed, next_kill = wild.start(*wild.firstcnn()), False, start + options.every
    reader = threading.Thread(target=process.communicate, daemon=True)
    reader.start()
    while process.poll() is None:
        time.sleep(0.2)
        if not was_killed and len(noted("recorded")) >= many // 2:
            process.send_signal(signal.SIGKILL)
            reader.join()
            was_killed = True
            console.print(f"main process killed with {len(noted('recorded'))} recorded")
            process = wild.start(*wild.firstcnn())
            reader = threading.Thread(target=process.communicate, daemon=True)
            reader.start()
        elif time.monotonic() > next_kill:
            next_kill = time.monotonic() + options.every
            if workers := workers_of(process):
                chance.choice(workers).kill()
                killed += 1
    seconds = time.monotonic() - start
    graded, recorded = noted("graded"), noted("recorded")
    console.print(
        f"disturbed: {len(set(recorded))} of {many} graded in {seconds:.0f} s, {killed} workers "
        f"killed, exit status {process.returncode}"
    )
    twice = {key for key in graded if graded.count(key) > 1}
    twice |= {key for key in recorded if recorded.count(key) > 1}
    same = wild.grades() == quiet.grades()
    console.print(f"graded or recorded more than once: {len(twice)}")
    console.print(f"grades equal to the undisturbed run: {'yes' if same else 'NO'}")
    if twice or not same or len(set(recorded)) != many or process.returncode:
        sys.exit(1)


def workers_of(process):
    """Return the worker processes of a run."""
    found = []
    for child in psutil.Process(process.pid).children():
        if "forkserver" in " ".join(child.cmdline()):
            found += child.children()
    return found


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lessons", nargs="+", default=LESSONS, help="to be graded")
    parser.add_argument("--each", type=int, default=8, help="submissions of each lesson")
    parser.add_argument("--workers", type=int, nargs="+", default=[CORES + 1], help="to compare")
    parser.add_argument("--whole", action="store_true", help="with cells that no answer needs")
    parser.add_argument("--kills", action="store_true", help="kill workers and the main process")
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills")
    options = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False, width=100)
    with tempfile.TemporaryDirectory(prefix="firstcnn-benchmark-") as folder:
        if options.kills:
            kills(Path(folder), options, console)
        else:
            compare(Path(folder), options, console)


if __name__ == "__main__":
    main()
