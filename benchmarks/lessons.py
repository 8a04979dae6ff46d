"""Execute every solved lesson, one after another, and print seconds and peak memory.

Run ``python benchmarks/lessons.py --help``; ``benchmarks/README.md`` says how to read the table.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time

import nbformat
from nbclient import NotebookClient
from rich.console import Console
from rich.table import Table

from firstcnn import kernel
from firstcnn.course import Course


def execute(path, answer):
    """Execute one notebook in the course's kernel; send seconds and MiB through a pipe."""
    os.environ["JUPYTER_PATH"] = kernel.jupyter_path()
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    started = time.perf_counter()
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer.send((seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))


def measure(path):
    """Execute a notebook in a process of its own, so that the peak memory is its kernel's."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=execute, args=(path, there))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="rounds; medians are shown")
    parser.add_argument("--json", action="store_true", help="print the raw figures instead")
    options = parser.parse_args()
    course = Course()
    console = Console()
    found = {lesson: [] for lesson in course.lessons}
    with console.status("") as status:
        for run in range(options.runs):
            for lesson in course.lessons:
                status.update(f"round {run + 1} of {options.runs}: {lesson}")
                found[lesson].append(measure(course.solution(lesson)))
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table(
        "lesson", title=f"Solved lessons, executed: median (least-most) of {options.runs}"
    )
    for title in ("seconds", "CPU seconds", "peak MiB"):
        table.add_column(title, justify="right")
    for lesson, runs in found.items():
        table.add_row(lesson, *(shown([run[i] for run in runs]) for i in range(3)))
    rounds = [sum(run[0] for run in one) for one in zip(*found.values(), strict=True)]
    table.add_row("all", shown(rounds), "", "", style="bold")
    console.print(table)


def shown(values):
    """Return a median with its range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
