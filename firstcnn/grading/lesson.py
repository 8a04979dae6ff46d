"""What a released notebook fixes, and which of its cells a student's cells are."""

from __future__ import annotations

import copy
from collections import defaultdict

from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_locked, is_solution, is_task

from firstcnn.grading.reading import Cell, Draft

__all__ = ["Lesson", "bare"]


def bare(source: str | None) -> str:
    """Leave out the white space that editors add and remove at the ends of lines."""
    return "\n".join(line.rstrip() for line in (source or "").strip("\n").split("\n"))


class Lesson:
    """A released notebook.

    Its *marked* cells have a name in nbgrader. They are *fixed* (checks, and whatever else nobody
    may edit) or *open* (answers). The *home* of a fixed cell is the open one before it.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook as students get it.
    """

    def __init__(self, notebook: NotebookNode) -> None:
        self.notebook = notebook
        self.marked: dict[str, NotebookNode] = {}
        self.home: dict[str, str | None] = {}
        self._place: dict[str, int] = {}
        self._by_id: dict[str, str] = {}
        self._by_source: dict[str, list[str]] = defaultdict(list)
        self._ordinary: dict[str, int] = {}
        self._ordinary_ids: dict[tuple[str, str], int] = {}
        home = None
        for index, cell in enumerate(notebook.cells):
            if not (is_grade(cell) or is_solution(cell) or is_locked(cell) or is_task(cell)):
                self._ordinary.setdefault(bare(cell.source), index)
                self._ordinary_ids[cell.get("id"), cell.cell_type] = index
                continue
            name = cell.metadata.nbgrader.grade_id
            self.marked[name], self._place[name] = cell, index
            self._by_id[cell.get("id", name)] = name
            if is_locked(cell):
                self.home[name] = home
                self._by_source[bare(cell.source)].append(name)
            else:
                home = name
        #: The names of the open cells, in order.
        self.open = [name for name in self.marked if name not in self.home]
        prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
        #: The lesson's own text: cells by what they say, and lines.
        self.prose = {bare(cell.source): cell for cell in prose}
        self.prose_lines = {line for cell in prose for line in cell.source.split("\n")}
        self.tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
        #: Ids that formgrader's page gives to the fields for points and comments.
        self.reserved = set().union(
            *({name, f"{name}_extra_credit", f"{name}-comment"} for name in self.marked)
        )

    def fixed(self, home: str) -> list[str]:
        """Return the names of the fixed cells that belong to an answer, in order."""
        return [name for name, its in self.home.items() if its == home]

    def graded_by(self, name: str) -> list[str]:
        """Return the names of the cells that give points for an answer."""
        return [one for one in (name, *self.fixed(name)) if is_grade(self.marked[one])]

    def blank(self) -> NotebookNode:
        """Return the untouched notebook, which earns nothing."""
        return copy.deepcopy(self.notebook)

    def labels(self, cells: list[Cell]) -> list[str | None]:
        """Tell which of the marked cells each cell is, or is a copy of.

        What a check says counts most; then the name that nbgrader gave the cell; then its id,
        which tools that know nothing of nbgrader leave alone.
        """
        found: list[str | None] = []
        for cell in cells:
            same = self._by_source.get(bare(cell.source), []) if bare(cell.source) else []
            if cell.grade_id in same or (not same and cell.grade_id in self.marked):
                found.append(cell.grade_id)
            elif same:
                found.append(next((name for name in same if name not in found), same[0]))
            else:
                found.append(self._by_id.get(cell.cell_id))
        return found

    def index(self, cell: Cell | None, label: str | None) -> int | None:
        """Return where in the release a cell stands, None for a cell of the student's own."""
        if label is not None:
            return self._place[label]
        index = self._ordinary.get(bare(cell.source))
        return self._ordinary_ids.get((cell.cell_id, cell.kind)) if index is None else index

    def is_fixed(self, source: str) -> bool:
        """Tell whether some text is that of a fixed cell."""
        return bare(source) in self._by_source

    def is_as_released(self, cell: Cell, name: str) -> bool:
        """Tell whether a cell says what the marked cell of that name said."""
        return cell.source is not None and bare(cell.source) == bare(self.marked[name].source)

    def recognised(self, draft: Draft) -> tuple[int, int]:
        """Count the marked cells that a notebook has, and the answers that are not as released."""
        labels = self.labels(draft.cells)
        answers = {
            label
            for cell, label in zip(draft.cells, labels, strict=True)
            if label in self.open and not self.is_as_released(cell, label)
        }
        return len(set(labels) - {None}), len(answers)

    def has_part_in(self, draft: Draft) -> bool:
        """Tell whether a notebook holds anything of this lesson."""
        return any(
            label is not None or (bare(cell.source) != "" and bare(cell.source) in self._ordinary)
            for cell, label in zip(draft.cells, self.labels(draft.cells), strict=True)
        )
