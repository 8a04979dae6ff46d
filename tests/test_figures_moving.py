"""Figures that move: each control is moved, and picture and words follow what is computed."""

import io
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from figure_words import words
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader_course import NbgraderCourse
from notebooks import cell, lesson, write_course
from PIL import Image

from firstcnn import figures
from firstcnn.figures import maps, moving, sweep, windows
from firstcnn.figures.moving import MovingFigure
from firstcnn.preprocessors import StillFigures

keras = pytest.importorskip("keras")

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 256, (9, 12)).astype("uint8")
KERNELS = {
    "edges": [[-1, 0, 1], [-2, 0, 2]],
    "single": np.array([[1]]),
    "any": RNG.normal(size=(3, 4)),
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

HISTORIES = {
    0.00001: {"loss": [2.3, 2.2, 2.25], "val_loss": [2.31, 2.21, 2.0]},
    0.002: {"loss": [1.5, 0.5, 0.25], "val_loss": [1.0, 0.6, 0.7]},
    0.1: {"loss": [9.0, 2.5, 2.3], "val_loss": [2.4, 2.35, 2.3]},
}


def network(filters=3):
    return keras.Sequential(
        [
            keras.Input((8, 6, 1)),
            keras.layers.Conv2D(filters, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(4)
    return {"before training": network(), "after training": network()}


PICTURES = RNG.random((4, 8, 6, 1)).astype("float32")
NAMES = ["a 2", "a 0", "a 9", "a 5"]


@pytest.fixture
def live(monkeypatch):
    """Catch the controls that are shown: a list of moving figures."""
    made, shown = {}, []

    def make(*arguments):
        figure = MovingFigure(*arguments)
        made[figure.model_id] = figure
        return figure

    def catch(bundle, *, raw):
        assert raw
        [(kind, view)] = bundle.items()
        assert kind == "application/vnd.jupyter.widget-view+json"
        shown.append(made[view["model_id"]])

    monkeypatch.setattr(moving, "MovingFigure", make)
    monkeypatch.setattr(moving, "display", catch)
    return shown


def numbers(text, before, after):
    """Return the numbers between two phrases of a text."""
    part = text.split(before, 1)[1].split(after, 1)[0]
    return np.array([float(one) for one in NUMBER.findall(part)])


def pixels(figure):
    """Return the picture that a figure that moves shows now."""
    return np.asarray(Image.open(io.BytesIO(figure.picture)))


# ---- what each figure says and draws ---------------------------------------------------------


@pytest.mark.parametrize("kernel", range(3))
@pytest.mark.parametrize("stride", range(3))
@pytest.mark.parametrize("padding", range(3))
def test_a_convolution_is_keras_at_every_setting(kernel, stride, padding):
    scene = windows.Convolution(IMAGE, KERNELS)
    weights = np.asarray(list(KERNELS.values())[kernel], dtype="float32")
    layer = keras.layers.Conv2D(1, weights.shape, strides=stride + 1, use_bias=False)
    padded = np.pad(IMAGE.astype("float32"), padding)
    layer.build((None, *padded.shape, 1))
    layer.set_weights([weights[:, :, None, None]])
    expected = np.asarray(layer(padded[None, :, :, None]))[0, :, :, 0]
    rows, columns = expected.shape
    row, column = int(RNG.integers(rows)), int(RNG.integers(columns))
    figure = MovingFigure(
        scene, {"kernel": kernel, "stride": stride, "padding": padding, "row": row}
    )
    before = figure.words
    figure.choices = {**figure.choices, "column": column}
    assert (figure.words != before) == (column > 0)

    text = figure.words
    sizes = numbers(text, "The output has", "The window")
    assert f"= {rows} rows" in text
    assert f"= {columns} columns" in text
    n, _, p, k, s = sizes[:5]
    assert (n, p, k, s) == (IMAGE.shape[0], padding, weights.shape[0], stride + 1)
    top, left = row * (stride + 1), column * (stride + 1)
    height, width = weights.shape
    window = padded[top : top + height, left : left + width]
    assert numbers(text, "The window at", "holds") == pytest.approx([top - padding, left - padding])
    assert numbers(text, "holds", "; the kernel is") == pytest.approx(window.ravel())
    told = numbers(text, "; the kernel is", "; their products")
    assert told == pytest.approx(weights.ravel(), abs=0.006)
    told = numbers(text, "their products are", "The sum")
    assert told == pytest.approx((window * weights).ravel(), abs=0.006)
    assert numbers(text, "The sum of the products, ", ", is written") == pytest.approx(
        [expected[row, column]], abs=0.01
    )
    assert f"row {row}, column {column} of the output" in text
    filled = row * columns + column + 1
    assert f"{filled} of its {expected.size} places are filled" in text
    drawn = np.ma.filled(scene.output.get_array(), np.nan)
    assert drawn.ravel()[:filled] == pytest.approx(expected.ravel()[:filled], abs=0.01)
    assert np.isnan(drawn.ravel()[filled:]).all()
    assert scene.window.get_bbox().bounds == (
        left - padding - 0.5,
        top - padding - 0.5,
        width,
        height,
    )
    shown = [float(one.get_text()) for one in scene.numbers["R"].texts]
    assert shown == pytest.approx((window * weights).ravel(), abs=0.06)
    [total] = numbers(scene.told.get_text(), "products", "is written")
    assert total == pytest.approx(expected[row, column], abs=0.01)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("max", keras.layers.MaxPooling2D),
        ("average", keras.layers.AveragePooling2D),
        ("sum", keras.layers.AveragePooling2D),
    ],
)
def test_pooling_is_keras_at_every_setting(size, kind, layer):
    image = IMAGE.astype("float32") - 100  # negative values, too
    expected = np.asarray(layer(size)(image[None, :, :, None]))[0, :, :, 0]
    expected = expected * size * size if kind == "sum" else expected
    rows, columns = expected.shape
    row, column = int(RNG.integers(rows)), int(RNG.integers(columns))
    scene = windows.Pooling(image)
    figure = MovingFigure(scene)
    kinds, sizes = scene.controls({})[:2]
    figure.choices = {
        "kind": kinds.options.index(kind),
        "size": sizes.options.index(str(size)),
        "row": row,
        "column": column,
    }
    text = figure.words
    assert text.lower().startswith(f"{kind} pooling")
    assert f"The output has {rows} rows and {columns} columns." in text
    window = image[row * size : (row + 1) * size, column * size : (column + 1) * size]
    assert numbers(text, "holds", f". The {kind}") == pytest.approx(window.ravel())
    assert numbers(text, f"The {kind} of these, ", ", is written") == pytest.approx(
        [expected[row, column]], abs=0.006
    )
    filled = row * columns + column + 1
    assert f"{filled} of its {expected.size} places are filled" in text
    drawn = np.ma.filled(scene.output.get_array(), np.nan).ravel()
    assert drawn[:filled] == pytest.approx(expected.ravel()[:filled], rel=1e-5)
    assert np.isnan(drawn[filled:]).all()


def test_maps_are_those_of_the_network_that_is_chosen(networks):
    scene = maps.Maps(networks, PICTURES, NAMES, maps=2)
    figure = MovingFigure(scene)
    seen = set()
    for which, model in enumerate(networks.values()):
        outputs = [model.layers[0](PICTURES), model.layers[1](model.layers[0](PICTURES))]
        answers = np.asarray(model(PICTURES))
        for layer, output in enumerate(outputs):
            for picture, name in enumerate(NAMES):
                figure.choices = {"picture": picture, "layer": layer, "network": which}
                seen.add(figure.picture)
                output = np.asarray(output)
                drawn = output[picture, :, :, :2]
                text = figure.words
                assert text.startswith(f"The picture {name} in the network {list(networks)[which]}")
                assert f"{output.shape[1]} x {output.shape[2]} pixels, 2 of 3 maps" in text
                assert numbers(text, "values from", "; the") == pytest.approx(
                    [drawn.min(), drawn.max()], abs=0.006
                )
                best = int(answers[picture].argmax())
                assert f"The network answers {best}, " in text
                assert numbers(text, "a probability of", "%")[0] == pytest.approx(
                    100 * answers[picture, best], abs=0.06
                )
                tiles = np.ma.filled(scene.tiles.get_array(), np.nan)
                columns = output.shape[2]
                assert tiles[:, :columns] == pytest.approx(drawn[:, :, 0])
                assert np.isnan(tiles[:, columns]).all()
                assert tiles[:, columns + 1 :] == pytest.approx(drawn[:, :, 1])
                heights = [bar.get_height() for bar in scene.bars]
                assert heights == pytest.approx(100 * answers[picture], rel=1e-5)
    assert len(seen) == 2 * 2 * len(NAMES)


def test_curves_put_the_chosen_value_in_bold():
    scene = sweep.Curves("learning rate", HISTORIES, log=True)
    figure = MovingFigure(scene)
    assert scene.controls({})[0].options == ["0.00001", "0.002", "0.1"]
    for place, record in enumerate(HISTORIES.values()):
        figure.choices = {"learning rate": place}
        assert [list(line.get_ydata()) for line in scene.lines] == list(record.values())
        assert f"the bold one is for {scene.values[place]}." in figure.words
        told = numbers(figure.words, "on the training images it goes", ", and")
        assert told == pytest.approx([record["loss"][0], record["loss"][-1]])
        lowest = int(np.argmin(record["val_loss"]))
        assert figure.words.endswith(
            f"its lowest is {record['val_loss'][lowest]:.3g}, after epoch {lowest + 1}."
        )
    faint = [line for line in scene.figure.axes[1].lines if not line.get_animated()]
    assert [list(line.get_ydata()) for line in faint] == [
        one["val_loss"] for one in HISTORIES.values()
    ]


def test_curves_do_without_validation():
    histories = {2: {"loss": [1.0, 0.5]}, 4: {"loss": [1.0, 0.2]}}
    figure = MovingFigure(sweep.Curves("filters", histories), {"filters": 1})
    assert "the bold one is for 4. In 2 epochs, on the training images" in figure.words
    assert "validation" not in figure.words


# ---- how they are shown ----------------------------------------------------------------------


SHOWN = {
    "convolution": (
        lambda _: figures.moving_convolution(IMAGE, KERNELS, row=2, column=3),
        "is written at row 2, column 3",
    ),
    "pooling": (
        lambda _: figures.moving_pooling(IMAGE, row=1, column=2),
        "is written at row 1, column 2",
    ),
    "maps": (
        lambda networks: figures.moving_maps(
            networks, PICTURES, NAMES, picture=3, layer=1, model=1
        ),
        "The picture a 5 in the network after training. Of layer 2. MaxPooling2D",
    ),
    "curves": (
        lambda _: figures.moving_curves("learning rate", HISTORIES, first=0.002),
        "the bold one is for 0.002",
    ),
}


@pytest.mark.parametrize(("draw", "said"), SHOWN.values(), ids=SHOWN)
def test_each_is_shown_with_controls_and_as_a_still_picture(draw, said, networks, live, shown):
    draw(networks)
    assert said in words(shown)
    [figure] = live
    assert figure.words == words(shown)
    # What has been shown can still be moved, and gives the same pictures as before.
    first = figure.choices
    before = pixels(figure)
    for control in figure.scene.controls(first):
        for choice in range(len(control.options)):
            figure.choices = {**first, control.name: choice}
            assert figure.choices[control.name] == choice
            assert (figure.words == words(shown)) == (choice == first[control.name])
    figure.choices = first
    assert (pixels(figure) == before).all()
    assert not plt.get_fignums()


def test_a_frame_is_the_same_whatever_was_drawn_before(networks):
    make = {
        "convolution": lambda: windows.Convolution(IMAGE, KERNELS),
        "pooling": lambda: windows.Pooling(IMAGE),
        "maps": lambda: maps.Maps(networks, PICTURES, NAMES),
        "curves": lambda: sweep.Curves("learning rate", HISTORIES),
    }
    for new in make.values():
        used = new()
        for _ in range(5):
            choices = {one.name: int(RNG.integers(len(one.options))) for one in used.controls({})}
            choices = used.settle(choices)
            reused, said = used.frame(choices)
            fresh, said_afresh = new().frame(choices)
            assert said == said_afresh
            assert (reused == fresh).all(), (used, choices)
            # Matplotlib leaves what is animated to the scene: nothing may be forgotten.
            animated = set(used.figure.findobj(lambda artist: artist.get_animated()))
            assert animated <= set(used.moving())


def test_choices_that_there_are_not_become_the_nearest():
    figure = MovingFigure(windows.Convolution(IMAGE, KERNELS))
    figure.choices = {"kernel": 2, "stride": 99, "padding": -4, "row": 10**9, "colour": 1}
    assert figure.choices == {"kernel": 2, "stride": 2, "padding": 0, "row": 2, "column": 0}
    figure.choices = {"kernel": "edges", "stride": None, "row": True, "column": 2.5}
    assert figure.choices == dict.fromkeys(figure.choices, 0)
    # A smaller output takes the place back into it.
    figure.choices = {"row": 7, "column": 9}
    figure.choices = {**figure.choices, "stride": 2}
    assert (figure.choices["row"], figure.choices["column"]) == (2, 3)
    rows = next(one for one in figure.controls if one["name"] == "row")["options"]
    assert rows == ["0", "1", "2"]


def test_the_browser_is_told_of_each_frame_in_one_message():
    figure = MovingFigure(windows.Pooling(IMAGE))
    sent = []
    figure.comm.send = lambda data=None, buffers=None, **_: sent.append((data, buffers))
    choices = {**figure.choices, "row": 2}
    figure._handle_msg(
        {
            "content": {"data": {"method": "update", "state": {"choices": choices}}},
            "buffers": [],
        }
    )
    frames = [(data, buffers) for data, buffers in sent if "frames" in data.get("state", {})]
    [(data, [picture])] = frames
    assert "row 2, column 0 of the output" in data["state"]["words"]
    assert bytes(picture).startswith(b"\x89PNG")


def test_a_figure_whose_controls_are_closed_does_not_break():
    figure = MovingFigure(windows.Pooling(IMAGE))
    figure.close()
    figure.choices = {**figure.choices, "row": 1}
    assert "row 1, column 0 of the output" in figure.words


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda _: figures.moving_convolution(IMAGE[0], KERNELS),
            r"picture must be a table.*\(12,\)",
        ),
        (lambda _: figures.moving_convolution(IMAGE, {}), "no kernel to choose"),
        (lambda _: figures.moving_convolution(IMAGE, {"a": [1, 2]}), "Kernel 'a' must be a table"),
        (lambda _: figures.moving_convolution(IMAGE, {"a": [["b"]]}), "Kernel 'a' must be a table"),
        (
            lambda _: figures.moving_convolution(IMAGE, {"a": np.ones((10, 2))}),
            "Kernel 'a', 10 x 2, is larger than the picture, 9 x 12",
        ),
        (lambda _: figures.moving_convolution(IMAGE * np.nan, KERNELS), "not finite"),
        (lambda _: figures.moving_convolution(IMAGE, KERNELS, strides=[0]), "from 1 on"),
        (lambda _: figures.moving_convolution(IMAGE, KERNELS, strides=[]), "at least one"),
        (lambda _: figures.moving_convolution(IMAGE, KERNELS, paddings=[0.5]), "whole numbers"),
        (lambda _: figures.moving_convolution(IMAGE, KERNELS, paddings=[-1]), "from 0 on"),
        (
            lambda _: figures.moving_convolution(IMAGE, KERNELS, row=8),
            "8 x 10 places.*no row 8, column 0",
        ),
        (lambda _: figures.moving_convolution(IMAGE, KERNELS, column=-1), "column -1"),
        (lambda _: figures.moving_pooling(IMAGE, sizes=[2, 10]), "window, 10 x 10, is larger"),
        (lambda _: figures.moving_pooling(IMAGE, sizes=[True]), "whole numbers"),
        (lambda _: figures.moving_pooling(IMAGE, column=6), "4 x 6 places"),
        (lambda _: figures.moving_maps({}, PICTURES, NAMES), "no network"),
        (lambda n: figures.moving_maps(n, PICTURES, NAMES[1:]), "4 pictures for 3 names"),
        (lambda n: figures.moving_maps(n, PICTURES[:0], []), "0 pictures"),
        (lambda n: figures.moving_maps(n, PICTURES, NAMES, maps=0), "At least 1 map"),
        (lambda n: figures.moving_maps(n, PICTURES, NAMES, layer=2), "no layer 2: there are 2"),
        (lambda n: figures.moving_maps(n, PICTURES, NAMES, picture=-1), "no picture -1"),
        (lambda n: figures.moving_maps(n, PICTURES, NAMES, model=2), "no network 2"),
        (
            lambda n: figures.moving_maps({**n, "other": deeper()}, PICTURES, NAMES),
            "more than their weights",
        ),
        (lambda _: figures.moving_maps({"open": headless()}, PICTURES, NAMES), "probabilities"),
        (lambda _: figures.moving_curves("rate", {}), "no training"),
        (lambda _: figures.moving_curves("rate", {1: {}}), "empty"),
        (
            lambda _: figures.moving_curves("rate", {1: {"loss": [1]}}, measure="accuracy"),
            "rate 1 has recorded no accuracy; it has loss",
        ),
        (
            lambda _: figures.moving_curves("rate", HISTORIES, first=3),
            "No training has rate 3; there are 0.00001, 0.002, 0.1",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(draw, message, networks, live, shown):
    with pytest.raises(ValueError, match=message):
        draw(networks)
    assert not live
    assert not shown
    assert not plt.get_fignums()


def deeper():
    return keras.Sequential(
        [
            keras.Input((8, 6, 1)),
            keras.layers.Conv2D(3, 3),
            keras.layers.Conv2D(3, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def headless():
    return keras.Sequential([keras.Input((8, 6, 1)), keras.layers.Conv2D(3, 3)])


# ---- where there is no front end -------------------------------------------------------------


def test_plain_python_needs_no_front_end():
    code = (
        "import numpy as np\n"
        "from firstcnn import figures\n"
        "figures.moving_pooling(np.ones((4, 4)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_solutions_and_feedback_hold_the_still_picture_only(tmp_path):
    course = NbgraderCourse(tmp_path, [])
    cells = lesson(
        cell(
            "code",
            "moving",
            "import numpy as np\n\nfrom firstcnn import figures\n\n"
            "figures.moving_pooling(np.ones((4, 6)), row=1, column=2)",
        )
    )
    write_course(course.root, moving=cells)
    course.nbgrader("generate_assignment", "moving")
    course.nbgrader("generate_solution", "moving")
    solved = course.root / "solutions" / "moving" / "moving.ipynb"
    course.submit_by_hand("ada", "moving", solved)
    course.nbgrader("autograde", "moving")
    course.nbgrader("generate_feedback", "moving")
    said = "is written at row 1, column 2 of the output; 6 of its 6 places are filled"
    graded = course.root / "autograded" / "ada" / "moving" / "moving.ipynb"
    for path in (solved, graded):
        notebook = nbformat.read(path, as_version=4)
        assert "widget" not in path.read_text(encoding="utf-8")
        outputs = notebook.cells[-1].outputs
        assert [sorted(one.data) for one in outputs] == [
            ["image/png", "text/plain"],
            ["text/html", "text/plain"],
        ]
        assert said in outputs[0].data["text/plain"]
        assert "widgets" not in notebook.metadata
    (page,) = (course.root / "feedback").rglob("*.html")
    text = page.read_text(encoding="utf-8")
    assert "data:image/png;base64" in text
    assert said in text
    assert "jupyter-widgets" not in text
    assert "widget-view" not in text
    assert "html-manager" not in text


def test_only_controls_are_left_out_and_of_others_widgets_the_words_stay():
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo="})
    stream = new_output("stream", text="said")
    view = {"model_id": "1"}
    controls = new_output("display_data", {"application/vnd.jupyter.widget-view+json": view})
    bundle = new_output(
        "display_data",
        {"application/vnd.jupyter.widget-view+json": view, "text/plain": "not a figure of ours"},
    )
    cells = [
        new_markdown_cell("prose"),
        new_code_cell("", outputs=[stream, controls, picture, bundle]),
    ]
    notebook = new_notebook(cells=cells, metadata={"widgets": {}, "kept": 1})
    done, _ = StillFigures().preprocess(notebook, {})
    words = new_output("display_data", {"text/plain": "not a figure of ours"})
    assert done.cells[1].outputs == [stream, picture, words]
    assert dict(done.metadata) == {"kept": 1}
