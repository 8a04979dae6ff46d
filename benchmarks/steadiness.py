"""Are answers that train graded alike, whatever chance, threads, cores and order do?

    python benchmarks/steadiness.py [--repeats 20] [--lessons 05_training ...]

Each repeat grades, with nbgrader, every answer of the bank that trains a network or needs one
that was trained, and changes what should not matter: the seed of the training, one or two
threads, one core or all, which answers share a notebook, and the order of the exercises in it.
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
from firstcnn.answers.bank import load
from firstcnn.answers.rounds import needs_training, notebook, rounds
from firstcnn.course import Course

LESSONS = ("05_training", "06_evaluation", "07_experiments", "08_handwriting")


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


def one_repeat(course: Course, lesson: str, number: int) -> list[trial.Graded]:
    """Grade a lesson's training answers once, in a way of its own."""
    chance = random.Random(number)
    threads = str(1 + number % 2)
    environment = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    exercises = load(course, lesson)
    with tempfile.TemporaryDirectory() as folder:
        desk = trial.Desk(course, Path(folder))
        release = desk.released(lesson)
        slow = {
            id(answer)
            for one in exercises
            for answer in one.answers
            if needs_training(release, answer)
        }
        dealt = [
            one
            for one in rounds(exercises, number, lambda answer: id(answer) in slow)
            if any(id(answer) in slow for answer in one.values())
        ]
        work = {
            f"round-{i}": shuffled(notebook(release, one), chance, number)
            for i, one in enumerate(dealt)
        }
        graded = desk.grade(lesson, work, environment) if work else {}
        return [
            found
            for i, one in enumerate(dealt)
            for found in trial.graded_round(exercises, one, *graded[f"round-{i}"])
            if id(found.answer) in slow
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--lessons", nargs="*", default=LESSONS)
    arguments = parser.parse_args()
    course, console = Course(), Console(highlight=False, soft_wrap=True)
    cores = sorted(os.sched_getaffinity(0))
    runs: dict[tuple[str, str, str], list[list[str]]] = {}
    seconds = []
    for number in track(range(arguments.repeats), "repeats", console=console):
        # Half of the repeats have one core; what is started meanwhile inherits that.
        os.sched_setaffinity(0, cores[:1] if number % 4 >= 2 else cores)
        start = time.perf_counter()
        for lesson in arguments.lessons:
            for one in one_repeat(course, lesson, number):
                key = lesson, one.exercise.name, one.answer.label
                runs.setdefault(key, []).append(one.faults)
        seconds.append(time.perf_counter() - start)
    unsteady = {key: faults for key, faults in runs.items() if any(faults)}
    for (lesson, exercise, label), faults in unsteady.items():
        wrong = [one for one in faults if one]
        console.print(f"{lesson} {exercise}, {label}: {len(wrong)} of {len(faults)} not as asked")
        console.print(f"    {wrong[0][0]}", markup=False)
    print(
        f"{len(runs) - len(unsteady)} of {len(runs)} answers that train graded alike in all of "
        f"{arguments.repeats} repeats; {statistics.median(seconds):.0f} s each (median)"
    )
    return bool(unsteady)


if __name__ == "__main__":
    sys.exit(main())
