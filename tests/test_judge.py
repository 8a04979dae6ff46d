"""The judge says what an ordinary kernel would say, and no kernel can make it say anything else."""

import contextlib
import itertools
import re
import socket
import threading
from types import SimpleNamespace

import pytest
from jupyter_client import KernelManager

from firstcnn.grading import agent, judge, wire
from firstcnn.grading.agent import Dead, Garbled, Student, TooLarge, TooSlow, connected
from firstcnn.grading.judge import Judge, JudgeError, Outcome

PATIENCE, CALL_PATIENCE = 300, 150  # seconds; only what hangs takes so long
IMPORTS = "import numpy as np\nfrom firstcnn import check\n"


class Kernel:
    """A student's kernel, in which cells run as they do in JupyterLab."""

    def __init__(self, folder):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code):
        """Run a cell, and return what it shows as an error, or nothing."""
        shown = []
        self.client.execute_interactive(
            code,
            stop_on_error=False,
            allow_stdin=False,
            timeout=PATIENCE,
            output_hook=lambda message: shown.append(message["content"].get("traceback", [])),
        )
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(itertools.chain(*shown))).strip()

    @contextlib.contextmanager
    def student(self, patience=PATIENCE, alive=None):
        with connected(self.manager.connection_file) as client:
            yield Student(client, alive or self.manager.is_alive, patience=patience)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("student"))
    yield one
    one.close()


@pytest.fixture
def fresh(tmp_path):
    """Return a kernel that a test may break."""
    one = Kernel(tmp_path)
    yield one
    one.close()


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Return a kernel that tests tamper with, each in its own way."""
    one = Kernel(tmp_path_factory.mktemp("spoilt"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def student(kernel):
    with kernel.student() as one:
        yield one


@pytest.fixture(scope="module")
def the_judge():
    with Judge(cell_timeout=PATIENCE, call_timeout=CALL_PATIENCE) as one:
        yield one


@pytest.fixture
def impatient(the_judge, monkeypatch):
    """Return the judge, who waits two seconds for a call."""
    monkeypatch.setattr(the_judge, "_call_timeout", 2)
    return the_judge


def judged(the_judge, student, check):
    return the_judge.run("some-check", IMPORTS + check, student.fetch, student.call)


def words(outcome):
    """Return a message as one line."""
    return " ".join(outcome.message.split())


# ---- the same words ---------------------------------------------------------------------------

ANSWERS = {
    "right": ("def f(x):\n    return x + 1", "check.function('f', f, like=lambda x: x + 1, {})"),
    "wrong": ("def f(x):\n    return x - 1", "check.function('f', f, like=lambda x: x + 1, {})"),
    "raises": ("def f(x):\n    y = x\n    return y[100]", "check.call('f', f, np.zeros(3))"),
    "raises a KeyError": ("def f(x):\n    return {}[x]", "check.call('f', f, 'loss')"),
    "raises in bold": (
        "def f(x):\n    raise ValueError('\\x1b[1mlong\\x1b[0m\\n' * 90)",
        "check.call('f', f, 1)",
    ),
    "raises in a function that it calls": (
        "def g(x):\n    return 1 / x\n\n\ndef f(x):\n    return g(x)",
        "check.call('f', f, 0)",
    ),
    "takes too few": ("def f():\n    return 1", "check.call('f', f, np.zeros((2, 3)), k=[1])"),
    "has no end": ("def f(x):\n    return f(x)", "check.call('f', f, 1)"),
    "leaves": ("def f(x):\n    raise SystemExit(3)", "check.call('f', f, 1)"),
    "is not written": ("def f(x):\n    raise NotImplementedError", "check.call('f', f, 1)"),
    "is dots": ("def f(x):\n    ...", "check.call('f', f, 1)"),
    "returns dots": ("def f(x):\n    return ...", "check.call('f', f, 1)"),
    "changes an array": ("def f(x):\n    x[0] = 7\n    return x", "check.call('f', f, np.ones(2))"),
    "changes a shape": (
        "def f(x):\n    x.resize(4, refcheck=False)\n    return 1",
        "check.call('f', f, np.ones(2))",
    ),
    "changes a dict": ("def f(x):\n    x['b'] = len\n    return 1", "check.call('f', f, {'a': 1})"),
    "changes what is named": (
        "def f(x):\n    x.append(1)\n    return 1",
        "check.call('f', f, x=[np.ones(2)])",
    ),
    "changes a copy": (
        "def f(x):\n    x = x.copy()\n    x[0] = 7\n    return x",
        "check.array('f(x)', check.call('f', f, np.ones(2)), equals=[7, 1])",
    ),
    "warns": (
        "import sys\nimport warnings\n\n\n"
        "def f(x):\n    warnings.warn('much')\n    print(9, file=sys.stderr)\n    return x",
        "check.function('f', f, like=lambda x: x, {})",
    ),
    "is a lambda": ("f = lambda x: x * 2", "check.function('f', f, like=lambda x: x, {})"),
    "is NumPy's": ("import numpy\nf = numpy.exp", "check.function('f', f, like=np.exp, {})"),
    "is a class": ("class f:\n    def __init__(self, x): ...", "check.number('f', f(1), equals=1)"),
    "is no function": ("f = 3", "check.call('f', f, 1)"),
    "is no function, but dots": ("f = ...", "check.call('f', f, 1)"),
    "returns a list": ("def f(x):\n    return [x]", "check.function('f', f, like=np.array, {})"),
    "returns a generator": (
        "def f(x):\n    yield x",
        "check.function('f', f, like=lambda x: (x, x), {})",
    ),
    "returns a function": ("def f(x):\n    return f", "check.number('f', f(1), equals=1)"),
    "a number": ("n = 3", "check.number('n', n, equals=4)"),
    "text for a number": ("n = '3'", "check.number('n', n, equals=4)"),
    "NumPy's number": ("import numpy as np\nn = np.float32(0.1)", "check.number('n', n, equals=4)"),
    "no number": ("n = float('nan')", "check.number('n', n, equals=4)"),
    "an object": ("n = object()", "check.number('n', n, equals=4)"),
    "a class for a number": ("n = dict", "check.number('n', n, equals=4)"),
    "a shape": ("n = [3, 4.0]", "check.shape('n', n, equals=(3, 4))"),
    "an iterator for a shape": ("n = iter([3, 4])", "check.shape('n', n, equals=(3, 4))"),
    "choices": ("n = {'A', 'b'}", "check.choices('n', n, among='ABC', equals={'A', 'C'})"),
    "keys for choices": ("n = {'A': 1}.keys()", "check.choices('n', n, among='AB', equals='A')"),
    "None": ("n = None", "check.number('n', n, equals=4)"),
    "no name": ("del n", "check.number('n', n, equals=4)"),
    "no name, in the second check": (
        "m = 3",
        "check.number('m', m, equals=3)\ncheck.number('n', n, equals=4)",
    ),
    "an error of the check's own": ("n = 3", "n.shape"),
}
# In an ordinary kernel these are told by a traceback, which would show hidden tests.
TRACEBACKS = {"an error of the check's own", "is a class"}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_judge_says_what_a_kernel_says(name, kernel, student, the_judge):
    answer, check = ANSWERS[name]
    check = check.replace("{}", "cases=[(np.arange(n, dtype=float),) for n in (1, 4)]")
    kernel.run("n = 0")
    assert not kernel.run(answer)
    outcome = judged(the_judge, student, check)
    plain = kernel.run(IMPORTS + check)
    assert (outcome.status == "ok") == (not plain)
    if name in TRACEBACKS:
        assert outcome.message.splitlines()[0].endswith(plain.splitlines()[-1])
        assert "some-check" not in outcome.message
    else:
        assert outcome.message == plain


def test_a_model_and_its_training_are_judged_as_in_a_kernel(fresh, the_judge):
    assert not fresh.run(
        "import keras\nimport numpy as np\n"
        "model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])\n"
        "model.add(keras.layers.Dense(3, activation='softmax'))\n"
        "model.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "history = model.fit(np.ones((6, 4, 4, 1)), np.zeros(6), batch_size=2, verbose=0)\n"
        "before = model.predict(np.ones((2, 4, 4, 1)), verbose=0)\n"
        "tensor = keras.ops.ones((2, 3))\n"
        "def build(units):\n"
        "    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])\n"
        "own = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])\n"
    )
    checks = [
        "check.model('model', model, input_shape=(4, 4, 1), parameters=51)",
        "check.model('model', model, parameters=50)",
        "check.model('model', model, layers=[check.layer('Dense', units=3)], skip=['Flatten'])",
        "check.compiled('model', model, optimizer='adam')",
        "check.history('history', history, epochs=2)",
        "check.number('steps', int(model.optimizer.iterations), equals=3)",
        "images = np.ones((2, 4, 4, 1))\n"
        "check.array('before', before, equals=check.outputs('model', model, images))",
        "check.array('tensor', tensor, equals=np.zeros((2, 3)))",
        "check.number('tensor', tensor, equals=1)",
        "check.model('build(4)', check.call('build', build, 4), parameters=12)",
        "check.model('build(4)', check.call('build', build, 4), parameters=13)",
        "check.model('build', build)",
    ]
    with fresh.student() as student:
        for check in checks:
            outcome = judged(the_judge, student, check)
            assert (check, outcome.message) == (check, fresh.run(IMPORTS + check))
        refused = judged(the_judge, student, "check.model('own', own)")
    assert refused.message == "Not right yet: own uses a Lambda layer, which cannot be graded."


# ---- what the judge asks for ------------------------------------------------------------------


def test_only_names_that_a_cell_reads_are_fetched(the_judge):
    source = """
from firstcnn import check

n = 1
def helper(x):
    local = x
    return [item + late + n + free for item in x for _ in range(2)]
class Inner:
    inside = 1
    again = inside
late = answer
check.that(isinstance(late, int), f"{answer} {text}")
"""
    asked = []

    def fetch(name):
        asked.append(name)
        return wire.encode({"value": 1}).to_bytes()

    outcome = the_judge.run("a-check", source, fetch, None)
    assert outcome.status == "ok"
    assert sorted(asked) == ["answer", "free", "text"]


def test_values_are_fetched_anew_for_each_cell(kernel, student, the_judge):
    kernel.run("n = [1]")
    check = "check.that(n == [1], f'it is {n}')\nn.append(2)"
    assert judged(the_judge, student, check).status == "ok"
    assert judged(the_judge, student, check).status == "ok"
    kernel.run("n = [3]")
    assert judged(the_judge, student, check).message == "Not right yet: it is [3]"


def test_a_cell_leaves_nothing_to_the_next(the_judge):
    assert the_judge.run("a", "left = 1", None, None).status == "ok"
    outcome = the_judge.run("b", "left", lambda name: None, None)
    assert outcome.message.startswith("No answer yet: there is no left yet.")


def test_the_student_sees_arguments_and_nothing_else(the_judge):
    sent = []

    def call(name, packet, timeout):
        sent.append((name, wire.decode(wire.Packet.from_bytes(packet)), timeout))
        return wire.encode({"value": 4}).to_bytes()

    function = wire.encode({"value": lambda x: x}).to_bytes()
    source = "from firstcnn import check\nsecret = 5\ncheck.call('f', f, 1, key=(2,))"
    assert the_judge.run("a", source, lambda name: function, call).status == "ok"
    assert sent == [("f", ((1,), {"key": (2,)}), CALL_PATIENCE)]


@pytest.mark.parametrize(
    ("source", "partial"),
    [
        ("0.5", 0.5),
        ("2", 2.0),
        ("x = 1", None),
        ("True", None),
        ("False", 0.0),
        ("import numpy\nnumpy.float64(1)", 1.0),
        ("import numpy\nnumpy.int8(1)", 1.0),
        ("import numpy\nnumpy.bool_(False)", 0.0),
        ("None", None),
        ("", None),
    ],
)
def test_the_last_expression_is_partial_credit_if_it_is_a_number(source, partial, the_judge):
    outcome = the_judge.run("a", source, None, None)
    assert (outcome.status, outcome.partial) == ("ok", partial)


@pytest.mark.parametrize(
    "source",
    [
        *("'1'", "float('nan')", "float('inf')", "[1]", "10**400", "1j", "..."),
        "import numpy\nnumpy.float64('nan')",
        "import numpy\nsum(numpy.array([1]) == 1 for _ in range(2))",
        "class Lie(float): pass\nLie(1)",
    ],
)
def test_a_last_expression_that_is_no_number_earns_nothing(source, the_judge):
    outcome = the_judge.run("a", source, None, None)
    assert (outcome.status, outcome.partial) == ("failed", None)


def test_what_a_cell_prints_is_kept_up_to_a_length(the_judge):
    outcome = the_judge.run(
        "a", "import sys\nprint('yes')\nprint('no', file=sys.stderr)", None, None
    )
    assert outcome.stdout == "yes\n"
    outcome = the_judge.run("a", "for _ in range(9999):\n    print('x' * 100)", None, None)
    assert len(outcome.stdout) == 20_000


VISIBLE = "print('Correct: f is right.')\n"
HIDDEN = "### BEGIN HIDDEN TESTS\ndef told():\n    print('Correct: again.')\ntold()\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (VISIBLE + HIDDEN + "### END HIDDEN TESTS", "Correct: f is right.\n"),
        (HIDDEN + "### END HIDDEN TESTS\n" + VISIBLE, "Correct: f is right.\n"),
        (HIDDEN + "### END HIDDEN TESTS", "Correct: again.\n"),
        (VISIBLE + VISIBLE, "Correct: f is right.\n" * 2),
    ],
)
def test_what_is_right_is_told_once(source, said, the_judge):
    outcome = the_judge.run("a", source, None, None)
    assert (outcome.status, outcome.stdout) == ("ok", said)


def test_what_a_student_prints_is_not_the_judges(kernel, student, the_judge):
    kernel.run("def f(x):\n    print('Correct: f is right.')\n    return 2")
    outcome = judged(the_judge, student, "check.function('f', f, like={(1,): 1})")
    assert (outcome.status, outcome.stdout) == ("failed", "")
    # Nor does it come up among the outputs of the notebook's cells.
    kernel.client.execute("print('end')")
    seen = ""
    while not seen.endswith("end\n"):  # in pieces, should the kernel be held up
        seen += kernel.client.get_iopub_msg(timeout=PATIENCE)["content"].get("text", "")
    assert "Correct" not in seen


def test_a_figure_that_a_call_draws_does_not_come_up_in_another_cell(kernel, student, the_judge):
    kernel.run(
        "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\n"
        "plt.figure(7)\n\n\ndef f(x):\n    plt.figure()\n    return plt.get_fignums()"
    )
    assert (
        judged(the_judge, student, "check.that(check.call('f', f, 1) == [7, 8], '')").status == "ok"
    )
    assert not kernel.run("assert plt.get_fignums() == [7]")


# ---- grade cells of other courses -------------------------------------------------------------

PLAIN = {
    "a module from another cell": ("import numpy as np\nx = np.ones(2)", "assert np.all(x == 1)"),
    "a module by its own name": ("import math\nx = 2", "assert math.sqrt(x * x) == x"),
    "an error that is asked for": (
        "class TooFew(ValueError): ...\n\n\ndef f(n):\n    raise TooFew(n)",
        "try:\n    f(1)\nexcept ValueError as error:\n    assert 'TooFew: 1' in str(error)\n"
        "else:\n    raise AssertionError",
    ),
    "a key that is not there": (
        "def f(n):\n    return {}[n]",
        "try:\n    f('a')\nexcept LookupError as error:\n    assert str(error)[:5] == 'stops'\n"
        "else:\n    raise AssertionError",
    ),
    "an error of a kind that is asked for": (
        "def f(n):\n    return bytes([n]).decode()",
        "try:\n    f(255)\nexcept ValueError as error:\n"
        "    assert 'UnicodeDecodeError' in str(error)\n"
        "else:\n    raise AssertionError",
    ),
    "a file that is not there": (
        "def f(name):\n    return open(name).read()",
        "try:\n    f('nowhere.txt')\nexcept OSError as error:\n    assert 'nowhere' in str(error)\n"
        "else:\n    raise AssertionError",
    ),
    "an argument that is changed, and not missed": (
        "def f(values):\n    values -= values.min()\n    return values",
        "import numpy as np\nx = np.array([1.0, 3.0])\nassert np.array_equal(f(x), [0, 2])",
    ),
}


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_grade_cell_that_holds_earns_its_points(case, kernel, student, the_judge):
    code, source = PLAIN[case]
    assert not kernel.run(code)
    outcome = the_judge.run("a", source, student.fetch, student.call)
    assert (outcome.status, outcome.message) == ("ok", "")


@pytest.mark.parametrize(
    ("code", "source", "said"),
    [
        ("x = 2", "assert x == 3, 'x is not 3'", "Not right yet: x is not 3"),
        ("x = 2", "assert x == 3", "Not right yet: what this check asserts is not so."),
        (
            "def f(n):\n    raise KeyError(n)",
            "assert f(1) == 3",
            "Not right yet: a function of yours stops with KeyError: 1 "
            "(line 2 of your cell: raise KeyError(n))",
        ),
        (
            "def f(n):\n    assert n > 3",
            "assert f(1) is None",
            "Not right yet: a function of yours stops with AssertionError "
            "(line 2 of your cell: assert n > 3)",
        ),
        (
            "def f(n):\n    raise NotImplementedError",
            "assert f(1) is None",
            "Not right yet: a function of yours stops with NotImplementedError "
            "(line 2 of your cell: raise NotImplementedError)",
        ),
        (
            "def f(n):\n    return f(n)",
            "assert f(1) is None",
            "Not right yet: a function of yours stops with RecursionError: maximum recursion depth "
            "exceeded (line 2 of your cell: return f(n))",
        ),
        (
            "import types\nx = types.SimpleNamespace(a=1)\ny = zip()",
            "assert x.a == 1",
            "This check itself stopped with AttributeError: 'SimpleNamespace' object has no "
            "attribute 'a' Only data can be handed to a check, and not x (SimpleNamespace).",
        ),
        (
            "import types\nlayers = types.ModuleType('layers')",
            "assert layers.Dense",
            "This check itself stopped with AttributeError: 'module' object has no attribute "
            "'Dense' Only data can be handed to a check, and not layers (module).",
        ),
    ],
)
def test_a_plain_grade_cell_that_fails_says_why(code, source, said, kernel, student, the_judge):
    assert not kernel.run(code)
    outcome = the_judge.run("a", source, student.fetch, student.call)
    assert (outcome.status, words(outcome)) == ("failed", said)


CHANGING = (
    "def doubled(values):\n    values *= 2\n    return values\n\n\n"
    "def emptied(values, more=()):\n    values[0][0], more['a'][:] = 0, []\n    more['b'] = 0\n"
    "def cleared(values):\n    values[:] = 0\n    return values\n"
)


@pytest.mark.parametrize(
    ("source", "partial"),
    [
        ("x = np.ones(2)\nkept = x.copy()\ndoubled(x)\nassert np.array_equal(x, kept)", None),
        ("x = np.ones(2)\nassert np.array_equal(cleared(x), 3 * x)", None),
        ("x = np.ones(2)\ndoubled(x)\nassert np.array_equal(x, [2, 2])", None),
        ("x, d = [np.ones(1)], {'a': [1]}\nemptied(x, more=d)\nassert x[0][0] and d['a']", None),
        (
            "x, d = [np.ones(1)], {'a': [1]}\nemptied(x, more=d)\nassert x[0][0] and 'b' not in d",
            None,
        ),
        ("x = np.ones(2)\nkept = x.copy()\ndoubled(x)\n1 + 2 * np.array_equal(x, kept)", 1.0),
        ("x = np.ones(2)\n3 - np.array_equal(cleared(x), 3 * x)", 2.0),
    ],
)
def test_a_cell_holds_whether_or_not_it_sees_its_arguments_change(
    source, partial, kernel, student, the_judge
):
    assert not kernel.run(IMPORTS + CHANGING)
    outcome = the_judge.run("a", IMPORTS + source, student.fetch, student.call)
    if partial is None:
        said = "Work on a copy, and return that."
        assert (outcome.status, words(outcome)[-len(said) :]) == ("failed", said)
    else:
        assert (outcome.status, outcome.partial) == ("ok", partial)


def test_a_number_that_is_too_long_to_be_written_fails_as_any(kernel, student, the_judge):
    assert not kernel.run("x = 10**5000")
    outcome = the_judge.run("a", "assert x == 3, x", student.fetch, student.call)
    assert (outcome.status, outcome.ename) == ("failed", "AssertionError")


@pytest.mark.parametrize(
    "told",
    [
        *(None, 3, [], {}, {"like": "ValueError"}, {"like": [["ValueError"], 3, None, {}]}),
        *(
            {"like": [name]}
            for name in ("SystemExit", "KeyboardInterrupt", "_HungUp", "CheckFailed")
        ),
        *({"like": [], "ending": one} for one in (3, ["x"], "\x1b[2J\ud800\n" * 999)),
    ],
)
def test_whatever_an_error_is_said_to_be_it_is_a_functions(told, the_judge):
    function = wire.encode({"value": lambda x: x}).to_bytes()
    answer = wire.encode({"error": told}).to_bytes()
    source = "try:\n    f(1)\nexcept ValueError:\n    pass"
    outcome = the_judge.run("a", source, lambda name: function, lambda *ask: answer)
    assert (outcome.status, outcome.ename) == ("failed", "RemoteError")
    assert outcome.message.startswith("Not right yet: a function of yours ")


def test_a_module_is_never_the_students(kernel, student, the_judge):
    kernel.run(
        "import types\nx = [0]\nnp = types.ModuleType('numpy')\nnp.all = lambda values: True\n"
    )
    outcome = the_judge.run("a", "assert np.all(x)", student.fetch, student.call)
    assert words(outcome) == "Not right yet: what this check asserts is not so."


def test_a_cell_that_is_no_python_fails_and_says_so(the_judge):
    outcome = the_judge.run("a", "check.(", None, None)
    assert (outcome.status, outcome.ename) == ("failed", "SyntaxError")


# ---- kernels that are slow, dead or hostile ---------------------------------------------------


def test_a_function_without_end_is_interrupted_and_the_next_is_called(
    kernel, student, the_judge, impatient, monkeypatch
):
    kernel.run("def f(x):\n    while True:\n        pass\n\n\ndef g(x):\n    return x")
    outcome = judged(impatient, student, "check.call('f', f, 1)")
    assert words(outcome) == (
        "Not right yet: f(1) does not come to an end: the kernel was interrupted after 2 s."
    )
    monkeypatch.undo()
    assert judged(the_judge, student, "check.function('g', g, like={(1,): 1})").status == "ok"


def test_a_kernel_that_heeds_no_interrupt_is_given_up(fresh, impatient):
    fresh.run(
        "import time\n\n\ndef f(x):\n    while True:\n        try:\n"
        "            while True:\n                time.sleep(0.01)\n"
        "        except KeyboardInterrupt:\n            pass"
    )
    with fresh.student() as student:
        assert student.fetch("f")
        student._patience = 1
        outcome = judged(impatient, student, "check.call('f', f, 1)")
        assert "does not come to an end" in outcome.message
        outcome = judged(impatient, student, "check.call('f', f, 1)")
        assert words(outcome) == (
            "Not right yet: f cannot be read: the kernel is busy still with what was called before."
        )
        with pytest.raises(TooSlow):
            student.fetch("f")


def test_a_kernel_that_dies_is_told(fresh, the_judge):
    fresh.run("import os\n\n\ndef f(x):\n    os._exit(0)")
    # The manager would say that it is dead a little later.
    with fresh.student(alive=lambda: fresh.manager.provisioner.process.poll() is None) as student:
        outcome = judged(the_judge, student, "check.call('f', f, 1)")
        assert words(outcome) == (
            "Not right yet: f(1) does not come to an end: "
            "the kernel has stopped, perhaps for want of memory."
        )
        with pytest.raises(Dead):
            student.fetch("f")


def test_a_cell_that_failed_does_not_take_the_first_question_with_it(fresh):
    """A kernel declines what it is asked right after an error."""
    fresh.run("get_ipython().kernel.stop_on_error_timeout = 1.0")
    fresh.client.execute("1 / 0")
    with fresh.student() as student:
        assert student.fetch("nothing") is None


def tampered(code):
    return (
        "from IPython import get_ipython\nk = get_ipython().kernel\n\n\n"
        f"def answer(stream, ident, message):\n    {code}\n\n\n"
        "import firstcnn.grading.agent\n"
        "firstcnn.grading.agent.install = lambda: k.shell_handlers.update(firstcnn_request=answer)"
    )


REPLY = "k.session.send(stream, 'firstcnn_reply', {}, parent=message, ident=ident, buffers={})"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (REPLY.replace("{}", "{'status': 'ok'}", 1).replace("{}", "[]"), Garbled),
        (REPLY.replace("{}", "{'status': 'ok'}", 1).replace("{}", "[b'a', b'b']"), Garbled),
        (REPLY.replace("{}", "{'status': 'missing'}", 1).replace("{}", "[b'a']"), Garbled),
        (REPLY.replace("{}", "{'status': ['ok']}", 1).replace("{}", "[b'a']"), Garbled),
        (REPLY.replace("{}", "{'status': 5}", 1).replace("{}", "[b'a']"), Garbled),
        (
            "stream.send_multipart([*ident, b'<IDS|MSG>', b'forged', b'{', b'{', b'{', b'{'])",
            Garbled,
        ),
        ("stream.send_multipart([*ident, b'nothing'])", Garbled),
        ("1 / 0", TooSlow),
        ("pass", TooSlow),
    ],
)
def test_a_kernel_that_answers_nonsense_is_told(code, error, spoilt):
    assert not spoilt.run(tampered(code))
    patience = 1 if error is TooSlow else PATIENCE
    with spoilt.student(patience) as student, pytest.raises(error):
        student.fetch("k")


def test_a_kernel_that_cannot_be_asked_is_told(spoilt):
    spoilt.run("import sys\nsys.modules['firstcnn.grading.agent'] = None")
    with spoilt.student() as student, pytest.raises(Garbled, match="changed by the notebook"):
        student.fetch("x")


def test_an_answer_that_is_too_large_is_refused(kernel, student, the_judge, monkeypatch):
    kernel.run("import numpy as np\nx = np.zeros(70_000_000)")
    outcome = judged(the_judge, student, "check.array('x', x)")
    assert words(outcome) == (
        "Not right yet: x holds more than 256 MiB, which is too much to be graded."
    )
    kernel.run("x = np.zeros(1000)")
    monkeypatch.setattr(agent, "MAX_BYTES", 2000)
    with pytest.raises(TooLarge):
        student.fetch("x")


ANSWERED = [
    b"",
    b"nonsense",
    wire.encode(5).to_bytes(),
    wire.encode({}).to_bytes(),
    wire.encode({"given": 1}).to_bytes(),
    wire.encode({"value": 1, "given": 1}).to_bytes(),
    wire.encode({"value": 1, "given": ([], {})}).to_bytes(),
    wire.encode({"refused": 5}).to_bytes(),
    wire.encode({"refused": "\x1b[31m" + "x" * 9999}).to_bytes(),
    wire.encode({"error": 5}).to_bytes(),
    wire.encode({"error": {"like": ["SystemExit"], "ending": 5}}).to_bytes(),
    wire.encode({"error": {"like": "SystemExit", "ending": "\n\x1b[31mx" * 999}}).to_bytes(),
]


@pytest.mark.parametrize("packet", ANSWERED, ids=lambda one: repr(one[-20:]))
def test_whatever_a_kernel_answers_the_check_fails_with_a_message(packet, the_judge):
    function = wire.encode({"value": len}).to_bytes()
    source = "from firstcnn import check\ncheck.that(check.call('f', f, 1) == 0, 'f(1) is wrong')"
    for fetch in (lambda name: packet, lambda name: function):
        outcome = the_judge.run("a", source, fetch, lambda name, args, timeout: packet)
        assert outcome.status == "failed"
        assert outcome.ename in ("CheckFailed", "NotAnswered")
        assert len(outcome.message) < 450
        assert "\x1b" not in outcome.message


# ---- a judge that fails -----------------------------------------------------------------------


def test_a_judge_that_dies_is_replaced():
    with Judge() as one:
        outcome = one.run("a", "import os\nos._exit(1)", None, None)
        assert (outcome.status, outcome.ename) == ("broken", "JudgeDied")
        assert one.run("b", "1", None, None).partial == 1


def test_a_judge_without_end_is_replaced():
    with Judge(cell_timeout=PATIENCE) as one:
        assert one.run("a", "1", None, None).status == "ok"  # it has started
        one._cell_timeout = 1
        outcome = one.run("a", "while True: pass", None, None)
        assert (outcome.status, outcome.ename) == ("broken", "TimeoutError")
        assert outcome.message == "This check was stopped: it took longer than 1 s."
        one._cell_timeout = PATIENCE
        assert one.run("b", "1", None, None).partial == 1


def test_the_students_time_is_not_the_judges(the_judge, monkeypatch):
    """All calls of a cell together have a limit, and what is beyond it is not called any more."""
    calls, now = [], [0.0]
    # Time that passes in calls alone, however long they and the judge take here.
    clock = SimpleNamespace(monotonic=lambda: now[0])

    def call(name, packet, timeout):
        calls.append(timeout)
        now[0] += 120
        return wire.encode({"value": 1}).to_bytes()

    function = wire.encode({"value": len}).to_bytes()
    source = "from firstcnn import check\nfor _ in range(9):\n    check.call('f', f, 1)"
    monkeypatch.setattr(judge, "time", clock)
    monkeypatch.setattr(the_judge, "_cell_timeout", 300)
    outcome = the_judge.run("a", source, lambda name: function, call)
    assert "the kernel has been busy for 300 s" in words(outcome)
    assert len(calls) == 3
    assert calls == sorted(calls, reverse=True)


def test_an_error_of_the_graders_own_is_not_hidden(the_judge):
    def fetch(name):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        the_judge.run("a", "x", fetch, None)
    assert the_judge.run("a", "1", fetch, None).status == "ok"


def played(*frames):
    """Return a judge whose process is a thread that sends what a broken one might send."""
    ours, its = socket.socketpair()

    def play():
        its.sendall(frame(b'{"ready": true}'))
        judge._Line(its).receive()
        for one in frames:
            its.sendall(one)
        its.close()

    threading.Thread(target=play, daemon=True).start()
    return Judge(lambda: (ours, lambda: None), cell_timeout=PATIENCE)


def frame(text, length=0):
    return judge.struct.pack("<IQ", len(text), length) + text


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"\xff" * 12],
        [frame(b"{}", 2**60)],
        [frame(b"[1]")],
        [frame(b"{")],
        [frame(b"[" * 100_000)],
        [frame(b'{"fetch": "__import__(\'os\')"}')],
        [frame(b'{"fetch": 5}')],
        [frame(b'{"outcome": 5}')],
    ],
)
def test_a_judge_that_sends_nonsense_is_broken(frames):
    outcome = played(*frames).run("a", "1", None, None)
    assert (outcome.status, outcome.ename) == ("broken", "JudgeDied")


def test_a_judge_that_does_not_start_is_no_verdict():
    """Nobody gets no points for that."""
    ours, its = socket.socketpair()
    its.close()
    ended = []
    with pytest.raises(JudgeError, match="did not start"):
        Judge(lambda: (ours, lambda: ended.append(1))).run("a", "1", None, None)
    assert ended == [1]


def test_an_outcome_holds_exact_types_only():
    told = b'{"outcome": {"status": "perfect", "partial": "9", "message": ["a"], "seconds": "x"}}'
    outcome = played(frame(told)).run("a", "1", None, None)
    assert outcome == Outcome("failed", "None", "['a']", None, "None", outcome.seconds, "None")


def test_student_can_be_asked_within_an_event_loop(kernel):
    import asyncio

    async def ask():
        with kernel.student() as student:
            return student.fetch("nothing_of_that_name")

    assert asyncio.run(ask()) is None
