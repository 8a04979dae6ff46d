"""The rules for notebooks in source/: the lessons keep them, and each rule can be broken."""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_output
from notebooks import LESSONS, ROOT, cell, exercise, lesson

from firstcnn.answers.bank import exercises_of
from firstcnn.course import Course
from firstcnn.source_rules import canonical, problems

NUMBER_OF_LESSONS = 8
EXERCISES_IN_ALL = 40


def source(name):
    return ROOT / "source" / name / f"{name}.ipynb"


def cells(name):
    return nbformat.read(source(name), as_version=4).cells


def exercises(name):
    return [one for one in cells(name) if one.metadata.get("nbgrader", {}).get("grade")]


def exercise_text(name, answer):
    """Return the last text that stands before an answer cell under its heading."""
    before = [one.source for one in cells(name)[: [c.id for c in cells(name)].index(answer)]]
    start = max(i for i, text in enumerate(before) if text.startswith("### Exercise"))
    return "\n".join(before[start:])


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_keeps_the_rules(name):
    assert problems(source(name)) == []


def test_the_course_is_whole():
    assert len(LESSONS) == NUMBER_OF_LESSONS
    assert sum(len(exercises(name)) for name in LESSONS) >= EXERCISES_IN_ALL


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_has_its_parts(name):
    prose = "\n".join(one.source for one in cells(name) if one.cell_type == "markdown")
    code = "\n".join(one.source for one in cells(name) if one.cell_type == "code")
    assert prose.startswith(f"# {int(name[:2])}. ")
    for part in ("When you are done, you can", "Predict, then run", "## Summary", "**Read on:**"):
        assert part in prose, part
    assert "a stretch" in prose
    for library in ("keras.io", "numpy.org", "matplotlib.org"):
        assert library in prose, library
    assert "figures." in code
    for heading in re.findall(r"^### Exercise.*$", prose, re.MULTILINE):
        after = prose.split(heading, 1)[1].split("### Exercise")[0]
        assert "<details><summary>Hint 1</summary>" in after, f"no hint: {heading}"


@pytest.mark.parametrize("name", LESSONS)
def test_headings_state_the_points(name):
    prose = "\n".join(one.source for one in cells(name) if one.cell_type == "markdown")
    headings = re.findall(r"^### Exercise.*\((\d+) points?\)$", prose, re.MULTILINE)
    earned = [sum(checks.values()) for _, _, checks in exercises_of(Course(ROOT), name)]
    assert [int(points) for points in headings] == earned
    # What has parts says what each is worth.
    for exercise_name, _, checks in exercises_of(Course(ROOT), name):
        if len(checks) > 1:
            text = exercise_text(name, f"{exercise_name}-answer")
            assert re.search(r"\b\d points?\b(?!\))", text), exercise_name


@pytest.mark.parametrize("name", LESSONS)
def test_figures_are_shown_with_a_text_alternative(name):
    for one in cells(name):
        if one.cell_type == "code":
            assert "plt.show(" not in one.source, one.id


def broken_notebooks():
    """Yield one notebook for each rule, with what the rule says of it."""

    def changed(change, *more):
        notebook = lesson(*more)
        change(notebook.cells)
        return notebook

    def set_first(key, value):
        return lambda cells: cells[0].__setitem__(key, value)

    def nbgrader(key, value, at=2):
        return lambda cells: cells[at].metadata.nbgrader.__setitem__(key, value)

    def replace(old, new, at=2):
        def change(cells):
            assert old in cells[at].source
            cells[at]["source"] = cells[at].source.replace(old, new)

        return change

    def has_output(cells):
        cells[-1]["outputs"] = [new_output("stream", text="x")]

    yield "random-id", changed(set_first("id", "3f2a9c1b")), "its id is not made of words"
    yield "capital-id", changed(set_first("id", "Title")), "its id is not made of words"
    yield "output", changed(has_output), "it holds outputs"
    yield (
        "count",
        changed(lambda c: c[-1].__setitem__("execution_count", 3)),
        "it holds outputs or a count",
    )
    yield "empty", changed(set_first("source", " ")), "it is empty"
    yield (
        "two-sentences",
        changed(set_first("source", "One sentence. Another one.")),
        "line 1 holds more than one sentence",
    )
    yield (
        "unknown-metadata",
        changed(lambda c: c[0].metadata.__setitem__("collapsed", True)),
        "unknown metadata: collapsed",
    )
    yield (
        "unknown-tag",
        changed(lambda c: c[0].metadata.__setitem__("tags", ["skip-execution"])),
        "unknown metadata: skip-execution",
    )
    yield "long", lesson(cell("code", "long", "x = 1\n" * 16)), "more than 15 lines"
    yield "bar", lesson(cell("code", "bar", "model.fit(x, y)")), "fit draws a progress bar"
    yield "bar-1", lesson(cell("code", "bar", "model.predict(x, verbose=1)")), "predict draws"
    yield "id-apart", changed(nbgrader("grade_id", "other")), "should equal its id"
    yield "points", changed(nbgrader("points", 5)), "worth 14 points, not 10"
    yield "too-few", changed(lambda c: c.__delitem__(slice(1, 3))), "it has 3 exercises"
    yield "lonely", changed(lambda c: c.__delitem__(1)), "not named for the answer before it, None"
    yield (
        "unchecked",
        changed(lambda c: c.__delitem__(2)),
        "cell a-value-answer: no check behind it",
    )
    yield (
        "unchecked-last",
        changed(lambda c: c.__delitem__(-1)),
        "cell d-value-answer: no check behind it",
    )

    def rename(at, name):
        def change(cells):
            cells[at]["id"] = cells[at].metadata.nbgrader["grade_id"] = name

        return change

    yield "part-first", changed(rename(2, "a-value-part-check")), "not named for the answer"
    yield "stranger", changed(rename(2, "b-value-check")), "not named for the answer"
    yield "unnamed", changed(rename(1, "a-value-solution")), "an answer's id ends in -answer"
    yield "solved", changed(replace("### BEGIN SOLUTION", "# BEGIN", 1)), "no ### BEGIN SOLUTION"
    yield "no-hidden", changed(replace("BEGIN HIDDEN", "HIDDEN")), "it has no hidden tests"
    yield "assert", changed(replace("check.number", "assert True\ncheck.number")), "a bare assert"
    yield (
        "both",
        changed(nbgrader("solution", True)),
        "it is an answer and a check in one",
    )
    yield (
        "outside",
        changed(replace("check.number", "check.number(str(len(x_train)), 1, 1)\ncheck.number")),
        "it takes x_train from cells that are not answers",
    )
    yield (
        "namespace",
        changed(replace("check.number", "globals()\ncheck.number")),
        "it reaches around the check: globals",
    )
    yield (
        "partial-credit",
        changed(replace("### END HIDDEN TESTS", "a_value\n### END HIDDEN TESTS")),
        "ends in an expression, which nbgrader would read as partial credit",
    )
    yield (
        "partial-credit-visible",
        changed(replace("### BEGIN HIDDEN", "a_value * 0.5\n### BEGIN HIDDEN")),
        "its visible part ends in an expression",
    )
    yield (
        "checks-nothing",
        changed(lambda c: c[2].__setitem__("source", "x = 1\n### BEGIN HIDDEN TESTS\ny = 2")),
        "it has no check",
    )
    twice = lesson()
    twice.cells += exercise("extra", 0, 1)[:1]
    twice.cells[-1]["id"] = twice.cells[-1].metadata.nbgrader["grade_id"] = "a-value-answer"
    yield "duplicate", twice, "the cell id a-value-answer is used twice"


@pytest.mark.parametrize(
    ("notebook", "said"), [pytest.param(n, said, id=name) for name, n, said in broken_notebooks()]
)
def test_every_rule_can_be_broken(tmp_path, notebook, said):
    path = tmp_path / "broken.ipynb"
    # Written as JSON: nbformat would refuse or mend some of these.
    path.write_text(json.dumps(notebook))
    assert any(said in line for line in problems(path)), problems(path)


def test_the_small_lesson_of_these_tests_keeps_every_rule(tmp_path):
    path = tmp_path / "whole.ipynb"
    path.write_text(canonical(lesson(cell("code", "quiet", "model.fit(x, y, verbose=2)"))))
    assert problems(path) == []


def test_an_exercise_may_have_a_check_for_each_of_its_parts(tmp_path):
    notebook = lesson()
    part = exercise("d-value-sign", 1, 8)[1]
    part["source"] = part["source"].replace("d-value-sign", "d_value")
    notebook.cells[-1].metadata.nbgrader["points"] = 3
    notebook.cells.append(part)
    path = tmp_path / "parts.ipynb"
    path.write_text(canonical(notebook))
    assert problems(path) == []


@pytest.mark.parametrize("change", [lambda t: t + "\n", lambda t: t.replace("\n ", "\n  ")])
def test_another_writing_of_the_same_notebook_is_found(tmp_path, change):
    path = tmp_path / "spaced.ipynb"
    path.write_text(change(canonical(lesson())))
    assert problems(path) == ["it is not in canonical form; run `firstcnn tidy`"]
