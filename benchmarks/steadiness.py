"""Are answers that train graded alike, whatever chance, threads, cores and order do?

    python benchmarks/steadiness.py [--repeats 20] [--first 0] [--lessons 05_training ...]

Each repeat grades, with nbgrader, every answer of the bank that trains a network, and changes
what should not matter: the seed of the training, one or two threads, one core or all, which
answers share a notebook, and the order of the exercises in it.
An answer is steady if every repeat gives it the points and the message that the bank asks for.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from nbformat import NotebookNode
from rich.console import Console
from rich.progress import track

from firstcnn.answers import trial
from firstcnn.answers.bank import Answer, load
from firstcnn.answers.rounds import notebook, rounds
from firstcnn.course import Course

LESSONS = ("05_training", "06_evaluation")

#: By lesson, what its cells are replaced with: the same cells, with their weights read.
stand_ins: dict[str, dict[str, str]] = {}


def shuffled(made: NotebookNode, chance: random.Random, seed: int) -> NotebookNode:
    """Put the exercises in another order behind all other cells, and train from another seed."""
    exercises: list[list[NotebookNode]] = []
    others = []
    for cell in made.cells:
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("solution"):
            exercises.append([cell])
        elif graded.get("grade"):
            exercises[-1].append(cell)
        else:
            others.append(cell)
    chance.shuffle(exercises)
    made.cells = others + [cell for exercise in exercises for cell in exercise]
    for cell in made.cells:
        if cell.cell_type == "code" and not cell.metadata.get("nbgrader", {}).get("grade"):
            cell.source = re.sub(r"set_random_seed\(\d+\)", f"set_random_seed({seed})", cell.source)
    return made


def trains(answer: Answer) -> bool:
    """Tell whether an answer trains a network itself."""
    return ".fit(" in answer.code


def one_repeat(desk: trial.Desk, lesson: str, number: int) -> list[trial.Graded]:
    """Grade a lesson's training answers once, in a way of its own."""
    chance = random.Random(number)
    threads = str(1 + number % 2)
    environment = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    exercises = load(desk.course, lesson)
    release = desk.released(lesson)
    if lesson not in stand_ins:
        # What the lesson trains before its exercises is none of the answers' doing.
        stand_ins[lesson] = desk.stand_ins(lesson, exercises)
    dealt = {
        f"round-{number}-{i}": one
        for i, one in enumerate(rounds(exercises, number, trains))
        if any(map(trains, one.values()))
    }
    work = {
        name: shuffled(notebook(release, one, stand_ins=stand_ins[lesson]), chance, number)
        for name, one in dealt.items()
    }
    graded = desk.grade(lesson, work, environment)
    return [
        found
        for name, one in dealt.items()
        for found in trial.graded_round(exercises, one, *graded[name])
        if trains(found.answer)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="go on with this repeat")
    parser.add_argument("--lessons", nargs="*", default=LESSONS)
    arguments = parser.parse_args()
    course, console = Course(), Console(highlight=False, soft_wrap=True)
    cores = sorted(os.sched_getaffinity(0))
    runs: dict[tuple[str, str, str], list[list[str]]] = {}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        desk = trial.Desk(course, Path(folder))
        numbers = range(arguments.first, arguments.repeats)
        for number in track(numbers, "repeats", console=console):
            # Half of the repeats have one core, which the processes started meanwhile inherit.
            os.sched_setaffinity(0, cores[:1] if number % 4 >= 2 else cores)
            start = time.perf_counter()
            with trial.shared_nursery():
                for lesson in arguments.lessons:
                    for one in one_repeat(desk, lesson, number):
                        key = lesson, one.exercise.name, one.answer.label
                        runs.setdefault(key, []).append(one.faults)
            seconds.append(time.perf_counter() - start)
            bad = sum(bool(faults[-1]) for faults in runs.values())
            console.print(f"repeat {number}: {bad} not as asked, {seconds[-1]:.0f} s")
    unsteady = {key: faults for key, faults in runs.items() if any(faults)}
    for (lesson, exercise, label), faults in unsteady.items():
        wrong = [one for one in faults if one]
        console.print(f"{lesson} {exercise}, {label}: {len(wrong)} of {len(faults)} not as asked")
        console.print(f"    {wrong[0][0]}", markup=False)
    print(
        f"{len(runs) - len(unsteady)} of {len(runs)} answers that train graded alike in all of "
        f"{len(numbers)} repeats; {statistics.median(seconds):.0f} s each (median)"
    )
    return bool(unsteady)


if __name__ == "__main__":
    sys.exit(main())
