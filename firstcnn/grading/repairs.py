"""A student's notebook, put in order by the one that was released.

What decides about points comes from the release: the checks, where they stand, what they are
worth. From the student come the answers, and cells of their own, which run but earn nothing.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, replace
from typing import Any

from nbformat import NotebookNode, from_dict

from firstcnn.grading.lesson import Lesson, bare
from firstcnn.grading.order import Order, Spot
from firstcnn.grading.reading import Cell, Draft
from firstcnn.grading.sanitise import fenced, sanitise_markdown

__all__ = ["Prepared", "quoted", "refused", "repair"]

_SENTENCES = {
    "changed": (
        "The check {} had been changed: the original was graded.",
        "The checks {} had been changed: the originals were graded.",
    ),
    "edition": (
        "The check {} was of another edition of this lesson: the present one was graded.",
        "The checks {} were of another edition of this lesson: the present ones were graded.",
    ),
    "missing": (
        "The check {} was missing: it was put back.",
        "The checks {} were missing: they were put back.",
    ),
    "moved": (
        "The check {} was not in its place: it was put back behind its answer.",
        "The checks {} were not in their places: they were put back behind their answers.",
    ),
    "copied": (
        "The check {} stood in several cells: the original was graded, once.",
        "The checks {} stood in several cells: the originals were graded, once.",
    ),
    "several": (
        "The answer {} stood in several cells: all that differ were run, in order.",
        "The answers {} stood in several cells: all that differ were run, in order.",
    ),
    "merged": (
        "The answer {} stood in the cell of its check: it was given a cell of its own.",
        "The answers {} stood in the cells of their checks: they were given cells of their own.",
    ),
    "adopted": (
        "The answer {} had lost its name: the code in front of its check was taken for it.",
        "The answers {} had lost their names: the code in front of their checks was taken.",
    ),
    "unanswered": (
        "The answer cell {} was missing: an empty one stands in its place.",
        "The answer cells {} were missing: empty ones stand in their places.",
    ),
    "marks": (
        "What nbgrader notes on {} had been changed or lost: it is as it was.",
        "What nbgrader notes on {} had been changed or lost: it is as it was.",
    ),
    "kind": (
        "The answer cell {} had been given another type: it has its own again.",
        "The answer cells {} had been given other types: they have their own again.",
    ),
}

#: More cells of a student's own prose than this are shown as plain text: to look for harm in
#: each takes up to half a second.
_MOST_PROSE = 200

#: Characters of a student's own cells, all together: pages are made of them.
_MOST_OWN = 2_000_000

_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass
class Prepared:
    """A submitted notebook, ready to be graded.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook: the release's cells and the student's answers, without outputs.
    repairs : list of str
        What was put in order, a sentence each, for the student; markdown.
    refusals : dict of str to str
        By the name of a check, the reason why it must earn no points, whatever it would say.
        The name "" stands for all checks: then `notebook` is the untouched one.
    """

    notebook: NotebookNode
    repairs: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)


def quoted(name: str) -> str:
    """Return a name that a student chose, short and harmless, as code in markdown."""
    plain = "".join(one if one.isprintable() and one not in "`<>&$|\\" else "?" for one in name)
    return f"`{plain if len(plain) <= 60 else plain[:40] + '...' + plain[-15:]}`"


def refused(lesson: Lesson, reason: str) -> Prepared:
    """Return the untouched notebook in place of one that cannot be graded."""
    return Prepared(lesson.blank(), [], {"": reason})


def repair(draft: Draft, lesson: Lesson) -> Prepared:
    """Put a notebook in order.

    Parameters
    ----------
    draft : Draft
        The notebook as it was read.
    lesson : Lesson
        What was released.

    Returns
    -------
    Prepared
        Repairing its notebook again changes nothing.
    """
    order = Order(draft.cells, lesson)
    prose = [cell for cell in draft.cells if cell.kind != "code" and cell.source is not None]
    crowded = sum(bare(cell.source) not in lesson.prose for cell in prose) > _MOST_PROSE
    refusals: dict[str, str] = {}
    repairs = [*draft.repairs, *_about_kernel(draft, lesson), *_about_tags(draft, lesson)]
    cells = []
    left = _MOST_OWN
    for spot in order.spots:
        if spot.label is None:
            left -= len(spot.cell.source or "")
            cell = spot.cell if left >= 0 else replace(spot.cell, source=None)
            cells.append(_own(cell, lesson, repairs, crowded))
        else:
            cells.append(_marked(spot, lesson, order.notes, refusals, crowded))
    about = [
        _sentence(kind, [name for name in lesson.marked if name in order.notes[kind]])
        for kind in _SENTENCES
        if order.notes[kind]
    ]
    notebook = lesson.blank()
    notebook.cells = _with_ids([cell for cell in cells if cell is not None], lesson, repairs)
    return Prepared(notebook, list(dict.fromkeys([*about, *repairs])), refusals)


def _sentence(kind: str, names: list[str]) -> str:
    shown = [f"`{name}`" for name in names]
    joined = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    return _SENTENCES[kind][len(names) > 1].format(joined)


# ---- cells ------------------------------------------------------------------------------------


def _marked(
    spot: Spot,
    lesson: Lesson,
    notes: dict[str, list[str]],
    refusals: dict[str, str],
    crowded: bool,
) -> NotebookNode:
    """Return the release's cell; if it is an answer, with the student's text."""
    made = copy.deepcopy(lesson.marked[spot.label])
    if spot.label in lesson.home:
        return made
    if spot.cell.kind != made.cell_type:
        notes["kind"].append(spot.label)
    if spot.cell.source is None:
        reason = f"The answer cell `{spot.label}` holds no text, or far too much: it was left out."
        refusals.update(dict.fromkeys(lesson.graded_by(spot.label), reason))
    made.source = spot.cell.source or ""
    if made.cell_type == "markdown":
        made.update(_prose(spot.cell, lesson, crowded))
    return made


def _own(cell: Cell, lesson: Lesson, repairs: list[str], crowded: bool) -> NotebookNode | None:
    """Return a cell that earns nothing: what the student ran, or wrote for a reader."""
    if cell.source is None:
        repairs.append("Some cells held no text, or far too much: they were left out.")
        return None
    made = {"cell_type": cell.kind, "metadata": {}, "source": cell.source, "id": cell.cell_id}
    if cell.kind == "code":
        made |= {"outputs": [], "execution_count": None}
    elif cell.kind == "raw" and bare(cell.source) != "":
        # nbconvert puts raw cells on the page as they are: as HTML.
        made |= {"cell_type": "markdown", "source": fenced(cell.source)}
        repairs.append("Raw cells are shown as plain text.")
    else:
        made |= {"cell_type": "markdown", **_prose(cell, lesson, crowded)}
        if bare(made["source"]) != bare(cell.source):
            repairs.append("HTML, links or pictures that could do harm are shown as plain text.")
    return from_dict(made)


def _prose(cell: Cell, lesson: Lesson, crowded: bool) -> dict[str, Any]:
    """Return the source and the attachments of markdown, safe to show. The lesson's own are."""
    source, attachments = cell.source or "", cell.attachments
    if bare(source) in lesson.prose:
        original = lesson.prose[bare(source)]
        source, attachments = original.source, original.get("attachments")
    elif crowded:
        source = fenced(source)
    else:
        source = sanitise_markdown(
            source, attachments, trusted=lesson.prose_lines, reserved=lesson.reserved
        )
    # A page cannot be made at all when a picture that is mentioned is missing.
    return {"source": source} | ({"attachments": attachments} if attachments else {})


def _with_ids(cells: list[NotebookNode], lesson: Lesson, repairs: list[str]) -> list[NotebookNode]:
    """Give every cell an id of its own; marked cells have the release's."""
    taken = {cell.get("id") for cell in lesson.marked.values()}
    number = 0
    for cell in cells:
        if "nbgrader" in cell.metadata:
            continue
        if not _CELL_ID.fullmatch(cell.id or "") or cell.id in taken:
            repairs.append("Some cells had no name of their own: they were given one.")
            while f"own-{number}" in taken:
                number += 1
            cell.id = f"own-{number}"
        taken.add(cell.id)
    return cells


# ---- the notebook -----------------------------------------------------------------------------


def _about_kernel(draft: Draft, lesson: Lesson) -> list[str]:
    wanted = lesson.notebook.metadata.get("kernelspec", {}).get("name", "")
    language = lesson.notebook.metadata.get("language_info", {}).get("name", "python")
    if draft.language.lower() not in ("", language, f"i{language}"):
        return [f"The notebook's language was {quoted(draft.language)}: it was run as {language}."]
    if draft.kernel not in ("", wanted):
        return [f"The notebook asked for the kernel {quoted(draft.kernel)}: it got the course's."]
    return []


def _about_tags(draft: Draft, lesson: Lesson) -> list[str]:
    found = {tag for cell in draft.cells for tag in cell.tags} - lesson.tags
    if not found:
        return []
    shown = ", ".join(quoted(tag) for tag in sorted(found)[:5])
    return [f"Tags were taken off cells: {shown}{' and others' if len(found) > 5 else ''}."]
