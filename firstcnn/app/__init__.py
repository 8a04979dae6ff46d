"""The drawing pad: a network reads a digit while one draws it.

There are two ways to it, with one front end (``static/pad.js``): a page of its own, which
``firstcnn app`` serves (:mod:`firstcnn.app.server`), and a widget in a notebook, which
:func:`pad` makes.
"""

from __future__ import annotations

__all__ = ["AppError", "pad"]


class AppError(RuntimeError):
    """The pad cannot start; the message says why and what to do."""


def pad(model):
    """Make a drawing pad that a model reads, to be shown as a cell's last expression.

    Parameters
    ----------
    model : keras.Model
        Maps float32 (N, 28, 28, 1), 0 to 1, to (N, 10): probabilities or logits. It runs in
        the notebook's kernel, so the pad works wherever the notebook does.

    Returns
    -------
    firstcnn.app.widget.Pad

    Raises
    ------
    AppError
        If the model cannot read a picture of that shape, or does not answer with ten numbers.
    """
    from firstcnn.app.widget import Pad  # the server has no need of Jupyter's widgets

    return Pad(model)
