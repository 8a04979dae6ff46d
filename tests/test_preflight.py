"""Whatever is handed in, nbgrader gets a notebook that it can grade, and the student is told."""

import codecs
import copy
import gc
import hashlib
import json
import os
import random
import socket
import stat
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.utils import compute_checksum
from nbgrader_course import NbgraderCourse
from notebooks import LESSONS, ROOT, cell, lesson, write_course

from firstcnn.grading import preflight, reading
from firstcnn.grading.lesson import Lesson
from firstcnn.grading.preflight import (
    PreparedExporter,
    Release,
    prepare,
    take_over,
    with_note,
    write,
)
from firstcnn.grading.private import private_folder
from firstcnn.grading.reading import Unreadable, read
from firstcnn.grading.repairs import repair

NAME = "small"
PNG = "iVBORw0KGgo="


# ---- a small lesson, and what a student makes of it ---------------------------------------------


def released():
    """Return a lesson as students get it: four exercises a to d, c with two checks."""
    notebook = lesson()
    at = [one.id for one in notebook.cells].index("c-value-check")
    notebook.cells.insert(at + 1, cell("check", "c-value-part-check", "check.thing(c_value)", 1))
    notebook.cells.insert(1, cell("code", "setup", "import numpy as np"))
    notebook.cells.insert(2, cell("md", "text", "Some text.\n<details>x</details>"))
    for one in notebook.cells:
        marks = one.metadata.get("nbgrader")
        if marks and marks.solution:
            one.source = f"{one.id[0]}_value = ..."
        elif marks:
            one.source = one.source.split("### BEGIN HIDDEN")[0].rstrip()
            one.metadata.editable = False
        if marks:
            one.metadata.deletable = False
            marks.cell_type, marks.checksum = one.cell_type, compute_checksum(one)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    return notebook


RELEASE = Lesson(released())
CHECKS = ["a-value-check", "b-value-check", "c-value-check", "c-value-part-check", "d-value-check"]


def by_id(notebook, cell_id):
    """Return the cell of a notebook, read by nbformat or by json, with that id."""
    (found,) = [one for one in notebook["cells"] if one.get("id") == cell_id]
    return found


def index(notebook, cell_id):
    return notebook["cells"].index(by_id(notebook, cell_id))


def answered(notebook=None):
    """Return what JupyterLab saves when a student has answered and run everything."""
    made = copy.deepcopy(notebook or released())
    number = 0
    for one in made.cells:
        if one.metadata.get("nbgrader", {}).get("solution"):
            one.source = one.source.replace("...", "5  # mine")
        if one.cell_type == "code":
            number += 1
            one.execution_count = number
            one.metadata["execution"] = {"iopub.execute_input": "2026-01-01T10:00:00Z"}
            one.outputs = [nbformat.v4.new_output("stream", name="stdout", text="done\n")]
    made.cells.insert(3, nbformat.v4.new_code_cell("print(np.pi)", id="5c6a1b2d"))
    made.cells.append(nbformat.v4.new_code_cell("", id="0f8fad5b-d9cb-469f-a165-70867728950e"))
    made.metadata["language_info"] = {
        "name": "python",
        "version": "3.12.1",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
    }
    made.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return json.loads(nbformat.writes(made))


def repaired(document, release=RELEASE):
    """Repair a notebook, given as bytes or as JSON; hold the result to what is always true."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    prepared = repair(read(data), release)
    notebook = prepared.notebook
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    marked = [one for one in notebook.cells if "nbgrader" in one.metadata]
    expected = []
    for one in marked:
        name = one.metadata.nbgrader.grade_id
        if name in release.open:
            expected += [name, *release.fixed(name)]
        assert one.metadata == release.marked[name].metadata
        if name in release.home:
            assert one.source == release.marked[name].source
    # Each answer once, and behind it its checks, once.
    names = [one.metadata.nbgrader.grade_id for one in marked]
    assert names == [*(name for name in names if name not in expected), *expected]
    assert sorted(names) == sorted(release.marked)
    for one in notebook.cells:
        assert one.cell_type in ("code", "markdown")
        assert one.get("outputs", []) == []
        assert one.get("execution_count") is None
    assert len({one.id for one in notebook.cells}) == len(notebook.cells)
    text = nbformat.writes(notebook)
    again = repair(read(text.encode()), release)
    assert nbformat.writes(again.notebook) == text
    assert again.repairs == []
    return prepared


def answers(notebook):
    return {
        one.metadata.nbgrader.grade_id: one.source
        for one in notebook.cells
        if one.metadata.get("nbgrader", {}).get("solution")
    }


MINE = {f"{letter}-value-answer": f"{letter}_value = 5  # mine" for letter in "abcd"}


# ---- what needs no repair -----------------------------------------------------------------------


@pytest.mark.parametrize("name", LESSONS)
def test_a_clean_submission_needs_no_repair(name):
    released = nbformat.read(ROOT / "course" / name / f"{name}.ipynb", as_version=4)
    course = Lesson(released)
    for document in (json.loads(nbformat.writes(released)), answered(released)):
        prepared = repaired(document, course)
        assert prepared.repairs == []
        assert prepared.refusals == {}
        kept = [(one["id"], "".join(one["source"])) for one in document["cells"]]
        assert [(one.id, one.source) for one in prepared.notebook.cells] == kept


def test_windows_line_ends_of_the_file_itself_are_nothing_to_mention():
    data = nbformat.writes(nbformat.from_dict(answered())).replace("\n", "\r\n").encode()
    prepared = repaired(data)
    assert prepared.repairs == []
    assert answers(prepared.notebook) == MINE


# ---- bytes ----------------------------------------------------------------------------------


def text_of(document):
    return json.dumps(document, indent=1, ensure_ascii=False)


def with_accent():
    document = answered()
    by_id(document, "text")["source"] = "Some text, é.\n"
    return document


BYTES = {
    "bom": (lambda d: codecs.BOM_UTF8 + text_of(d).encode(), "byte-order mark"),
    "utf-16": (lambda d: text_of(d).encode("utf-16"), "in UTF-16"),
    "utf-16-be": (lambda d: text_of(d).encode("utf-16-be"), "in UTF-16"),
    "utf-32": (lambda d: text_of(d).encode("utf-32"), "in UTF-32"),
    "cp1252": (lambda d: text_of(d).encode("cp1252"), "not in UTF-8"),
    "junk behind": (lambda d: text_of(d).encode() + b"\nnpm notice}", "behind the end"),
    "junk twice": (lambda d: 2 * text_of(d).encode(), "behind the end"),
    "nul behind": (lambda d: text_of(d).encode() + b"\0" * 4096, None),
    "blank before": (lambda d: b"\n\n \t" + text_of(d).encode(), None),
    "a key twice": (
        lambda d: text_of(d).encode().replace(b"{", b'{"cells": [], "nbformat": 3,', 1),
        "stood twice",
    ),
    "not a number": (
        lambda d: text_of(d).encode().replace(b'"execution_count": 1,', b'"execution_count": NaN,'),
        None,
    ),
    "infinite": (
        lambda d: text_of(d).encode().replace(b'"execution_count": 1,', b'"a": -Infinity,'),
        None,
    ),
    "a huge number": (
        lambda d: (
            text_of(d).encode().replace(b'"execution_count": 1,', b'"a": %s,' % (b"9" * 9999))
        ),
        None,
    ),
    "tabs in strings": (
        lambda d: text_of(d).encode().replace(b"Some text", b"Some\ttext"),
        "control characters",
    ),
}


@pytest.mark.parametrize("kind", BYTES)
def test_bytes_are_read_whatever_they_went_through(kind):
    change, said = BYTES[kind]
    prepared = repaired(change(with_accent()))
    assert answers(prepared.notebook) == MINE
    assert by_id(prepared.notebook, "text").source.endswith("text, é.\n")
    assert [said in one for one in prepared.repairs] == ([] if said is None else [True])


HOPELESS = {
    "nothing": (b"", "is empty"),
    "blanks": (b"\n\0\0 \n", "is empty"),
    "text": (b"I could not do it, sorry", "not valid JSON"),
    "html": (b"<!DOCTYPE html><html>", "not valid JSON"),
    "binary": (bytes(range(256)) * 50, "not valid JSON"),
    "zip": (b"PK\x03\x04" + b"\x14\0" * 40, "not valid JSON"),
    "cut off": (json.dumps(answered()).encode()[:3000], "not valid JSON"),
    "conflict": (
        b'{\n<<<<<<< HEAD\n "nbformat": 4\n=======\n "nbformat": 3\n>>>>>>> b\n}',
        "git has marked",
    ),
    "a list": (b"[]", "holds no notebook"),
    "a number": (b"3", "holds no notebook"),
    "null": (b"null", "holds no notebook"),
    "text in quotes": (b'"cells"', "holds no notebook"),
    "no cells": (b"{}", "no list of cells"),
    "cells are a dict": (b'{"cells": {"0": {}}, "nbformat": 4}', "no list of cells"),
    "cells are null": (b'{"cells": null, "nbformat": 4}', "no list of cells"),
    "sheets are a number": (b'{"worksheets": 3, "nbformat": 3}', "no list of cells"),
    "deep": (b"[" * 100_000, "nested too deeply"),
    "deep cells": (b'{"cells":' * 50_000, "nested too deeply"),
    "deep and closed": (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
    "millions of lists": (b'{"cells": [' + b"[]," * 1_000_000 + b"[]]}", "too many values"),
    "millions of values": (b'{"cells": [' + b"0," * 6_000_000 + b"0]}", "too many values"),
    "thousands of cells": (b'{"cells": [' + b"{}," * 5000 + b"{}]}", "more than 3,000 cells"),
}


@pytest.mark.parametrize("kind", HOPELESS)
def test_what_is_no_notebook_is_refused_with_the_reason(kind):
    data, reason = HOPELESS[kind]
    with pytest.raises(Unreadable, match=reason):
        read(data)


def test_brackets_and_commas_in_outputs_are_not_counted():
    document = answered()
    by_id(document, "a-value-answer")["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["[[1, 2], [3]]\n" * 200_000] * 3}
    ]
    assert answers(repaired(document).notebook) == MINE


def test_twenty_megabytes_of_output_are_left_out():
    document = answered()
    by_id(document, "setup")["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["a line\n"] * 3_000_000}
    ]
    prepared = repaired(document)
    assert prepared.repairs == []
    assert len(nbformat.writes(prepared.notebook)) < 20_000


# ---- the format ---------------------------------------------------------------------------------


def as_version_3(document):
    """Return the notebook as IPython 2 would have saved it."""
    for one in document["cells"]:
        del one["id"]
        if one["cell_type"] == "code":
            one["input"], one["language"] = one.pop("source"), "python"
            one["prompt_number"] = one.pop("execution_count")
    document["cells"][0] |= {"cell_type": "heading", "level": 1, "source": ["A lesson"]}
    return {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": ""},
        "worksheets": [
            {"cells": document["cells"][:5], "metadata": {}},
            {"cells": document["cells"][5:], "metadata": {}},
        ],
    }


def without_ids(document):
    document["nbformat_minor"] = 4
    for one in document["cells"]:
        del one["id"]
    return document


@pytest.mark.parametrize(
    "change",
    [
        as_version_3,
        without_ids,
        lambda d: d | {"nbformat_minor": 0},
        lambda d: d | {"nbformat_minor": 99},
        lambda d: d | {"nbformat": 5, "nbformat_minor": 0},
        lambda d: d | {"nbformat": "4", "nbformat_minor": []},
        lambda d: {key: d[key] for key in ("cells", "metadata")},
    ],
)
def test_other_versions_of_the_format_are_brought_to_ours(change):
    prepared = repaired(change(answered()))
    assert answers(prepared.notebook) == MINE
    assert "another version of the format" in " ".join(prepared.repairs)
    assert (prepared.notebook.nbformat, prepared.notebook.nbformat_minor) == (4, 5)


@pytest.mark.parametrize(
    "cell_id", [None, "", "two words", "x" * 65, "<b>", 3, ["a"], {}, "title", "a-value-check"]
)
def test_ids_are_made_unique_and_valid(cell_id):
    document = answered()
    by_id(document, "setup")["id"] = cell_id
    document["cells"][4]["id"] = cell_id
    prepared = repaired(document)
    assert "Some cells had no name of their own: they were given one." in prepared.repairs
    assert answers(prepared.notebook) == MINE


JUNK = [None, 0, 1.5, True, "x", [], {}, [None], {"a": 1}, ["a", "b"], [[]]]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("key", ["metadata", "outputs", "execution_count", "id", "attachments"])
def test_wrong_types_of_what_is_not_needed_do_no_harm(key, junk):
    document = answered()
    for one in document["cells"]:
        one[key] = junk
    document["metadata"] = junk
    prepared = repaired(document)
    if key != "metadata":  # with nbgrader's names gone, ids and checks are what is left to go by
        assert answers(prepared.notebook) == MINE


@pytest.mark.parametrize("junk", [3, None, {"a": 1}, ["a", 1], [["a"]], True])
def test_an_answer_that_is_no_text_fails_its_own_exercise_only(junk):
    document = answered()
    by_id(document, "c-value-answer")["source"] = junk
    by_id(document, "5c6a1b2d")["source"] = junk
    prepared = repaired_once(document)
    assert answers(prepared.notebook) == MINE | {"c-value-answer": ""}
    assert set(prepared.refusals) == {"c-value-check", "c-value-part-check"}
    assert "`c-value-answer` holds no text" in prepared.refusals["c-value-check"]
    assert "Some cells held no text" in " ".join(prepared.repairs)


def repaired_once(document):
    """Repair what is refused in part: in the repaired notebook nothing is to be seen of that."""
    return repair(read(json.dumps(document).encode()), RELEASE)


def test_deeply_nested_metadata_do_no_harm():
    document = answered()
    check = by_id(document, "a-value-check")
    check["source"] = "pass"
    check["metadata"]["nbgrader"] |= {"points": "DEEP", "checksum": "DEEP"}
    data = json.dumps(document).replace('"DEEP"', "[" * 900 + "]" * 900).encode()
    assert answers(repaired(data).notebook) == MINE


def test_an_answer_that_is_far_too_long_fails_its_own_exercise_only():
    document = answered()
    by_id(document, "a-value-answer")["source"] = "a_value = 5\n" * 100_000
    assert set(repaired_once(document).refusals) == {"a-value-check"}


@pytest.mark.parametrize("kind", [None, 3, [], {}, "heading", "Code", "mystery"])
def test_cells_of_unknown_types_are_put_right(kind):
    document = answered()
    by_id(document, "b-value-answer")["cell_type"] = kind
    by_id(document, "b-value-check")["cell_type"] = kind
    assert set(answers(repaired(document).notebook)) == set(MINE)


def test_line_ends_and_characters_that_do_not_exist_are_replaced():
    document = answered()
    by_id(document, "a-value-answer")["source"] = ["a_value = 1\r\n", "# \ud800\x00\rb = 2"]
    by_id(document, "b-value-check")["source"] = [
        line.replace("\n", "\r\n") for line in by_id(document, "b-value-check")["source"]
    ]
    prepared = repaired(document)
    assert answers(prepared.notebook)["a-value-answer"] == "a_value = 1\n# \ufffd\ufffd\nb = 2"
    said = " ".join(prepared.repairs)
    assert "another system" in said
    assert "do not exist" in said
    assert "b-value-check" not in said


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"kernelspec": {"name": "ir", "language": "R"}}, "language was `R`"),
        ({"language_info": {"name": "julia"}}, "language was `julia`"),
        ({"kernelspec": {"name": "conda-`<b>`", "language": "python"}}, "`conda-??b??`"),
        ({"kernelspec": {"name": ["python3"]}}, None),
        ({}, None),
    ],
)
def test_the_kernel_is_the_courses(metadata, said):
    prepared = repaired(answered() | {"metadata": metadata})
    assert prepared.notebook.metadata == RELEASE.notebook.metadata
    assert [said in one for one in prepared.repairs] == ([] if said is None else [True])


def test_tags_and_other_metadata_are_taken_off():
    document = answered()
    by_id(document, "a-value-check")["metadata"]["tags"] = ["skip-execution"]
    by_id(document, "setup")["metadata"] |= {"tags": ["raises-exception", 3], "jupyter": {}}
    prepared = repaired(document)
    assert prepared.repairs == ["Tags were taken off cells: `raises-exception`, `skip-execution`."]
    assert by_id(prepared.notebook, "setup").metadata == {}


# ---- checks -------------------------------------------------------------------------------------


def said_of(document):
    prepared = repaired(document)
    return prepared, " ".join(prepared.repairs)


def order(notebook):
    return [one.id for one in notebook.cells]


CLEAN_ORDER = order(repaired(answered()).notebook)


@pytest.mark.parametrize(
    "change",
    [
        lambda check: check.update(source="pass"),
        lambda check: check.update(source=[]),
        lambda check: check.update(source=3),
        lambda check: check["source"].append("\n0"),
        lambda check: check.update(cell_type="markdown"),
        lambda check: check.update(cell_type="raw"),
    ],
)
def test_a_changed_check_is_the_original_again(change):
    document = answered()
    change(by_id(document, "c-value-check"))
    prepared, said = said_of(document)
    assert "The check `c-value-check` had been changed: the original was graded." in said
    assert order(prepared.notebook) == CLEAN_ORDER
    assert answers(prepared.notebook) == MINE


def test_blanks_at_the_ends_of_lines_are_no_change():
    document = answered()
    check = by_id(document, "c-value-check")
    check["source"] = "".join(check["source"]).replace("\n", "  \n") + "\n\n"
    assert repaired(document).repairs == []


def test_a_check_of_an_earlier_edition_is_not_called_changed():
    document = answered()
    check = by_id(document, "b-value-check")
    check["source"] = "# as it was last week"
    check["metadata"]["nbgrader"]["points"] = 1
    check["metadata"]["nbgrader"]["checksum"] = compute_checksum(nbformat.from_dict(check))
    prepared, said = said_of(document)
    assert said == (
        "The check `b-value-check` was of another edition of this lesson: "
        "the present one was graded."
    )
    assert by_id(prepared.notebook, "b-value-check").metadata.nbgrader.points == 2


@pytest.mark.parametrize(
    "marks",
    [
        {"points": 100},
        {"points": "many"},
        {"points": None},
        {"grade": False, "locked": False},
        {"solution": True},
        {"task": True},
        {"grade_id": "mine"},
        {"grade_id": ["c-value-check"]},
        {"grade_id": "a-value-answer"},
    ],
)
def test_changed_points_and_marks_are_the_originals_again(marks):
    document = answered()
    by_id(document, "c-value-check")["metadata"]["nbgrader"] |= marks
    prepared, said = said_of(document)
    assert said == (
        "What nbgrader notes on `c-value-check` had been changed or lost: it is as it was."
    )
    assert order(prepared.notebook) == CLEAN_ORDER


def test_marks_of_another_version_of_nbgrader_are_brought_to_ours():
    document = answered()
    for one in document["cells"]:
        if "nbgrader" in one["metadata"]:
            one["metadata"]["nbgrader"]["schema_version"] = 1
            one["metadata"]["nbgrader"]["more"] = "x"
    assert repaired(document).repairs == []


@pytest.mark.parametrize(
    "gone", [CHECKS[:1], CHECKS[2:3], CHECKS[2:4], CHECKS[4:], CHECKS], ids=" ".join
)
def test_missing_checks_are_put_back_behind_their_answers(gone):
    document = answered()
    document["cells"] = [one for one in document["cells"] if one["id"] not in gone]
    prepared, said = said_of(document)
    assert said.count("missing") == 1
    assert all(f"`{name}`" in said for name in gone)
    assert order(prepared.notebook) == CLEAN_ORDER
    assert answers(prepared.notebook) == MINE


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("to", [0, 4, 9, 98])
def test_moved_checks_are_put_back_behind_their_answers(name, to):
    document = answered()
    check = document["cells"].pop(index(document, name))
    document["cells"].insert(to, check)
    was = [one["id"] for one in document["cells"]]
    prepared, said = said_of(document)
    if name == "d-value-check" and to == 98:  # at the end, but behind its answer
        assert order(prepared.notebook) == was
    else:
        assert order(prepared.notebook) == CLEAN_ORDER
    assert ("was not in its place: it was put back" in said) == (order(prepared.notebook) != was)


def test_a_check_may_stand_behind_cells_of_the_students_own():
    document = answered()
    at = index(document, "b-value-check")
    document["cells"].insert(at, {"cell_type": "code", "source": "b_value += 1", "id": "more"})
    prepared, said = said_of(document)
    assert said == ""
    assert order(prepared.notebook)[at : at + 2] == ["more", "b-value-check"]


@pytest.mark.parametrize("to", [0, 7, 99])
def test_copied_checks_are_graded_once(to):
    document = answered()
    copied = copy.deepcopy(by_id(document, "b-value-check"))
    document["cells"].insert(to, copied)
    prepared, said = said_of(document)
    assert "The check `b-value-check` stood in several cells" in said
    assert order(prepared.notebook) == CLEAN_ORDER


def test_what_a_student_wrote_into_a_copy_of_a_check_still_runs():
    document = answered()
    copied = copy.deepcopy(by_id(document, "b-value-check")) | {"id": "copy"}
    copied["source"] = "b_value = 6"
    document["cells"].insert(index(document, "b-value-check"), copied)
    prepared, _ = said_of(document)
    at = order(prepared.notebook).index("b-value-check")
    before = prepared.notebook.cells[at - 1]
    assert before.source == "b_value = 6"
    assert before.metadata == {}


def test_a_split_check_is_whole_again():
    document = answered()
    check = by_id(document, "b-value-check")
    second = copy.deepcopy(check) | {"id": "other-half"}
    check["source"], second["source"] = check["source"][:1], check["source"][1:]
    document["cells"].insert(index(document, "b-value-check") + 1, second)
    prepared, said = said_of(document)
    assert "The check `b-value-check` stood in several cells" in said
    assert order(prepared.notebook) == CLEAN_ORDER


@pytest.mark.parametrize("survivor", [0, 1])
def test_merged_answer_and_check_come_apart(survivor):
    document = answered()
    at = index(document, "b-value-answer")
    both = document["cells"][at : at + 2]
    merged = both[survivor] | {"source": [*both[0]["source"], "\n\n", *both[1]["source"]]}
    document["cells"][at : at + 2] = [merged]
    prepared, said = said_of(document)
    answer = answers(prepared.notebook)["b-value-answer"]
    assert answer == MINE["b-value-answer"] or survivor == 0
    assert answer.startswith(MINE["b-value-answer"])
    assert order(prepared.notebook) == CLEAN_ORDER
    assert ("`b-value-answer` stood in the cell of its check" in said) == (survivor == 1)
    assert ("`b-value-check` was missing" in said) == (survivor == 0)


def test_two_checks_merged_into_one_are_two_again():
    document = answered()
    at = index(document, "c-value-check")
    one, two = document["cells"][at : at + 2]
    one["source"] += ["\n", *two["source"]]
    del document["cells"][at + 1]
    assert order(repaired(document).notebook) == CLEAN_ORDER


# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_an_answer_of_another_type_is_code_again(kind):
    document = answered()
    by_id(document, "a-value-answer")["cell_type"] = kind
    prepared, said = said_of(document)
    assert "The answer cell `a-value-answer` had been given another type" in said
    assert answers(prepared.notebook) == MINE
    assert by_id(prepared.notebook, "a-value-answer").cell_type == "code"


def test_a_missing_answer_costs_its_own_exercise():
    document = answered()
    del document["cells"][index(document, "b-value-answer")]
    prepared, said = said_of(document)
    assert said == "The answer cell `b-value-answer` was missing: an empty one stands in its place."
    assert order(prepared.notebook) == CLEAN_ORDER
    assert answers(prepared.notebook) == MINE | {"b-value-answer": ""}


def test_an_answer_in_a_cell_of_ones_own_is_found():
    document = answered()
    one = by_id(document, "b-value-answer")
    one["metadata"], one["id"] = {}, "mine"
    prepared, said = said_of(document)
    assert "The answer `b-value-answer` had lost its name" in said
    assert answers(prepared.notebook) == MINE
    assert order(prepared.notebook) == CLEAN_ORDER


def test_a_whole_exercise_that_is_gone_comes_back_where_it_was():
    document = answered()
    gone = ("b-value-answer", "b-value-check")
    document["cells"] = [one for one in document["cells"] if one["id"] not in gone]
    prepared, said = said_of(document)
    assert "The check `b-value-check` was missing" in said
    assert "The answer cell `b-value-answer` was missing" in said
    assert order(prepared.notebook) == CLEAN_ORDER


def test_code_where_a_whole_exercise_was_runs_before_its_check():
    document = answered()
    at = index(document, "b-value-answer")
    document["cells"][at : at + 2] = [{"cell_type": "code", "source": "b_value = 5", "id": "mine"}]
    prepared, _ = said_of(document)
    assert order(prepared.notebook)[at : at + 3] == ["mine", "b-value-answer", "b-value-check"]


def test_without_any_marks_cells_are_found_by_their_ids():
    document = answered()
    for one in document["cells"]:
        one["metadata"] = {}
    by_id(document, "c-value-check")["source"] = "pass"
    prepared, said = said_of(document)
    assert "The check `c-value-check` had been changed" in said
    assert "What nbgrader notes on `a-value-answer`, `a-value-check`, " in said
    assert "lost its name" not in said
    assert answers(prepared.notebook) == MINE


def test_without_any_marks_and_ids_everything_is_found_by_what_it_says():
    document = without_ids(answered())
    for one in document["cells"]:
        one["metadata"] = {}
    prepared, _ = said_of(document)
    assert answers(prepared.notebook) == MINE


@pytest.mark.parametrize("between", [True, False])
def test_of_several_copies_of_an_answer_all_run_and_the_last_before_the_check_counts(between):
    document = answered()
    at = index(document, "b-value-answer")
    earlier = copy.deepcopy(document["cells"][at]) | {"source": "b_value = 4", "id": "first"}
    again = copy.deepcopy(document["cells"][at]) | {"id": "again"}
    blank = copy.deepcopy(document["cells"][at]) | {"source": "b_value = ...", "id": "blank"}
    document["cells"].insert(at + 1, again)
    document["cells"].insert(0 if between else at, earlier)
    document["cells"].append(blank)
    prepared, said = said_of(document)
    assert "The answer `b-value-answer` stood in several cells" in said
    assert answers(prepared.notebook) == MINE
    own = [one.source for one in prepared.notebook.cells if "nbgrader" not in one.metadata]
    assert own.count("b_value = 4") == 1
    assert "b_value = ..." not in own
    assert own.count("b_value = 5  # mine") == 0


def test_a_copy_below_the_check_does_not_replace_the_answer():
    document = answered()
    below = copy.deepcopy(by_id(document, "b-value-answer")) | {"id": "below"}
    below["source"] = "b_value = 9"
    document["cells"].insert(index(document, "b-value-check") + 1, below)
    prepared, said = said_of(document)
    assert "The answer `b-value-answer` stood in several cells" in said
    assert answers(prepared.notebook) == MINE
    assert by_id(prepared.notebook, "below").metadata == {}


def test_a_copy_that_holds_no_text_does_not_replace_the_answer():
    document = answered()
    at = index(document, "b-value-answer")
    document["cells"].insert(at + 1, copy.deepcopy(document["cells"][at]) | {"source": 3})
    prepared, _ = said_of(document)
    assert answers(prepared.notebook) == MINE
    assert prepared.refusals == {}


def test_an_answer_in_a_copy_below_the_check_is_graded():
    document = answered()
    one = by_id(document, "b-value-answer")
    below = copy.deepcopy(one) | {"id": "below"}
    one["source"] = "b_value = ..."
    document["cells"].insert(index(document, "b-value-check") + 1, below)
    prepared, _ = said_of(document)
    assert answers(prepared.notebook) == MINE
    assert order(prepared.notebook) == CLEAN_ORDER


def test_answers_and_checks_whose_names_were_exchanged():
    document = answered()
    one, two = by_id(document, "b-value-answer"), by_id(document, "b-value-check")
    one["metadata"], two["metadata"] = two["metadata"], one["metadata"]
    one["id"], two["id"] = two["id"], one["id"]
    prepared, _ = said_of(document)
    assert answers(prepared.notebook) == MINE
    assert order(prepared.notebook) == CLEAN_ORDER


def test_cells_of_ones_own_cannot_pass_for_graded_ones():
    document = answered()
    marks = {"grade": True, "grade_id": "bonus", "points": 100, "solution": False, "locked": True}
    for junk in (marks, marks | {"solution": True}, {}, {"grade_id": ""}, "x", [marks]):
        document["cells"].append(
            {"cell_type": "code", "source": "100", "metadata": {"nbgrader": junk}, "id": "x"}
        )
    prepared = repaired(document)
    assert all("nbgrader" not in one.metadata for one in prepared.notebook.cells[-6:])


def test_exercises_in_another_order_keep_their_checks():
    document = answered()
    at = index(document, "b-value-answer")
    exercise = document["cells"][at : at + 2]
    del document["cells"][at : at + 2]
    document["cells"][4:4] = exercise
    prepared = repaired(document)
    assert prepared.repairs == []
    assert order(prepared.notebook)[4:6] == ["b-value-answer", "b-value-check"]


def damaged(seed):
    """Return a notebook that has been through a lot: cells moved, copied, merged, and junk."""
    rng = random.Random(seed)
    document = answered()
    for _ in range(rng.choice([1, 3, 10, 40])):
        cells = document["cells"]
        at = rng.randrange(len(cells))
        kind = rng.randrange(7)
        if kind == 0:
            cells.insert(rng.randrange(len(cells)), copy.deepcopy(cells[at]))
        elif kind == 1 and len(cells) > 5:
            del cells[at]
        elif kind == 2:
            cells.insert(rng.randrange(len(cells)), cells.pop(at))
        elif kind == 3:
            cells[at]["cell_type"] = rng.choice(["code", "markdown", "raw"])
        elif kind == 4:
            cells[at]["metadata"] = copy.deepcopy(rng.choice(cells).get("metadata"))
        elif kind == 5 and isinstance(cells[at].get("source"), list):
            more = rng.choice(cells).get("source")
            cells[at]["source"] += ["\n", *(more if isinstance(more, list) else [])]
        elif kind == 6:
            junk = [None, 3, [], {}, "x", "<b>", "a-value-check", ["\ud800"], [[]]]
            cells[at][rng.choice([*cells[at], "id"])] = rng.choice(junk)
    return document


@pytest.mark.parametrize("seed", range(100))
def test_after_any_damage_every_check_stands_behind_its_answer(seed):
    repaired(damaged(seed))  # which holds the result to all that must be true


# ---- prose --------------------------------------------------------------------------------------


def test_text_of_the_students_own_is_shown_without_harm():
    document = answered()
    document["cells"] += [
        {"cell_type": "markdown", "source": "Hi <script>alert(1)</script>", "id": "m1"},
        {"cell_type": "raw", "source": "<script>alert(1)</script>", "id": "r1"},
        {
            "cell_type": "markdown",
            "source": "![p](attachment:p.png)",
            "id": "m2",
            "attachments": {"p.png": {"image/png": [PNG, "\n"]}, "q": 3, "r": {"text/html": "x"}},
        },
        {
            "cell_type": "markdown",
            "source": "![p](attachment&#58;p.png)",
            "id": "m4",
            "attachments": {"p.png": {"image/png": PNG}},
        },
        {"cell_type": "markdown", "source": "![p](attachment:gone.png)", "id": "m3"},
    ]
    prepared, said = said_of(document)
    for one in prepared.notebook.cells:
        if one.cell_type == "markdown":
            renderer = IPythonRenderer(escape=False, attachments=one.get("attachments"))
            page = MarkdownWithMath(renderer=renderer).render(one.source)
            assert "<script" not in page
    hi, raw, picture, _, gone = prepared.notebook.cells[-5:]
    assert "<script" not in hi.source
    assert raw.cell_type == "markdown"
    assert raw.source.startswith("```text")
    assert picture.attachments == {"p.png": {"image/png": PNG}}
    assert gone.source == "![p]\u2060(attachment:gone.png)"
    assert "shown as plain text" in said
    assert by_id(prepared.notebook, "text").source == by_id(released(), "text")["source"]


def test_a_picture_whose_name_is_no_text_is_left_out(course, handed_in, tmp_path):
    """Half a pair of surrogates cannot be written to a file; it would stop a whole class."""
    document = answered()
    pictures = {name: {"image/png": PNG} for name in ("\ud800.png", "a\0.png", "p.png")}
    document["cells"].append(
        {"cell_type": "markdown", "source": "![p](attachment:p.png)", "attachments": pictures}
    )
    put(handed_in.path / f"{NAME}.ipynb", document)
    prepared = handed_in.write(course, tmp_path / "made")
    assert prepared.notebook.cells[-1].attachments == {"p.png": {"image/png": PNG}}


def test_cells_of_a_students_own_are_left_out_where_they_are_a_library():
    document = answered()
    own = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    document["cells"] += [own | {"id": f"o{n}", "source": "#" * 300_000} for n in range(9)]
    prepared, said = said_of(document)
    assert [cell.id for cell in prepared.notebook.cells if cell.id[0] == "o"] == [
        f"o{n}" for n in range(6)
    ]
    assert "Some cells held no text, or far too much" in said
    assert answers(prepared.notebook) == MINE


def test_hundreds_of_cells_of_prose_are_shown_as_plain_text():
    document = answered()
    document["cells"] += [
        {"cell_type": "markdown", "source": "\\\\[" * 1500, "id": f"p{n}"} for n in range(300)
    ]
    start = time.process_time()
    prepared = repaired(document)
    assert prepared.notebook.cells[-1].source.startswith("```text")
    assert by_id(prepared.notebook, "text").source == by_id(released(), "text")["source"]
    assert time.process_time() - start < 60  # rendered one by one, these take minutes


# ---- files --------------------------------------------------------------------------------------


def contents(folder: Path) -> dict:
    """Return what is in a folder, with everything that a change would change."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(place, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else None
            if stat.S_ISREG(status.st_mode) and status.st_size < 10**8:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[os.fsencode(path)] = (content, status.st_mtime_ns, status.st_mode, status.st_size)
    return found


@pytest.fixture
def course(tmp_path):
    """Return a release in a folder, with one file beside the notebook."""
    folder = tmp_path / "course" / NAME
    folder.mkdir(parents=True)
    nbformat.write(released(), folder / f"{NAME}.ipynb")
    (folder / "data").mkdir()
    (folder / "data" / "digits.csv").write_text("1,2")
    return Release(folder, ["*.keras"])


@pytest.fixture
def handed_in(tmp_path):
    """Return an empty submission; at the end, see that preparing it did not change it."""
    folder = tmp_path / "submitted" / "ada" / NAME
    folder.mkdir(parents=True)
    before = []

    class Submission:
        path = folder

        def changed(self):
            before[:] = [contents(folder)]

        def prepare(self, course):
            before.append(contents(folder))
            return prepare(folder, course)[NAME]

        def write(self, course, place):
            before.append(contents(folder))
            return write(folder, course, place)[NAME]

    yield Submission()
    assert before
    assert all(one == contents(folder) for one in before)


def put(path: Path, document=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = document if isinstance(document, bytes) else json.dumps(document or answered()).encode()
    path.write_bytes(data)


def other(number):
    """Return a notebook with that many answers."""
    document = answered()
    for letter in "abcd"[number:]:
        by_id(document, f"{letter}-value-answer")["source"] = f"{letter}_value = ..."
    return document


def test_a_clean_folder_needs_no_repair(course, handed_in):
    put(handed_in.path / f"{NAME}.ipynb")
    put(handed_in.path / "data" / "digits.csv", b"3,4")
    put(handed_in.path / "my.keras", b"x")
    put(handed_in.path / "timestamp.txt", b"2026-01-01 10:00:00 UTC")
    put(handed_in.path / ".ipynb_checkpoints" / f"{NAME}-checkpoint.ipynb")
    put(handed_in.path / "__pycache__" / "x.pyc", b"x")
    prepared = handed_in.prepare(course)
    assert prepared.repairs == []
    assert prepared.refusals == {}
    assert answers(prepared.notebook) == MINE


@pytest.mark.parametrize(
    "name",
    [
        "Copy of small.ipynb",
        "small (1).ipynb",
        "small-final.ipynb",
        "small-Copy1.ipynb",
        "Small.IPYNB",
        "small.ipynb.txt",
        "small.ipynb.json",
        "my homework é.ipynb",
        "small/small.ipynb",
        "a/b/small.ipynb",
        "line\nbreak.ipynb",
        "`code` <b> $x$ |.ipynb",
        os.fsdecode(b"inv\xe9lid.ipynb"),
    ],
)
def test_a_renamed_notebook_is_found(course, handed_in, name):
    put(handed_in.path / name)
    prepared = handed_in.prepare(course)
    assert answers(prepared.notebook) == MINE
    (said,) = prepared.repairs
    assert said.startswith("There is no `small.ipynb`: `")
    assert said.endswith("` was graded.")
    assert said.count("`") == 4
    assert not set("\n<>$|") & set(said)


def test_the_right_name_wins(course, handed_in):
    put(handed_in.path / f"{NAME}.ipynb", other(1))
    put(handed_in.path / f"{NAME} (1).ipynb", other(4))
    prepared = handed_in.prepare(course)
    assert answers(prepared.notebook)["b-value-answer"] == "b_value = ..."
    assert prepared.repairs == [
        "There were other notebooks, which were not graded: `small (1).ipynb`."
    ]


def test_an_assignment_of_two_notebooks(course, handed_in, tmp_path):
    nbformat.write(released(), tmp_path / "course" / NAME / "second.ipynb")
    put(handed_in.path / f"{NAME}.ipynb", other(1))
    put(handed_in.path / "second.ipynb", other(4))
    handed_in.prepare(course)
    both = prepare(handed_in.path, Release(tmp_path / "course" / NAME))
    assert [one.repairs for one in both.values()] == [[], []]
    assert answers(both["second"].notebook) == MINE
    (handed_in.path / f"{NAME}.ipynb").unlink()
    alone = prepare(handed_in.path, Release(tmp_path / "course" / NAME))
    assert alone[NAME].refusals[""].endswith("There is no notebook `small.ipynb`.")
    put(handed_in.path / f"{NAME}.ipynb", other(1))
    handed_in.changed()


def test_among_others_the_one_with_most_answers_wins_then_the_last_by_name(course, handed_in):
    put(handed_in.path / "small (9).ipynb", other(3) | {"nbformat_minor": 4})
    put(handed_in.path / "small (10).ipynb", other(3))
    put(handed_in.path / "small (11).ipynb", other(2))
    put(handed_in.path / "small (12).ipynb", b"no notebook")
    prepared = handed_in.prepare(course)
    assert answers(prepared.notebook)["c-value-answer"] == MINE["c-value-answer"]
    assert prepared.repairs[0] == "There is no `small.ipynb`: `small (10).ipynb` was graded."
    assert len(prepared.repairs) == 2


@pytest.mark.parametrize("data", [b"", b"{", b'{"cells": [], "nbformat": 4, "nbformat_minor": 5}'])
def test_a_copy_stands_in_for_a_notebook_that_is_broken(course, handed_in, data):
    put(handed_in.path / f"{NAME}.ipynb", data)
    put(handed_in.path / f"{NAME}-Copy1.ipynb")
    prepared = handed_in.prepare(course)
    assert answers(prepared.notebook) == MINE
    assert prepared.repairs[0].startswith("`small.ipynb` could not be graded (")


def test_without_a_notebook_the_untouched_one_stands_in(course, handed_in):
    put(handed_in.path / "essay.docx", b"sorry")
    prepared = handed_in.prepare(course)
    assert prepared.notebook == released()
    assert prepared.refusals == {
        "": "The notebook could not be graded. There is no notebook `small.ipynb`."
    }
    assert prepared.repairs == ["What is not part of the lesson was left out: `essay.docx`."]


def test_the_notebook_of_another_lesson_is_refused(course, handed_in):
    put(handed_in.path / f"{NAME}.ipynb", (ROOT / "course/02_data/02_data.ipynb").read_bytes())
    prepared = handed_in.prepare(course)
    assert prepared.notebook == released()
    assert prepared.refusals[""].endswith("It holds nothing of this lesson.")


def test_a_notebook_of_half_a_gigabyte_is_refused_unread(course, handed_in, monkeypatch):
    path = handed_in.path / f"{NAME}.ipynb"
    with path.open("wb") as file:
        file.truncate(500 * 2**20)
    monkeypatch.setattr(reading.json, "detect_encoding", None)  # would be called, were it read
    prepared = handed_in.prepare(course)
    assert prepared.refusals[""].endswith("It is larger than 64 MB.")


def make_odd(kind, path, outside):
    """Put something that is no ordinary file in a place."""
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "link inside":
        put(path.parent / "real" / "x.bin", b"x")
        path.symlink_to(path.parent / "real" / "x.bin")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "broken link":
        path.symlink_to("nowhere")
    elif kind == "folder":
        (path / "deeper").mkdir(parents=True)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may not be long
        server.bind(path.name)
        os.chdir(here)
        server.close()
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero: it never ends


def can_make_devices():
    with tempfile.TemporaryDirectory() as folder:
        try:
            make_odd("device", Path(folder, "zero"), None)
        except PermissionError:
            return False
    return True


ODD = ["link", "link inside", "loop", "broken link", "folder", "fifo", "socket", "device"]
needs_devices = pytest.mark.skipif(not can_make_devices(), reason="only root can make a device")
each_odd_kind = pytest.mark.parametrize(
    "kind", [*ODD[:-1], pytest.param("device", marks=needs_devices)]
)


@each_odd_kind
def test_only_ordinary_files_are_read(course, handed_in, tmp_path, kind):
    outside = tmp_path / "secret.ipynb"
    put(outside)
    make_odd(kind, handed_in.path / f"{NAME}.ipynb", outside)
    prepared = handed_in.prepare(course)
    assert prepared.notebook == released()
    expected = {"folder": "a folder"} | dict.fromkeys(ODD[:4], "a link")
    assert prepared.refusals[""].endswith(f"It is {expected.get(kind, 'no ordinary file')}.")


@each_odd_kind
def test_odd_files_beside_the_notebook_change_nothing(course, handed_in, tmp_path, kind):
    put(handed_in.path / f"{NAME}.ipynb")
    outside = tmp_path / "secrets"
    outside.mkdir()
    put(outside / "digits.csv", b"secret")
    (handed_in.path / "data").mkdir()
    make_odd(kind, handed_in.path / "data" / "digits.csv", outside / "digits.csv")
    make_odd(kind, handed_in.path / "odd", outside)
    made = tmp_path / "made"
    prepared = handed_in.write(course, made)
    assert answers(prepared.notebook) == MINE
    assert sorted(path.name for path in made.rglob("*")) == [f"{NAME}.ipynb"]
    assert "`odd" in " ".join(prepared.repairs)


def test_a_submission_that_is_a_link_is_refused(course, handed_in, tmp_path):
    put(tmp_path / "elsewhere" / f"{NAME}.ipynb")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    prepared = prepare(tmp_path / "linked", course)[NAME]
    assert prepared.notebook == released()
    assert prepared.refusals == {"": "What was handed in is a link, and no folder."}
    handed_in.prepare(course)


def test_a_linked_folder_is_not_entered(course, handed_in, tmp_path):
    put(tmp_path / "elsewhere" / "digits.csv", b"secret")
    put(tmp_path / "elsewhere" / f"{NAME}.ipynb")
    (handed_in.path / "data").symlink_to(tmp_path / "elsewhere")
    made = tmp_path / "made"
    prepared = handed_in.write(course, made)
    assert "" in prepared.refusals
    assert not (made / "data").exists()


def test_a_hard_link_is_copied(course, handed_in, tmp_path):
    put(tmp_path / "kept.ipynb")
    os.link(tmp_path / "kept.ipynb", handed_in.path / f"{NAME}.ipynb")
    made = tmp_path / "made"
    handed_in.write(course, made)
    assert (made / f"{NAME}.ipynb").stat().st_nlink == 1
    assert (tmp_path / "kept.ipynb").stat().st_nlink == 2


def test_only_files_that_can_do_no_harm_are_admitted(course, handed_in, tmp_path):
    put(handed_in.path / f"{NAME}.ipynb")
    put(handed_in.path / "data" / "digits.csv", b"3,4")
    for name in (
        *(
            "numpy.py",
            "keras/__init__.py",
            "PIL/data.csv",
            "json.py",
            "__main__.py",
            "ipykernel_launcher.py",
            ".ipython/profile/startup/x.py",
            "ipython_config.py",
            "jupyter_nbconvert_config.json",
        ),
        *("nbgrader_config.py", "sitecustomize.py", "usercustomize.py", "x.pth", "page.html"),
        *("line\nbreak.py", "<b>.py", os.fsdecode(b"\xff\xfe.py"), "-rf", "a`b"),
        *("other.ipynb/x.csv", "small.html/x.csv", "x.exe", "odd\udcff.csv"),
    ):
        put(handed_in.path / name, b"raise SystemExit")
    made = tmp_path / "made"
    prepared = handed_in.write(course, made)
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == {f"{NAME}.ipynb", "data/digits.csv"}
    assert (made / "data" / "digits.csv").read_bytes() == b"3,4"
    (said,) = prepared.repairs
    assert said.startswith("What is not part of the lesson was left out: ")
    assert said.endswith(" and others.")
    assert "\n" not in said
    assert said.count("`") == 10


OWN = ("helpers.py", "mine/__init__.py", "mine/data/table.csv", "data/more.csv", "my digit (1).png")


def test_modules_and_data_of_a_students_own_go_along(course, handed_in, tmp_path):
    put(handed_in.path / f"{NAME}.ipynb")
    for name in OWN:
        put(handed_in.path / name, name.encode())
    made = tmp_path / "made"
    prepared = handed_in.write(course, made)
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == {f"{NAME}.ipynb", *OWN}
    assert all((made / name).read_bytes() == name.encode() for name in OWN)
    assert prepared.repairs == []


@pytest.mark.parametrize(("count", "size"), [(101, 1), (2, 9 * 2**20)])
def test_of_too_much_nothing_goes_along(course, handed_in, tmp_path, count, size):
    put(handed_in.path / f"{NAME}.ipynb")
    for number in range(count):
        put(handed_in.path / f"{number}.csv", b"1" * size)
    made = tmp_path / "made"
    prepared = handed_in.write(course, made)
    assert [path.name for path in made.iterdir()] == [f"{NAME}.ipynb"]
    assert "left out: `0.csv`, `1.csv`" in prepared.repairs[0]


def test_a_folder_in_place_of_a_file_of_the_release_does_not_go_along(course, handed_in, tmp_path):
    put(handed_in.path / f"{NAME}.ipynb")
    put(handed_in.path / "data" / "digits.csv" / "x.csv")
    made = tmp_path / "made"
    handed_in.write(course, made)
    assert [path.name for path in made.iterdir()] == [f"{NAME}.ipynb"]


def test_thousands_of_files_and_deep_folders_are_not_walked_to_the_end(course, handed_in):
    put(handed_in.path / f"{NAME}.ipynb")
    many = handed_in.path / "many"
    many.mkdir()
    for number in range(6000):
        (many / f"{number}.ipynb").touch()
    (handed_in.path / "/".join(["deep"] * 200)).mkdir(parents=True)
    prepared = handed_in.prepare(course)
    assert answers(prepared.notebook) == MINE
    assert len(preflight.Folder(handed_in.path).files) < 5000


def test_unreadable_files_are_refused(course, handed_in, tmp_path):
    put(handed_in.path / f"{NAME}.ipynb")
    (handed_in.path / "locked").mkdir()
    (handed_in.path / f"{NAME}.ipynb").chmod(0)
    (handed_in.path / "locked").chmod(0)
    was = os.geteuid()
    try:
        if was == 0:  # who may read everything: be somebody else for a moment
            for folder in (tmp_path, *list(tmp_path.parents)[:3]):
                folder.chmod(folder.stat().st_mode | 0o111)
            os.seteuid(65534)
        prepared = prepare(handed_in.path, course)[NAME]
    finally:
        os.seteuid(was)
        (handed_in.path / f"{NAME}.ipynb").chmod(0o644)
        (handed_in.path / "locked").chmod(0o755)
    assert prepared.refusals[""].endswith("It cannot be read.")
    handed_in.prepare(course)


@pytest.mark.parametrize(
    ("file", "text", "kept"),
    [
        ("timestamp.txt", b"2026-01-01 10:00:00.5 UTC\n", "2026-01-01 10:00:00.5 UTC"),
        ("timestamp.txt", b"", None),
        ("timestamp.txt", b"yesterday, I think", None),
        ("timestamp.txt", b"9" * 400, None),
        ("timestamp.txt", b"\xff\xfe", None),
        ("timestamp.txt", b"2026-01-01 " * 1000, None),
        ("submission_secret.txt", b"5f3a0c-d1", "5f3a0c-d1"),
        ("submission_secret.txt", b"\xff\xfe", None),
        ("submission_secret.txt", b"a" * 2000, None),
        ("submission_secret.txt", b"a\x1b[2J", None),
    ],
)
def test_what_nbgrader_notes_of_a_submission_is_passed_on_if_it_is_that(
    course, handed_in, tmp_path, file, text, kept
):
    put(handed_in.path / f"{NAME}.ipynb")
    (handed_in.path / file).write_bytes(text)
    made = tmp_path / "made"
    handed_in.write(course, made)
    path = made / file
    assert (path.read_text() if path.exists() else None) == kept


def test_a_fault_of_our_own_costs_one_submission(course, handed_in, monkeypatch, caplog):
    put(handed_in.path / f"{NAME}.ipynb")
    monkeypatch.setattr(preflight, "repair", lambda *_: 1 / 0)
    prepared = handed_in.prepare(course)
    assert prepared.notebook == released()
    assert prepared.refusals == {"": "The notebook could not be read."}
    assert "ZeroDivisionError" in caplog.text


# ---- the note -----------------------------------------------------------------------------------


def test_the_note_says_what_was_done_and_carries_no_marks():
    document = answered()
    by_id(document, "a-value-check")["source"] = "pass"
    by_id(document, "b-value-answer")["source"] = 3
    document["cells"].append({"cell_type": "code", "source": "", "id": "preflight-0"})
    prepared = repaired_once(document)
    notebook = with_note(prepared)
    nbformat.validate(notebook)
    note = notebook.cells[0]
    assert note.cell_type == "markdown"
    assert note.metadata == {}
    assert "- The check `a-value-check` had been changed" in note.source
    assert "- `b-value-check` earns no points. The answer cell `b-value-answer`" in note.source
    assert notebook.metadata.firstcnn == {
        "repairs": prepared.repairs,
        "refusals": prepared.refusals,
    }


def test_a_clean_notebook_gets_no_note():
    notebook = with_note(repaired(answered()))
    assert order(notebook) == CLEAN_ORDER
    told = notebook.metadata.firstcnn
    assert (told["repairs"], told["refusals"]) == ([], {})


# ---- nbgrader -----------------------------------------------------------------------------------


@pytest.fixture
def classroom(tmp_path, course):
    """Return a way to have a converter, as nbgrader makes it, in a course with submissions."""

    def converter(*students, **options):
        for student in students:
            put(tmp_path / "submitted" / student / NAME / f"{NAME}.ipynb")
        named = {"student_id", "notebook_id", "student_id_exclude", "assignment_id"} & set(options)
        directory = CourseDirectory(
            root=str(tmp_path),
            release_directory="course",
            **{"assignment_id": NAME, **{key: options.pop(key) for key in named}},
        )
        return Autograde(coursedir=directory, **options)

    return converter


def students(converter):
    return [Path(place).parent.name for place in converter.assignments]


def test_a_converter_gets_copies_of_all_submissions(classroom, tmp_path):
    converter = classroom("ada", "g[r]ace")
    (tmp_path / "submitted" / "empty" / NAME).mkdir(parents=True)
    put(tmp_path / "submitted" / "new\nline" / NAME / f"{NAME}.ipynb")
    before = contents(tmp_path / "submitted")
    take_over(converter)
    assert students(converter) == ["ada", "empty", "g[r]ace"]
    for place, notebooks in converter.assignments.items():
        assert tmp_path not in Path(place).parents
        assert notebooks == [f"{place}/{NAME}.ipynb"]
        found = converter.init_single_notebook_resources(notebooks[0])["nbgrader"]
        assert (found["student"], found["notebook"]) == (Path(place).parent.name, NAME)
        nbformat.validate(nbformat.read(notebooks[0], as_version=4))
    assert converter.coursedir.db_url == f"sqlite:///{tmp_path}/gradebook.db"
    assert contents(tmp_path / "submitted") == before


def test_the_copies_last_as_long_as_the_converter(classroom):
    converter = classroom("ada")
    take_over(converter)
    private = Path(converter.coursedir.prepared)
    assert private.stat().st_mode & 0o077 == 0
    # It is one of those that the next grader removes if this one is killed, and only then.
    os.utime(private, (0, 0))
    with private_folder() as another:
        assert private.exists()
    assert private.name[:-8] == another.name[:-8]
    took = converter.coursedir
    take_over(converter)  # once is enough
    assert converter.coursedir is took
    del converter
    gc.collect()
    assert not private.exists()


def test_the_exporter_takes_over_when_nbgrader_makes_it(classroom):
    converter = classroom("ada")
    PreparedExporter(parent=converter, config=converter.config)
    assert students(converter) == ["ada"]
    assert converter.coursedir.prepared
    PreparedExporter()  # any other use is the ordinary exporter's


def test_only_what_is_due_is_prepared(classroom, tmp_path):
    old, new = b"2026-01-01 10:00:00 UTC", b"2026-01-02 10:00:00 UTC"
    for student, first, second in (("ada", old, old), ("grace", old, new), ("new", None, old)):
        put(tmp_path / "submitted" / student / NAME / "timestamp.txt", second)
        if first:
            put(tmp_path / "autograded" / student / NAME / "timestamp.txt", first)
    put(tmp_path / "autograded" / "timeless" / NAME / f"{NAME}.ipynb")
    everyone = ("ada", "grace", "new", "timeless")
    for options, due in (
        ({}, ["grace", "new"]),
        ({"force": True}, list(everyone)),
        ({"notebook_id": "s*"}, list(everyone)),
        ({"notebook_id": "t*", "force": True}, list(everyone)),
        ({"student_id": "ada"}, []),
        ({"student_id_exclude": "new"}, ["grace"]),
    ):
        converter = classroom(*everyone, **options)
        take_over(converter)
        assert students(converter) == due, options
        if options.get("notebook_id") == "t*":
            assert set(map(tuple, converter.assignments.values())) == {()}


def test_what_was_never_released_is_not_graded(classroom):
    converter = classroom("ada", assignment_id="other")
    with pytest.raises(NbGraderException, match="holds no notebook"):
        take_over(converter)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Have nbgrader grade a class of four, of whom one is in order, and write their feedback."""
    course = NbgraderCourse(tmp_path_factory.mktemp("preflight"), [])
    write_course(course.root, small=lesson())
    with (course.root / "nbgrader_config.py").open("a") as file:
        file.write("\nc.Autograde.exporter_class = 'firstcnn.grading.preflight.PreparedExporter'\n")
    course.nbgrader("generate_assignment", NAME)
    document = json.loads((course.root / "course" / NAME / f"{NAME}.ipynb").read_text())
    for number, letter in enumerate("abcd"):
        by_id(document, f"{letter}-value-answer")["source"] = f"{letter}_value = {number + 5}"
    submitted = course.root / "submitted"
    put(submitted / "zoe" / NAME / f"{NAME}.ipynb", document)
    put(submitted / "broken" / NAME / f"{NAME}.ipynb", b'{"cells": [')
    (submitted / "empty" / NAME).mkdir(parents=True)
    # A name that stands twice stops stock nbgrader, for everyone; the tag earns full points there.
    check = by_id(document, "d-value-check")
    check["metadata"]["tags"] = ["skip-execution"]
    check["metadata"]["nbgrader"]["points"] = 400
    document["cells"].append(copy.deepcopy(check))
    by_id(document, "a-value-answer")["source"] = "a_value = 0"
    document["cells"].append(
        {"cell_type": "markdown", "id": "x", "metadata": {}, "source": "<script>alert(1)</script>"}
    )
    put(submitted / "mixed" / NAME / f"Copy of {NAME}.ipynb", document)
    (submitted / "mixed" / NAME / "numpy.py").write_text("raise SystemExit")
    before = contents(submitted)
    course.nbgrader("autograde", NAME)
    assert contents(submitted) == before
    course.nbgrader("generate_feedback", NAME)
    return course


def test_one_hopeless_submission_does_not_stop_the_others(graded):
    scores = {
        student: sum(got for got, _ in graded.points(student, NAME).values())
        for student in ("broken", "empty", "mixed", "zoe")
    }
    assert scores == {"broken": 0, "empty": 0, "mixed": 9, "zoe": 10}
    assert {most for _, most in graded.points("mixed", NAME).values()} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("broken", ["stands here, without points", "The file is not valid JSON"]),
        ("empty", ["stands here, without points", "There is no notebook <code>small.ipynb</code>"]),
        (
            "mixed",
            [
                "it was put in order",
                "The check <code>d-value-check</code> stood in several cells",
                "<code>Copy of small.ipynb</code> was graded",
                "left out: <code>numpy.py</code>",
                "<code>skip-execution</code>",
            ],
        ),
    ],
)
def test_feedback_begins_with_what_was_repaired(graded, student, said):
    page = (graded.root / "feedback" / student / NAME / f"{NAME}.html").read_text()
    cells = page.split('id="notebook-container"')[-1]
    assert all(one in cells.split("A lesson")[0] for one in said)
    assert "<script>alert(1)" not in cells
    path = graded.root / "autograded" / student / NAME / f"{NAME}.ipynb"
    note = nbformat.read(path, as_version=4).cells[0]
    assert note.cell_type == "markdown"
    assert "nbgrader" not in note.metadata
    assert [path.name for path in path.parent.iterdir()] == [path.name]


def test_feedback_of_a_clean_submission_mentions_nothing(graded):
    path = graded.root / "autograded" / "zoe" / NAME / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].id == "title"
    told = notebook.metadata.firstcnn
    assert (told["repairs"], told["refusals"]) == ([], {})
