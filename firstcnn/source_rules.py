"""What a notebook in ``source/`` must be like, so that diffs stay readable and grades right."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

POINTS = 10
EXERCISES = range(4, 9)
LONGEST_CODE = 15
TAGS = {"nbval-ignore-output"}

_WORDS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}.*")
_TWO_SENTENCES = re.compile(r"[a-z0-9`*_)\]][.!?] +[A-Z`*]")
_ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|vs|cf|et al|Fig|approx)\.")


def canonical(notebook: NotebookNode) -> str:
    """Return a notebook as it should be written: no outputs, no counts, nbformat's own order.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook; it is changed.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in ("nbgrader", "tags") if cell.metadata.get(key)}
        )
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def name_cells(notebook: NotebookNode) -> None:
    """Give every cell an id made of words: its grade_id, or its own first words.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook; ids that are words already are kept.
    """
    taken: set[str] = set()
    for cell in notebook.cells:
        wanted = cell.metadata.get("nbgrader", {}).get("grade_id") or cell.get("id", "")
        if not _is_words(wanted):
            words = re.findall(r"[a-z][a-z0-9]*", cell.source.lower())[:4]
            wanted = "-".join(words) or "cell"
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}-{number}", number + 1
        cell["id"] = name
        taken.add(name)


def problems(path: Path) -> list[str]:
    """Tell what is wrong with a notebook in ``source/``.

    Parameters
    ----------
    path : pathlib.Path
        The notebook.

    Returns
    -------
    list of str
        One line for each problem, with the cell that has it; empty if there is none.
    """
    text = path.read_text(encoding="utf-8")
    # nbformat.reads would give a repeated id a new, random name: what is written must be seen.
    notebook = v4.reads_json(text)
    found = []
    cells = notebook.cells
    for cell in cells:
        found += [f"cell {cell.get('id')}: {line}" for line in _cell_problems(cell)]
    ids = [cell.get("id") for cell in cells]
    found += [
        f"the cell id {one} is used twice" for one in sorted({i for i in ids if ids.count(i) > 1})
    ]
    found += list(_exercise_problems(cells))
    if not found and canonical(v4.reads_json(text)) != text:
        found.append("it is not in canonical form; run `firstcnn tidy`")
    return found


def _is_words(cell_id: str) -> bool:
    return bool(_WORDS.fullmatch(cell_id)) and not _RANDOM.fullmatch(cell_id)


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    if not _is_words(cell.get("id", "")):
        yield "its id is not made of words"
    if cell.get("outputs") or cell.get("execution_count"):
        yield "it holds outputs or a count; run `firstcnn tidy`"
    unknown = set(cell.metadata) - {"nbgrader", "tags"} | set(cell.metadata.get("tags", [])) - TAGS
    if unknown:
        yield f"unknown metadata: {', '.join(sorted(unknown))}"
    if not cell.source.strip():
        yield "it is empty"
    graded = cell.metadata.get("nbgrader")
    if graded and graded.get("grade_id") != cell.get("id"):
        yield f"its grade_id is {graded.get('grade_id')!r}, and should equal its id"
    if cell.cell_type == "markdown":
        yield from _prose_problems(cell.source)
    else:
        yield from _keras_problems(cell.source)
    too_long = len(cell.source.splitlines()) > LONGEST_CODE
    if cell.cell_type == "code" and not graded and too_long:
        yield f"it has more than {LONGEST_CODE} lines"


def _keras_problems(source: str) -> Iterator[str]:
    """Refuse progress bars: their control characters fill a notebook, and never twice alike."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in ("fit", "evaluate", "predict"):
            verbose = {one.arg: one.value for one in node.keywords}.get("verbose")
            if getattr(verbose, "value", None) not in (0, 2):
                yield f"{node.func.attr} draws a progress bar; give it verbose=0 or verbose=2"


def _prose_problems(source: str) -> Iterator[str]:
    fenced = False
    for number, line in enumerate(source.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        plain = re.sub(r"`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)", "x", line)
        if fenced or line.lstrip().startswith(("|", "#")):
            continue
        if _TWO_SENTENCES.search(_ABBREVIATIONS.sub("x", plain)):
            yield f"line {number} holds more than one sentence"


def _exercise_problems(cells: list[NotebookNode]) -> Iterator[str]:
    checks = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
    answers = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("solution")]
    points = sum(cell.metadata.nbgrader.points for cell in checks)
    if points != POINTS:
        yield f"its exercises are worth {points} points, not {POINTS}"
    if len(answers) not in EXERCISES:
        yield f"it has {len(answers)} exercises, not {EXERCISES.start} to {EXERCISES.stop - 1}"
    yield from _pairing_problems(cells)
    answered = set().union(*(assigned_names(cell.source) for cell in answers), set())
    for cell in answers:
        if "### BEGIN SOLUTION" not in cell.source:
            yield f"cell {cell.id}: no ### BEGIN SOLUTION"
    for cell in checks:
        yield from (f"cell {cell.id}: {line}" for line in check_problems(cell, answered))


def _pairing_problems(cells: list[NotebookNode]) -> Iterator[str]:
    """Tell where answers and their checks are not named and placed as pairs.

    The checks of ``NAME-answer`` are ``NAME-check`` and, where an exercise has parts that earn
    points of their own, ``NAME-PART-check``; they stand behind it and before the next answer.
    """
    answer, checked = None, True
    for cell in cells:
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("solution"):
            if not checked:
                yield f"cell {answer}: no check behind it"
            answer, checked = cell.id, False
            if not cell.id.endswith("-answer"):
                yield f"cell {cell.id}: an answer's id ends in -answer"
        elif graded.get("grade"):
            stem = (answer or "").removesuffix("-answer")
            named = cell.id == f"{stem}-check" if not checked else cell.id.startswith(f"{stem}-")
            if answer is None or not named or not cell.id.endswith("-check"):
                yield f"cell {cell.id}: not named for the answer before it, {answer}"
            checked = True
    if not checked:
        yield f"cell {answer}: no check behind it"


def assigned_names(source: str) -> set[str]:
    """Return the names that a cell's own top level binds."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def check_problems(cell: NotebookNode, answered: set[str]) -> Iterator[str]:
    """Tell in what a grade cell could not be judged apart from the student's process.

    Parameters
    ----------
    cell : NotebookNode
        The grade cell.
    answered : set of str
        The names that answer cells bind; no others may be taken from outside.
    """
    if cell.metadata.nbgrader.get("solution"):
        yield "it is an answer and a check in one"
    if "### BEGIN HIDDEN TESTS" not in cell.source:
        yield "it has no hidden tests"
    if "\nassert " in f"\n{cell.source}" or re.search(r"^\s+assert ", cell.source, re.MULTILINE):
        yield "it has a bare assert; use firstcnn.check"
    tree = ast.parse(cell.source)
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    outside = used - assigned_names(cell.source) - set(dir(builtins)) - answered
    if outside:
        yield f"it takes {', '.join(sorted(outside))} from cells that are not answers"
    forbidden = used & {"globals", "locals", "vars", "eval", "exec", "get_ipython", "open"}
    if forbidden:
        yield f"it reaches around the check: {', '.join(sorted(forbidden))}"
    visible = cell.source.split("### BEGIN HIDDEN TESTS")[0]
    for part, code in (("it", cell.source), ("its visible part", visible)):
        body = ast.parse(code).body
        if not body or not any(_is_check(node) for node in ast.walk(ast.parse(code))):
            yield f"{part} has no check"
        elif isinstance(body[-1], ast.Expr) and not _is_check(body[-1].value):
            yield f"{part} ends in an expression, which nbgrader would read as partial credit"


def _is_check(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "check"
    )
