"""A lesson whose checks are plain assertions, as other courses write them, is graded as fairly."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader_course import NbgraderCourse
from notebooks import cell
from submission_class import HIDDEN, LESSON, fingerprints, grade

from firstcnn.source_rules import canonical

SETUP = """\
import keras
import numpy as np

rng = np.random.default_rng(7)
y_train = rng.integers(0, 2, 100)
x_train = rng.integers(0, 156, (100, 6, 6, 1)).astype("uint8")
x_train[y_train == 1, :, :3] += 100"""

# Name: points, the right answer, the visible and the hidden part of the check.
EXERCISES = {
    "number": (
        1,
        "classes = 10",
        "assert classes > 0, f'classes is {classes}'",
        "assert classes == 10",
    ),
    "scaled": (
        2,
        "scaled = x_train.astype('float32') / 255",
        "import numpy as np\nassert scaled.shape == (100, 6, 6, 1)",
        "r = np.random.default_rng(7)\n"
        "y, raw = r.integers(0, 2, 100), r.integers(0, 156, (100, 6, 6, 1))\n"
        "raw[y == 1, :, :3] += 100\n"
        "assert scaled.dtype == np.float32\n"
        "assert 0 <= scaled.min() and scaled.max() <= 1\n"
        "np.testing.assert_allclose(scaled, raw / 255, atol=1e-6)",
    ),
    "size": (
        2,
        "def size(n, k, stride=1, padding=0):\n    return (n + 2 * padding - k) // stride + 1",
        "assert size(28, 5) == 24",
        "for n, k, s, p in [(7, 3, 2, 1), (9, 2, 3, 0)]:\n"
        "    assert size(n, k, stride=s, padding=p) == (n + 2 * p - k) // s + 1, (n, k, s, p)\n"
        "assert isinstance(size(5, 5), int)",
    ),
    "convolve": (
        3,
        "def convolve(image, kernel):\n"
        "    rows, columns = kernel.shape\n"
        "    made = np.zeros((image.shape[0] - rows + 1, image.shape[1] - columns + 1))\n"
        "    for i, j in np.ndindex(made.shape):\n"
        "        made[i, j] = (image[i : i + rows, j : j + columns] * kernel).sum()\n"
        "    return made",
        "import numpy as np\nassert np.allclose(convolve(np.ones((3, 3)), np.ones((2, 2))), 4)",
        "image, kernel = np.random.default_rng(1).random((2, 5, 5))\n"
        "kernel = kernel[:2, :3]\n"
        "kept = image.copy()\n"
        "got = convolve(image, kernel)\n"
        "assert np.array_equal(image, kept)\n"
        "np.testing.assert_allclose(got[1, 2], (image[1:3, 2:5] * kernel).sum(), rtol=1e-4)\n"
        "assert got.shape == (4, 3)",
    ),
    "guard": (
        1,
        "def odd(k):\n    if k % 2 == 0:\n        raise ValueError('even')\n    return k",
        "assert odd(3) == 3",
        "try:\n    odd(2)\nexcept ValueError:\n    pass\nelse:\n    raise AssertionError",
    ),
    "build": (
        2,
        "def build():\n"
        "    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3), "
        "keras.layers.Flatten(), keras.layers.Dense(2, activation='softmax')])",
        "net = build()\nassert net.output_shape == (None, 2)",
        "import keras\nimport numpy as np\n"
        "assert isinstance(net, keras.Model) and net.count_params() == 86\n"
        "assert any(isinstance(one, keras.layers.Conv2D) for one in net.layers)\n"
        "assert np.allclose(net.predict(np.ones((3, 6, 6, 1)), verbose=0).sum(1), 1)",
    ),
    "train": (
        4,
        "keras.utils.set_random_seed(3)\nmodel = build()\n"
        "model.compile(keras.optimizers.Adam(0.05), 'sparse_categorical_crossentropy', "
        "metrics=['accuracy'])\n"
        "history = model.fit(x_train / 255, y_train, epochs=4, verbose=0)",
        "assert len(history.history['loss']) == 4",
        "import numpy as np\n"
        "r = np.random.default_rng(99)\n"
        "y, x = r.integers(0, 2, 200), r.integers(0, 156, (200, 6, 6, 1))\n"
        "x[y == 1, :, :3] += 100\n"
        "accuracy = (model.predict(x / 255, verbose=0).argmax(1) == y).mean()\n"
        "assert accuracy > 0.75\n"
        "assert abs(model.evaluate(x / 255, y, verbose=0)[1] - accuracy) < 1e-3",
    ),
    "share": (
        4,
        "votes = [1, 2, 3, 4]",
        "assert len(votes) == 4",
        "points = 0.0\n"
        "for have, want in zip(votes, [1, 2, 3, 4]):\n    points += 1.0 * (have == want)\n"
        "points",
    ),
}
POINTS = {name: points for name, (points, *_) in EXERCISES.items()}
RIGHT = {name: right for name, (_, right, *_) in EXERCISES.items()}

# ---- right answers ----------------------------------------------------------------------------

HONEST = {
    "values of NumPy, and functions of other kinds": {
        "number": "classes = np.int64(10)",
        "scaled": "scaled = np.asfortranarray(np.divide(x_train, 255, dtype='float32'))",
        "size": "size = lambda n, k, stride=1, padding=0: (n + 2 * padding - k) // stride + 1",
        "convolve": "def convolve(image, kernel):\n"
        "    parts = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)\n"
        "    return np.einsum('ijkl,kl', parts, kernel)",
        "guard": "class Even(ValueError): ...\n\n\n"
        "def odd(k):\n    if k % 2 == 0:\n        raise Even(k)\n    return k",
        "build": "def build():\n    image = keras.Input((6, 6, 1))\n"
        "    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(image))\n"
        "    return keras.Model(image, keras.layers.Dense(2, activation='softmax')(x))",
        "share": "votes = np.array([1, 2, 3, 4])",
    },
    "objects that are called, and functions that show what they do": {
        "first": "raise ValueError('too early')",
        "number": "%time classes = np.array(10)",
        "size": "class Size:\n"
        "    def __call__(self, n, k, stride=1, padding=0):\n"
        "        return (n + 2 * padding - k) // stride + 1\n\n\nsize = Size()",
        "convolve": "import functools\n\n\n"
        "def told(function):\n    @functools.wraps(function)\n    def inner(*args):\n"
        "        print(function.__name__)\n        return function(*args)\n    return inner\n\n\n"
        "@told\n" + RIGHT["convolve"],
        "guard": "import sys\nimport matplotlib.pyplot as plt\n\n\n"
        "def odd(k):\n    plt.plot([k])\n    plt.show()\n    print('k', file=sys.stderr)\n"
        "    return k if k % 2 else bytes([255]).decode()",
        "share": "from decimal import Decimal\nfrom fractions import Fraction\n"
        "votes = (1, Fraction(2), Decimal(3), np.float32(4))",
        "train": RIGHT["train"] + "\nmodel.save('net.keras')\n"
        "model = keras.models.load_model('net.keras')",
    },
    "tensors, methods and a network of a class of its own": {
        "first": "answer = input()",
        "number": "import tensorflow as tf\nclasses = tf.constant(10)",
        "scaled": "scaled = keras.ops.convert_to_numpy(keras.layers.Rescaling(1 / 255)(x_train))",
        "size": "def size(n, k, **more):\n    left = n + 2 * more.get('padding', 0) - k\n"
        "    return 0 if left < 0 else 1 + size(n - more.get('stride', 1), k, **more)",
        "convolve": "import tensorflow as tf\n\n\ndef convolve(image, kernel):\n"
        "    made = tf.nn.conv2d(image[None, ..., None], kernel[..., None, None], 1, 'VALID')\n"
        "    return made[0, ..., 0]",
        "guard": "class Kernel:\n    @staticmethod\n"
        + re.sub("(?m)^", "    ", RIGHT["guard"])
        + "\n"
        "odd = Kernel.odd",
        "train": "class Net(keras.Model):\n    def __init__(self):\n        super().__init__()\n"
        "        self.one, self.two = keras.layers.Flatten(), keras.layers.Dense(2, 'softmax')\n"
        "    def call(self, x):\n        return self.two(self.one(x))\n\n\n"
        + RIGHT["train"].replace("build()", "Net()"),
        "last": "raise SystemExit",
    },
}

# ---- wrong ones that claim to be right --------------------------------------------------------

NOTHING = dict.fromkeys(POINTS, 0)
FUNCTIONS = {"size": 0, "convolve": 0, "guard": 0, "build": 0}
LIAR = """\
class Liar:
    __class__ = property(lambda self: int)
    __eq__ = __gt__ = __lt__ = __ge__ = __le__ = lambda self, other: True
    __getattr__ = __getitem__ = __add__ = __radd__ = __rmul__ = __call__ = lambda self, *any: self
    __len__, __index__, __float__ = lambda self: 4, lambda self: 10, lambda self: 10.0
    __iter__ = lambda self: iter([self] * 4)
    __array__ = lambda self, *any, **more: np.array(10)
    __repr__ = lambda self: "4.0"

"""


def raising(error):
    """Return answers whose functions raise it."""
    names = {"size": "size", "convolve": "convolve", "guard": "odd", "build": "build"}
    return {one: f"def {name}(*any, **more):\n    raise {error}" for one, name in names.items()}


# What a student hands in, and the points by exercise, where not all.
ATTACKS = {
    "objects that agree with everything": (
        {
            "number": LIAR + "classes = Liar()",
            "scaled": "scaled = Liar()",
            "size": "size = Liar()",
            "convolve": "def convolve(*any):\n    return Liar()",
            "guard": "odd = Liar()",
            "build": "def build():\n    return Liar()",
            "train": "model = history = Liar()",
            "share": "votes = [Liar()] * 4",
        },
        NOTHING,
    ),
    "subclasses that answer otherwise": (
        {
            "number": "class Ten(int):\n    __eq__ = __gt__ = lambda self, other: True\n\n\n"
            "classes = Ten(3)",
            "scaled": "class Scaled(np.ndarray):\n"
            "    __array_ufunc__ = __array_function__ = lambda self, *any, **more: True\n"
            "    min, max = lambda self: 0, lambda self: 1\n\n\n"
            "scaled = np.zeros(x_train.shape, 'float32').view(Scaled)",
            "convolve": "def convolve(image, kernel):\n    return np.ones((4, 3)).view(Scaled)",
            "share": "class Votes(list):\n    __iter__ = lambda self: iter([1, 2, 3, 4])\n\n\n"
            "votes = Votes([1, 0, 0, 0])",
            "size": "size = keras.KerasTensor(())",
        },
        {"number": 0, "scaled": 0, "size": 0, "convolve": 0, "share": 1},
    ),
    "what an assertion is made of": (
        {
            "first": "import builtins\nimport numpy as np\n"
            "np.testing.assert_allclose = lambda *any, **more: None\n"
            "np.allclose = np.array_equal = lambda *any, **more: True\n"
            "builtins.AssertionError = builtins.SystemExit\n"
            "abs = len = isinstance = any = zip = lambda *any: [(1, 1)] * 4",
            "number": "AssertionError = ValueError\nclasses = 9",
            "scaled": "scaled = np.ones((100, 6, 6, 1), 'float32')",
            "convolve": "def convolve(image, kernel):\n    return np.ones((4, 3))",
            "share": "points = 4.0\nvotes = [1, 2, 0, 0]\n4.0",
        },
        {"number": 0, "scaled": 0, "convolve": 0, "share": 2},
    ),
    "arguments that are changed to fit": (
        {
            "convolve": "def convolve(image, kernel):\n    image[:] = kernel[:] = 0\n"
            "    return np.zeros((image.shape[0] - 1, image.shape[1] - kernel.shape[1] + 1))"
        },
        {"convolve": 0},
    ),
    "a right answer that changes what it is given": (
        {"convolve": RIGHT["convolve"].replace("return", "image *= 2\n    return")},
        {"convolve": 0},
    ),
    "functions that see who asks, and answer once": (
        {
            "first": "import sys\nseen = []\n\n\ndef look(*given):\n    seen.append(given)\n"
            "    frame = sys._getframe()\n    while frame:\n"
            "        seen.append(str(frame.f_locals) + str(frame.f_globals))\n"
            "        frame = frame.f_back\n    return len(seen)",
            "size": "def size(*any, **more):\n    return 24 if look(any, more) < 99 else size",
            "last": "print(seen)\n%history -g\nprint(open('trial.ipynb').read())",
        },
        {"size": 0},
    ),
    "an error that ends everything": (raising("SystemExit"), FUNCTIONS),
    "an error that lies about itself": (
        raising(
            "type('CheckFailed', (ValueError,), {'__module__': 'firstcnn.check.outcome', "
            "'__str__': lambda self: 1 / 0})()"
        ),
        FUNCTIONS,
    ),
    "text that would move the cursor, and a number without end": (
        {
            "number": "classes = -(10**5000)",
            "guard": "def odd(k):\n    raise ValueError('\\ud800\\x1b[2J<script>')",
            "share": "votes = '\\ud800' * 4",
        },
        {"number": 0, "guard": 0, "share": 0},
    ),
    "a network that knows the answer": (
        {
            "train": "class Net(keras.Model):\n"
            "    def call(self, x):\n        return x\n"
            "    def predict(self, x, **more):\n"
            "        return np.eye(2)[(x[:, :, :3].mean((1, 2, 3)) > 0.5).astype(int)]\n"
            "    def evaluate(self, *any, **more):\n        return 0.0, 1.0\n\n\n"
            "keras.Model.predict = Net.predict\nmodel = Net()\nmodel(np.ones((1, 6, 6, 1)))\n"
            "history = keras.callbacks.History()\nhistory.history = {'loss': [4, 3, 2, 1]}"
        },
        {"train": 0},
    ),
    "an agent that answers with nonsense": (
        {
            "first": "import firstcnn.grading.agent as agent\nfrom firstcnn.grading import wire\n"
            "nonsense = {'error': {'like': [['ValueError']], 'ending': {}}, 'given': 3}\n"
            "agent._called = lambda *any: wire.encode(nonsense).to_bytes()",
        },
        FUNCTIONS,
    ),
    "a kernel that ends in a check": (
        {"size": "import os\n\n\ndef size(*any, **more):\n    os._exit(0)"},
        NOTHING | {"number": 1, "scaled": 2},
    ),
}
# Nothing is trained where that does not matter: it takes longer than all the rest.
IDLE = {"train": "model = history = None"}
CLASS = {title: (work, {}) for title, work in HONEST.items()} | {
    title: (IDLE | work, {"train": 0} | points) for title, (work, points) in ATTACKS.items()
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory, sandbox_here, warm):
    """Grade the class; return its course, and what had to stay as it was, before and after."""
    course = NbgraderCourse(tmp_path_factory.mktemp("plain"), [])
    cells = [cell("md", "title", "# A trial"), cell("code", "setup", SETUP)]
    for name, (points, right, visible, hidden) in EXERCISES.items():
        solution = f"### BEGIN SOLUTION: ...\n{right}\n### END SOLUTION"
        test = f"{visible}\n### BEGIN HIDDEN TESTS\n{HIDDEN} = 1\n{hidden}\n### END HIDDEN TESTS"
        cells.append(cell("answer", f"{name}-answer", solution))
        cells.append(cell("check", f"{name}-check", test, points))
    source = course.root / "source" / LESSON
    source.mkdir(parents=True)
    (source / f"{LESSON}.ipynb").write_text(canonical(new_notebook(cells=cells)))
    course.nbgrader("generate_assignment", LESSON)
    for title, (work, _) in CLASS.items():
        folder = course.answer(student(title), LESSON, list((RIGHT | work).values()))
        made = nbformat.read(folder / f"{LESSON}.ipynb", as_version=4)
        made.cells.insert(0, new_code_cell(work.get("first", "")))
        made.cells.append(new_code_cell(work.get("last", "")))
        nbformat.write(made, folder / f"{LESSON}.ipynb")
    watched = [course.root / one for one in ("source", "course", "submitted")]
    before = fingerprints(watched)
    grade(course, {})
    return course, before, fingerprints(watched)


def student(title):
    """Return the name of who hands it in."""
    return re.sub(r"[^a-z]+", "-", title.lower())


@pytest.mark.parametrize("title", CLASS)
def test_it_earns_what_honest_work_would(title, graded):
    found = graded[0].points(student(title), LESSON)
    wanted = POINTS | CLASS[title][1]
    assert {name.removesuffix("-check"): got for name, (got, _) in found.items()} == wanted


@pytest.mark.parametrize("title", CLASS)
def test_it_shows_nothing_of_hidden_tests(title, graded):
    file = graded[0].root / "autograded" / student(title) / LESSON / f"{LESSON}.ipynb"
    for one in nbformat.read(file, as_version=4).cells:
        assert HIDDEN not in str(one.get("outputs", "")), one.id


def test_nothing_is_altered(graded):
    _, before, after = graded
    assert after == before
