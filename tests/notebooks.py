"""Small notebooks for tests, and answers put into the course's own."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from firstcnn.source_rules import canonical

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted(path.stem for path in ROOT.glob("source/*/*.ipynb"))


def cell(kind: str, cell_id: str, source: str, points: int = 0) -> nbformat.NotebookNode:
    """Return one cell: ``md``, ``code``, ``answer`` or ``check``."""
    made = new_markdown_cell(source) if kind == "md" else new_code_cell(source)
    made["id"] = cell_id
    if kind in ("answer", "check"):
        made.metadata["nbgrader"] = {
            "grade": kind == "check",
            "grade_id": cell_id,
            "locked": kind == "check",
            "schema_version": 3,
            "solution": kind == "answer",
            "task": False,
        }
        if kind == "check":
            made.metadata["nbgrader"]["points"] = points
    return made


def exercise(name: str, points: int, right: object) -> list[nbformat.NotebookNode]:
    """Return the answer and check cells of a small exercise: a number."""
    return [
        cell(
            "answer",
            f"{name}-answer",
            f"### BEGIN SOLUTION: {name} = ...\n{name} = {right!r}\n### END SOLUTION",
        ),
        cell(
            "check",
            f"{name}-check",
            f'from firstcnn import check\n\ncheck.number("{name}", {name}, {right!r})\n'
            f'### BEGIN HIDDEN TESTS\ncheck.number("{name}", {name}, {right!r})\n'
            "### END HIDDEN TESTS",
            points,
        ),
    ]


def lesson(*more: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a small lesson that keeps every rule: four exercises, ten points."""
    cells = [cell("md", "title", "# A lesson\n\nOne sentence.\nAnother one.")]
    for number, points in enumerate((1, 2, 3, 4)):
        cells += exercise(f"{'abcd'[number]}_value", points, number + 5)
    made = new_notebook(cells=[*cells, *more])
    for one in made.cells:
        one["id"] = one["id"].replace("_", "-")
        if "nbgrader" in one.metadata:
            one.metadata.nbgrader.grade_id = one["id"]
    return made


def write_course(root: Path, **lessons: nbformat.NotebookNode) -> Path:
    """Write a checkout with the given lessons in ``source/`` and the course's configuration."""
    root.mkdir(parents=True, exist_ok=True)
    config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8")
    (root / "nbgrader_config.py").write_text(config, encoding="utf-8")
    for name, notebook in lessons.items():
        folder = root / "source" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.ipynb").write_text(canonical(notebook), encoding="utf-8")
    return root


def edit(path: Path, cell_id: str, old: str, new: str) -> None:
    """Replace text in one cell of a notebook file, and nothing else."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (one,) = [one for one in notebook["cells"] if one.get("id") == cell_id]
    source = "".join(one["source"])
    assert old in source, f"{old!r} is not in cell {cell_id}"
    one["source"] = source.replace(old, new, 1)
    text = nbformat.writes(nbformat.from_dict(notebook))
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
