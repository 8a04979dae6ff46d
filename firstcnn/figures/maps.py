"""The moving figure of lesson 6: what networks make of pictures, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MultipleLocator

from firstcnn.figures.display import COLOURS
from firstcnn.figures.moving import Control, Scene, show_moving
from firstcnn.figures.network import feature_maps_of

if TYPE_CHECKING:
    import keras

_ACROSS = 4  # maps side by side


def moving_maps(
    models: Mapping[str, keras.Model],
    images: np.ndarray,
    names: Sequence[str],
    *,
    maps: int = 8,
    picture: int = 0,
    layer: int = 0,
    model: int = 0,
    title: str = "Feature maps, and the answer",
) -> None:
    """Show feature maps, with a slider for the picture, and lists for layer and network.

    The networks are alike but for their weights: one before and after training, for
    instance. Each looks at all the pictures once, before the figure is shown.

    Parameters
    ----------
    models : mapping of str to keras.Model
        The networks to choose from: chains of layers, with probabilities at the end.
    images : numpy.ndarray, shape (n, rows, columns, channels)
        The pictures to choose from, as the networks take them.
    names : sequence of str
        What each picture is.
    maps : int, optional
        How many maps of a layer to show: the first ones.
    picture, layer, model : int, optional
        What is chosen at first, counted from 0.
    title : str, optional
        The title.

    Raises
    ------
    ValueError
        If there are no networks or pictures, not one name for each picture, the
        networks' layers differ, or there is nothing of that number to choose.
    """
    scene = Maps(models, images, names, maps=maps, title=title)
    choices = {"picture": picture, "layer": layer, "network": model}
    for control in scene.controls({}):
        if not 0 <= choices[control.name] < len(control.options):
            raise ValueError(
                f"There is no {control.name} {choices[control.name]}: "
                f"there are {len(control.options)}, counted from 0."
            )
    show_moving(scene, choices)


class Maps(Scene):
    """The scene of :func:`moving_maps`, which tells its parameters."""

    def __init__(
        self,
        models: Mapping[str, keras.Model],
        images: np.ndarray,
        names: Sequence[str],
        *,
        maps: int = 8,
        title: str = "Feature maps, and the answer",
    ):
        if not models:
            raise ValueError("There is no network to choose: give a dictionary with at least one.")
        if not len(images) or len(images) != len(names):
            raise ValueError(f"There are {len(images)} pictures for {len(names)} names.")
        if maps < 1:
            raise ValueError(f"At least 1 map of a layer is shown, not {maps}.")
        self.models, self.names = list(models), [str(name) for name in names]
        ran = [feature_maps_of(one, np.asarray(images)) for one in models.values()]
        kinds = [
            [f"{type(one).__name__}: {_times(one.output.shape[1:3])}" for one in layers]
            for layers, _, _ in ran
        ]
        if any(one != kinds[0] for one in kinds):
            raise ValueError(
                "The networks differ in more than their weights: give them equal layers."
            )
        self.layers = [f"{i}. {kind}" for i, kind in enumerate(kinds[0], start=1)]
        self.maps = [outputs for _, outputs, _ in ran]
        self.answers = [answers for _, _, answers in ran]
        if any(one.ndim != 2 for one in self.answers):
            raise ValueError("The networks must end in one row of probabilities for each picture.")
        self.shown = maps

        super().__init__(12, 4.5)
        self.figure.suptitle(title)
        # Fixed places: the scale must not push the maps about when it gets other numbers.
        first = self.figure.add_axes((0.05, 0.16, 0.22, 0.64))
        middle = self.figure.add_axes((0.3, 0.16, 0.38, 0.64))
        scale = self.figure.add_axes((0.69, 0.23, 0.012, 0.5))
        last = self.figure.add_axes((0.79, 0.16, 0.2, 0.64))
        self.pictures = np.asarray(images)[..., 0]
        self.picture = first.imshow(self.pictures[0], cmap="gray_r", animated=True)
        first.set(xlabel="column", ylabel="row")
        self.tiles = middle.imshow(np.zeros((1, 1)), animated=True)
        middle.set(xticks=[], yticks=[])
        self.middle = middle
        self.figure.colorbar(self.tiles, cax=scale)
        scale.set_title("value", fontsize=9)
        classes = self.answers[0].shape[1]
        self.bars = last.bar(range(classes), [0] * classes, animated=True)
        last.set(ylim=(0, 105), xlabel="digit", ylabel="probability, %")
        last.xaxis.set_major_locator(MultipleLocator(1 if classes <= 10 else 10))
        self.name = first.set_title("", animated=True)
        self.answer = last.set_title("", animated=True)
        self.borders = [border for one in (first, middle) for border in one.spines.values()]

    def controls(self, choices):
        """Return the controls."""
        return [
            Control("picture", self.names),
            Control("layer", self.layers, slide=False),
            Control("network", self.models, slide=False),
        ]

    def fixed(self, choices):
        """Return the choices but for the picture."""
        return choices["layer"], choices["network"]

    def moving(self):
        """Return what depends on the picture."""
        return [self.picture, self.tiles, *self.borders, *self.bars, self.name, self.answer]

    def draw(self, choices):
        """Draw the maps of one layer of one network for one picture, and its answer."""
        picture, layer, model = (choices[name] for name in ("picture", "layer", "network"))
        outputs = self.maps[model][layer]
        maps = outputs[picture, :, :, : self.shown]
        # One scale for all the pictures: a map that stays pale for this one is seen to do so.
        reach = float(np.abs(outputs[..., : self.shown]).max()) or 1
        signed = bool((outputs < 0).any())
        self.picture.set_data(self.pictures[picture])
        self.picture.set_clim(self.pictures.min(), self.pictures.max())
        self.name.set_text(f"picture: {self.names[picture]}")
        tiles = _tiled(maps)
        rows, columns = tiles.shape
        self.tiles.set_data(tiles)
        self.tiles.set(
            cmap="PuOr" if signed else "Purples",
            clim=(-reach * signed, reach),
            extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        )
        self.middle.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        told = f"{maps.shape[-1]} of {outputs.shape[-1]} maps"
        self.middle.set_title(f"{self.models[model]}: layer {self.layers[layer]}")
        self.middle.set_xlabel(f"{told}, from left to right, four in a row")
        chances = 100 * self.answers[model][picture]
        best = int(chances.argmax())
        for digit, (bar, chance) in enumerate(zip(self.bars, chances, strict=True)):
            bar.set(height=chance, color=COLOURS[1] if digit == best else COLOURS[0])
        self.answer.set_text(f"answer: {best} at {chances[best]:.1f} %")
        strongest = int(maps.max(axis=(0, 1)).argmax())
        return (
            f"The picture {self.names[picture]} in the network {self.models[model]}. Of layer "
            f"{self.layers[layer]} pixels, {told} are shown, with values from {maps.min():.2f} to "
            f"{maps.max():.2f}; the largest is in map {strongest}, counted from 0. "
            f"The network answers {best}, with a probability of {chances[best]:.1f} %."
        )


def _tiled(maps: np.ndarray) -> np.ndarray:
    """Lay maps out in rows of four, with a pixel of nothing between them."""
    rows, columns, count = maps.shape
    across = min(_ACROSS, count)
    down = -(-count // across)
    tiles = np.full((down * (rows + 1) - 1, across * (columns + 1) - 1), np.nan)
    for i in range(count):
        top, left = (i // across) * (rows + 1), (i % across) * (columns + 1)
        tiles[top : top + rows, left : left + columns] = maps[:, :, i]
    return tiles


def _times(pair: Sequence[int]) -> str:
    return f"{pair[0]} x {pair[1]}"
