"""Make the README's pictures: python docs/make_pictures.py.

One moves: its frames are those of the first lesson's moving figure. The other is of the drawing
pad, with a 7 drawn on it; it needs Chromium, or the browser that CHROMIUM names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from firstcnn import data, strokes
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


def pad_picture(path: Path, chromium: str, digit: int = 7, style: int = 1) -> None:
    """Write a picture of the drawing pad in a browser, with a digit drawn on it by the mouse.

    Parameters
    ----------
    path : pathlib.Path
        Where to.
    chromium : str
        The browser's program.
    digit, style : int, optional
        What is drawn, as `firstcnn.strokes` has it.
    """
    from playwright.sync_api import expect, sync_playwright

    program = Path(sys.executable).with_name("firstcnn")
    server = subprocess.Popen([program, "app", "--no-browser"], stdout=subprocess.PIPE, text=True)
    try:
        address = next(word for word in server.stdout.readline().split() if "://" in word)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, chromium_sandbox=os.geteuid() != 0
            )
            size = {"width": 1000, "height": 640}
            page = browser.new_page(viewport=size, color_scheme="light")
            page.goto(address)
            box = page.get_by_label("Drawing pad").bounding_box()
            for line in strokes.lines(digit, style):
                for number, (x, y) in enumerate(line):
                    across, down = 0.5 + 0.55 * (x - 0.5), 0.5 + 0.65 * (y - 0.5)
                    page.mouse.move(
                        box["x"] + across * box["width"], box["y"] + down * box["height"]
                    )
                    if number == 0:
                        page.mouse.down()
                page.mouse.up()
            page.mouse.move(5, 5)
            expect(page.locator(".digit")).to_have_text(str(digit))
            expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")
            page.screenshot(path=path)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Make the pictures."""
    (x_train, _), _ = data.load_mnist()
    IMAGES.mkdir(exist_ok=True)
    made = [IMAGES / "convolution.gif"]
    convolution_gif(made[0], x_train[0])
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if chromium:
        made.append(IMAGES / "pad.png")
        pad_picture(made[1], chromium)
    else:
        print("no picture of the pad: there is no Chromium; CHROMIUM says where it is")
    for path in made:
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
