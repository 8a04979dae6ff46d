"""The moving figures of lesson 5: what one setting does to the learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator

from firstcnn.figures.moving import Control, Scene, show_moving
from firstcnn.figures.training import counted, make_logarithmic, record_of


def moving_curves(
    setting: str,
    histories: Mapping[Any, Any],
    *,
    first: Any = None,
    measure: str = "loss",
    log: bool = False,
    title: str = "",
) -> None:
    """Show learning curves for several values of a setting, with a slider for the value.

    The curve of the chosen value is bold, on the training images and on the validation
    images; the others are faint.

    Parameters
    ----------
    setting : str
        What was set differently: ``"learning rate"``.
    histories : mapping
        For each value of the setting what ``fit`` returned, or its ``history``, in
        the order of the slider.
    first : optional
        The value that is chosen at first; by default the first one.
    measure : str, optional
        What to draw: ``loss``, or a metric that was recorded.
    log : bool, optional
        Whether each step up the vertical axis multiplies.
    title : str, optional
        The title; by default it names setting and measure.

    Raises
    ------
    ValueError
        If there is no training, one has not recorded the measure, or `first` is not
        among the values.
    """
    scene = Curves(setting, histories, measure=measure, log=log, title=title)
    values = list(histories)
    if first is not None and first not in values:
        raise ValueError(f"No training has {setting} {first}; there are {scene.told}.")
    show_moving(scene, {setting: 0 if first is None else values.index(first)})


class Curves(Scene):
    """The scene of :func:`moving_curves`, which tells its parameters."""

    def __init__(
        self,
        setting: str,
        histories: Mapping[Any, Any],
        *,
        measure: str = "loss",
        log: bool = False,
        title: str = "",
    ):
        if not histories:
            raise ValueError("There is no training to show.")
        self.setting, self.measure = setting, measure
        self.values = [_plain(value) for value in histories]
        self.told = ", ".join(self.values)
        records = [record_of(one) for one in histories.values()]
        for value, record in zip(self.values, records, strict=True):
            if measure not in record:
                raise ValueError(
                    f"The training with {setting} {value} has recorded no {measure}; "
                    f"it has {', '.join(record)}."
                )
        self.curves = {"training": [record[measure] for record in records]}
        if all(f"val_{measure}" in record for record in records):
            self.curves["validation"] = [record[f"val_{measure}"] for record in records]

        # From dark to light, through blue and green: an order that colour-blind readers see too.
        self.colours = colormaps["viridis"](np.linspace(0, 0.8, len(self.values)))

        super().__init__(4.8 * len(self.curves) + 1.6, 4)
        self.figure.suptitle(title or f"{measure.capitalize()} by epoch, for each {setting}")
        self.figure.set_layout_engine("constrained")
        panels = self.figure.subplots(1, len(self.curves), sharey=True, squeeze=False)[0]
        self.lines, self.names = [], []
        for axes, curves in zip(panels, self.curves.values(), strict=True):
            for value, colour, curve in zip(self.values, self.colours, curves, strict=True):
                axes.plot(_epochs(curve), curve, color=colour, linewidth=1, label=value)
            self.lines += axes.plot([], [], linewidth=4, marker="o", animated=True)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(xlabel="epoch")
            self.names.append(axes.set_title(" ", fontsize=11, animated=True))
            if log:
                make_logarithmic(axes)
        panels[0].set_ylabel(measure)
        self.figure.legend(
            *panels[0].get_legend_handles_labels(), title=setting, loc="outside right upper"
        )

    def controls(self, choices):
        """Return the control."""
        return [Control(self.setting, self.values)]

    def fixed(self, choices):
        """Return nothing: the faint curves and the axes are always the same."""
        return ()

    def moving(self):
        """Return the bold curves, and what stands over them."""
        return [*self.lines, *self.names]

    def draw(self, choices):
        """Draw the curves of one value in bold."""
        chosen = choices[self.setting]
        value = self.values[chosen]
        told = []
        for (images, curves), line, name in zip(
            self.curves.items(), self.lines, self.names, strict=True
        ):
            curve = curves[chosen]
            line.set_data(_epochs(curve), curve)
            line.set_color(self.colours[chosen])
            name.set_text(f"{images} images, {self.setting} {value}")
            told.append(
                f"on the {images} images it goes from {curve[0]:.3g} to {curve[-1]:.3g}, "
                f"and its lowest is {min(curve):.3g}, after epoch {int(np.argmin(curve)) + 1}"
            )
        return (
            f"The {self.measure} by epoch for {self.setting} {self.told}, a curve each; the bold "
            f"one is for {value}. In {counted(len(self.curves['training'][chosen]), 'epoch')}, "
            f"{'; '.join(told)}."
        )


def _epochs(curve: Any) -> np.ndarray:
    return np.arange(1, len(curve) + 1)


def _plain(value: Any) -> str:
    """Write a small number without an exponent."""
    if isinstance(value, float | np.floating):
        return np.format_float_positional(value, trim="-")
    return str(value)
