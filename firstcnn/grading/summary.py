"""What the terminal shows of a class that is graded: how far it is, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from firstcnn.grading.classroom import Outcome, Report

__all__ = ["as_json", "counts", "show", "watched"]

_COUNTED = ("graded", "skipped", "repaired", "refused", "failed")


def watched(run: Callable[[Callable[[str], None], Callable[[int, int], None]], Report]) -> Report:
    """Show how far a run is, on standard error.

    Parameters
    ----------
    run : callable
        Called with one function that shows a line and one that hears of progress; it returns
        what this function returns.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("grading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        bar = progress.add_task("grading", total=None)
        return run(
            lambda line: progress.console.print(line, markup=False),
            lambda done, of: progress.update(bar, completed=done, total=of),
        )


def counts(outcomes: list[Outcome]) -> dict[str, float]:
    """Count what became of submissions.

    Returns
    -------
    dict
        How many were ``graded``, ``skipped`` or ``failed``; of those graded, how many were
        ``repaired`` and ``refused``, in part or whole; and the ``seconds`` that they took.
    """
    made: dict[str, float] = {
        "graded": sum(one.status == "graded" for one in outcomes),
        "skipped": sum(one.status == "skipped" for one in outcomes),
        "repaired": sum(bool(one.repairs) for one in outcomes),
        "refused": sum(bool(one.refusals) for one in outcomes),
        "failed": sum(one.status == "failed" for one in outcomes),
    }
    return {**made, "seconds": round(sum(one.seconds for one in outcomes), 1)}


def _by_lesson(report: Report) -> dict[str, dict[str, float]]:
    lessons = dict.fromkeys(one.lesson for one in report.outcomes)
    return {
        lesson: counts([one for one in report.outcomes if one.lesson == lesson])
        for lesson in lessons
    }


def as_json(report: Report) -> str:
    """Return a report for programs."""
    told = {
        "lessons": _by_lesson(report),
        "submissions": [asdict(one) for one in report.outcomes],
        "seconds": report.seconds,
        "stopped": report.stopped,
        "status": report.status,
    }
    return json.dumps(told, indent=2)


def show(report: Report, console: Console) -> None:
    """Print a table, what failed, and how to go on."""
    table = Table("lesson", *(f"[not bold]{name}" for name in (*_COUNTED, "seconds")))
    for column in table.columns[1:]:
        column.justify = "right"
    for lesson, made in _by_lesson(report).items():
        numbers = [str(made[name]) if made[name] else "-" for name in _COUNTED]
        table.add_row(lesson, *numbers, f"{made['seconds']:.1f}")
    if report.outcomes:
        console.print(table)
    for one in report.outcomes:
        if one.status == "failed":
            words = f"FAILED {one.lesson} {one.student}: {one.error}\n  see {one.log}"
            console.print(words, markup=False)
    done = counts(report.outcomes)["graded"]
    if not report.outcomes and not report.stopped:
        console.print("Nobody has handed in anything.")
    elif report.due:
        console.print(f"{done:g} of {report.due} graded in {report.seconds:.0f} s.")
    else:
        console.print("All of it was graded before. To grade it again: --again.")
    if report.stopped:
        console.print(
            f"{report.stopped} What is graded is kept; run the same command again to go on.",
            markup=False,
        )
