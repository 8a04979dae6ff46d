"""A student's way through each lesson in JupyterLab: run, read, answer, validate."""

import re

import nbformat
import pytest
from desks import exercises
from lab import JupyterLab, set_up
from notebook_page import NotebookPage
from notebooks import LESSONS
from playwright.sync_api import expect

# An exercise may start from a line that is right and not enough.
MESSAGE = re.compile(r"(No answer yet|Not right yet): ")
# What a lesson says and shows; the rest of the page is JupyterLab's.
# It shows pictures without their alt texts: the words below them are looked for instead.
CONTENT = ".jp-Notebook :is(.jp-RenderedMarkdown, .jp-OutputArea-output:not(.jp-RenderedImage))"
SUCCESS = "Success! Your notebook passes all the tests."


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return a running ``make lab``, on a course that nobody has touched."""
    place = tmp_path_factory.mktemp("student") / "checkout"
    with JupyterLab(set_up(place, "course", "solutions", "source")) as lab:
        yield lab


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_student_runs_a_lesson_answers_it_and_validates_it(
    lab, page, screenshot, axe_content, lesson
):
    path = f"{lesson}/{lesson}.ipynb"
    notebook = NotebookPage.open(page, lab, path)
    tasks = exercises(lab.checkout, lesson)
    screenshot(page, f"student-{lesson}-opened")

    # Nothing is answered: each check in turn stops the run, and says so in one message.
    start = 0
    for one in tasks:
        assert notebook.run_from(start) == one.check
        message = notebook.message(one.check)
        assert MESSAGE.match(message), message
        assert len(message.splitlines()) <= 6, message
        if start == 0:
            screenshot(page, f"student-{lesson}-unanswered")
        start = one.check + 1
    assert notebook.run_from(start) is None
    screenshot(page, f"student-{lesson}-ran")
    axe_content(page, CONTENT)
    assert notebook.pictures_without_words() == []
    expect(page.get_by_text("model not found")).to_have_count(0)

    for one in tasks:
        notebook.write(one.answer, one.solution)
    screenshot(page, f"student-{lesson}-answered")
    notebook.save()
    saved = nbformat.read(lab.opened / path, as_version=4).cells
    for one in tasks:
        assert saved[one.answer].source == one.solution

    dialog = notebook.validate()
    expect(dialog).to_contain_text(SUCCESS)
    screenshot(page, f"student-{lesson}-validated")
    dialog.get_by_role("button", name="Ok").click()
    notebook.close()


def test_validate_says_what_is_wrong_with_one_answer(lab, page, screenshot):
    tasks = exercises(lab.checkout, "01_convolution")
    made = nbformat.read(lab.checkout / "solutions" / "01_convolution" / "01_convolution.ipynb", 4)
    nbformat.write(made, lab.opened / "wrong.ipynb")
    notebook = NotebookPage.open(page, lab, "wrong.ipynb")
    notebook.write(tasks[0].answer, "dense_parameters = 64 * 64 * 100")
    notebook.save()

    dialog = notebook.validate()
    screenshot(page, "student-wrong-answer")
    # The cell that failed, and one message, whole.
    source, message = dialog.locator("pre").all_inner_texts()
    assert '"dense_parameters"' in source
    assert message.startswith("Not right yet: ")
    assert "Each unit has a bias too." in " ".join(message.split())
    assert len(message.splitlines()) <= 6
    dialog.get_by_role("button", name="Ok").click()
    notebook.close()
