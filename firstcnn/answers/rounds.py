"""Put answers into a lesson's notebook, so that few notebooks try them all.

A *round* is a submission in which every exercise has one answer, right or wrong. As many
rounds as the exercise with most answers has are enough for each answer to be tried once,
always between answers of other kinds: what an exercise is worth must not depend on them.

Cells that no exercise needs (figures, trainings that are only looked at) are left out of a
round. Which these are is read off the code: see `needed_cells`.
"""

from __future__ import annotations

import ast
import random
import symtable
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from nbformat import NotebookNode

from firstcnn.answers.bank import Answer, Exercise

Round = dict[str, Answer]


def rounds(
    exercises: Sequence[Exercise],
    seed: int = 0,
    slow: Callable[[Answer], bool] = lambda answer: ".fit(" in answer.code,
) -> list[Round]:
    """Deal the answers of a lesson out to rounds.

    Parameters
    ----------
    exercises : sequence of Exercise
        The exercises of one lesson.
    seed : int, optional
        Which answers meet in a round.
    slow : callable, optional
        Tells which answers need a training. They share the first rounds, as far as they can.

    Returns
    -------
    list of dict
        In each round, an answer for each exercise's name; every answer is in one or more.
    """
    chance = random.Random(seed)
    most = max(len(exercise.answers) for exercise in exercises)
    dealt: list[Round] = [{} for _ in range(most)]
    for exercise in exercises:
        answers = list(exercise.answers)
        chance.shuffle(answers)
        trains = [answer for answer in answers if slow(answer)]
        quick = [answer for answer in answers if not slow(answer)]
        # In the rounds that are left it gets one more of those that train nothing.
        quick += [chance.choice(quick) for _ in range(most - len(answers))]
        chance.shuffle(quick)
        for one, answer in zip(dealt, trains + quick, strict=True):
            one[exercise.name] = answer
    return dealt


def notebook(
    release: NotebookNode,
    one: Round,
    *,
    whole: bool = False,
    stand_ins: Mapping[str, str] | None = None,
) -> NotebookNode:
    """Return a released notebook with a round's answers in it.

    Parameters
    ----------
    release : NotebookNode
        The notebook that students get; it is left as it is.
    one : dict of str to Answer
        An answer for each exercise that is to be filled in.
    whole : bool, optional
        Keep every cell, and not only answers, checks and what they need.
    stand_ins : mapping of str to str, optional
        What to run in place of some of the other cells, by their ids.
    """
    needed = needed_cells(release, [answer.code for answer in one.values()])
    filled = release.copy()
    filled.cells = []
    for cell in release.cells:
        graded = cell.metadata.get("nbgrader", {})
        if not (graded or whole or cell.id in needed):
            continue
        copy = NotebookNode(cell)
        name = cell.id.removesuffix("-answer")
        if graded.get("solution") and name in one:
            copy["source"] = one[name].code
        elif not graded and stand_ins and cell.id in stand_ins:
            copy["source"] = stand_ins[cell.id]
        filled.cells.append(copy)
    return filled


def without_training(code: str, weights: str) -> str | None:
    """Return a cell with its network's weights read from a file where it would train it.

    Parameters
    ----------
    code : str
        The cell.
    weights : str
        The path of the file, which ends in ``.weights.h5``.

    Returns
    -------
    str or None
        None if it does not train exactly one network, with a ``NAME.fit(...)`` of its own line.
    """
    tree = ast.parse(code)
    found = [
        (i, statement.value)
        for i, statement in enumerate(tree.body)
        if isinstance(statement, ast.Expr | ast.Assign)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.func, ast.Attribute)
        and statement.value.func.attr == "fit"
        and isinstance(statement.value.func.value, ast.Name)
    ]
    if len(found) != 1 or code.count(".fit(") != 1:
        return None
    ((place, call),) = found
    load = f"{call.func.value.id}.load_weights({weights!r})"
    tree.body[place] = ast.parse(load).body[0]
    return ast.unparse(tree)


def needs_training(release: NotebookNode, answer: Answer) -> bool:
    """Tell whether an answer trains a network, or needs one that a cell before it trains."""
    if ".fit(" in answer.code:
        return True
    needed = needed_cells(release, [answer.code])
    return any(cell.id in needed and ".fit(" in cell.source for cell in release.cells)


def needed_cells(release: NotebookNode, codes: Iterable[str]) -> set[str]:
    """Return the ids of the ungraded code cells that answers depend on.

    A cell is needed if it binds or changes a name that an answer, or a needed cell after it,
    reads. To change is taken widely: ``name.method(...)`` as a statement, an assignment to a
    part of it, and ``name.fit(...)`` anywhere all count.

    Parameters
    ----------
    release : NotebookNode
        The notebook that students get.
    codes : iterable of str
        Answers to its exercises. Those that are not Python read nothing.
    """
    modules = _imported(release.cells)
    code = [cell for cell in release.cells if cell.cell_type == "code"]
    by_id = {cell.id: cell.source for cell in code if not cell.metadata.get("nbgrader")}
    wanted = set().union(*(_reads(one) for one in codes))
    needed: set[str] = set()
    while True:
        # A function reads its names when it is called, wherever they were bound.
        late = set().union(*(_late_reads(one) for one in [*codes, *map(by_id.get, needed)]))
        found = _pass(code, wanted, late, modules)
        if found == needed:
            return needed
        needed = found


def _pass(
    code: Sequence[NotebookNode], wanted: set[str], late: set[str], modules: set[str]
) -> set[str]:
    """Go once from the last cell to the first, and collect those that are needed."""
    needed, below = set(), set(wanted)
    for cell in reversed(code):
        if cell.metadata.get("nbgrader"):
            # An answer may leave a name as it was: it settles nothing for the cells above.
            below |= wanted
            continue
        binds, changes = _writes(cell.source)
        if (below | late) & (binds | changes - modules):
            needed.add(cell.id)
            below = (below - binds) | _reads(cell.source)
    return needed


@cache
def _parse(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except SyntaxError:
        return []


def _names(node: ast.AST, kind: type) -> set[str]:
    return {
        one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, kind)
    }


def _imported(cells: Iterable[NotebookNode]) -> set[str]:
    """Return the names of modules: calling a function of one changes no object of a cell."""
    found = set()
    for cell in cells:
        for statement in _parse(cell.source) if cell.cell_type == "code" else ():
            if isinstance(statement, ast.Import | ast.ImportFrom):
                found |= _bound_by(statement)
    return found


def _bound_by(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    inner = [one.target for one in ast.walk(statement) if isinstance(one, ast.comprehension)]
    return _names(statement, ast.Store) - set().union(*(_names(one, ast.Store) for one in inner))


@cache
def _reads(code: str) -> frozenset[str]:
    """Return the names that a cell reads before it binds them, those in its functions too."""
    reads, bound = set(), set()
    for statement in _parse(code):
        table = symtable.symtable(ast.unparse(statement), "cell", "exec")
        reads |= _global_reads(table) - bound
        if isinstance(statement, ast.AugAssign):
            reads |= _names(statement.target, ast.Store) - bound
        bound |= _bound_by(statement)
    return frozenset(reads)


@cache
def _late_reads(code: str) -> frozenset[str]:
    """Return the names that the functions of a cell read when they are called."""
    table = symtable.symtable(code, "cell", "exec") if _parse(code) else None
    return frozenset().union(*map(_global_reads, table.get_children() if table else ()))


def _global_reads(table: symtable.SymbolTable) -> set[str]:
    top = table.get_type() == "module"
    reads = {
        one.get_name()
        for one in table.get_symbols()
        if one.is_referenced() and (top or one.is_global())
    }
    return reads.union(*(_global_reads(inner) for inner in table.get_children()))


@cache
def _writes(code: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a cell binds, and those whose objects it may change."""
    binds, changes = set(), set()
    for statement in _parse(code):
        binds |= _bound_by(statement)
        alone = {id(one.value) for one in ast.walk(statement) if isinstance(one, ast.Expr)}
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
                changes |= _names(node, ast.Load)
            # A method's value may be thrown away or kept: network.fit(...) trains either way.
            method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if method and (id(node) in alone or node.func.attr in ("fit", "compile")):
                changes |= _names(node.func.value, ast.Load)
    return frozenset(binds), frozenset(changes)
