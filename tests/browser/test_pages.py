"""Lessons as pages, for readers with and without eyes: axe-core finds nothing serious."""

import nbformat
import pytest
from nbconvert import HTMLExporter
from notebooks import LESSONS, ROOT


@pytest.mark.parametrize("lesson", LESSONS)
def test_an_exported_lesson(page, axe_content, show_html, screenshot, lesson):
    notebook = nbformat.read(ROOT / "solutions" / lesson / f"{lesson}.ipynb", as_version=4)
    # Of nbconvert's templates this one keeps the words of a picture, and nbgrader builds on it.
    exporter = HTMLExporter(template_name="classic")
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": lesson}})
    show_html(page, html)
    screenshot(page, f"page-{lesson}")
    axe_content(page)
    words = page.locator("img").evaluate_all("all => all.map(image => image.alt)")
    assert words
    assert all(len(text) > 20 and not text.startswith("No description") for text in words)
