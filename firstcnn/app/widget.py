"""The drawing pad as a widget in a notebook."""

from __future__ import annotations

import io
from pathlib import Path

import anywidget
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from firstcnn import strokes
from firstcnn.app import reading
from firstcnn.figures.display import COLOURS, show

__all__ = ["Pad"]

STATIC = Path(__file__).parent / "static"


class Pad(anywidget.AnyWidget):
    """A drawing pad that a model in this kernel reads.

    Parameters
    ----------
    model : keras.Model
        See :func:`firstcnn.app.pad`.

    Raises
    ------
    AppError
        If the model is not one for pictures of digits.
    """

    _esm = STATIC / "pad.js"
    _css = STATIC / "pad.css"

    def __init__(self, model):
        super().__init__()
        self._predict = reading.predictor(model)
        self.on_msg(self._answer)

    def _answer(self, _, question: dict, buffers: list) -> None:
        """Answer the picture in a message, under the number that the message has."""
        picture = io.BytesIO(buffers[0] if buffers else b"")
        try:
            answer = reading.read(picture, self._predict)
        except ValueError as error:  # the picture's fault, or the model's
            answer = {"error": str(error)}
        self.send({"id": question.get("id"), **answer})

    def _ipython_display_(self) -> None:
        """Show the pad, and behind it a still picture for pages on which no kernel runs.

        ``pad.css`` hides the still picture for as long as the pad lives.
        """
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        display({"application/vnd.jupyter.widget-view+json": view}, raw=True)
        _show_still(self._predict)


def _show_still(predict) -> None:
    """Show the pad as it looks when somebody has drawn a 3."""
    sheet = strokes.draw(3, size=180, width=18)
    picture = io.BytesIO()
    Image.fromarray(sheet).save(picture, "PNG")
    picture.seek(0)
    answer = reading.read(picture, predict)
    figure = Figure(figsize=(9, 3.2))
    pad, seen, bars = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    for axes, pixels, title in (
        (pad, sheet, "the drawing pad"),
        (seen, np.array(answer["image"]), "what the network sees"),
    ):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
    digits = range(10)
    bars.barh(digits, answer["probabilities"], color=COLOURS[0])
    bars.set_yticks(digits)
    bars.set_ylabel("digit")
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_xlabel("probability")
    bars.set_title(answer["statement"])
    figure.tight_layout()
    show(
        "A drawing pad, here as a still picture. While the notebook runs one draws a digit on "
        "it, with the mouse, a finger, a pen or the arrow keys, and the network reads it. "
        f"Here a 3 was drawn. {answer['statement']}",
        figure,
    )
