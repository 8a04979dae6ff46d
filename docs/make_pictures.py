"""Make the README's moving picture: python docs/make_pictures.py.

Its frames are those of the first lesson's moving figure.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from firstcnn import data
from firstcnn.figures.windows import Convolution

IMAGES = Path(__file__).parent / "images"
WIDTH = 700  # pixels: as wide as a README is shown on a small screen
COLOURS = 256
STRIDE = 2
KERNEL = {"vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]}


def convolution_gif(path: Path, image: np.ndarray, frames: int = 28) -> None:
    """Write a convolution as a GIF that plays for ever: the window goes over the picture.

    Parameters
    ----------
    path : pathlib.Path
        Where to.
    image : numpy.ndarray, shape (rows, columns)
        The picture.
    frames : int, optional
        How many places of the window are shown: of those with ink, the last place at the end.
    """
    scene = Convolution(image, KERNEL, strides=[STRIDE], title="A convolution")
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))[::STRIDE, ::STRIDE]
    rows, columns = windows.shape[:2]
    inked = np.argwhere(windows.any(axis=(2, 3)))
    chosen = inked[np.linspace(0, len(inked) - 1, frames - 1).round().astype(int)]
    pictures = []
    for row, column in [*chosen.tolist(), [rows - 1, columns - 1]]:
        pixels, _ = scene.frame(scene.settle({"row": row, "column": column}))
        picture = Image.fromarray(pixels)
        height = round(picture.height * WIDTH / picture.width)
        pictures.append(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
    # One palette for all frames, so that nothing flickers.
    together = Image.fromarray(np.concatenate([np.asarray(one) for one in pictures]))
    palette = together.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2)
    first, *others = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures]
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=[400] * (frames - 1) + [2500],
        loop=0,
        optimize=True,
    )


def main() -> None:
    """Make the pictures."""
    (x_train, _), _ = data.load_mnist()
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / "convolution.gif"
    convolution_gif(path, x_train[0])
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
