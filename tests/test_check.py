"""Every check is tried with right answers of several kinds and with wrong ones."""

import sys
import warnings

import numpy as np
import pytest

from firstcnn import check
from firstcnn.check.functions import Remote, RemoteError
from firstcnn.check.outcome import LONGEST_MESSAGE

SEALED_784 = check.sealed(check.seal(784))


def message(call, *args, kind=check.CheckFailed, **kwargs):
    """Return what a student reads when a check fails, and hold it to the rules for messages."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert caught.type is kind
    text = str(caught.value)
    assert 10 < len(text) <= LONGEST_MESSAGE + 10
    return text


# --- how a check ends


def test_a_passed_check_prints_one_line_on_stdout_and_returns_nothing(capsys):
    assert check.number("n", 3, 3) is None
    assert check.array("a", np.ones(3), shape=(3,)) is None
    out, err = capsys.readouterr()
    assert out == "Correct: n is right.\nCorrect: a is right.\n"
    assert err == ""


def test_a_notebook_shows_the_message_alone_within_the_width_that_validate_shows():
    with pytest.raises(check.CheckFailed) as caught:
        check.number("n", 3, 4, hint="look " * 60)
    lines = caught.value._render_traceback_()
    assert lines[0] == "Not right yet: n is 3, and that is not it. Expected 4."
    assert lines[1].startswith("Hint: look look")
    assert max(map(len, lines)) <= 80
    assert not any("File" in line or "line " in line for line in lines)


def test_ipython_really_shows_the_message_alone(tmp_path):
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    notebook = new_notebook(
        cells=[
            new_code_cell("from firstcnn import check\ncheck.number('n', 3, 4)"),
            new_code_cell("check.number('n', ..., 4)"),
        ]
    )
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    (wrong,), (blank,) = (cell.outputs for cell in notebook.cells)
    assert wrong.traceback == ["Not right yet: n is 3, and that is not it. Expected 4."]
    assert blank.traceback == [
        "No answer yet: replace the dots in the cell above with your n, and run it."
    ]


def test_a_long_value_does_not_push_out_the_hint():
    text = message(check.choice, "c", "x" * 5000, ["a", "b" * 300], "a")
    assert "c is 'xxx" in text
    text = message(check.that, False, "m" * 1000, hint="look here")
    assert text.endswith("...\nHint: look here")


@pytest.mark.parametrize("nothing", [..., NotImplemented, None])
@pytest.mark.parametrize(
    "attempt",
    [
        lambda value: check.number("x", value, 1),
        lambda value: check.shape("x", value, (1,)),
        lambda value: check.choice("x", value, ["a"], "a"),
        lambda value: check.choices("x", value, ["a"], ["a"]),
        lambda value: check.array("x", value, shape=(1,)),
        lambda value: check.function("x", value, like={(1,): 1}),
        lambda value: check.model("x", value),
        lambda value: check.compiled("x", value),
        lambda value: check.accuracy("x", value, np.ones((1, 2)), np.ones(1), at_least=0.5),
        lambda value: check.history("x", value),
    ],
)
def test_no_answer_is_told_apart_from_a_wrong_one(attempt, nothing):
    text = message(attempt, nothing, kind=check.NotAnswered)
    assert "x" in text


def test_that_needs_a_single_truth_value():
    check.that(True, "m")
    check.that(np.bool_(True), "m")
    assert message(check.that, False, "what is wrong") == "what is wrong"
    assert message(check.that, np.bool_(False), "what is wrong") == "what is wrong"
    for value in (np.array([True, False]), 1, "yes", None):
        with pytest.raises(TypeError, match="needs True or False"):
            check.that(value, "m")


# --- values


@pytest.mark.parametrize(
    "right", [784, 784.0, np.int64(784), np.float32(784), np.array(784), np.array([784])]
)
@pytest.mark.parametrize("expected", [784, 784.0, SEALED_784])
def test_numbers_of_every_kind_are_right(right, expected):
    check.number("n", right, expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (783, "n is 783, and that is not it"),
        (78.4, "n is 78.4, and that is not it"),
        (-784, "n is -784"),
        (100_352, "n is 100 352"),
        (True, "n is True, which is not a number"),
        ("784", "n is '784', which is not a number"),
        ([784, 1], "n is [784, 1]. Give a single number"),
        (np.ones(3), "an array of shape (3,) and dtype float64. Give a single number"),
        (784j, "Give a single number"),
        (float("nan"), "n is nan, which is not a finite number"),
        (np.inf, "n is inf"),
        (object(), "a object. Give a single number"),
        (print, "the function print. Give a single number"),
    ],
)
@pytest.mark.parametrize("expected", [784, SEALED_784])
def test_wrong_numbers_say_what_the_student_has(wrong, said, expected):
    text = message(check.number, "n", wrong, expected, hint="count the pixels.")
    assert said in text
    assert text.endswith("Hint: count the pixels.")


def test_only_an_open_answer_is_named():
    assert "784" in message(check.number, "n", 3, 784)
    assert "784" not in message(check.number, "n", 3, SEALED_784)


def test_a_slip_says_what_went_wrong():
    slips = {785: "One too many.", check.sealed(check.seal(28)): "That is one side."}
    assert message(check.number, "n", 785, SEALED_784, slips=slips).endswith("One too many.")
    assert message(check.number, "n", 28, 784, slips=slips).endswith("That is one side.")


@pytest.mark.parametrize(("value", "right"), [(0.985, True), (0.9855, True), (0.99, False)])
def test_tolerance_is_absolute(value, right):
    if right:
        check.number("p", value, 0.985, tolerance=0.001)
    else:
        message(check.number, "p", value, 0.985, tolerance=0.001)


def test_seals_tell_values_apart_and_nothing_more():
    assert check.seal(27) != check.seal(-27) != check.seal(2.7)
    assert check.seal((28, 28, 1)) != check.seal((28, 1, 28))
    assert check.seal("A  flat Line") == check.seal("a flat line")
    assert check.seal({"a", "b"}) == check.seal(frozenset(["b", "a"])) != check.seal({"a"})
    with pytest.raises(ValueError, match="12 hexadecimal digits"):
        check.sealed("abc")


@pytest.mark.parametrize(
    "right", [(None, 28, 1), [None, 28, 1], (None, np.int64(28), 1)], ids=["tuple", "list", "numpy"]
)
@pytest.mark.parametrize("expected", [(None, 28, 1), check.sealed(check.seal((None, 28, 1)))])
def test_shapes_of_every_kind_are_right(right, expected):
    check.shape("s", right, expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((28, 28), "3 axes are expected, and yours has 2"),
        ((1, 28, 24), "The numbers are right, their order is not"),
        ((24, 28, 3), "s is (24, 28, 3), and that is not it"),
        ((24.0, 28, 1), "A shape holds whole numbers only. To divide whole numbers"),
        (("24", 28, 1), "A shape holds whole numbers only"),
        ({24, 28, 1}, "A shape is a tuple"),
        ({"rows": 24}, "A shape is a tuple"),
        (map(int, "281"), "s is a map. A shape is a tuple"),
        ("(24, 28, 1)", "A shape is a tuple"),
        (28, "s is 28. A shape is a tuple"),
    ],
)
def test_wrong_shapes(wrong, said):
    assert said in message(check.shape, "s", wrong, (24, 28, 1))


def test_choices_and_a_choice():
    check.choice("c", " RELU ", ["relu", "softmax"], check.sealed(check.seal("relu")))
    assert "not it" in message(check.choice, "c", "softmax", ["relu", "softmax"], "relu")
    assert "not one of" in message(check.choice, "c", "tanh", ["relu", "softmax"], "relu")
    assert 'one of these as text: "a", "b"' in message(check.choice, "c", 1, ["a", "b"], "a")
    for right in ({"a", "b"}, ["b", "a"], ("A", "b", "a")):
        check.choices("c", right, "abc", ["a", "b"])
        check.choices("c", right, "abc", check.sealed(check.seal({"a", "b"})))
    check.choices("c", "a", "abc", ["a"])
    for wrong, said in [
        ({"a"}, "not the right selection"),
        ({"a", "b", "c"}, "not the right selection"),
        ({"a", "d"}, "'d', which is not one of"),
        ([1], "Give a set of these"),
        (3, "Give a set of these"),
    ]:
        assert said in message(check.choices, "c", wrong, "abc", ["a", "b"])
    slips = {check.sealed(check.seal({"a", "c"})): "Not c.", "bc": "Not c either."}
    for wrong, said in [(["C", "a"], "Not c."), ({"b", "c"}, "Not c either."), ("a", "right sel")]:
        assert said in message(check.choices, "c", wrong, "abc", ["a", "b"], slips=slips)


# --- arrays

WANT = np.arange(6, dtype=np.float32).reshape(2, 3) + 1


def right_arrays():
    import keras

    yield WANT
    yield WANT.astype(np.float64)
    yield keras.ops.convert_to_tensor(WANT)
    yield np.asfortranarray(WANT)
    yield WANT + 1e-7


@pytest.mark.parametrize("right", list(right_arrays()), ids=str)
def test_right_arrays_of_every_kind(right):
    check.array("a", right, dtype="float", shape=(2, None), between=(0, 7), equals=WANT)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (WANT.tolist(), "It should be a NumPy array"),
        (3.0, "It should be a NumPy array"),
        ("array", "It should be a NumPy array"),
        (np.array(["a"]), "dtype <U1"),
        (WANT.astype(int), "a has dtype int64. Expected float"),
        (WANT.ravel(), "a has 1 axis, shape (6,). Expected shape (2, 3)"),
        (WANT.sum(), "a is one number, 21.0. Expected an array of shape (2, 3)"),
        (WANT[None], "a has 3 axes, shape (1, 2, 3). Expected shape (2, 3)"),
        (WANT.T, "shape (3, 2). Expected shape (2, 3).\nHint: The axes are in the wrong order"),
        (WANT.reshape(3, 2)[:2].repeat(2, 1)[:, :3], "values are not right"),
        (np.where(WANT > 5, np.nan, WANT), "holds 1 values that are nan"),
        (WANT[::-1], "in reverse order along axis 0"),
        (WANT[:, ::-1], "in reverse order along axis 1"),
        (WANT.reshape(3, 2).T, "the right values in the wrong places"),
        (WANT * 255, "All your values are 255 times the expected ones"),
        (WANT / 255, "All your values are the expected ones divided by 255"),
        (WANT * 0, "All your values are 0"),
        (WANT + 2, "All your values are off by +2"),
        (np.where(WANT == 4, 5, WANT), "1 of its 6 values are not right. a[1, 0] is 5, expected 4"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_diagnosed(wrong, said):
    assert said in message(check.array, "a", wrong, dtype="float", equals=WANT)


@pytest.mark.parametrize("wrong", [np.array([["1", "2"]]), np.array([[1, 2]], object), 1j * WANT])
def test_only_real_numbers_are_compared(wrong):
    said = f"a has dtype {wrong.dtype}. It should hold real numbers."
    assert said in message(check.array, "a", wrong, equals=[[1, 2]])
    with_function = message(check.function, "f", lambda x: wrong, like=lambda x: x, cases=[(WANT,)])
    assert "Expected an array of shape (2, 3)" in with_function


def test_one_wrong_value_among_many_is_enough():
    want = np.zeros((60, 60))
    have = want.copy()
    have[17, 3] = 1e-3
    assert "1 of its 3,600 values" in message(check.array, "a", have, equals=want)


def test_swapped_square_arrays_and_lost_decimals():
    square = np.array([[1.4, 2.3], [3.2, 4.1]])
    assert "Rows and columns are swapped" in message(check.array, "a", square.T, equals=square)
    assert "lost their decimals" in message(check.array, "a", np.trunc(square), equals=square)


def test_a_single_value_has_no_pattern():
    text = message(check.array, "a", np.array([1]), equals=[0], hint="Look.")
    assert text.endswith("a[0] is 1, expected 0.\nHint: Look.")


def test_dtypes_and_ranges():
    check.array("a", np.ones(2, np.uint8), dtype=("uint8", "float"))
    assert "float64. Expected float32" in message(check.array, "a", np.ones(2), dtype="float32")
    assert "runs from 0 to 255. All its values should be between 0 and 1" in message(
        check.array, "a", np.array([0.0, 255.0]), between=(0, 1)
    )
    assert "runs from -1" in message(check.array, "a", np.array([-1.0, 1]), between=(0, 1))


# --- functions


def half(x):
    return x / 2


def recursive(x):
    return recursive(x)


def in_place(x):
    x *= 2
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x, "f(3) returns 3. Expected 1.5"),
        (lambda x: "1.5", "f(3) returns '1.5'. Expected a number"),
        (lambda x: [x / 2], "f(3) returns [1.5]. Expected a number"),
        (lambda x: np.array([x / 2]), "Expected a number"),
        (lambda x: float("nan"), "f(3) returns nan. Expected 1.5"),
        (lambda: 1, "f(3) stops with TypeError"),
        (lambda x: 1 / 0, "f(3) stops with ZeroDivisionError: division by zero"),
        (lambda x: unknown, "NameError: name 'unknown' is not defined"),  # noqa: F821
        (recursive, "calls itself without end"),
        (1.5, "f is 1.5. It should be a function"),
        (lambda x: 1.5, "f(4) returns 1.5. Expected 2"),
    ],
)
def test_wrong_functions(function, said):
    assert said in message(check.function, "f", function, like=half, cases=[(3,), (4,)])


@pytest.mark.parametrize("blank", [lambda x: ..., lambda x: NotImplemented, lambda x: None])
def test_a_function_that_is_not_written_yet(blank):
    message(check.function, "f", blank, like=half, cases=[(3,)], kind=check.NotAnswered)


def test_not_implemented_error_is_no_answer():
    def blank(x):
        raise NotImplementedError

    message(check.function, "f", blank, like=half, cases=[(3,)], kind=check.NotAnswered)


def test_right_functions_and_every_kind_of_answer(capsys):
    for function in (half, lambda x: np.float64(x) / 2, lambda x: np.asarray(x) / 2):
        check.function("f", function, like=half, cases=[(3,), {"x": 4}])
    check.function("f", half, like={(4,): 2.0, (5,): 2.5})
    for answer in (True, "text", (1, 2), {"a": 1}, np.ones((2, 2)), None, [1.0, 2.0]):
        check.function("f", lambda x, answer=answer: answer, like={(1,): answer})
    assert capsys.readouterr().out.startswith("Correct: f answers 2 calls as it should.")


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        ("b", "a", "returns 'b'. Expected 'a'"),
        (1, True, "Expected True"),
        (1, None, "Expected None"),
        ((1,), (1, 2), "returns 1 values. Expected 2"),
        ((1, 3), (1, 2), "value 1 of f(0) returns 3. Expected 2"),
        (3, (1, 2), "Expected a tuple of 2"),
        ((2, 1), (1, 2), "the right values, but they have changed places"),
        ((WANT + 1, WANT), (WANT, WANT + 1), "they have changed places"),
        ((2, 2), (1, 2), "value 0 of f(0) returns 2. Expected 1"),
        (("b", "a"), ("a", "b"), "value 0 of f(0) returns 'b'. Expected 'a'"),
        ({"a": 2}, {"a": 1}, "f(0)['a'] returns 2. Expected 1"),
        ({"b": 1}, {"a": 1}, "Expected a dict with 'a'"),
        (WANT.T, WANT, "Are rows and columns swapped?"),
        (WANT * 2, WANT, "All your values are 2 times the expected ones"),
        (np.ones(3), 1.0, "Expected a number"),
    ],
)
def test_wrong_answers_of_every_kind(answer, expected, said):
    assert said in message(check.function, "f", lambda x: answer, like={(0,): expected})


def test_a_function_must_not_change_what_it_was_given():
    array = np.ones(3)
    text = message(check.function, "f", in_place, like=lambda x: x * 2, cases=[(array,)])
    assert "changes the array it was given" in text
    assert (array == 1).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given["a"].sort(),
        lambda given: given["a"].append(0),
        lambda given: given.pop("a"),
        lambda given: given.update(b=1),
        lambda given: given.update(a=None),
        lambda given: given.update(a=np.ones(2)),
    ],
)
def test_a_function_must_not_change_a_dict_or_list_either(change):
    def f(given):
        change(given)
        return 1

    text = message(check.call, "f", f, {"a": [float("nan"), 2.0, 1.0]})
    assert "changes what it was given" in text
    assert check.call("f", lambda given: 1, {"a": [float("nan"), "b", 1]}) == 1


def test_the_dtype_of_an_answer():
    cases = [(np.ones(2, np.float32),)]
    check.function("f", half, like=half, cases=cases, dtype="float32")
    text = message(
        check.function,
        "f",
        lambda x: half(x).astype(float),
        like=half,
        cases=cases,
        dtype="float32",
    )
    assert "float64. Expected float32" in text


def test_a_function_check_without_cases_is_the_authors_mistake():
    with pytest.raises(ValueError, match="at least one case"):
        check.function("f", half, like=half, cases=[])
    with pytest.raises(ValueError, match="at least one case"):
        check.function("f", half, like=half)


def test_call_returns_the_answer_and_hands_out_copies():
    given = np.ones(2)
    assert check.call("f", lambda x, y=1: (x.sum(), y), given, y=3) == (2.0, 3)


def test_a_warning_in_a_students_function_does_not_reach_stderr(capfd, recwarn):
    def noisy(x):
        warnings.warn("Do not pass an input_shape", stacklevel=2)
        print("100 % |#####|", file=sys.stderr)
        return np.log(x)

    assert check.call("f", noisy, np.zeros(1)) == -np.inf
    assert not recwarn.list
    assert capfd.readouterr().err == ""


def test_an_error_names_the_students_line(tmp_path):
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    code = "def f(x):\n    y = x + 1\n    return y[0]"
    test = "from firstcnn import check\ncheck.function('f', f, like={(1,): 2})"
    notebook = new_notebook(cells=[new_code_cell(code), new_code_cell(test)])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    shown = " ".join(notebook.cells[1].outputs[0].traceback)
    assert "f(1) stops with TypeError" in shown
    assert "(line 3 of your cell: return y[0])" in shown


def test_the_students_line_is_found_however_the_kernel_names_its_cells():
    for name in ("<ipython-input-3-abc>", "/tmp/ipykernel_7/12.py"):
        names = {}
        exec(compile("def f(x):\n    return x / 0", name, "exec"), names)
        assert "(line 2 of your cell" in message(check.call, "f", names["f"], 1)
    exec(compile("def f(x):\n    return x / 0", "/usr/lib/some.py", "exec"), names)
    assert "of your cell" not in message(check.call, "f", names["f"], 1)


def test_a_long_error_is_cut_and_a_short_one_is_not():
    def f(length):
        raise ValueError("a" * length)

    assert "a" * 140 in message(check.call, "f", f, 140)
    cut = message(check.call, "f", f, 141)
    assert "a" * 137 + "..." in cut
    assert "a" * 138 not in cut


def test_what_a_check_inside_a_function_says_is_what_is_said():
    def f():
        raise check.CheckFailed("the words of the one that knows")

    assert message(check.call, "f", f) == "the words of the one that knows"


def test_an_error_of_a_function_in_another_process_is_told():
    class Far(Remote):
        def run(self, args, kwargs):
            raise RemoteError("stops with ValueError: no")

    assert message(check.call, "f", Far(), 1) == "f(1) stops with ValueError: no"


def test_a_return_that_is_missing_in_one_way_through_is_no_blank():
    def f(x):
        return 1 if x < 2 else None

    text = message(check.function, "f", f, like=lambda x: 1, cases=[(1,), (2,)])
    assert text == "f(2) returns None. Does every way through the function end in return?"


def test_arguments_by_name_and_inside_a_list_are_not_to_be_changed_either():
    text = message(check.call, "f", lambda x: x.sort(), x=np.array([2.0, 1.0]))
    assert "changes the array it was given" in text

    def f(given):
        given[0] = np.zeros(2)

    assert "changes what it was given" in message(check.call, "f", f, [1, 2])
    assert check.call("f", lambda x: 1, np.array([np.nan, 1.0])) == 1


def test_what_is_expected_of_a_dict_a_shape_and_a_number():
    text = message(check.function, "f", lambda: ["a"], like=lambda: {"a": 1}, cases=[()])
    assert text == "f() returns ['a']. Expected a dict with 'a'."
    text = message(check.function, "f", lambda: WANT[:, :2], like=lambda: WANT, cases=[()])
    assert text.endswith("Expected shape (2, 3).")
    check.function("f", lambda: 1, like=lambda: 1.0, cases=[()], dtype="float")


def test_an_array_that_cannot_be_read_an_empty_one_and_another_shape():
    class Broken:
        shape = dtype = 1

        def __array__(self, *args, **kwargs):
            raise ValueError("no")

        def __repr__(self):
            return "Broken"

    Broken.shape = (2,)
    assert "cannot be read as a NumPy array" in message(check.array, "a", Broken(), equals=[1, 2])
    check.array("a", np.zeros((0, 2)), shape=(None, 2), between=(0, 1))
    assert "wrong order" not in message(check.array, "a", np.ones((2, 4)), equals=WANT)


def test_no_factor_is_named_where_there_is_none():
    almost_nothing = message(check.array, "a", np.array([0, 0, 1e-6]), equals=np.ones(3))
    assert almost_nothing.endswith("All your values are off by -1.")
    almost_right = message(check.array, "a", WANT * 1.00005, equals=WANT)
    assert "times" not in almost_right


def test_things_are_described_as_what_they_are():
    class Shaped:
        shape = (2,)

    described = check.outcome.describe
    assert described(np.array(3)) == "3"
    assert described(Shaped()) == "a Shaped"
    assert described(np) == "a module"
    assert described(half) == "the function half"


def test_text_in_an_array_is_no_number():
    assert "Give a single number" in message(check.number, "n", np.array(["3"]), 3)


def test_hints_of_a_check_of_shapes_fit_what_is_wrong():
    assert "//" not in message(check.shape, "s", (28, "28"), (28, 28))
    text = message(check.shape, "s", (28,), (28, 28), hint="Two axes.")
    assert text.endswith("Hint: Two axes.")
