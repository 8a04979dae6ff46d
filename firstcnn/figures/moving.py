"""Figures that move: controls beside a picture that is drawn anew when they are moved."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import display
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from firstcnn.figures.display import show

#: Dots per inch of the frames, as of the still pictures.
DPI = 80


@dataclass(frozen=True)
class Control:
    """Something to choose by a slider or from a list.

    Parameters
    ----------
    name : str
        What is chosen, as written beside it.
    options : sequence of str
        What can be chosen; a choice is the place of one of them, from 0.
    slide : bool, optional
        Whether it is a slider; otherwise it is a list.
    """

    name: str
    options: Sequence[str]
    slide: bool = True

    def clamp(self, choice: Any) -> int:
        """Return the choice, or the nearest one that there is; the first if it is no number."""
        if isinstance(choice, bool) or not isinstance(choice, int):
            return 0
        return min(max(choice, 0), len(self.options) - 1)


class Scene(ABC):
    """What a figure that moves draws, on one matplotlib figure for all its frames.

    A reader who drags a slider waits for every frame. So a frame changes the artists of
    the one before, and as long as `fixed` stays the same, only the `moving` ones are drawn.

    Parameters
    ----------
    width, height : float
        The size in inches.
    """

    #: The controls that *Play* moves on, the last of them fastest; none: there is no such button.
    plays: tuple[str, ...] = ()

    def __init__(self, width: float, height: float):
        # Not pyplot's: it would keep the figure, and show it once more.
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self._fixed: Any = None
        self._background: Any = None

    @abstractmethod
    def controls(self, choices: Mapping[str, int]) -> list[Control]:
        """Return the controls; their options may depend on what is chosen in those before."""

    @abstractmethod
    def draw(self, choices: Mapping[str, int]) -> str:
        """Change the figure to what is chosen, a valid choice for each control, and say it."""

    def fixed(self, choices: Mapping[str, int]) -> Any:
        """Return what all artists that are not `moving` depend on; by default all choices."""
        return dict(choices)

    def moving(self) -> Sequence[Artist]:
        """Return the artists to draw anew for each frame; those that change are *animated*."""
        return ()

    def settle(self, choices: Mapping[str, Any]) -> dict[str, int]:
        """Return a choice for each control that is among its options, and no other.

        Parameters
        ----------
        choices : mapping of str to int
            Choices by the names of the controls; missing ones become 0.
        """
        settled: dict[str, int] = {}
        for control in self.controls({}):
            settled[control.name] = control.clamp(choices.get(control.name, 0))
        # Options that depend on other choices are known only now.
        return {one.name: one.clamp(choices.get(one.name, 0)) for one in self.controls(settled)}

    def frame(self, choices: Mapping[str, int]) -> tuple[np.ndarray, str]:
        """Draw one frame.

        Returns
        -------
        pixels : numpy.ndarray of uint8, shape (rows, columns, 3)
            The picture.
        words : str
            What it shows.
        """
        words = self.draw(choices)
        fixed = self.fixed(choices)
        if fixed == self._fixed:
            self.canvas.restore_region(self._background)
        else:
            self.canvas.draw()  # all but what is animated
            self._fixed, self._background = fixed, self.canvas.copy_from_bbox(self.figure.bbox)
        for artist in self.moving():
            self.figure.draw_artist(artist)
        return np.asarray(self.canvas.buffer_rgba())[:, :, :3].copy(), words


class MovingFigure(anywidget.AnyWidget):
    """A scene with its controls in a notebook. Drawing is done here, in the kernel.

    The controls are the browser's own (``moving.js``), so each has a name for a
    screen reader and can be moved with the keyboard, and the picture has an ``alt``.

    Parameters
    ----------
    scene : Scene
        What is drawn.
    choices : mapping of str to int, optional
        What is chosen at first, as :meth:`Scene.settle` takes it.
    """

    _esm = Path(__file__).with_name("moving.js")
    _css = Path(__file__).with_name("moving.css")

    controls = traitlets.List(traitlets.Dict()).tag(sync=True)
    plays = traitlets.List(traitlets.Unicode()).tag(sync=True)
    choices = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    # Frames drawn so far: the signal that there is a new one, even if it looks like the last.
    frames = traitlets.Int().tag(sync=True)

    def __init__(self, scene: Scene, choices: Mapping[str, int] | None = None):
        self.scene = scene
        super().__init__(plays=list(scene.plays), choices=dict(choices or {}))
        self._draw()

    @traitlets.validate("choices")
    def _settle(self, proposal):
        return self.scene.settle(proposal["value"])

    @traitlets.observe("choices")
    def _draw(self, change: Any = None) -> None:
        pixels, words = self.scene.frame(self.choices)
        png = io.BytesIO()
        # Level 1 takes a quarter of the time of the usual 6, for a third more bytes.
        Image.fromarray(pixels).save(png, "png", compress_level=1)
        controls = [
            {"name": one.name, "options": list(one.options), "slide": one.slide}
            for one in self.scene.controls(self.choices)
        ]
        with self.hold_sync():
            self.controls, self.words, self.picture = controls, words, png.getvalue()
            self.frames += 1


def show_moving(scene: Scene, choices: Mapping[str, int]) -> None:
    """Show a scene with its controls, and as a still picture where controls cannot live.

    The still picture is an output of its own, hidden by ``moving.css`` for as long as
    the controls live. So it is seen on web pages, in feedback, and in a notebook that
    is opened again before its cells are run.

    Parameters
    ----------
    scene : Scene
        What is drawn.
    choices : mapping of str to int
        What is chosen at first, and in the still picture.
    """
    live = MovingFigure(scene, choices)
    display(
        {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": live.model_id,
            }
        },
        raw=True,
    )
    show(live.words, scene.figure, dpi=DPI)
