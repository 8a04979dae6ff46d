"""From ``source/`` to ``course/`` and ``solutions/``, and the proof that they match.

The notebooks in ``source/`` are the only ones that people edit. nbgrader makes
the other two kinds from them; this module calls nbgrader, and compares what is
committed with what it would make now: ``course/`` byte for byte, ``solutions/``
in every cell but for outputs, which pytest compares through nbval.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode


class CourseError(RuntimeError):
    """A lesson that cannot be made, with the reason."""


@dataclass(frozen=True)
class Course:
    """A checkout of the course.

    Parameters
    ----------
    root : pathlib.Path
        The folder that holds ``source/`` and ``nbgrader_config.py``.
    """

    root: Path = field(default_factory=lambda: find_root())

    @property
    def lessons(self) -> list[str]:
        """The lessons' names, in order."""
        return sorted(path.stem for path in self.root.glob("source/*/*.ipynb"))

    def source(self, lesson: str) -> Path:
        """Return the path of the notebook that instructors edit."""
        return self.root / "source" / lesson / f"{lesson}.ipynb"

    def release(self, lesson: str) -> Path:
        """Return the path of the notebook that students get."""
        return self.root / "course" / lesson / f"{lesson}.ipynb"

    def solution(self, lesson: str) -> Path:
        """Return the path of the notebook solved and executed."""
        return self.root / "solutions" / lesson / f"{lesson}.ipynb"

    def choose(self, lessons: Iterable[str] | None) -> list[str]:
        """Return the named lessons, or all of them.

        Raises
        ------
        CourseError
            If a name is not a lesson's.
        """
        chosen = list(lessons or self.lessons)
        for lesson in chosen:
            if not self.source(lesson).is_file():
                known = ", ".join(self.lessons) or "none"
                raise CourseError(f"There is no lesson {lesson!r} in source/. Lessons: {known}.")
        return chosen


def find_root(start: Path | None = None) -> Path:
    """Return the checkout that holds a folder: the nearest parent with ``nbgrader_config.py``.

    Raises
    ------
    CourseError
        If there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "nbgrader_config.py").is_file() and (folder / "source").is_dir():
            return folder
    raise CourseError(
        f"{start} is not inside a checkout of the course: "
        "no folder above it has source/ and nbgrader_config.py."
    )


def read(path: Path) -> NotebookNode:
    """Read a notebook of nbformat 4 without changing it.

    Raises
    ------
    CourseError
        If it is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=nbformat.NO_CONVERT)
    except Exception as error:
        raise CourseError(f"{path} is not a notebook: {error}") from error


def build(
    course: Course,
    lessons: Iterable[str] | None = None,
    *,
    on_start: Callable[[str], None] = lambda lesson: None,
) -> None:
    """Make ``course/`` and ``solutions/`` of some lessons, or of all.

    Parameters
    ----------
    course : Course
        The checkout.
    lessons : iterable of str, optional
        Their names.
    on_start : callable, optional
        Called with each lesson before it is made.

    Raises
    ------
    CourseError
        If nbgrader fails, or a solved notebook raises or writes to stderr.
        What was committed for that lesson is then left as it was.
    """
    for lesson in course.choose(lessons):
        on_start(lesson)
        with _generated(course, [lesson]) as made:
            solution = made / "solutions" / lesson
            _refuse_errors(lesson, read(solution / f"{lesson}.ipynb"))
            _replace(made / "course" / lesson, course.release(lesson).parent)
            _replace(solution, course.solution(lesson).parent)


def verify(course: Course, lessons: Iterable[str] | None = None) -> list[str]:
    """Tell in what the committed notebooks differ from those that ``source/`` makes.

    Parameters
    ----------
    course : Course
        The checkout. Nothing in it is changed, and nothing is executed.
    lessons : iterable of str, optional
        Their names; by default all, and then left-over folders are found too.

    Returns
    -------
    list of str
        One line for each difference; empty if all is current.
    """
    chosen = course.choose(lessons)
    found = []
    with _generated(course, chosen, execute=False) as made:
        for lesson in chosen:
            released, solved = course.release(lesson).parent, course.solution(lesson).parent
            found += _differences(course.root, made / "course" / lesson, released)
            found += _differences(course.root, made / "solutions" / lesson, solved, outputs=False)
    if lessons is None or not list(lessons):
        for kind in ("course", "solutions"):
            for folder in sorted((course.root / kind).glob("*/")):
                if folder.name not in chosen and not folder.name.startswith("."):
                    found.append(f"{kind}/{folder.name}: there is no such lesson in source/")
    return found


@contextlib.contextmanager
def _generated(course: Course, lessons: Sequence[str], *, execute: bool = True) -> Iterator[Path]:
    """Have nbgrader make ``course/`` and ``solutions/`` in a temporary folder."""
    from nbgrader.converters import GenerateAssignment, GenerateSolution
    from nbgrader.preprocessors import Execute

    with tempfile.TemporaryDirectory(prefix="firstcnn-") as temporary:
        for lesson in lessons:
            config = nbgrader_config(course, lesson)
            config.CourseDirectory.release_directory = str(Path(temporary, "course"))
            config.CourseDirectory.solution_directory = str(Path(temporary, "solutions"))
            # The instructor's gradebook is left alone: making notebooks is not grading.
            config.CourseDirectory.db_url = f"sqlite:///{temporary}/gradebook.db"
            if not execute:
                config.GenerateSolution.preprocessors = [
                    step for step in config.GenerateSolution.preprocessors if step is not Execute
                ]
            for step in (GenerateAssignment, GenerateSolution):
                run_nbgrader(step, lesson, config)
        yield Path(temporary)


def nbgrader_config(course: Course, lesson: str) -> Any:
    """Return the checkout's ``nbgrader_config.py``, loaded, with one lesson chosen.

    Parameters
    ----------
    course : Course
        The checkout.
    lesson : str
        The assignment.

    Returns
    -------
    traitlets.config.Config
        A copy of one's own, to change before :func:`run_nbgrader`.
    """
    from traitlets.config.loader import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(course.root)).load_config()
    config.CourseDirectory.root = str(course.root)
    config.CourseDirectory.assignment_id = lesson
    return config


def instructors_config(course: Course) -> Any:
    """Return the configuration that ``nbgrader autograde`` has in the checkout.

    That is the checkout's ``nbgrader_config.py``, and the user's and the machine's own.

    Parameters
    ----------
    course : Course
        The checkout.

    Returns
    -------
    traitlets.config.Config

    Raises
    ------
    CourseError
        If one of these files cannot be read.
    """
    from nbgrader.apps import AutogradeApp

    app = AutogradeApp()
    app.log_level = "CRITICAL"
    app.raise_config_file_errors = True
    try:
        with contextlib.chdir(course.root):
            app.initialize([])
    except Exception as error:
        raise CourseError(f"nbgrader_config.py cannot be read: {error}") from error
    return app.config


def run_nbgrader(step: type, lesson: str, config: Any) -> None:
    """Run one of nbgrader's converters, quietly.

    Parameters
    ----------
    step : type
        A class of ``nbgrader.converters``.
    lesson : str
        The lesson, for messages.
    config : traitlets.config.Config
        As :func:`nbgrader_config` returns it.

    Raises
    ------
    CourseError
        If it fails, with what it said.
    """
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.utils import capture_log

    with environment_on_path():
        converter = step(coursedir=CourseDirectory(config=config), config=config)
        converter.log.handlers, converter.log.propagate = [], False
        _expect_success(step, lesson, capture_log(converter))


@contextlib.contextmanager
def environment_on_path() -> Iterator[None]:
    """Let nbgrader find ``alembic``, which it calls by name, when .venv is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _expect_success(step: type, lesson: str, result: dict) -> None:
    if not result["success"]:
        log = result.get("log") or ""
        # nbgrader goes on after an error, and then says only that there was one.
        causes = log[log.index("[ERROR]") :] if "[ERROR]" in log else ""
        said = (causes or result.get("error") or log).strip()
        verb = "grade" if step.__name__ == "Autograde" else "make"
        raise CourseError(f"nbgrader could not {verb} {lesson}:\n{said}")


def _refuse_errors(lesson: str, notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = "\n".join(output.traceback)
                raise CourseError(f"{lesson}: cell {cell.id} of the solution raises:\n{trace}")
            if output.output_type == "stream" and output.name == "stderr":
                raise CourseError(
                    f"{lesson}: cell {cell.id} of the solution writes to stderr, which costs a "
                    f"student all points of a graded cell:\n{output.text}"
                )


def _replace(made: Path, place: Path) -> None:
    """Put a folder in place of another, which is kept until the new one is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    incoming = Path(tempfile.mkdtemp(dir=place.parent, prefix=".incoming-"))
    shutil.copytree(made, incoming, dirs_exist_ok=True)
    incoming.chmod(0o755)
    for path in incoming.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if place.exists():
        shutil.rmtree(place)
    incoming.rename(place)


_LITTER = (".ipynb_checkpoints", "__pycache__")


def _files(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part in _LITTER for part in path.parts)
        and path.suffix != ".keras"
    }


def _differences(root: Path, made: Path, committed: Path, *, outputs: bool = True) -> list[str]:
    """Compare two folders by their files' contents, notebooks cell by cell."""
    place = committed.relative_to(root).as_posix()
    if not committed.is_dir():
        return [f"{place}: missing; run `firstcnn build {committed.name}`"]
    new, old = _files(made), _files(committed)
    found = [f"{place}/{name}: not made from source/" for name in sorted(old.keys() - new.keys())]
    found += [f"{place}/{name}: missing" for name in sorted(new.keys() - old.keys())]
    for name in sorted(new.keys() & old.keys()):
        same = new[name].read_bytes() == old[name].read_bytes()
        if same:
            continue
        if not name.endswith(".ipynb"):
            found.append(f"{place}/{name}: its content differs")
            continue
        try:
            cells = list(_cell_differences(read(new[name]), read(old[name]), outputs=outputs))
        except CourseError as error:
            cells = [str(error)]
        if outputs and not cells:
            cells = ["its writing differs (metadata, spacing or format)"]
        found += [f"{place}/{name}: {line}" for line in cells]
    return found


def _cell_differences(new: NotebookNode, old: NotebookNode, *, outputs: bool) -> Iterator[str]:
    old_cells = {cell.get("id"): cell for cell in old.cells}
    new_ids = [cell.get("id") for cell in new.cells]
    for cell in new.cells:
        have = old_cells.get(cell.id)
        if have is None:
            yield f"cell {cell.id}: missing"
        elif have.source != cell.source:
            yield f"cell {cell.id}: {_first_difference(cell.source, have.source)}"
        elif (have.cell_type, have.metadata) != (cell.cell_type, cell.metadata):
            yield f"cell {cell.id}: its type or metadata differ"
        elif outputs and have.get("outputs") != cell.get("outputs"):
            yield f"cell {cell.id}: holds outputs"
    for cell_id in old_cells:
        if cell_id not in new_ids:
            yield f"cell {cell_id}: is not in source/"
    if [cell.get("id") for cell in old.cells] != new_ids and set(old_cells) == set(new_ids):
        yield "its cells are in another order"
    if old.metadata != new.metadata:
        yield "the notebook's metadata differ"


def _first_difference(new: str, old: str) -> str:
    for number, (want, have) in enumerate(
        zip([*new.split("\n"), ""], [*old.split("\n"), ""], strict=False), start=1
    ):
        if want != have:
            pairs = enumerate(zip(want, have, strict=False))
            at = next((i for i, (w, h) in pairs if w != h), min(len(want), len(have)))
            return f"line {number} is {_around(have, at)}, source/ makes {_around(want, at)}"
    return "one has more lines than the other"


def _around(line: str, at: int) -> str:
    """Quote a line, or of a long one the part around a place."""
    start, stop = max(0, at - 30), at + 50
    before, after = "..." if start else "", "..." if stop < len(line) else ""
    return repr(before + line[start:stop] + after)
