"""Weaken the checks one condition at a time, and see whether the answer bank notices.

A *mutant* is a grade cell, or a function of `firstcnn.check`, with one condition taken out or
made weaker. The bank catches it if some answer is then not graded, or not told, as it should
be. A mutant that no answer catches is a condition that no answer needs. In a function of
`firstcnn.check` that may be one that the course does not use yet, and then the function's own
tests must catch it. Otherwise either an answer is missing, or the condition changes nothing, and
then ``tests/answers/survivors.md`` says why.

Answers are run once; the checks run again and again, in the same process, on what they left.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import io
import linecache
import pkgutil
import signal
import sys
import time
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from nbformat import NotebookNode

import firstcnn.check
from firstcnn import kernel
from firstcnn.answers import check_tests
from firstcnn.answers.bank import Answer, Exercise, load
from firstcnn.answers.rounds import needed_cells
from firstcnn.answers.trial import Graded
from firstcnn.check import CheckFailed, missing
from firstcnn.course import Course, CourseError, read

#: Seconds for one check: a mutant that runs longer is caught.
CHECK_TIMEOUT = 120

#: Seconds for all tests of ``firstcnn.check``, which take some ten, on a machine that is busy.
TESTS_TIMEOUT = 600

#: Into how many parts the mutants are dealt that the tests of ``firstcnn.check`` are run on.
TEST_STEPS = 8

#: Bytes from which an array is not copied for every answer, but may not be written to.
LARGE = 2_000_000

_NOT_CONDITIONS = {"hint", "slips", "like", "cases", "among", "tolerance", "at_least", "what"}
_NEEDED = {"number": {"equals"}, "shape": {"equals"}, "choice": {"equals"}, "choices": {"equals"}}
_NEGATED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
}


@dataclass(frozen=True)
class Mutant:
    """One weakened check.

    Parameters
    ----------
    place : str
        A grade cell's id behind its lesson, or a function of ``firstcnn.check``.
    change : str
        What was done to it, in words and the code's own.
    source : str
        The cell or function as it is then.
    lines : range
        Where in the module the change is; empty in a grade cell.
    """

    place: str
    change: str
    source: str
    lines: range = range(0)

    @property
    def name(self) -> str:
        """What it is known by in ``survivors.md``."""
        return f"{self.place}: {self.change}"


# ---- making them ------------------------------------------------------------------------------


def of_cell(lesson: str, cell_id: str, source: str) -> list[Mutant]:
    """Return the mutants of one grade cell."""
    return list(_mutants(f"{lesson} {cell_id}", ast.parse(source), in_cell=True))


def of_library() -> list[Mutant]:
    """Return the mutants of every function of ``firstcnn.check``."""
    found = []
    for module in _modules():
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                place = f"{module.__name__.rpartition('.')[2]}.{node.name}"
                alone = ast.Module([node], [])
                found += _mutants(place, alone, in_cell=False)
    return found


def _modules() -> list[types.ModuleType]:
    package = firstcnn.check
    return [
        importlib.import_module(f"{package.__name__}.{one.name}")
        for one in pkgutil.iter_modules(package.__path__)
    ]


def _mutants(place: str, tree: ast.Module, *, in_cell: bool) -> Iterator[Mutant]:
    """Yield a mutant for each change to each node of a tree."""
    nodes = list(ast.walk(tree))
    seen: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for change, apply in _changes(node, in_cell):
            changed = copy.deepcopy(tree)
            twin = list(ast.walk(changed))[index]
            if apply is None:
                _Without(twin).visit(changed)
            else:
                apply(twin)
            source = ast.unparse(ast.fix_missing_locations(changed))
            seen[change] = seen.get(change, 0) + 1
            number = f" ({seen[change]})" if seen[change] > 1 else ""
            lines = range(0) if in_cell else range(node.lineno, node.end_lineno + 1)
            yield Mutant(place, change + number, source, lines)


#: What is said of a change, and what makes it in a copy of the node; None drops the statement.
Change = tuple[str, Callable[[Any], None] | None]


class _Without(ast.NodeTransformer):
    """Put a statement that does nothing in place of one."""

    def __init__(self, statement: ast.stmt) -> None:
        self._statement = statement

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.Pass() if node is self._statement else self.generic_visit(node)


def _changes(node: ast.AST, in_cell: bool) -> Iterator[Change]:
    """Yield what can be taken out of a node, or weakened in it."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and _ends(node.value, in_cell)):
        yield f"without {_short(node)}", None
    elif isinstance(node, ast.BoolOp):
        for i, operand in enumerate(node.values):
            word = "and" if isinstance(node.op, ast.And) else "or"
            yield f"without '{word}' {_short(operand)}", lambda twin, i=i: twin.values.pop(i)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        opposite = _NEGATED[type(node.ops[0])]
        yield f"opposite of {_short(node)}", lambda twin: twin.ops.__setitem__(0, opposite())
    elif isinstance(node, ast.Call):
        yield from _call_changes(node, in_cell)


def _call_changes(node: ast.Call, in_cell: bool) -> Iterator[Change]:
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if called in ("all", "any"):
        other = "any" if called == "all" else "all"
        field = "attr" if isinstance(node.func, ast.Attribute) else "id"
        yield f"{other} for {_short(node)}", lambda twin: setattr(twin.func, field, other)
    if not (in_cell and _is_check(node)):
        return
    for i, keyword in enumerate(node.keywords):
        if keyword.arg not in _NOT_CONDITIONS | _NEEDED.get(called, set()):
            what = f"{called}({_short(node.args[0])}) without {keyword.arg}"
            yield what, lambda twin, i=i: twin.keywords.pop(i)
        weaker = {"tolerance": 1e9, "at_least": 0.0}.get(keyword.arg)
        if weaker is not None:
            yield (
                f"{called}({_short(node.args[0])}) with {keyword.arg} {weaker:g}",
                lambda twin, i=i, to=weaker: setattr(twin.keywords[i], "value", ast.Constant(to)),
            )
        yield from _fewer(node, i, keyword)


def _fewer(node: ast.Call, i: int, keyword: ast.keyword) -> Iterator[Change]:
    """Yield a check with one case only, and with one slip less."""
    value, what = keyword.value, _short(node.args[0])
    if keyword.arg == "cases":

        def first(twin: ast.Call) -> None:
            old = twin.keywords[i].value
            kept = ast.Call(ast.Name("list", ast.Load()), [old], [])
            twin.keywords[i].value = ast.Subscript(
                kept, ast.Slice(None, ast.Constant(1)), ast.Load()
            )

        yield f"{what} with its first case only", first
    if isinstance(value, ast.Dict) and keyword.arg == "like" and len(value.keys) > 1:

        def first_key(twin: ast.Call) -> None:
            mapping = twin.keywords[i].value
            del mapping.keys[1:], mapping.values[1:]

        yield f"{what} with its first answer only", first_key
    if isinstance(value, ast.Dict) and keyword.arg == "slips":
        for k, message in enumerate(value.values):

            def without(twin: ast.Call, k: int = k) -> None:
                mapping = twin.keywords[i].value
                del mapping.keys[k], mapping.values[k]

            yield f"{what} without the slip {_short(message)}", without


def _is_check(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "check"
    )


def _ends(node: ast.expr, in_cell: bool) -> bool:
    """Tell whether a statement can fail an answer."""
    if in_cell:
        return _is_check(node)
    called = getattr(node, "func", None)
    return isinstance(called, ast.Name) and (
        called.id == "fail" or called.id.startswith(("_check", "require"))
    )


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else text[:67] + "..."


# ---- trying them ------------------------------------------------------------------------------


@dataclass
class _Ran:
    """An answer that has been run, and what its cell and those before it have left."""

    exercise: Exercise
    answer: Answer
    names: dict[str, Any]
    #: Lines of ``firstcnn.check`` that its checks went through, by module.
    reached: set[tuple[str, int]]


class _TooLong(BaseException):
    pass


def _run_answers(exercises: Iterable[Exercise], release: NotebookNode) -> list[_Ran]:
    """Run the answers of a lesson, each on its own copy of what the cells before it leave."""
    exercises = list(exercises)
    by_cell = {exercise.cell: exercise for exercise in exercises}
    codes = [answer.code for exercise in exercises for answer in exercise.answers]
    needed = needed_cells(release, codes)
    before: dict[str, Any] = {"__name__": "__main__"}
    ran = []
    for cell in release.cells:
        if cell.id in needed:
            _execute(cell.source, before)
        elif cell.id in by_cell:
            exercise = by_cell[cell.id]
            for answer in exercise.answers:
                names = _own(before)
                with contextlib.suppress(Exception):
                    _execute(answer.code, names)
                ran.append(_Ran(exercise, answer, names, set()))
    return ran


def _own(names: dict[str, Any]) -> dict[str, Any]:
    """Copy a namespace so that an answer cannot change what the next one finds."""
    own = {}
    for key, value in names.items():
        if isinstance(value, np.ndarray) and value.nbytes > LARGE:
            own[key] = value.view()
            own[key].flags.writeable = False
        elif isinstance(value, np.ndarray | list | dict) and key != "__builtins__":
            own[key] = copy.deepcopy(value)
        elif key != "__builtins__":
            own[key] = value
    return own


def _execute(source: str, names: dict[str, Any]) -> str:
    """Run a cell, and return what it wrote to stderr."""
    stderr = io.StringIO()
    # As in a notebook, the source can be found again: Keras asks for a lambda's.
    place = f"<cell {hash(source)}>"
    linecache.cache[place] = len(source), None, source.splitlines(keepends=True), place
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr):
        exec(compile(source, place, "exec"), names)
    return stderr.getvalue()


def _verdict(ran: _Ran, checks: dict[str, str], before: Graded | None = None) -> Graded:
    """Grade an answer with the given grade cells, as the notebook's kernel would.

    What other cells of the exercise say is taken from `before`.
    """
    points, messages, stderr = {}, {}, {}
    for check, source in checks.items():
        try:
            signal.alarm(CHECK_TIMEOUT)
            if said := _execute(source, dict(ran.names)):
                stderr[check] = said
            points[check] = ran.exercise.checks[check]
        except CheckFailed as failed:
            points[check] = 0
            messages[check] = "\n".join(failed._render_traceback_())
        except Exception as error:
            points[check] = 0
            messages[check] = f"{type(error).__name__}: {error}"
            if isinstance(error, NameError) and _at_top(error):
                messages[check] = "\n".join(missing(error.name)._render_traceback_())
        except _TooLong:
            points[check] = 0
            messages[check] = f"not done after {CHECK_TIMEOUT} s"
        finally:
            signal.alarm(0)
    if before is not None:
        kept = [check for check in ran.exercise.checks if check not in checks]
        points = before.points | points
        stderr |= {check: before.stderr[check] for check in kept if check in before.stderr}
        said = messages | {c: before.messages[c] for c in kept if c in before.messages}
        messages = {check: said[check] for check in ran.exercise.checks if check in said}
    return Graded(ran.exercise, ran.answer, points, messages, stderr)


def _at_top(error: Exception) -> bool:
    """Tell whether an error was raised by a cell's own lines, and not by a function of it."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_name == "<module>"


def grade_in_process(course: Course, lesson: str, ran: list[_Ran] | None = None) -> list[Graded]:
    """Grade a lesson's answers in this process: quick, and no proof of what nbgrader would do."""
    sources = {cell.id: cell.source for cell in read(course.source(lesson)).cells}
    graded = []
    for one in _run_lesson(course, lesson) if ran is None else ran:
        with _reached_lines(one.reached):
            graded.append(_verdict(one, {check: sources[check] for check in one.exercise.checks}))
    return graded


def _run_lesson(course: Course, lesson: str) -> list[_Ran]:
    with contextlib.suppress(RuntimeError):
        kernel.install()
    matplotlib.use("agg")
    signal.signal(signal.SIGALRM, _too_long)
    return _run_answers(load(course, lesson), read(course.source(lesson)))


def _try_lesson(
    root: Path, lesson: str, functions: Collection[str]
) -> tuple[list[str], dict[str, str | None]]:
    """Return faults of the bank itself, and who catches each mutant that this lesson can reach.

    Of the mutants of ``firstcnn.check``, only those with these names are tried.
    """
    course = Course(root)
    sources = {cell.id: cell.source for cell in read(course.source(lesson)).cells}
    ran = _run_lesson(course, lesson)
    before = grade_in_process(course, lesson, ran)
    faults = [
        f"{lesson} {one.exercise.name}, {one.answer.kind}: {one.answer.label}: {fault}"
        for one in before
        for fault in one.faults
    ]
    exercises = {id(one.exercise): one.exercise for one in ran}.values()
    caught: dict[str, str | None] = {}
    for exercise in exercises:
        mine = [
            (one, was) for one, was in zip(ran, before, strict=True) if was.exercise is exercise
        ]
        for check in exercise.checks:
            for mutant in of_cell(lesson, check, sources[check]):
                caught[mutant.name] = _who_catches(
                    _verdict(one, {check: mutant.source}, was) for one, was in mine
                )
    for mutant in _functions(functions):
        module = mutant.place.split(".")[0]
        lines = {(module, line) for line in mutant.lines}
        reached = [one for one in ran if one.reached & lines]
        with _installed(mutant):
            caught[mutant.name] = _who_catches(
                _verdict(one, {c: sources[c] for c in one.exercise.checks}) for one in reached
            )
    return faults, caught


def _functions(names: Collection[str]) -> list[Mutant]:
    return [mutant for mutant in of_library() if mutant.name in names]


def _try_tests(root: Path, names: Collection[str]) -> dict[str, str | None]:
    """Return which test of ``firstcnn.check`` catches each of these mutants of it."""
    signal.signal(signal.SIGALRM, _too_long)
    caught = {}
    for mutant in _functions(names):
        signal.alarm(TESTS_TIMEOUT)
        with _installed(mutant):
            caught[mutant.name] = check_tests.first_failure(root)
        signal.alarm(0)
    return caught


def _too_long(number: int, frame: Any) -> None:
    raise _TooLong


def _who_catches(graded: Iterable[Graded]) -> str | None:
    """Return the first answer that is not graded as it should be; None if there is none."""
    for one in graded:
        if one.faults:
            return f"{one.exercise.lesson} {one.exercise.name}, {one.answer.label}"
    return None


@contextlib.contextmanager
def _reached_lines(reached: set[tuple[str, int]]) -> Iterator[None]:
    """Record the lines of ``firstcnn.check`` that are run meanwhile."""
    files = {module.__file__: module.__name__.rpartition(".")[2] for module in _modules()}

    def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
        module = files.get(frame.f_code.co_filename)
        if module is None:
            return None
        reached.add((module, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


@contextlib.contextmanager
def _installed(mutant: Mutant) -> Iterator[None]:
    """Let a function of ``firstcnn.check`` be its mutant meanwhile, wherever it was imported."""
    module_name, function_name = mutant.place.split(".")
    module = importlib.import_module(f"firstcnn.check.{module_name}")
    function = getattr(module, function_name)
    future = f"from __future__ import annotations\n{mutant.source}"
    names = dict(vars(module))
    exec(compile(future, f"<{mutant.place}>", "exec"), names)
    before = function.__code__
    function.__code__ = names[function_name].__code__
    try:
        yield
    finally:
        function.__code__ = before


# ---- the report -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """What the bank makes of all mutants.

    Parameters
    ----------
    caught : dict of str to str
        By mutant, the answer that catches it.
    tested : dict of str to str
        By mutant of ``firstcnn.check`` that no answer catches, the test of it that does.
    excused : dict of str to str
        By mutant that nothing catches, the reason that ``survivors.md`` gives.
    survivors : list of str
        The mutants that nothing catches, and for which there is no reason.
    stale : list of str
        What ``survivors.md`` names, and which is caught or does not exist.
    faults : list of str
        Answers that are not graded as they should be without any mutant.
    seconds : float
        Wall time.
    """

    caught: dict[str, str]
    tested: dict[str, str]
    excused: dict[str, str]
    survivors: list[str]
    stale: list[str]
    faults: list[str]
    seconds: float

    @property
    def good(self) -> bool:
        """Whether every mutant is caught or excused, and the bank itself is right."""
        return not (self.survivors or self.stale or self.faults)


def lines(survey: Survey) -> Iterator[str]:
    """Yield a survey as text: what is not as it should be, then the figures."""
    yield from (f"FAULT {fault}" for fault in survey.faults)
    yield from (f"survived: {name}" for name in survey.survivors)
    yield from (f"survivors.md names what is caught or gone: {name}" for name in survey.stale)
    found = len(survey.caught) + len(survey.tested)
    yield (
        f"{found} of {found + len(survey.survivors)} weakened checks caught, {len(survey.caught)} "
        f"by answers and {len(survey.tested)} by the tests of firstcnn.check; "
        f"{len(survey.excused)} more change nothing, as survivors.md says"
    )
    yield f"{survey.seconds:.0f} s"


def survivors_file(course: Course) -> Path:
    """Return the path of the list of mutants that change nothing."""
    return course.root / "tests" / "answers" / "survivors.md"


def reasons(course: Course) -> dict[str, str]:
    """Read ``survivors.md``: items ``- MUTANT`` below the paragraph that says why.

    Raises
    ------
    CourseError
        If an item has no reason above it, or stands there twice.
    """
    found: dict[str, str] = {}
    reason: list[str] = []
    after_items = False
    path = survivors_file(course)
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if line.startswith("- `"):
            name = line[3:].rstrip().removesuffix("`")
            if not reason or name in found:
                raise CourseError(f"{path.name}: no reason for, or twice: {name}")
            found[name] = " ".join(reason)
            after_items = True
        elif line.startswith("#"):
            reason, after_items = [], False
        elif line.strip():
            reason = [line] if after_items else [*reason, line]
            after_items = False
    return found


def survey(
    course: Course,
    lessons: Iterable[str] | None = None,
    *,
    workers: int = 2,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Survey:
    """Try every mutant against the bank.

    Parameters
    ----------
    course : Course
        The checkout.
    lessons : iterable of str, optional
        Some lessons' names; by default all, and only then the mutants of ``firstcnn.check``,
        for which it takes all lessons.
    workers : int, optional
        How many lessons are worked on at a time.
    on_progress : callable, optional
        Called with the number of lessons done, and of all.

    Returns
    -------
    Survey
    """
    start = time.perf_counter()
    chosen = course.choose(lessons)
    functions = [mutant.name for mutant in of_library()] if lessons is None else []
    steps = len(chosen) + TEST_STEPS * bool(functions)
    faults: list[str] = []
    caught: dict[str, str | None] = {}
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        # What others have caught is not tried again: those whose answers take longest come last.
        waiting = sorted(chosen, key=lambda lesson: lesson[:2] in ("05", "06"))
        running: set[Future] = set()
        while waiting or running:
            left = [name for name in functions if not caught.get(name)]
            while waiting and len(running) < workers:
                running.add(pool.submit(_try_lesson, course.root, waiting.pop(0), left))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                more_faults, more = future.result()
                faults += more_faults
                for name, who in more.items():
                    caught[name] = caught.get(name) or who
            on_progress(len(chosen) - len(waiting) - len(running), steps)
        left = [name for name in functions if not caught[name]]
        shares = [left[i::TEST_STEPS] for i in range(TEST_STEPS)] if left else []
        trying = [pool.submit(_try_tests, course.root, share) for share in shares]
        tested: dict[str, str] = {}
        for done, future in enumerate(as_completed(trying), start=len(chosen) + 1):
            tested |= {name: test for name, test in future.result().items() if test}
            on_progress(done, steps)
    known = reasons(course)
    alive = [name for name, who in caught.items() if who is None and name not in tested]
    return Survey(
        caught={name: who for name, who in caught.items() if who},
        tested=tested,
        excused={name: known[name] for name in alive if name in known},
        survivors=[name for name in alive if name not in known],
        stale=[name for name in known if name not in alive and (functions or name in caught)],
        faults=faults,
        seconds=time.perf_counter() - start,
    )
