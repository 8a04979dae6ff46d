"""The ``firstcnn`` command: one thin layer over the modules that do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from firstcnn import course as courses
from firstcnn import source_rules
from firstcnn.app import AppError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
console = Console(highlight=False, soft_wrap=True)

Lessons = Annotated[list[str] | None, typer.Argument(help="Lessons; all of them if none is named.")]


@app.command()
def build(
    lessons: Lessons = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only lessons that lack a student's notebook.")
    ] = False,
) -> None:
    """Make course/, solutions/ and docs/exercises.md from source/, with nbgrader."""
    from firstcnn.answers import exercises

    checkout = courses.Course()
    chosen = checkout.choose(lessons)
    if missing:
        chosen = [
            lesson
            for lesson in chosen
            if not (checkout.release(lesson).is_file() and checkout.solution(lesson).is_file())
        ]
        if not chosen:
            return
    with console.status("building") as status:

        def on_start(lesson: str) -> None:
            status.update(f"{chosen.index(lesson) + 1} of {len(chosen)}: {lesson}")
            console.print(f"making, solving and executing {lesson}")

        courses.build(checkout, chosen, on_start=on_start)
        if not missing:
            exercises.write(checkout)


@app.command()
def verify(lessons: Lessons = None) -> None:
    """Prove that what is made from source/ is current; changes nothing."""
    from firstcnn.answers import exercises

    checkout = courses.Course()
    found = [
        f"source/{lesson}: {problem}"
        for lesson in checkout.choose(lessons)
        for problem in source_rules.problems(checkout.source(lesson))
    ]
    found = found or [*courses.verify(checkout, lessons), *exercises.verify(checkout)]
    for line in found:
        console.print(line, markup=False)
    if found:
        console.print(f"{len(found)} differences. Edit source/, then run `firstcnn build`.")
        raise typer.Exit(1)
    console.print("course/, solutions/ and docs/exercises.md are what source/ makes.")


@app.command()
def tidy(lessons: Lessons = None) -> None:
    """Put notebooks in source/ into canonical form: no outputs, cells named with words."""
    checkout = courses.Course()
    for lesson in checkout.choose(lessons):
        path: Path = checkout.source(lesson)
        notebook = courses.read(path)
        source_rules.name_cells(notebook)
        text = source_rules.canonical(notebook)
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
            console.print(f"tidied source/{lesson}")


@app.command()
def answers(
    lessons: Lessons = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="An exercise's name; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which answers meet in one notebook.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Notebooks graded at a time; by default one more than cores."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Run every cell, not only those that exercises need.")
    ] = False,
    apart: Annotated[
        bool,
        typer.Option("--apart", help="As submissions are graded: in a sandbox, judged elsewhere."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--messages", help="Show what each wrong answer is told.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Weaken the checks too: would the bank notice?")
    ] = False,
) -> None:
    """Grade every right and wrong answer of the bank, and tell which is not graded so."""
    from firstcnn.answers import mutants, trial

    checkout = courses.Course()
    with Progress(transient=True, console=console) as progress:
        bar = progress.add_task("grading", total=None)
        graded, seconds = trial.try_answers(
            checkout,
            lessons,
            only=only or (),
            seed=seed,
            workers=workers or trial.WORKERS,
            whole=whole,
            apart=apart,
            on_progress=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    for one in graded:
        place = f"{one.exercise.lesson} {one.exercise.name}, {one.answer.kind}: {one.answer.label}"
        if verbose and one.answer.kind != "right" and not one.faults:
            console.print(f"\n{place}\n{one.message}", markup=False)
        for fault in one.faults:
            console.print(f"\nFAULT {place}\n{fault}", markup=False)
    right, accepted, wrong, rejected = trial.counts(graded)
    console.print(f"{accepted} of {right} right answers accepted")
    console.print(f"{rejected} of {wrong} wrong answers rejected, and told why")
    console.print(f"{seconds:.0f} s")
    failed = any(one.faults for one in graded)
    if report:
        with Progress(transient=True, console=console) as progress:
            bar = progress.add_task("weakening the checks", total=None)
            survey = mutants.survey(
                checkout,
                lessons,
                workers=workers or trial.WORKERS,
                on_progress=lambda done, of: progress.update(bar, completed=done, total=of),
            )
        for line in mutants.lines(survey):
            console.print(line, markup=False)
        failed = failed or not survey.good
    if failed:
        raise typer.Exit(1)


@app.command()
def grade(
    lessons: Annotated[
        list[str] | None,
        typer.Argument(help="Lessons; all that were handed in if none is named."),
    ] = None,
    students: Annotated[
        list[str] | None,
        typer.Option("--students", help="Only these; may be repeated, or separated by commas."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was graded before; manual grades stay.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Submissions at a time; by default one more than cores."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="The address of a Dask scheduler, or its file, for other machines."),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(min=1, help="Seconds to wait for a gradebook or a disk that is not there."),
    ] = 600,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results for programs, and nothing else.")
    ] = False,
) -> None:
    """Grade what students have handed in, several at a time; run again, it goes on."""
    from firstcnn.grading import summary
    from firstcnn.grading.classroom import grade_class

    checkout = courses.Course()
    report = summary.watched(
        lambda say, on_progress: grade_class(
            checkout,
            lessons,
            students=[name for one in students or () for name in one.split(",") if name],
            again=again,
            workers=workers,
            scheduler=scheduler,
            patience=patience,
            say=say,
            on_progress=on_progress,
        )
    )
    print(summary.as_json(report)) if as_json else summary.show(report, console)
    raise typer.Exit(report.status)


@app.command()
def report(
    lessons: Annotated[
        list[str] | None,
        typer.Argument(help="Lessons; all of which something has been graded if none is named."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write it.")] = Path(
        "report"
    ),
    missing_as_zero: Annotated[
        bool,
        typer.Option(
            "--missing-as-zero",
            help="Give 0 to those who have handed in nothing, in the files for Canvas and Moodle.",
        ),
    ] = False,
) -> None:
    """Report on a class: a page, tables, and grades for Canvas and Moodle."""
    from firstcnn.reports import files, platforms, summary

    found = files.write(courses.find_root(), output, lessons or (), missing_as_zero=missing_as_zero)
    console.print(summary.table(found))
    for line in platforms.advice(found):
        console.print(line, markup=False)
    console.print(f"Open {output / 'report.html'}", markup=False)


@app.command("app")
def draw(
    model: Annotated[
        Path | None,
        typer.Argument(help="A network of yours, as model.save() wrote it; else the course's own."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets everyone on the network in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="By default 8000, or the next one that is free."),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
) -> None:
    """Open the drawing pad: a network reads a digit while you draw it."""
    from firstcnn.app import server

    def say(line: str) -> None:
        console.print(line, markup=False)

    server.run(model, host=host, port=port, open_browser=not no_browser, say=say)


@app.command()
def train(
    path: Annotated[Path, typer.Argument(metavar="MODEL.keras", help="Where to write it.")],
    epochs: Annotated[int, typer.Option(min=1, help="How often each image is seen.")] = 6,
    seed: Annotated[int, typer.Option(help="Where chance starts.")] = 0,
) -> None:
    """Train the network that the drawing pad reads with, on all of MNIST: under a minute."""
    from firstcnn import data, reader

    if path.suffix != ".keras":
        raise courses.CourseError(f"{path} does not end in .keras, which tells Keras the format.")
    (x_train, y_train), (x_test, y_test) = data.load_mnist()
    model = reader.train(x_train, y_train, epochs=epochs, seed=seed, verbose=2)
    reader.save(model, path)
    _, score = model.evaluate(
        x_test[..., None].astype("float32") / 255, y_test, batch_size=500, verbose=0
    )
    console.print(f"{path}: right on {score:.2%} of {len(y_test):,} test images")


def main() -> None:
    """Run the command; an expected failure is one message and exit status 1."""
    try:
        app()
    except (AppError, courses.CourseError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"firstcnn: {error}", markup=False
        )
        raise SystemExit(1) from None
