"""A student's way through nbgrader's assignment list: fetch, work, submit, read the feedback."""

import pytest
from desks import exchange_config, exercises, instructors_checkout
from lab import JupyterLab, set_up
from notebook_page import NotebookPage, choose
from playwright.sync_api import expect

LESSON = "03_preparation"
STUDENT = "grace"


@pytest.fixture
def course(tmp_path):
    """Return an instructor's course with a lesson released."""
    course = instructors_checkout(tmp_path, LESSON)
    course.nbgrader("generate_assignment", LESSON, "--force")
    course.nbgrader("release_assignment", LESSON)
    return course


@pytest.fixture
def lab(course, tmp_path):
    """Return the student's ``make lab``, in an empty folder of theirs."""
    checkout = set_up(tmp_path / STUDENT, "course", "solutions", "source")
    (checkout / "work").mkdir()
    config = exchange_config(course, STUDENT)
    with JupyterLab(checkout, nbgrader_config=config, ROOT="work") as lab:
        yield lab


def test_a_student_fetches_works_submits_and_reads_feedback(
    course, lab, page, screenshot, allow, without_cdn, show_html, axe_content
):
    without_cdn(page)
    allow("Blocked script execution", "JupyterLab shows a page that is not trusted without scripts")
    page.goto(f"{lab.url}/lab?token={lab.token}")
    choose(page, "Nbgrader", "Assignment List")
    released = page.locator("#released_assignments_list").filter(has_text=LESSON)
    fetched = page.locator("#fetched_assignments_list").filter(has_text=LESSON)
    submitted = page.locator("#submitted_assignments_list").filter(has_text=LESSON)
    screenshot(page, "list-1-released")
    released.get_by_role("button", name="Fetch").click()
    expect(fetched.get_by_role("button", name="Submit")).to_be_visible()
    screenshot(page, "list-2-fetched")

    fetched.get_by_role("button", name=LESSON).click()
    file = lab.opened / LESSON / f"{LESSON}.ipynb"
    notebook = NotebookPage(page, file, fetched.get_by_role("link", name=LESSON).click)
    first = exercises(lab.checkout, LESSON)[0]
    notebook.write(first.answer, first.solution)
    notebook.save()
    screenshot(page, "list-3-answered")
    notebook.close()

    fetched.get_by_role("button", name="Submit").click()
    expect(submitted.get_by_role("button", name="Fetch Feedback")).to_be_visible()
    screenshot(page, "list-4-submitted")

    course.nbgrader("collect", LESSON, "--ExchangeCollect.check_owner=False")
    course.nbgrader("autograde", LESSON)
    course.nbgrader("generate_feedback", LESSON)
    course.nbgrader("release_feedback", LESSON)
    points = course.points(STUDENT, LESSON)
    got = sum(score for score, _ in points.values())
    assert [score == most for score, most in points.values()].count(True) == 1

    submitted.get_by_role("button", name="Fetch Feedback").click()
    submitted.get_by_text("(view feedback)").click()
    screenshot(page, "list-5-feedback")
    page.get_by_role("listitem", name=f"{LESSON}.html").dblclick()
    feedback = page.frame_locator(".jp-HTMLViewer iframe")
    expect(feedback.get_by_role("heading", name=f"(Score: {got} / 10.0)")).to_be_visible()
    expect(feedback.get_by_text("No answer yet: ")).to_have_count(len(points) - 1)
    screenshot(page, "list-6-feedback-page")

    (file,) = (lab.opened / LESSON / "feedback").glob("*/*.html")
    show_html(page, file.read_text(encoding="utf-8"))
    # The rest of the page is nbgrader's: it names no language, and some of its links are pale.
    axe_content(page, ":is(.text_cell_render, .output_area)")
