import gzip
import io
import os
import re
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from firstcnn import handwriting as hw
from firstcnn import reader

# --- pictures to read: each a digit drawn as a line, and what a camera or a pen does to it ------

FIVE = [
    (0.8, 0),
    (0.3, 0),
    (0.25, 0.42),
    (0.55, 0.36),
    (0.8, 0.55),
    (0.75, 0.85),
    (0.45, 1),
    (0.15, 0.88),
]
SEVEN = [(0.1, 0), (0.85, 0), (0.4, 1)]
TWO = [(0.15, 0.2), (0.4, 0), (0.75, 0.12), (0.75, 0.35), (0.1, 1), (0.9, 1)]
FOUR = [(0.3, 0), (0.1, 0.6), (0.9, 0.6)], [(0.7, 0.15), (0.65, 1)]


def draw(*lines, canvas=(280, 280), size=180, width=16, centre=None):
    """Draw lines of points in a unit square; return uint8, black ink on white."""
    fine = 1 if max(canvas) > 600 else 4
    picture = Image.new("L", (canvas[0] * fine, canvas[1] * fine), 255)
    pen = ImageDraw.Draw(picture)
    middle = np.array(centre or (canvas[0] / 2, canvas[1] / 2))
    for line in lines:
        points = ((np.array(line) - 0.5) * size + middle) * fine
        pen.line([tuple(p) for p in points], fill=0, width=max(1, round(width * fine)))
        radius = width * fine / 2
        for x, y in points if radius > 1 else []:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=0)
    return np.asarray(picture.resize(canvas, Image.Resampling.BOX))


def far(first, second):
    """How unlike two prepared pictures are, whole-pixel rounding forgiven: 0 alike, 1 unlike."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    total = first.sum() + second.sum()
    return min(np.abs(np.roll(first, s, (0, 1)) - second).sum() / total for s in shifts)


def png(array, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def five():
    return draw(FIVE)


@pytest.fixture(scope="module")
def wanted(five):
    return hw.prepare(five)


def test_result_is_like_an_mnist_image(wanted):
    assert wanted.shape == (28, 28)
    assert wanted.dtype == np.float32
    assert wanted.min() == 0
    assert 0.95 < wanted.max() <= 1
    assert max(hw.crop(wanted).shape) == 20
    centre = wanted.sum(1) @ np.arange(28), wanted.sum(0) @ np.arange(28)
    assert np.abs(np.array(centre) / wanted.sum() - 14).max() <= 0.5 + 1e-4


# --- every kind of picture ----------------------------------------------------------------------

KINDS = {
    "grey": lambda a: a,
    "one channel": lambda a: a[:, :, None],
    "grey and alpha": lambda a: np.dstack([a, np.full_like(a, 255)]),
    "RGB": lambda a: np.dstack([a] * 3),
    "RGBA": lambda a: np.dstack([a] * 3 + [np.full_like(a, 255)]),
    "float": lambda a: a / 255,
    "float to 255": lambda a: a.astype(float),
    "float16": lambda a: (a / 255).astype(np.float16),
    "uint16": lambda a: a.astype(np.uint16) * 257,
    "int64": lambda a: a.astype(np.int64),
    "int32 to 65535": lambda a: a.astype(np.int32) * 257,
    "bool": lambda a: a > 127,
    "list": lambda a: a.tolist(),
    "read only": lambda a: np.broadcast_to(a, a.shape),
    "black ink on transparent": lambda a: np.dstack([a * 0, 255 - a]),
    "white ink on transparent": lambda a: np.dstack([a * 0 + 255, 255 - a]),
    "transparent pixels are black": lambda a: np.dstack([a * 0] * 3 + [255 - a]),
    "blue ink": lambda a: np.dstack([a, a, a // 2 + 128]),
    "PIL L": Image.fromarray,
    "PIL RGB": lambda a: Image.fromarray(a).convert("RGB"),
    "PIL RGBA": lambda a: Image.fromarray(a).convert("RGBA"),
    "PIL LA": lambda a: Image.fromarray(a).convert("LA"),
    "PIL P": lambda a: Image.fromarray(a).convert("P"),
    "PIL 1": lambda a: Image.fromarray(a).convert("1", dither=Image.Dither.NONE),
    "PIL CMYK": lambda a: Image.fromarray(a).convert("RGB").convert("CMYK"),
    "PIL I": lambda a: Image.fromarray(a).convert("I"),
    "PIL F": lambda a: Image.fromarray(a).convert("F"),
    "PIL I;16": lambda a: Image.fromarray(a.astype(np.uint16) * 257),
    "PNG file": png,
    "JPEG file": lambda a: png(a, "JPEG"),
    "GIF file": lambda a: png(a, "GIF"),
    "16-bit PNG file": lambda a: png(a.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gives_the_same(kind, five, wanted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert far(hw.prepare(KINDS[kind](five)), wanted) < 0.06


def test_str_and_path_of_a_file(tmp_path, five, wanted):
    path = tmp_path / "a five.png"
    path.write_bytes(png(five).read())
    assert np.array_equal(hw.prepare(str(path)), wanted)
    assert np.array_equal(hw.prepare(path), wanted)


def test_photograph_is_turned_upright(five, wanted):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    Image.fromarray(np.rot90(five)).save(file, "JPEG", exif=exif)
    file.seek(0)
    assert far(hw.prepare(file), wanted) < 0.06


def test_argument_is_left_as_it_was(five):
    picture = five / 255
    before = picture.copy()
    hw.prepare(picture)
    assert np.array_equal(picture, before)


def test_grey_levels():
    rgb = np.zeros((1, 3, 3), np.uint8)
    rgb[0] = np.eye(3) * 255
    assert hw.to_grey(rgb) == pytest.approx(np.array([[0.299, 0.587, 0.114]]), abs=1e-6)
    assert hw.to_grey(rgb).dtype == np.float32
    assert hw.to_grey(np.array([[False, True]])).tolist() == [[0, 1]]
    assert hw.to_grey(np.array([[0, 65535]], np.uint16)).tolist() == [[0, 1]]
    half = np.full((2, 2, 2), 0.5)  # half-transparent mid grey over white
    half[0, 0] = 0
    assert hw.to_grey(half)[1, 1] == pytest.approx(0.75)


def test_large_pictures_are_reduced():
    assert hw.to_grey(np.zeros((4097, 100), bool)).shape == (1366, 34)
    assert max(hw.to_grey(Image.new("L", (5000, 10))).shape) <= hw.MAX_SIDE


# --- the same digit, whatever the pen, the place and the paper ----------------------------------


@pytest.mark.parametrize("width", [1, 2, 5, 12, 30, 40])
def test_any_pen_width(width, wanted):
    # A marker closes corners, so it is judged by its stroke, and more leniently by its pixels.
    result = hw.prepare(draw(FIVE, width=width))
    assert far(result, wanted) < (0.16 if width < 20 else 0.3)
    assert 1.8 < hw.stroke_width(hw.fit_box(hw.crop(result), 160)) / 8 < 4.2


@pytest.mark.parametrize(
    ("canvas", "size", "width"),
    [(16, 12, 1.1), (28, 20, 2), (64, 50, 5), (1200, 900, 80), (1200, 60, 6), (2500, 1000, 70)],
)
def test_any_size(canvas, size, width, wanted):
    result = hw.prepare(draw(FIVE, canvas=(canvas, canvas), size=size, width=width))
    assert far(result, wanted) < 0.2


@pytest.mark.parametrize("centre", [(60, 70), (340, 60), (200, 240), (52, 248)])
def test_any_place(centre, wanted):
    result = hw.prepare(draw(FIVE, canvas=(400, 300), size=80, width=7, centre=centre))
    assert far(result, wanted) < 0.1


@pytest.mark.parametrize("line", [[FIVE], [SEVEN], [TWO], FOUR, [[(0.5, 0), (0.5, 1)]]])
@pytest.mark.parametrize("width", [2, 16, 45])
def test_light_on_dark_is_the_same_as_dark_on_light(line, width):
    picture = draw(*line, width=width)
    assert far(hw.prepare(255 - picture), hw.prepare(picture)) < 0.02


@pytest.mark.parametrize("line", [[FIVE], [SEVEN], [TWO], FOUR])
def test_tight_crop(line):
    picture = draw(*line)
    tight = 255 - hw.crop(255 - picture)
    assert far(hw.prepare(tight), hw.prepare(picture)) < 0.02
    assert far(hw.prepare(255 - tight), hw.prepare(picture)) < 0.02


def light(picture, slope=0.5):
    return picture * (1 - slope * np.linspace(0, 1, picture.shape[1]))


def shadow(picture):
    y, x = np.indices(picture.shape)
    return picture * np.where(x + y > sum(picture.shape) / 2, 0.55, 1)


def ruled(picture, grey):
    picture = picture.copy()
    for y in range(20, picture.shape[0], 40):
        picture[y : y + 2] = np.minimum(picture[y : y + 2], grey)
    return picture


def squared(picture, grey):
    return ruled(ruled(picture, grey).T, grey).T


def noisy(picture, sigma):
    return picture + np.random.default_rng(1).normal(0, sigma, picture.shape)


def peppered(picture):
    generator = np.random.default_rng(2)
    return np.where(generator.random(picture.shape) < 0.02, 0, picture)


PAPERS = {
    "grey": lambda a: 90 + a * 0.4,
    "faint": lambda a: 190 + a * 0.15,
    "uneven light": light,
    "shadow": shadow,
    "ruled": lambda a: ruled(a, 190),
    "ruled in black": lambda a: ruled(a, 0),
    "squared": lambda a: squared(a, 100),
    "noise": lambda a: noisy(a, 30),
    "specks": peppered,
    "photograph": lambda a: noisy(light(ruled(20 + 0.8 * a, 170)), 8),
    "chalk on a board": lambda a: 255 - noisy(light(30 + 0.8 * a, 0.2), 8),
}


@pytest.mark.parametrize("paper", PAPERS)
def test_any_paper(paper):
    picture = draw(FIVE, canvas=(400, 320), size=180, width=12, centre=(230, 150))
    result = hw.prepare(np.clip(PAPERS[paper](picture.astype(float)), 0, 255).astype(np.uint8))
    assert far(result, hw.prepare(picture)) < 0.15


def test_a_box_of_a_form_is_not_part_of_the_digit(five):
    form = five.copy()
    form[10:13, 10:-10] = form[-13:-10, 10:-10] = 0
    form[10:-10, 10:13] = form[10:-10, -13:-10] = 0
    assert far(hw.prepare(form), hw.prepare(five)) < 0.02


@pytest.mark.parametrize("table", [20, 90])
def test_sheet_on_a_dark_table(table, five):
    picture = np.pad(light(five.astype(float), 0.2), 60, constant_values=table).astype(np.uint8)
    assert far(hw.prepare(picture), hw.prepare(five)) < 0.1


def test_dark_table_at_the_edge_is_not_part_of_the_digit(five):
    table = np.pad(five, ((0, 0), (0, 40)), constant_values=10)
    assert far(hw.prepare(table), hw.prepare(five)) < 0.1


# --- which ink is the digit ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ([(0.4, 0), (0.85, 0)], [(0.25, 0.1), *FIVE[2:]]),  # a 5 whose bar is a stroke apart
        ([(0.25, 0), (0.1, 0.6), (0.6, 0.6)], [(0.75, 0.1), (0.72, 1)]),  # a 4 that never meets
        ([(0.15, 0), (0.85, 0), (0.62, 0.45)], [(0.55, 0.6), (0.4, 1)]),  # a 7 with a gap
    ],
)
def test_all_strokes_of_a_broken_digit_are_kept(lines):
    strokes = hw.ink(hw.to_grey(draw(*lines, width=10)))
    assert hw.one_digit(strokes).sum() > 0.97 * strokes.sum()


@pytest.mark.parametrize("canvas", [(280, 280), (48, 48)])
def test_long_strokes_of_a_large_digit_are_no_ruled_lines(canvas):
    wide, high = canvas
    lines = [(0.48, 0), (0.3, 0.7), (0.3, 0.7), (0.8, 0.68)], [(0.48, 0), (0.6, 1)]
    pen = canvas[0] / 70
    large = draw(*lines, canvas=canvas, size=high, width=pen, centre=(wide / 2, high / 2))
    small = draw(*lines, canvas=(480, 480), size=280, width=4)
    assert far(hw.prepare(large), hw.prepare(small)) < 0.2


def test_halves_of_a_broken_digit_are_not_two_digits():
    three = [(0.1, 0.05), (0.5, -0.02), (0.8, 0.1), (0.7, 0.3), (0.35, 0.36)]
    lower = [(0.9, 0.65), (0.85, 0.85), (0.5, 1), (0.1, 0.9)]
    whole = hw.prepare(draw(three, lower))
    assert np.ptp(np.flatnonzero(whole.any(axis=1))) >= 18


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_thick_digit_along_the_edge_is_no_shadow(form):
    seven = draw([(0.06, 0.12), (0.06, 0.05), (0.93, 0.05), (0.9, 0.98)], size=150, width=18)
    at_edge = seven[75:206, 82:209]
    assert min(at_edge[0].mean(), at_edge[:, -1].mean()) < 120, "it does not lie along the edge"
    wide = np.pad(at_edge, 60, constant_values=255)
    assert far(hw.prepare(png(at_edge, form)), hw.prepare(wide)) < 0.1


def test_stroke_of_the_digit_that_reaches_the_edge_is_kept():
    body = [(0.2, 0.08), (0.15, 0.42), (0.55, 0.38), (0.8, 0.6), (0.7, 0.9), (0.15, 0.9)]
    bar = [(0.25, 0), (0.75, 0)]
    inside = draw(body, bar, canvas=(300, 300), size=200, width=8)
    cut = inside[50:]  # through the bar
    assert np.flatnonzero((cut < 128).any(axis=1))[0] == 0
    assert far(hw.prepare(cut), hw.prepare(inside)) < 0.2


@pytest.mark.parametrize("line", [[FIVE], [TWO], FOUR])
def test_line_thinner_than_a_pixel_does_not_break(line):
    fine = draw(*line, canvas=(560, 560), size=360, width=8)
    coarse = np.asarray(Image.fromarray(fine).resize((28, 28), Image.Resampling.BOX))
    assert far(hw.prepare(coarse), hw.prepare(fine)) < 0.35


def test_specks_go():
    picture = draw(FIVE)
    picture_with = picture.copy()
    for y, x in [(3, 3), (270, 20), (140, 270), (60, 30)]:
        picture_with[y : y + 5, x : x + 5] = 0
    assert np.array_equal(hw.prepare(picture_with), hw.prepare(picture))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("pair", [(FIVE, TWO), (SEVEN, SEVEN), (TWO, SEVEN)])
def test_two_digits_are_refused(axis, pair):
    two = np.concatenate([draw(line, canvas=(200, 240), size=150) for line in pair], axis)
    with pytest.raises(hw.NoDigit, match="more than one digit"):
        hw.prepare(two)


# --- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "blank",
    [
        np.zeros((28, 28)),
        np.ones((28, 28)),
        np.full((300, 200), 128, np.uint8),
        np.ones((1, 1)),
        np.zeros((1, 5000)),
        np.zeros((50, 50, 4), np.uint8),
        noisy(np.full((200, 200), 200.0), 5),
        np.linspace(100, 200, 40000).reshape(200, 200),
    ],
    ids=["black", "white", "grey", "pixel", "row", "transparent", "noise", "slope"],
)
def test_blank_picture(blank):
    with pytest.raises(hw.NoDigit, match="draw"):
        hw.prepare(blank)


def test_speck_noise_and_patch():
    speck = np.zeros((100, 100))
    speck[50:53, 50:53] = 1
    with pytest.raises(hw.NoDigit, match="speck"):
        hw.prepare(speck)
    with pytest.raises(hw.NoDigit, match="noise"):
        hw.prepare(np.random.default_rng(0).random((300, 300)))
    patch = np.zeros((100, 100))
    patch[30:60, 30:60] = 1
    with pytest.raises(hw.NoDigit, match="patch"):
        hw.prepare(patch)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, 5)), "empty"),
        (np.zeros((5, 0, 3)), "empty"),
        (np.zeros(784), r"\(784,\)"),
        (np.zeros((10, 28, 28)), r"\(10, 28, 28\)"),
        (np.zeros((1, 28, 28, 1)), "one picture"),
        (np.array([[0.0, np.nan], [1, 1]]), "NaN"),
        (np.array([[0.0, np.inf], [1, 1]]), "infinite"),
        (np.array([[-1, 5], [1, 1]]), "negative"),
        (np.array([[0.0, 1e9]]), "1e\\+09"),
        (np.array([[0, 70000]]), "70000"),
        (np.array([["a", "b"]]), "not a picture"),
        (np.zeros((9, 9), complex), "not a picture"),
        (np.broadcast_to(np.uint8(0), (100_000, 100_000)), "million"),
        (None, "not a picture"),
        ({}, "not a picture"),
        ([[0, 1], [1]], "not a picture"),
        ("no such file.png", "no file"),
        ("nul\0.png", "no file"),
        ("x" * 9999, "no file"),
        (".", "no file"),
        (Path("/dev/zero"), "no file"),
        (io.BytesIO(b""), "not a picture"),
        (io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not a picture"),
        (io.StringIO("text"), "not a picture"),
        (Image.new("L", (0, 5)), "empty"),
        (Image.new("1", (8000, 8000)), "million"),
    ],
)
def test_what_is_no_picture(bad, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(hw.PictureError, match=message) as caught:
            hw.prepare(bad)
    assert not isinstance(caught.value, hw.NoDigit)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("side", [8000, 10_000, 20_000])  # Pillow itself warns, then refuses
def test_decompression_bomb(side):
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(hw.PictureError, match="million"):
            hw.prepare(file)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF"])
def test_damaged_file(form, five, tmp_path):
    data = png(noisy(five, 20).clip(0, 255).astype(np.uint8), form).read()
    path = tmp_path / "half"
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(hw.PictureError, match="damaged"):
        hw.prepare(path)
    with Image.open(path) as picture, pytest.raises(hw.PictureError, match="damaged"):
        hw.prepare(picture)


def test_one_row_of_many_columns_takes_little_memory():
    row = np.zeros((1, 300_000), np.uint8)
    tracemalloc.start()
    with pytest.raises(hw.NoDigit):
        hw.prepare(row)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_random_arrays_never_break_it():
    generator = np.random.default_rng(0)
    for shape in [(1, 1), (1, 50), (2, 3), (5, 5), (47, 300), (300, 47), (100, 100), (1, 5000)]:
        for density in (0.5, 0.1, 0.01):
            for picture in (generator.random(shape) < density, generator.random(shape) ** 8):
                try:
                    result = hw.prepare(picture)
                except hw.NoDigit:
                    continue
                assert np.isfinite(result).all()
                assert result.shape == (28, 28)


# --- step by step -------------------------------------------------------------------------------


def test_ink_is_1_and_paper_0(five):
    strokes = hw.ink(hw.to_grey(five))
    assert strokes.dtype == np.float32
    assert np.abs(strokes - (1 - five / 255.0)).max() < 0.06
    assert (strokes[five == 255] == 0).all()
    assert (strokes[five == 0] == 1).all()


def test_crop():
    image = np.zeros((6, 9))
    image[2:4, 3:8] = 0.5
    cropped = hw.crop(image)
    assert cropped.shape == (2, 5)
    assert (cropped == 0.5).all()
    cropped[:] = 7
    assert image.max() == 0.5
    image[0, 0] = 0.1
    assert hw.crop(image).shape == (4, 8)
    assert hw.crop(image, threshold=0.2).shape == (2, 5)
    with pytest.raises(hw.NoDigit):
        hw.crop(np.zeros((3, 3)))


@pytest.mark.parametrize("width", [4, 10, 20])
def test_stroke_width(width):
    bar = np.zeros((400, 60))
    bar[20:380, 20 : 20 + width] = 1
    assert hw.stroke_width(bar) == pytest.approx(width, rel=0.05)
    ring = np.hypot(*(np.indices((300, 300)) - 150))
    assert hw.stroke_width(np.abs(ring - 100) < width / 2) == pytest.approx(width, rel=0.1)
    assert hw.stroke_width(np.zeros((5, 5))) == 0


@pytest.mark.parametrize("width", [1, 3, 10, 25, 60])
def test_normalised_stroke_is_within_limits(width):
    # A vertical line, so that thinning is not held back by thin parts.
    strokes = np.zeros((300, 200), np.float32)
    strokes[20:280, 100 : 100 + width] = 1
    result = hw.normalise_stroke(hw.crop(strokes))
    measured = 20 * hw.stroke_width(result) / max(result.shape)
    assert hw.STROKE[0] - 0.2 < measured < hw.STROKE[1] + 0.2
    assert result.dtype == np.float32


def test_stroke_within_limits_is_left_alone():
    strokes = np.zeros((20, 12), np.float32)
    strokes[:, 4:7] = 1
    strokes[:, 7] = 0.1
    result = hw.normalise_stroke(strokes)
    assert np.array_equal(result, strokes)
    assert result is not strokes


@pytest.mark.parametrize("shape", [(400, 200), (200, 400), (40, 40), (20, 10), (7, 3), (1, 900)])
@pytest.mark.parametrize("size", [20, 5])
def test_fit_box(shape, size):
    box = hw.fit_box(np.ones(shape), size)
    assert max(box.shape) == size
    expected = np.array(shape) * size / max(shape)
    assert np.abs(np.array(box.shape) - np.maximum(expected, 1)).max() <= 0.5
    assert box == pytest.approx(1)


def test_fit_box_averages_areas():
    image = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    means = image.reshape(20, 2, 30, 2).mean((1, 3))
    assert hw.fit_box(image, 30) == pytest.approx(means, abs=1e-5)
    same = np.eye(20, dtype=np.float32)
    assert np.array_equal(hw.fit_box(same), same)
    for bad in (np.zeros((0, 3)), np.zeros((3, 3, 3))):
        with pytest.raises(hw.PictureError):
            hw.fit_box(bad)
    with pytest.raises(ValueError, match="size"):
        hw.fit_box(same, 0)


@pytest.mark.parametrize("seed", range(5))
def test_centre_by_mass(seed):
    image = np.random.default_rng(seed).random((20, 9 + seed)) ** 4
    placed = hw.centre_by_mass(image)
    assert placed.shape == (28, 28)
    assert placed.dtype == np.float32
    assert placed.sum() == pytest.approx(image.sum(), rel=1e-5)
    for axis in (0, 1):
        assert abs(placed.sum(1 - axis) @ np.arange(28) / placed.sum() - 14) <= 0.5 + 1e-4
    assert np.array_equal(hw.crop(placed), hw.crop(image.astype(np.float32)))


def test_centre_by_mass_cuts_off_what_does_not_fit():
    image = np.full((20, 20), 1e-4)
    image[:, 0] = 1
    placed = hw.centre_by_mass(image)
    assert placed[:, 14].max() == 1
    assert hw.centre_by_mass(np.ones((40, 2)), 10).shape == (10, 10)
    with pytest.raises(hw.NoDigit):
        hw.centre_by_mass(np.zeros((20, 20)))


def test_mnist_images_stay_as_they_are(official_mnist):
    path = next(Path(official_mnist).glob("t10k-images*"))
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    images = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)[::25]
    distances, refused = [], 0
    for image in images:
        try:
            distances.append(far(hw.prepare(image), image.astype(np.float32) / 255))
        except hw.NoDigit:
            refused += 1
    assert refused <= 2
    assert np.median(distances) < 0.06
    assert np.percentile(distances, 95) < 0.25


# --- reading ------------------------------------------------------------------------------------


class Model:
    """Answers like a network, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer = np.array([answer], np.float32)

    def predict(self, batch, verbose="auto"):
        assert verbose == 0
        assert batch.shape == (1, 28, 28, 1)
        assert batch.dtype == np.float32
        self.batch = batch
        return self.answer


def scores(**others):
    values = np.zeros(10)
    for digit, value in others.items():
        values[int(digit[1:])] = value
    return values


def test_read_when_sure(five, wanted):
    model = Model(scores(d5=0.96, d3=0.04))
    reading = hw.read(five, model)
    assert np.array_equal(model.batch[0, :, :, 0], wanted)
    assert reading.digit == 5
    assert isinstance(reading.digit, int)
    assert reading.sure is True
    assert reading.statement == "This is a 5 (96%)."
    assert reading.probabilities.sum() == pytest.approx(1)
    with pytest.raises(AttributeError):
        reading.digit = 4


def test_read_when_not_sure_names_both(five):
    reading = hw.read(five, Model(scores(d5=0.4, d3=0.45, d8=0.15)))
    assert (reading.digit, reading.sure) == (3, False)
    assert reading.statement == "Not sure: perhaps a 3 (45%), perhaps a 5 (40%)."


def test_read_takes_logits(five):
    logits = scores(d7=900, d1=899)
    reading = hw.read(five, Model(logits))
    assert reading.digit == 7
    assert reading.probabilities[7] == pytest.approx(1 / (1 + np.exp(-1)))
    assert hw.read(five, Model(scores(d7=-1, d1=-9))).probabilities.sum() == pytest.approx(1)
    assert hw.read(five, Model(scores(d7=2, d1=-1))).probabilities.min() > 0  # they sum to 1


def test_read_takes_a_plain_function(five):
    assert hw.read(five, lambda batch: [scores(d2=1.0)]).digit == 2


@pytest.mark.parametrize("answer", [np.ones(3), np.full(10, np.nan), np.ones((10, 10))])
def test_model_of_another_kind(five, answer):
    with pytest.raises(ValueError, match="model answers") as caught:
        hw.read(five, lambda batch: [answer])
    assert not isinstance(caught.value, hw.PictureError)


# --- the command --------------------------------------------------------------------------------


def test_command(tmp_path, monkeypatch, capsys, five):
    good = tmp_path / "five.png"
    good.write_bytes(png(five).read())
    bad = tmp_path / "note.png"
    bad.write_text("no picture")
    monkeypatch.setattr(reader, "load", lambda path: Model(scores(d5=0.96, d3=0.04)))
    status = hw.main([str(good), str(bad), str(good), "--model", "m.keras"])
    out = capsys.readouterr().out.splitlines()
    assert status == 1
    assert out[0] == out[2] == f"{good}: 5 0.960"
    assert out[1].startswith(f"{bad}: note.png is not a picture")
    assert hw.main([str(good), "--model", "m.keras"]) == 0
    monkeypatch.setattr(reader, "load", lambda path: Model(scores(d5=0.5, d3=0.5)))
    hw.main([str(good), "--model", "m.keras"])
    assert "Not sure" in capsys.readouterr().out.splitlines()[-1]


def test_command_reads_with_the_shipped_network_and_says_nothing_else(tmp_path, five):
    picture = tmp_path / "five.png"
    picture.write_bytes(png(five).read())
    command = [sys.executable, "-m", "firstcnn.handwriting", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert re.fullmatch(rf"{re.escape(str(picture))}: 5 (0\.\d+|1\.000)\n", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")


def test_command_needs_a_model_that_exists(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        hw.main(["x.png", "--model", str(tmp_path / "none.keras")])
    assert caught.value.code == 2
    assert "There is no model" in capsys.readouterr().err


def test_import_needs_no_tensorflow():
    code = (
        "import sys, firstcnn.handwriting; sys.exit(bool({'tensorflow', 'keras'} & {*sys.modules}))"
    )
    root = Path(hw.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
