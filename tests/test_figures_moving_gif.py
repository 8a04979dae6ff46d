"""The README's moving picture is made of the first lesson's moving figure."""

import importlib.util
import itertools

import numpy as np
import pytest
from notebooks import ROOT
from PIL import Image

PATH = ROOT / "docs" / "images" / "convolution.gif"


@pytest.fixture(scope="module")
def make_pictures():
    spec = importlib.util.spec_from_file_location(
        "make_pictures", ROOT / "docs" / "make_pictures.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_gif_plays_for_ever_and_ends_with_a_full_output(make_pictures, tmp_path):
    image = np.zeros((12, 12), dtype="uint8")
    image[2:9, 3:5] = 255
    path = tmp_path / "small.gif"
    make_pictures.convolution_gif(path, image, frames=4)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.width, gif.info["loop"]) == (4, 700, 0)
        pictures = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            pictures.append(np.asarray(gif.convert("L")))
            last = gif.info["duration"]
    assert all((one != two).any() for one, two in itertools.pairwise(pictures))
    assert last > 1000
    # The output is on the right; what is not filled yet is grey.
    right = [(one[:, 500:] == 217).mean() for one in pictures]
    assert right == sorted(right, reverse=True)
    assert right[0] > 0.2
    assert right[-1] < right[0] / 4


def test_the_picture_that_is_kept_is_small(make_pictures):
    assert PATH.stat().st_size < 400_000
    with Image.open(PATH) as gif:
        assert (gif.width, gif.n_frames) == (make_pictures.WIDTH, 28)
