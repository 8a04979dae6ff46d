"""Showing a figure together with its text alternative."""

from __future__ import annotations

import html
import io

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

#: Okabe and Ito's palette without yellow: eight minus one colours that stay apart
#: under the common colour vision deficiencies (Color Universal Design, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def show(alt: str, figure: Figure | None = None, *, dpi: int = 80) -> None:
    """Show a figure, with a text alternative for those who cannot see it.

    The text is the picture's ``alt`` in nbgrader's feedback pages. JupyterLab and
    its exports give no ``alt`` to pictures that code draws, so the text also
    stands folded below the picture.

    Parameters
    ----------
    alt : str
        What the figure shows, in a sentence or two: what a reader should see in it.
    figure : matplotlib.figure.Figure, optional
        The figure; by default the current one. It is closed afterwards.
    dpi : int, optional
        Dots per inch.

    Raises
    ------
    ValueError
        If `alt` is empty, or there is no figure.
    """
    if not alt.strip():
        raise ValueError("figures.show needs a text alternative: say what the figure shows.")
    if figure is None:
        if not plt.get_fignums():
            raise ValueError("There is no figure to show. Draw one first, in the same cell.")
        figure = plt.gcf()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    display(
        {"image/png": picture.getvalue(), "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )
    folded = f"<details><summary>This figure in words</summary>{html.escape(alt)}</details>"
    display({"text/html": folded, "text/plain": ""}, raw=True)
