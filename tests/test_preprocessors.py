"""What the course adds to nbgrader's steps."""

from nbconvert.filters.highlight import Highlight2HTML
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from firstcnn.preprocessors import PlainCode


def coloured(*sources):
    """Tell of each code cell whether a page shows it in colours."""
    notebook = new_notebook(cells=[new_markdown_cell("x" * 10**6), *map(new_code_cell, sources)])
    PlainCode().preprocess(notebook, {})
    highlight = Highlight2HTML()
    pages = [highlight(cell.source, metadata=cell.metadata) for cell in notebook.cells[1:]]
    return ['<span class="' in page for page in pages]


def test_code_that_no_one_reads_has_no_colours():
    assert coloured("x = 1", "x = 1" + "\n" * 500_000 + "y = 2", "y = 2") == [True, False, True]
    assert coloured("x = 1" + "\n" * 200 + "y = 2", "x = 1" + "\n" * 9) == [False, True]


def test_together_cells_have_colours_up_to_a_length():
    assert coloured(*["x = 1  # " + "y" * 9_000] * 12) == [True] * 11 + [False]
    assert coloured(*["x = 1  # " + "y" * 9_000] * 11, "y = 2") == [True] * 12
