"""An instructor's way through formgrader, from Generate to Release Feedback."""

import csv
import re
import shutil

import pytest
from desks import exchange_config, hand_in, instructors_checkout
from lab import JupyterLab
from notebook_page import choose
from playwright.sync_api import FrameLocator, expect

LESSON = "02_data"
ANSWERED = {"ada": 99, "grace": 2, "katherine": 0}
PATIENCE = 900_000  # ms; autograding runs a lesson


@pytest.fixture
def course(tmp_path):
    return instructors_checkout(tmp_path, LESSON)


@pytest.fixture
def lab(course):
    with JupyterLab(course.root, nbgrader_config=exchange_config(course), ROOT=".") as lab:
        # It is the Generate button that is to make it.
        shutil.rmtree(course.root / "course" / LESSON)
        yield lab


def press(form: FrameLocator, row: str, column: str, says: str) -> None:
    """Press the button in a column of a row, and read nbgrader's report that it worked."""
    form.get_by_role("row").filter(has_text=row).locator(f"td.{column} a").click()
    report = form.get_by_role("dialog")
    expect(report).to_contain_text(says, timeout=PATIENCE)
    expect(report.locator(".modal-title")).to_have_text("Success")
    report.get_by_role("button", name="OK").click()
    expect(report).to_have_count(0)


def points(text: str) -> tuple[float, ...]:
    """Read ``7 / 10``."""
    return tuple(float(number) for number in text.split("/"))


def test_an_instructor_gets_from_generate_to_feedback_and_grades(
    course, lab, page, screenshot, without_cdn
):
    without_cdn(page)
    page.goto(f"{lab.url}/lab?token={lab.token}")
    choose(page, "Nbgrader", "Formgrader")
    form = page.frame_locator("iframe")
    row = form.get_by_role("row").filter(has_text=LESSON)
    expect(row.locator(".status")).to_have_text("draft")
    screenshot(page, "formgrader-1-assignments")

    press(form, LESSON, "assign", "Successfully created the student version")
    assert (course.root / "course" / LESSON / f"{LESSON}.ipynb").exists()
    row.locator(".preview a").click()
    files = page.get_by_role("region", name="File Browser Section")
    expect(files).to_contain_text(f"{LESSON}.ipynb")
    screenshot(page, "formgrader-2-preview")
    press(form, LESSON, "release", "Successfully released")
    expect(row.locator(".status")).to_have_text("released")

    for student, keep in ANSWERED.items():
        hand_in(course, student, LESSON, keep)
    press(form, LESSON, "collect", "Successfully collected")
    expect(row.locator(".num-submissions")).to_have_text(str(len(ANSWERED)))
    screenshot(page, "formgrader-3-collected")

    row.locator(".num-submissions a").click()
    submissions = {}
    for student in ANSWERED:
        submission = form.get_by_role("row").filter(has_text=student)
        expect(submission.locator(".status")).to_have_text("needs autograding")
        press(form, student, "autograde", "Successfully autograded")
        expect(submission.locator(".status")).to_have_text("graded")
        submissions[student] = points(submission.locator(".score").inner_text())
    screenshot(page, "formgrader-4-autograded")
    assert submissions["ada"] == (10, 10)
    assert 0 < submissions["grace"][0] < 10
    assert submissions["katherine"] == (0, 10)

    # Manual grading: every notebook with the points of each exercise.
    form.get_by_role("link", name="Manual Grading").click()
    form.get_by_role("link", name=LESSON).click()
    form.get_by_role("link", name=LESSON).click()
    expect(form.get_by_role("row").locator(".score")).to_have_count(len(ANSWERED))
    screenshot(page, "formgrader-5-manual-grading")
    read = {}
    form.get_by_role("link", name="Submission #1").click()
    for number in range(1, len(ANSWERED) + 1):
        expect(form.locator(".panel-title")).to_contain_text(f"{number} / {len(ANSWERED)}")
        scores = form.locator("input.score")
        # The points of the autograder stand there in grey, until a person types others.
        expect(scores.last).to_have_attribute("placeholder", re.compile(r"\d"))
        scores.last.scroll_into_view_if_needed()
        screenshot(page, f"formgrader-6-submission-{number}")
        student = form.locator(".live-notebook a.name-shown").text_content().strip()
        read[student] = sum(float(one.get_attribute("placeholder")) for one in scores.all())
        form.get_by_role("link", name="Next").click()
    assert read == {student: got for student, (got, _) in submissions.items()}

    form.get_by_role("link", name="Manage Assignments").click()
    press(form, LESSON, "generate-feedback", "Successfully generated feedback")
    press(form, LESSON, "release-feedback", "Successfully released feedback")
    screenshot(page, "formgrader-7-feedback")
    assert len(list((course.exchange / "first-cnn" / "feedback").glob("*.html"))) == len(ANSWERED)

    course.nbgrader("export", "--to", "grades.csv")
    with (course.root / "grades.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    exported = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}
    assert exported == submissions
