"""The order of a submission's cells: what the student wrote, with the checks in their places.

Cells stay where the student has them. Each answer is followed by its checks: where the student
has them, if that is behind the answer and before the next one; otherwise right behind the answer.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from nbformat import NotebookNode, from_dict
from nbgrader.utils import compute_checksum

from firstcnn.grading.lesson import Lesson, bare
from firstcnn.grading.reading import Cell

__all__ = ["Order", "Spot"]

_MARKS = ("grade", "solution", "locked", "task", "points")


@dataclass
class Spot:
    """A place in a notebook.

    Parameters
    ----------
    cell : Cell or None
        The student's cell; None where the release's own stands.
    label : str or None
        The name of the marked cell that it is; None for a cell of the student's own.
    """

    cell: Cell | None
    label: str | None = None


class Order:
    """The cells of a submission, arranged.

    Parameters
    ----------
    cells : list of Cell
        The cells as they were handed in.
    lesson : Lesson
        What was released.

    Attributes
    ----------
    spots : list of Spot
        Every marked cell once, and the student's own cells.
    notes : dict of str to list of str
        What was found, and the marked cells that it was found of.
    """

    def __init__(self, cells: list[Cell], lesson: Lesson) -> None:
        self.cells, self.lesson = cells, lesson
        self.notes: dict[str, list[str]] = defaultdict(list)
        labels = lesson.labels(cells)
        self._at: dict[str, list[int]] = {name: [] for name in lesson.marked}
        for index, label in enumerate(labels):
            if label is not None:
                self._at[label].append(index)
        # For each cell, what stands in its place: nothing, one cell, or an answer and its check.
        self._kept = [[Spot(cell, label)] for cell, label in zip(cells, labels, strict=True)]
        for name in lesson.open:
            self._choose_answer(name)
        for name in lesson.home:
            self._choose_check(name)
        self.spots = [spot for spots in self._kept for spot in spots]
        for name in lesson.open:
            if not self._at[name]:
                self._find_answer(name)
        self._place_checks()

    # ---- of several copies, one -----------------------------------------------------------

    def _choose_answer(self, name: str) -> None:
        """Of several copies, take the last before the check; the others are ordinary cells."""
        at = self._at[name]
        if len(at) == 1 and _has_other_marks(self.cells[at[0]], self.lesson.marked[name]):
            self.notes["marks"].append(name)
        if len(at) < 2:
            return
        self.notes["several"].append(name)
        answered = [
            i
            for i in at
            if self.cells[i].source is not None
            and not self.lesson.is_as_released(self.cells[i], name)
        ] or at
        checks = [i for check in self.lesson.fixed(name) for i in self._at[check]]
        before = [i for i in answered if not checks or i < min(checks)]
        chosen = (before or answered)[-1]
        said = {"", bare(self.cells[chosen].source)}
        for i in at:
            if i != chosen:
                differs = i in answered and bare(self.cells[i].source) not in said
                self._kept[i] = [Spot(self.cells[i])] if differs else []

    def _choose_check(self, name: str) -> None:
        """Keep the places where a fixed cell stood, and what else a student wrote in it."""
        at, original = self._at[name], self.lesson.marked[name]
        exact = [
            i
            for i in at
            if self.lesson.is_as_released(self.cells[i], name)
            and self.cells[i].kind == original.cell_type
        ]
        for i in at:
            stood = i in (exact or at[:1])
            self._kept[i] = [Spot(None, name)] if stood else self._extra(i, name)
        if not at:
            return
        home = self.lesson.home[name]
        if home is not None and not exact and not self._at[home] and self._extra(at[0], name):
            self._kept[at[0]].insert(0, Spot(self._extra(at[0], name)[0].cell, home))
            self._at[home] = at[:1]
            self.notes["merged"].append(home)
        elif len(at) > 1:
            self.notes["copied"].append(name)
        elif not exact:
            untouched = _is_untouched(self.cells[at[0]])
            self.notes["edition" if untouched else "changed"].append(name)
        elif _has_other_marks(self.cells[at[0]], original):
            self.notes["marks"].append(name)

    def _extra(self, index: int, name: str) -> list[Spot]:
        """Return what a student wrote into a copy of a fixed cell, as a cell of their own."""
        cell, original = self.cells[index], bare(self.lesson.marked[name].source)
        text = bare(cell.source)
        rest = bare(text.replace(original, ""))
        if cell.kind != "code" or text in original or not rest or self.lesson.is_fixed(rest):
            return []
        return [Spot(Cell("code", rest))]

    # ---- answers that have lost their names -------------------------------------------------

    def _find_answer(self, name: str) -> None:
        """Give a missing answer a place, and the code that stands there if there is any."""
        checks = self.lesson.fixed(name)
        stood = [i for i, spot in enumerate(self.spots) if spot.label in checks]
        at = stood[0] if stood else self._between(name)
        if stood:
            for i in range(at - 1, -1, -1):
                spot = self.spots[i]
                if self.lesson.index(spot.cell, spot.label) is not None:
                    break
                if spot.cell.kind == "code" and bare(spot.cell.source):
                    spot.label = name
                    self.notes["adopted"].append(name)
                    return
        self.spots.insert(at, Spot(Cell(self.lesson.marked[name].cell_type, ""), name))
        self.notes["unanswered"].append(name)

    def _between(self, name: str) -> int:
        """Return the place of a marked cell of which nothing is left, by its neighbours'.

        It is behind the nearest earlier cell of the lesson that is there, and behind what the
        student wrote after that.
        """
        own = self.lesson.index(None, name)
        known = [self.lesson.index(spot.cell, spot.label) for spot in self.spots]
        earlier = [(there, i) for i, there in enumerate(known) if there is not None and there < own]
        at = max(earlier)[1] + 1 if earlier else 0
        while at < len(known) and known[at] is None:
            at += 1
        return at

    # ---- checks behind their answers ----------------------------------------------------------

    def _place_checks(self) -> None:
        placed: list[Spot] = []
        home, waiting = None, []
        seen = set()
        for spot in self.spots:
            if spot.label not in self.lesson.home:
                if spot.label is not None:
                    self._insert(placed, home, waiting)
                    home, waiting = spot.label, self.lesson.fixed(spot.label)
                placed.append(spot)
            elif spot.label in waiting:  # behind its answer: it may stay
                before = waiting.index(spot.label)
                self._insert(placed, home, waiting[:before])
                placed.append(spot)
                del waiting[: before + 1]
            elif self.lesson.home[spot.label] is None and spot.label not in seen:
                seen.add(spot.label)
                placed.append(spot)
        self._insert(placed, home, waiting)
        self.spots = placed
        for name, its in self.lesson.home.items():
            if its is None and name not in seen:
                self.spots.insert(self._between(name), Spot(None, name))
                self.notes["missing"].append(name)

    def _insert(self, placed: list[Spot], home: str | None, names: list[str]) -> None:
        """Put the checks that have no good place behind their answer and its other checks."""
        if not names:
            return
        family = {home, *self.lesson.fixed(home)}
        at = max(i for i, spot in enumerate(placed) if spot.label in family) + 1
        placed[at:at] = [Spot(None, name) for name in names]
        for name in names:
            self.notes["moved" if self._at[name] else "missing"].append(name)


def _has_other_marks(cell: Cell, original: NotebookNode) -> bool:
    """Tell whether nbgrader's metadata say something else than they did."""
    theirs = original.metadata.nbgrader
    return cell.grade_id != theirs.grade_id or any(
        cell.marks.get(key, False) != theirs.get(key, False) for key in _MARKS
    )


def _is_untouched(cell: Cell) -> bool:
    """Tell whether a cell is as nbgrader released it, by the checksum that it carries."""
    try:
        node = from_dict(
            {"cell_type": cell.kind, "source": cell.source, "metadata": {"nbgrader": cell.marks}}
        )
        return cell.marks.get("checksum") == compute_checksum(node)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return False
