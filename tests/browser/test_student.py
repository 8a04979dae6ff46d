"""A student's way through each lesson in JupyterLab: run, read, answer, validate."""

import re

import httpx
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


def test_jupyterlab_saves_only_when_told_to(lab):
    plugin = "@jupyterlab/docmanager-extension:plugin"
    asked = httpx.get(f"{lab.url}/lab/api/settings/{plugin}", params={"token": lab.token})
    found = asked.raise_for_status().json()
    assert found["settings"] == {"autosave": False}
    assert "autosave" in found["schema"]["properties"]


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
    for check in (place for one in tasks for place in one.checks):
        assert notebook.run_from(start) == check
        message = notebook.message(check)
        assert MESSAGE.match(message), message
        assert len(message.splitlines()) <= 6, message
        if start == 0:
            screenshot(page, f"student-{lesson}-unanswered")
        start = check + 1
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


#: What students hand in to lesson 1, and what they are told of each.
STATES = {
    "dense-cost": ("dense_parameters = 64 * 64 * 100", "Not right yet: dense_parameters is 409"),
    "next-window": ("next_sum = ...", "No answer yet: replace the dots"),
    "output-size": (
        "def output_size(n, k, padding=0, stride=1):\n"
        "    return output_size(n - 1, k, padding, stride) + 1",
        "calls itself without end (RecursionError)",
    ),
    "convolve": (
        "def convolve(image, kernel, stride=1):\n    return imgae * kernel",
        "stops with NameError: name 'imgae' is not defined",
    ),
    "conv-parameters": (
        "conv_parameters = 5 * 5 * chanels * 16",
        "No answer yet: there is no conv_parameters yet.",
    ),
    "max-pool": ("max_pool = 4", "max_pool is 4. It should be a function."),
}


def test_validate_says_one_thing_of_each_kind_of_answer(lab, page, screenshot):
    """A wrong, an empty and four crashing answers: one message each, and no wall of frames."""
    made = nbformat.read(lab.checkout / "solutions" / "01_convolution" / "01_convolution.ipynb", 4)
    checks = 0
    for cell in made.cells:
        name = cell.id.removesuffix("-answer")
        if name in STATES and cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = STATES[name][0]
        checks += bool(cell.metadata.get("nbgrader", {}).get("grade"))
    nbformat.write(made, lab.opened / "wrong.ipynb")
    notebook = NotebookPage.open(page, lab, "wrong.ipynb")

    dialog = notebook.validate()
    screenshot(page, "student-wrong-answers")
    shown = dialog.locator("pre").all_inner_texts()
    sources, messages = shown[::2], [" ".join(text.split()) for text in shown[1::2]]
    assert len(messages) == checks
    for said, text in zip(messages, shown[1::2], strict=True):
        assert MESSAGE.match(said), said
        assert len(text.splitlines()) <= 6, text
        assert "Traceback" not in said
    for _, phrase in STATES.values():
        assert any(phrase in said for said in messages), phrase
    assert '"dense_parameters"' in sources[0]
    dialog.get_by_role("button", name="Ok").click()

    # The same in the notebook itself: what a student sees who runs the cells.
    (place,) = [i for i, cell in enumerate(made.cells) if cell.id == "conv-parameters-answer"]
    assert notebook.run_from(place) == place
    assert "name 'chanels' is not defined" in notebook.message(place)
    assert notebook.run_from(place + 1) == place + 1
    assert notebook.message(place + 1).startswith("No answer yet: there is no conv_parameters yet.")
    screenshot(page, "student-crashed-answer")
    notebook.close()
