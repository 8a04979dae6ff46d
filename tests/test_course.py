"""Building from source/, and proving that what is committed is what it makes."""

import nbformat
import pytest
from notebooks import cell, edit, lesson, write_course
from typer.testing import CliRunner

from firstcnn import cli, course
from firstcnn.course import Course, CourseError

# As from a kernel that is held up in the middle of it.
WORDS = "print('in ', end='', flush=True)\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small course, built once; tests that change it put things back."""
    root = write_course(
        tmp_path_factory.mktemp("checkout"),
        one_lesson=lesson(
            cell("code", "hello", 'print("hello")'),
            cell("code", "slow", 2 * WORDS),
        ),
    )
    course.build(Course(root))
    return Course(root)


@pytest.fixture
def restored(built):
    """Put every file of the small course back after a test."""
    before = {path: path.read_bytes() for path in built.root.rglob("*") if path.is_file()}
    yield built
    for path in built.root.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, content in before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def cells(path):
    return {one.id: one for one in nbformat.read(path, as_version=4).cells}


def test_students_get_stubs_and_no_hidden_tests(built):
    released = cells(built.release("one_lesson"))
    assert released["a-value-answer"].source == "a_value = ..."
    assert "HIDDEN" not in released["a-value-check"].source
    assert released["a-value-check"].source.endswith('check.number("a_value", a_value, 5)')
    assert not any(one.get("outputs") for one in released.values())


def test_solutions_are_solved_executed_and_without_markers(built):
    solved = cells(built.solution("one_lesson"))
    assert solved["a-value-answer"].source == "a_value = 5"
    assert "###" not in "".join(one.source for one in solved.values() if one.cell_type == "code")
    assert solved["a-value-check"].source.count("check.number") == 2
    assert solved["hello"].outputs[0].text == "hello\n"
    assert [one.text for one in solved["slow"].outputs] == ["in in "]


def test_building_twice_gives_the_same_bytes(restored):
    paths = [restored.release("one_lesson"), restored.solution("one_lesson")]
    before = [path.read_bytes() for path in paths]
    course.build(restored)
    assert [path.read_bytes() for path in paths] == before


def test_building_and_verifying_leave_no_gradebook(built):
    course.verify(built)
    assert {path.name for path in built.root.iterdir()} == {
        "course", "nbgrader_config.py", "solutions", "source"
    }  # fmt: skip


def test_what_was_just_built_is_current(built):
    assert course.verify(built) == []


def test_a_changed_word_in_source_names_the_cell_in_both(restored):
    edit(restored.source("one_lesson"), "title", "Another", "A further")
    found = course.verify(restored)
    assert len(found) == 2
    assert all("cell title: line 4 is 'Another one.'" in line for line in found)
    assert found[0].startswith("course/one_lesson/one_lesson.ipynb")
    assert found[1].startswith("solutions/one_lesson/one_lesson.ipynb")


def test_a_difference_far_into_a_long_line_is_shown(restored):
    edit(restored.source("one_lesson"), "title", "Another one.", "x" * 200 + " old " + "y" * 200)
    course.build(restored)
    edit(restored.source("one_lesson"), "title", " old ", " new ")
    line, _ = course.verify(restored)
    assert " old yyy" in line
    assert " new yyy" in line
    assert len(line) < 300


@pytest.mark.parametrize("kind", ["course", "solutions"])
def test_an_edit_of_a_generated_notebook_is_found(restored, kind):
    path = restored.root / kind / "one_lesson" / "one_lesson.ipynb"
    edit(path, "a-value-check", "a_value, 5", "a_value, 6")
    (line,) = course.verify(restored)
    assert f"{kind}/one_lesson/one_lesson.ipynb: cell a-value-check: line 3" in line


def test_changed_points_are_found(restored):
    path = restored.release("one_lesson")
    path.write_text(path.read_text().replace('"points": 4', '"points": 9'))
    (line,) = course.verify(restored)
    assert "cell d-value-check: its type or metadata differ" in line


def test_a_deleted_an_added_and_a_moved_cell_are_found(restored):
    path = restored.solution("one_lesson")
    notebook = nbformat.read(path, as_version=4)
    original = list(notebook.cells)
    for changed, expected in [
        (original[1:], "cell title: missing"),
        ([*original, cell("md", "more", "More.")], "cell more: is not in source/"),
        (original[::-1], "its cells are in another order"),
    ]:
        notebook.cells = changed
        nbformat.write(notebook, path)
        assert any(expected in line for line in course.verify(restored)), expected


def test_a_change_of_bytes_alone_is_found_in_course(restored):
    path = restored.release("one_lesson")
    path.write_bytes(path.read_bytes() + b"\n")
    (line,) = course.verify(restored)
    assert "its writing differs" in line


def test_outputs_in_solutions_are_left_to_nbval(restored):
    path = restored.solution("one_lesson")
    path.write_text(path.read_text().replace("hello\\n", "other\\n"))
    assert course.verify(restored) == []


def test_missing_and_left_over_notebooks_are_found(restored):
    restored.release("one_lesson").unlink()
    extra = restored.root / "solutions" / "old_lesson" / "old_lesson.ipynb"
    extra.parent.mkdir()
    extra.write_text("{}")
    found = course.verify(restored)
    assert found == [
        "course/one_lesson/one_lesson.ipynb: missing",
        "solutions/old_lesson: there is no such lesson in source/",
    ]
    extra.unlink()
    extra.parent.rmdir()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "cell bad of the solution raises"),
        ("import sys\nprint('x', file=sys.stderr)", "cell bad of the solution writes to stderr"),
        ("import os\nos.write(2, b'native code')", "cell bad of the solution writes to stderr"),
    ],
)  # fmt: skip
def test_a_solution_that_raises_or_writes_to_stderr_is_refused(tmp_path, code, said, monkeypatch):
    # ipykernel does not listen to native code where it sees pytest.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    root = write_course(tmp_path / "checkout", bad_lesson=lesson(cell("code", "bad", code)))
    with pytest.raises(CourseError, match=said):
        course.build(Course(root))
    assert not Course(root).release("bad_lesson").exists()


def test_what_stopped_nbgrader_is_said_where_it_says_only_that_something_did():
    told = {
        "success": False,
        "log": "[INFO] Converting\n[ERROR] There was an error\nOSError: disk full\n",
        "error": "NbGraderException: Please see the the above traceback",
    }
    with pytest.raises(CourseError, match=r"could not make one:\n\[ERROR\][\s\S]*disk full$"):
        course._expect_success(type("Generate", (), {}), "one", told)
    told["log"] = "[INFO] Converting\n"
    with pytest.raises(CourseError, match=r"\nNbGraderException: Please see"):
        course._expect_success(type("Generate", (), {}), "one", told)


def test_an_unclosed_solution_is_refused_with_its_lesson(tmp_path):
    broken = cell("answer", "open-answer", "### BEGIN SOLUTION\nx = 1")
    root = write_course(tmp_path / "checkout", open_lesson=lesson(broken))
    with pytest.raises(CourseError, match="nbgrader could not make open_lesson"):
        course.verify(Course(root))


def test_unknown_lessons_and_folders_are_named(built, tmp_path):
    with pytest.raises(CourseError, match=r"There is no lesson 'two'.*one_lesson"):
        course.build(built, ["two"])
    with pytest.raises(CourseError, match="not inside a checkout"):
        course.find_root(tmp_path)
    assert course.find_root(built.release("one_lesson").parent) == built.root


def test_stubs_of_every_form(tmp_path):
    source = (
        "### BEGIN SOLUTION: a = ...; b = ...\na, b = 1, 2\n### END SOLUTION\n"
        "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n"
        "c = 0\n### BEGIN SOLUTION: c = [...]\nc = [1]\n### END SOLUTION"
    )
    root = write_course(tmp_path / "checkout", stubs=lesson(cell("answer", "stub-answer", source)))
    with course._generated(Course(root), ["stubs"], execute=False) as made:
        released = cells(made / "course" / "stubs" / "stubs.ipynb")["stub-answer"].source
    assert released == "a = ...\nb = ...\ndef f():\n    ...  # your code here\nc = 0\nc = [...]"


def test_the_command_verifies_and_names_the_cell(restored, monkeypatch):
    monkeypatch.chdir(restored.root / "source")
    runner = CliRunner()
    result = runner.invoke(cli.app, ["verify"])
    assert (result.exit_code, result.output) == (
        0,
        "course/, solutions/ and docs/exercises.md are what source/ makes.\n",
    )
    edit(restored.source("one_lesson"), "title", "One", "A")
    result = runner.invoke(cli.app, ["verify"])
    assert result.exit_code == 1
    assert "cell title" in result.output


def test_tidy_strips_names_and_keeps_what_is_canonical(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    path = restored.source("one_lesson")
    clean = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="hello\n")]
    notebook.cells[-1].execution_count = 7
    notebook.cells[-1].metadata["collapsed"] = True
    notebook.cells[0]["id"] = "3f2a9c1b"
    nbformat.write(notebook, path)
    assert CliRunner().invoke(cli.app, ["tidy"]).output == "tidied source/one_lesson\n"
    assert path.read_bytes() == clean.replace(b'"id": "title"', b'"id": "a-lesson-one-sentence"')
    assert CliRunner().invoke(cli.app, ["tidy"]).output == ""


def test_build_missing_builds_only_what_is_missing(restored, monkeypatch):
    monkeypatch.chdir(restored.root)
    assert CliRunner().invoke(cli.app, ["build", "--missing"]).output == ""
    restored.release("one_lesson").unlink()
    assert "one_lesson" in CliRunner().invoke(cli.app, ["build", "--missing"]).output
    assert course.verify(restored) == []
