"""The whole way of two lessons and three students, with nbgrader's own commands only."""

import csv
import shutil

import nbformat
import pytest
from nbgrader_course import NbgraderCourse
from notebooks import ROOT

from firstcnn import kernel

LESSONS = ["01_convolution", "02_data"]
STUDENTS = ["ada", "grace", "katherine"]


def answer(path, solved, keep):
    """Fill in the answers of the first `keep` exercises, as a student would in JupyterLab."""
    sources = {one.id: one.source for one in nbformat.read(solved, as_version=4).cells}
    notebook = nbformat.read(path, as_version=4)
    exercises = [one for one in notebook.cells if one.metadata.get("nbgrader", {}).get("solution")]
    for one in exercises[:keep]:
        one.source = sources[one.id]
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Everything from generate to feedback, done once."""
    course = NbgraderCourse(tmp_path_factory.mktemp("roundtrip"), LESSONS)
    for lesson in LESSONS:
        course.nbgrader("generate_assignment", lesson)
        course.nbgrader("release_assignment", lesson)
        for student, keep in zip(STUDENTS, (99, 2, 0), strict=True):
            desk = course.root.parent / student
            desk.mkdir(exist_ok=True)
            options = (f"--student={student}", "--course=first-cnn")
            course.nbgrader("fetch_assignment", lesson, *options, cwd=desk)
            solved = ROOT / "solutions" / lesson / f"{lesson}.ipynb"
            answer(desk / lesson / f"{lesson}.ipynb", solved, keep)
            course.nbgrader("submit", lesson, *options, cwd=desk)
        course.nbgrader("collect", lesson, "--ExchangeCollect.check_owner=False")
        course.nbgrader("autograde", lesson)
        course.nbgrader("generate_feedback", lesson)
        course.nbgrader("release_feedback", lesson)
    course.nbgrader("export", "--to", "grades.csv")
    return course


def test_grades_are_exported_to_csv(course):
    with (course.root / "grades.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {(row["student_id"], row["assignment"]): float(row["score"]) for row in rows}
    assert set(scores) == {(student, lesson) for student in STUDENTS for lesson in LESSONS}
    for lesson in LESSONS:
        assert scores["ada", lesson] == 10
        assert 0 < scores["grace", lesson] < 10
        assert scores["katherine", lesson] == 0
    assert {float(row["max_score"]) for row in rows} == {10}


def test_unanswered_exercises_cost_their_own_points_only(course):
    for lesson in LESSONS:
        lost = [got == most for got, most in course.points("grace", lesson).values()]
        assert lost.count(True) == 2


def test_feedback_reaches_the_student_and_shows_the_courses_message(course):
    desk = course.root.parent / "grace"
    options = ("--student=grace", "--course=first-cnn")
    for lesson in LESSONS:
        course.nbgrader("fetch_feedback", lesson, *options, cwd=desk)
        (page,) = (desk / lesson / "feedback").rglob("*.html")
        text = page.read_text(encoding="utf-8")
        assert "No answer yet" in text
        assert "firstcnn/check" not in text


def test_what_was_released_is_what_is_committed(course):
    for lesson in LESSONS:
        released = course.exchange / "first-cnn" / "outbound" / lesson / f"{lesson}.ipynb"
        committed = ROOT / "course" / lesson / f"{lesson}.ipynb"
        assert released.read_bytes() == committed.read_bytes()


def test_validate_tells_a_student_what_is_wrong(course):
    desk = course.root.parent / "katherine"
    lesson = LESSONS[0]
    # Where students work, a cell has more time than nbgrader's 30 s, which a busy machine exceeds.
    settings = {"JUPYTER_CONFIG_PATH": kernel.config_path()}
    notebook = f"{lesson}/{lesson}.ipynb"
    said = course.nbgrader("validate", notebook, cwd=desk, environment=settings)
    assert "VALIDATION FAILED" in said
    assert "No answer yet: replace the dots in the cell above with your dense_parameters" in said
    errors = said.split("The error was:")[1:]
    assert errors
    # Validate cuts lines that are too long for it: messages must not be.
    assert not any(part.split("=====")[0].rstrip().endswith("...") for part in errors)
    solved = desk / "solved.ipynb"
    shutil.copy(ROOT / "solutions" / lesson / f"{lesson}.ipynb", solved)
    assert "Success! Your notebook passes all the tests." in course.nbgrader(
        "validate",
        "--Validator.ignore_checksums=True",
        "solved.ipynb",
        cwd=desk,
        environment=settings,
    )
