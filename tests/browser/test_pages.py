"""Lessons as pages, for readers with and without eyes: axe-core finds nothing serious."""

import nbformat
import pytest
from nbconvert import HTMLExporter
from notebooks import LESSONS, ROOT


@pytest.mark.parametrize("lesson", LESSONS)
def test_an_exported_lesson(page, axe_content, show_html, screenshot, lesson):
    notebook = nbformat.read(ROOT / "solutions" / lesson / f"{lesson}.ipynb", as_version=4)
    html, _ = HTMLExporter(template_name="lab").from_notebook_node(
        notebook, {"metadata": {"name": lesson}}
    )
    show_html(page, html)
    screenshot(page, f"page-{lesson}")
    axe_content(page)
