"""The course's kernel: quick, quiet, and MNIST from a local copy in unmodified notebooks."""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import ENV_JUPYTER_PATH
from nbclient import NotebookClient
from nbgrader.preprocessors import Execute

from firstcnn import kernel

#: Seconds for a cell, for what it shows, and for a kernel to start: only what hangs takes so long.
PATIENCE = {"timeout": 300, "iopub_timeout": 300, "startup_timeout": 300}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that executes cells in the kernel and returns what each printed."""
    monkeypatch.setenv("JUPYTER_PATH", kernel.jupyter_path())
    monkeypatch.setenv("FIRSTCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    (tmp_path / "work").mkdir()

    def run(*cells):
        # ipykernel does not listen to native code under pytest: the test would hear nothing.
        monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        resources = {"metadata": {"path": str(tmp_path / "work")}}
        client = NotebookClient(notebook, kernel_name="python3", resources=resources, **PATIENCE)
        client.execute()
        outputs = [output for cell in notebook.cells for output in cell.outputs]
        assert [o for o in outputs if o.get("name") == "stderr"] == []
        return ["".join(o.get("text", "") for o in cell.outputs) for cell in notebook.cells]

    return run


def test_the_kernelspec_hides_ipykernels(monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", kernel.jupyter_path())
    manager = KernelSpecManager()
    assert manager.find_kernel_specs()["python3"].startswith(kernel.jupyter_path())
    spec = manager.get_kernel_spec("python3")
    assert spec.display_name == "Python 3 (First CNN)"
    assert spec.language == "python"
    # What else ipykernel's own says of it holds for this kernel too.
    theirs = json.loads(Path(ENV_JUPYTER_PATH[0], "kernels/python3/kernel.json").read_text())
    assert spec.metadata == theirs["metadata"]


def test_it_starts_this_interpreter_with_the_path_that_ipykernel_has(run, tmp_path, monkeypatch):
    cell = "import sys; print(sys.executable, sys.path, 'firstcnn.data' in sys.modules)"
    tools = "print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    ours = run(cell, tools)
    assert ours[0].startswith(sys.executable + " ")
    assert ours[0].endswith(" False\n")
    assert ours[1] == "set()\n"  # nothing slow is imported to start the kernel
    monkeypatch.setenv("JUPYTER_PATH", "")
    assert run(cell) == ours[:1]


def test_files_beside_the_notebook_shadow_nothing_that_the_kernel_needs(run, tmp_path):
    for name in ("ipykernel", "random", "traitlets", "own"):
        (tmp_path / "work" / f"{name}.py").write_text("found = 'beside the notebook'")
    printed = run("import own, random; print(own.found, hasattr(random, 'found'))")
    assert printed == ["beside the notebook False\n"]


# Every way in which notebooks spell it.
SPELLINGS = [
    "import keras; load_data = keras.datasets.mnist.load_data",
    "from keras.datasets import mnist; load_data = mnist.load_data",
    "from keras.datasets.mnist import load_data",
    "import tensorflow as tf; load_data = tf.keras.datasets.mnist.load_data",
    "from tensorflow.keras.datasets import mnist; load_data = mnist.load_data",
    "import tensorflow; from tensorflow import keras; load_data = keras.datasets.mnist.load_data",
]


def test_every_spelling_reads_the_local_copy_or_else_does_what_it_did(run):
    cells = []
    for i, spelling in enumerate(SPELLINGS):
        cells.append(
            f"{spelling}\n"
            "from firstcnn import data\n"
            f"data.load_local = lambda: 'local {i}'\n"
            "print(load_data(), '|', load_data('a.npz'), '|', load_data(path='a.npz'))"
        )
    expected = [" | ".join([f"local {i}"] * 3) + "\n" for i in range(len(SPELLINGS))]
    without = (
        "import keras.src.datasets.mnist as defining\n"
        "def get_file(fname, **_):\n"
        "    raise OSError('Keras itself was asked for ' + fname)\n"
        "defining.get_file = get_file\n"
        "data.load_local = lambda: None\n"
        "for call in (lambda: load_data(), lambda: load_data('a.npz')):\n"
        "    try:\n"
        "        call()\n"
        "    except OSError as error:\n"
        "        print(error)"
    )
    asked = "Keras itself was asked for mnist.npz\nKeras itself was asked for a.npz\n"
    looks = (
        "import inspect\n"
        "before = inspect.unwrap(load_data)\n"
        "def looks(f): return inspect.signature(f), f.__name__, f.__qualname__, f.__doc__\n"
        "print(before is not load_data, looks(before) == looks(load_data), looks(load_data)[0])"
    )
    same = "True True (path='mnist.npz')\n"
    assert run(*cells, without, looks) == [*expected, asked, same]


def test_an_unmodified_notebook_learns_offline_and_in_silence(run, official_mnist, monkeypatch):
    """`run` refuses any stderr; a proxy that is not there keeps Keras from the network."""
    monkeypatch.setenv("MNIST_DIR", str(official_mnist))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    printed = run(
        "import tensorflow as tf\nfrom tensorflow import keras",
        "(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()",
        "print(x_train.shape, x_test.shape, y_test[4444], x_train.dtype)",
        "model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(4, 5, strides=3),"
        "keras.layers.Flatten(), keras.layers.Dense(10, 'softmax')])",
        "model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])",
        "history = model.fit(x_train[:2000, ..., None] / 255, y_train[:2000], verbose=0,"
        "validation_split=0.1)",
        "print(model.predict(x_test[:10, ..., None] / 255, verbose=0).shape)",
        "from firstcnn import data; print(data.source(), data.is_complete())",
        # TensorFlow also writes when it is at work: here, that its compiler starts.
        "tf.function(lambda a: a + 1, jit_compile=True)(tf.ones(3))\nimport time; time.sleep(1)",
    )
    assert printed[2] == "(60000, 28, 28) (10000, 28, 28) 9 uint8\n"
    assert printed[6] == "(10, 10)\n"
    assert printed[7] == "the folder $MNIST_DIR True\n"


def test_install_refuses_to_come_too_late(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras.src.datasets.mnist", object())
    before = list(sys.meta_path)
    with pytest.raises(RuntimeError, match="before Keras is imported"):
        kernel.install()
    assert sys.meta_path == before


def test_jupyterlab_reads_our_defaults(monkeypatch):
    settings_utils = pytest.importorskip("jupyterlab_server.settings_utils")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", kernel.config_path())
    overrides, error = settings_utils._get_overrides(os.devnull)
    assert not error
    news = overrides["@jupyterlab/apputils-extension:notification"]
    assert news == {"fetchNews": "false", "checkForUpdates": False}


CHECK_OF_A_MISSING_ANSWER = "from firstcnn import check\n\ncheck.number('total', total, 3)\n"
ANOTHER = "import numpy\n\nfrom firstcnn import check, data\n\ncheck.number('total', total, 3)\n"


@pytest.mark.parametrize(
    ("cells", "error", "said"),
    [
        (["totl = 3", CHECK_OF_A_MISSING_ANSWER], None, "there is no total yet"),
        (["total = 3 / 0", ANOTHER], None, "there is no total yet"),
        # Errors that are not a missing answer are shown as ever, the student's own line with them.
        (["total + 1"], "NameError", "----> 1 total + 1"),
        (["def total(): return totl", "total()"], "NameError", "name 'totl' is not defined"),
        (
            [
                "def total(): return totl",
                "from firstcnn import check\n\ncheck.number('total', total(), 3)\n",
            ],
            "NameError",
            "name 'totl' is not defined",
        ),
        (["total = [3]", "from firstcnn import check\n\ntotal[1]\n"], "IndexError", "out of range"),
    ],
)
def test_a_check_says_that_an_answer_is_missing(tmp_path, monkeypatch, cells, error, said):
    monkeypatch.setenv("JUPYTER_PATH", kernel.jupyter_path())
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    # nbgrader shows a second error where the kernel's reply names another than the output does.
    Execute(kernel_name="python3", **PATIENCE).preprocess(notebook, {"metadata": {}})
    (output,) = notebook.cells[-1].outputs
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
    if error is None:
        assert said in " ".join(shown.split())
        assert shown.startswith("No answer yet: ")
        assert len(shown.splitlines()) <= 3, "no wall of frames"
    else:
        assert said in shown
        assert output.ename == error
        assert error in shown
