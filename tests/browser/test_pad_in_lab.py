"""The drawing pad in JupyterLab: drawn on with mouse and keys, and opened again."""

import nbformat
import pytest
from drawing import answer, draw, ink
from lab import JupyterLab, set_up
from nbformat.v4 import new_code_cell, new_notebook
from notebook_page import NotebookPage
from playwright.sync_api import expect

CELLS = ["1 + 1", "from firstcnn import app, reader\n\napp.pad(reader.load())", "2 + 2"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return a running ``make lab`` with one notebook more, which holds a pad."""
    place = tmp_path_factory.mktemp("pad") / "checkout"
    checkout = set_up(place, "course", "solutions", "source")
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    cells = [new_code_cell(text) for text in CELLS]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, checkout / "course" / "pad.ipynb")
    with JupyterLab(checkout) as lab:
        yield lab


def test_a_pad_in_a_notebook(lab, page, axe, allow, screenshot):
    notebook = NotebookPage.open(page, lab, "pad.ipynb")
    assert notebook.run_from(0) is None
    expect(page.locator(".firstcnn-pad .statement")).to_have_text("Draw a digit, from 0 to 9.")
    # The still picture and its words stand aside.
    expect(page.locator(".jp-OutputArea-output img:visible")).to_have_count(0)
    notebook.bring_into_view(page.get_by_label("Drawing pad"))
    draw(page, 7)
    assert answer(page) == "7"
    screenshot(page, "pad-in-lab")
    axe(page, ".firstcnn-pad")

    # Its keys are its own: JupyterLab's would move to other cells, and delete and run them.
    keys = page.keyboard
    keys.press("Escape")
    assert answer(page) == "?"
    keys.press("Enter")
    for _ in range(24):
        keys.press("ArrowDown")
    keys.press("Enter")
    assert answer(page) == "1"
    expect(page.get_by_label("Drawing pad")).to_be_focused()
    keys.press("Backspace")
    assert ink(page) == 0
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(CELLS))

    notebook.cell(2).locator(".jp-InputArea-prompt").click()  # in the pad, no key is JupyterLab's
    notebook.save()
    notebook.close()
    allow("widget model not found", "the pad ended with its kernel")
    NotebookPage.open(page, lab, "pad.ipynb")
    expect(page.locator(".jp-OutputArea-output img:visible")).to_have_count(1)
    expect(page.get_by_text("This figure in words")).to_be_visible()
    screenshot(page, "pad-in-lab-reopened")
