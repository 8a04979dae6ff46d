"""Figures that move, in JupyterLab: moved with mouse and keyboard, played, and opened again."""

import nbformat
import numpy as np
import pytest
from lab import JupyterLab, set_up
from nbformat.v4 import new_code_cell, new_notebook
from notebook_page import PATIENCE, NotebookPage
from playwright.sync_api import expect

CODE = """\
import numpy as np

from firstcnn import figures

image = np.arange(48).reshape(6, 8) ** 2
kernels = {"left": [[1, 0]], "both": [[1, 1], [1, 1]]}
figures.moving_convolution(image, kernels, row=1, column=2)
"""
IMAGE = np.arange(48).reshape(6, 8) ** 2
# Keeps what is written on a button: it may say something for a moment only.
WATCH = """
button => {
    window.seen = [];
    new MutationObserver(() => window.seen.push(button.textContent)).observe(
        button, {childList: true});
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return a running ``make lab`` with one notebook more, which holds a moving figure."""
    place = tmp_path_factory.mktemp("moving") / "checkout"
    checkout = set_up(place, "course", "solutions", "source")
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = new_notebook(cells=[new_code_cell(CODE)], metadata={"kernelspec": kernel})
    nbformat.write(notebook, checkout / "course" / "moving.ipynb")
    with JupyterLab(checkout) as lab:
        yield lab


def test_a_figure_moves_and_is_still_when_it_is_opened_again(lab, page, axe, allow, screenshot):
    notebook = NotebookPage.open(page, lab, "moving.ipynb")
    assert notebook.run_from(0) is None
    live = page.locator(".firstcnn-moving")
    image = live.get_by_role("img")
    expect(image).to_have_attribute("alt", told("left", 1, 2, IMAGE[1, 2]))
    # The still picture and its words stand aside.
    expect(page.locator(".jp-OutputArea-output img:visible")).to_have_count(1)
    expect(page.locator("details:visible")).to_have_count(1)
    screenshot(page, "moving-figure")
    axe(page, ".firstcnn-moving")

    row, column = live.get_by_label("row"), live.get_by_label("column")
    row.press("ArrowRight")
    expect(image).to_have_attribute("alt", told("left", 2, 2, IMAGE[2, 2]))
    expect(row).to_have_attribute("aria-valuetext", "2")
    column.press("End")
    expect(image).to_have_attribute("alt", told("left", 2, 6, IMAGE[2, 6]))

    # Where the output becomes smaller, the slider ends earlier.
    live.get_by_label("kernel").select_option("both")
    live.get_by_label("stride").select_option("2")
    expect(image).to_have_attribute("alt", told("both", 2, 3, IMAGE[4:6, 6:8].sum()))
    expect(column).to_have_attribute("max", "3")
    expect(column).to_have_value("3")

    # From the end, Play goes through all places, and stops.
    play = live.get_by_role("button")
    play.evaluate(WATCH)
    play.click()
    page.wait_for_function("seen.at(-1) === 'Play'", timeout=PATIENCE)
    assert page.evaluate("seen") == ["Pause", "Play"]
    expect(image).to_have_attribute("alt", told("both", 2, 3, IMAGE[4:6, 6:8].sum()))

    live.get_by_text("This figure in words").click()
    words = live.locator("details p")
    expect(words).to_have_text(told("both", 2, 3, IMAGE[4:6, 6:8].sum()))
    column.press("Home")
    expect(words).to_have_text(told("both", 2, 0, IMAGE[4:6, 0:2].sum()))
    screenshot(page, "moving-figure-in-words")

    notebook.save()
    notebook.close()
    allow("widget model not found", "the controls ended with their kernel")
    NotebookPage.open(page, lab, "moving.ipynb")
    expect(page.locator(".jp-OutputArea-output img:visible")).to_have_count(1)
    expect(page.get_by_text("This figure in words")).to_be_visible()
    expect(page.get_by_text("model not found")).to_be_visible()
    screenshot(page, "moving-figure-reopened")


def told(kernel, row, column, total):
    """Match the words for one place: all that depends on it."""
    import re

    return re.compile(
        rf"with the kernel {kernel},.*The sum of the products, {total}, "
        rf"is written at row {row}, column {column} of the output"
    )
