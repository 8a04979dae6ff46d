"""Move every control of every figure that moves, and print the milliseconds of a step.

Run ``python benchmarks/figures.py --help``; ``benchmarks/README.md`` says how to read the table.
"""

import argparse
import json
import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from firstcnn import data
from firstcnn.figures.maps import Maps
from firstcnn.figures.moving import MovingFigure
from firstcnn.figures.sweep import Curves
from firstcnn.figures.windows import Convolution, Pooling

HOW = (statistics.median, max)


def scenes():
    """Return what the lessons show: for each name a scene, made of real digits."""
    import keras

    (x_train, y_train), _ = data.load_mnist()
    kernels = {
        "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
        "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
        "blur": np.full((3, 3), 1 / 9),
    }

    def network():
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(16, 5, strides=2, activation="relu"),
                layers.Conv2D(32, 5, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )

    examples = [int(np.argmax(y_train == digit)) for digit in range(10)]
    digits = x_train[examples][..., None].astype("float32") / 255
    names = [f"a {digit}" for digit in range(10)]
    falling = {
        rate: {"loss": np.exp(-rate * np.arange(20)), "val_loss": np.exp(-rate * np.arange(20))}
        for rate in (0.1, 0.2, 0.3, 0.4, 0.5)
    }
    return {
        "moving_convolution": Convolution(x_train[0], kernels),
        "moving_pooling": Pooling(x_train[0]),
        "moving_maps": Maps({"before": network(), "after": network()}, digits, names),
        "moving_curves": Curves("learning rate", falling, log=True),
    }


def measure(scene):
    """Move each control from end to end; return milliseconds and CPU milliseconds of each step."""
    figure = MovingFigure(scene)
    found = {}
    for name in figure.choices:
        figure.choices = {}
        steps = next(len(one["options"]) for one in figure.controls if one["name"] == name)
        found[name] = []
        for choice in [*range(1, steps), 0]:
            started, used = time.perf_counter(), time.process_time()
            figure.choices = {**figure.choices, name: choice}
            wall, cpu = time.perf_counter() - started, time.process_time() - used
            found[name].append((1000 * wall, 1000 * cpu))
    return found


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the raw figures instead")
    options = parser.parse_args()
    found = {name: measure(scene) for name, scene in scenes().items()}
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table("figure", "control", title="Figures that move: milliseconds of a step")
    for title in ("steps", "median", "most", "median CPU", "most CPU"):
        table.add_column(title, justify="right")
    for name, controls in found.items():
        for control, steps in controls.items():
            table.add_row(
                name.removeprefix("moving_"),
                control,
                str(len(steps)),
                *(f"{how(kind):.0f}" for kind in zip(*steps, strict=True) for how in HOW),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
