"""The answer bank: read, dealt out, graded by nbgrader, and held against weakened checks."""

import inspect
import random
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import nbformat
import pytest
import typer
from notebooks import ROOT, cell, edit, write_course

from firstcnn import cli
from firstcnn.answers import bank, check_tests, exercises, mutants, rounds, trial
from firstcnn.answers.bank import Answer
from firstcnn.check import values
from firstcnn.course import Course, CourseError

WHOLE = Course(ROOT)


# ---- the bank of the course -------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded():
    """All answers of the course, graded once."""
    found, seconds = trial.try_answers(WHOLE)
    print(f"{len(found)} answers in {seconds:.0f} s")
    return found


def test_every_answer_of_the_course_is_graded_and_told_as_it_should_be(graded):
    faults = [
        f"{one.exercise.lesson} {one.exercise.name}, {one.answer.kind}: {one.answer.label}: {fault}"
        for one in graded
        for fault in one.faults
    ]
    assert faults == []


def test_no_answer_was_left_out(graded):
    tried = {(one.exercise.lesson, one.exercise.name, one.answer.label) for one in graded}
    known = {
        (lesson, exercise.name, answer.label)
        for lesson in WHOLE.lessons
        for exercise in bank.load(WHOLE, lesson)
        for answer in exercise.answers
    }
    assert tried == known
    assert len(known) > 400
    right, accepted, wrong, rejected = trial.counts(graded)
    assert (right, right + wrong) == (accepted, len(known))
    assert rejected == wrong


def test_weakened_checks_of_two_lessons_are_noticed():
    """All eight take minutes: ``firstcnn answers --report``."""
    found = mutants.survey(WHOLE, ["01_convolution", "04_model"], workers=1)
    assert (found.survivors, found.stale, found.faults) == ([], [], [])
    assert len(found.caught) > 150


def test_survivors_are_weakened_checks_that_there_are():
    known = {mutant.name for mutant in mutants.of_library()}
    for lesson in WHOLE.lessons:
        for cell_ in nbformat.read(WHOLE.source(lesson), as_version=4).cells:
            if cell_.metadata.get("nbgrader", {}).get("grade"):
                known |= {one.name for one in mutants.of_cell(lesson, cell_.id, cell_.source)}
    assert set(mutants.reasons(WHOLE)) <= known


# ---- a small course ---------------------------------------------------------------------------

CHECK = """\
from firstcnn import check

check.number("{name}", {name}, {right})
### BEGIN HIDDEN TESTS
check.number("{name}", {name}, {right})
### END HIDDEN TESTS"""

DOUBLE = """\
from firstcnn import check

check.function("double", double, like={(1,): 2})
### BEGIN HIDDEN TESTS
check.function("double", double, like=lambda x: 2 * x, cases=[(3,), (5,)], hint="twice as much.")
### END HIDDEN TESTS"""

BANK = """\
# Answers

## six

The number six.

### right: a number
```python
six = 6
```

### right: a sum
```python
six = ready + 2
```

### right: a float
```python
six = 6.0
```

### wrong: one too many
- says: six is 7
```python
six = 7
```

### wrong: text
- says: not a number
```python
six = "6"
```

### wrong: nothing
- says: six is None
```python
six = None
```

### wrong: another name
- says: there is no six yet
```python
sechs = 6
```

### wrong: the cell stops
- says: there is no six yet
```python
six = 6 / 0
```

## double

A function.

### right: times
```python
def double(x):
    return 2 * x
```

### right: plus
```python
def double(x):
    return x + x
```

### right: a lambda
```python
double = lambda x: x * 2
```

### wrong: the visible case only
- says: twice as much
```python
def double(x):
    return 2
```

### wrong: square
- says: Expected 2
```python
def double(x):
    return x * x
```

### wrong: printed
- says: returns None
```python
def double(x):
    print(2 * x)
```

### wrong: endless
- says: calls itself without end
```python
def double(x):
    return double(x)
```

### wrong: a slip of the pen
- says: NameError
```python
def double(x):
    return 2 * y
```
"""


def exercise_cells(name, stub, check, points):
    return [
        cell("md", f"{name}-exercise", f"### Exercise 1: {name} ({points} points)"),
        cell("answer", f"{name}-answer", f"### BEGIN SOLUTION: {stub}\n{stub}\n### END SOLUTION"),
        cell("check", f"{name}-check", check, points),
    ]


def small_course(root, text=BANK, double=DOUBLE):
    cells = [
        cell("md", "title", "# 1. Small"),
        cell("code", "setup", "ready = 4"),
        cell("code", "unused", "import time\ntime.sleep(0)\nother = ready"),
        *exercise_cells("six", "six = ...", CHECK.format(name="six", right=6), 4),
        *exercise_cells("double", "def double(x): ...", double, 6),
    ]
    write_course(root, one_lesson=nbformat.v4.new_notebook(cells=cells))
    (root / "tests" / "answers").mkdir(parents=True)
    (root / "tests" / "answers" / "one_lesson.md").write_text(text)
    return Course(root)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_course(tmp_path_factory.mktemp("small") / "course")


def test_the_small_bank_is_read(small):
    six, double = bank.load(small, "one_lesson")
    assert (six.name, six.title, six.checks) == ("six", "six", {"six-check": 4})
    assert six.teaches == "The number six."
    assert [answer.kind for answer in six.answers] == ["right"] * 3 + ["wrong"] * 5 + ["blank"]
    assert six.answers[-1].code == "six = ..."
    assert six.answers[1].code == "six = ready + 2"
    assert six.answers[3].says == "six is 7"
    assert double.expected(double.answers[0]) == {"double-check": 6}
    assert double.expected(double.answers[3]) == {"double-check": 0}
    kept = Answer("wrong", "half", "", points={"double-check": 3})
    assert double.expected(kept) == {"double-check": 3}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## six", "## seven", "no section for the exercise six"),
        ("## double", "## six", "a second section six"),
        ("The number six.\n", "", "six does not say what it teaches"),
        ("### right: a sum", "### correct: a sum", "line 12: an answer's heading is"),
        ("### right: a sum", "### right: a number", "two answers labelled 'a number'"),
        ("- says: six is 7\n", "", "'one too many' needs '- says: ...'"),
        ("### right: a float\n", "### right: a float\n- points: six-check 1\n", "gets all points"),
        ("- says: six is 7", "- points: six-check all\n- says: six is 7", "not points"),
        ("- says: six is 7", "- points: other-check 1\n- says: six is 7", "no check other-check"),
        ("- says: six is 7", "- say: six is 7", "expected '- says: ...'"),
        ("### right: a sum\n```python\nsix = ready + 2\n```\n", "", "has 2 right answers, not 3"),
        ("return 2 * y\n```", "return 2 * y", "does not end"),
        ("six = 6\n```\n", "six = 6\n```\nWhy not?\n", "line 11: not expected here: 'Why not?'"),
    ],
)
def test_what_is_wrong_with_a_bank_is_said(tmp_path, old, new, said):
    assert old in BANK
    course = small_course(tmp_path / "course", BANK.replace(old, new, 1))
    with pytest.raises(CourseError, match=re.escape(said)):
        bank.load(course, "one_lesson")


def test_a_missing_bank_is_said(tmp_path):
    course = small_course(tmp_path / "course")
    bank.bank_file(course, "one_lesson").unlink()
    with pytest.raises(CourseError, match=r"tests/answers/one_lesson.md: missing"):
        bank.load(course, "one_lesson")


def test_answers_are_dealt_out_so_that_each_is_tried(small):
    found = bank.load(small, "one_lesson")
    for seed in range(20):
        dealt = rounds.rounds(found, seed)
        assert len(dealt) == 9
        for exercise in found:
            tried = [one[exercise.name].label for one in dealt]
            assert set(tried) == {answer.label for answer in exercise.answers}
    together = {tuple(a.label for a in one.values()) for one in rounds.rounds(found, 1)}
    assert together != {tuple(a.label for a in one.values()) for one in rounds.rounds(found, 2)}


def test_only_what_answers_need_is_run(small, tmp_path):
    release = trial.Desk(small, tmp_path).released("one_lesson")
    found = bank.load(small, "one_lesson")
    six, double = found
    a_sum, times = six.answers[1], double.answers[0]
    made = rounds.notebook(release, {"six": a_sum, "double": times})
    ids = [one.id for one in made.cells]
    assert ids == ["setup", "six-answer", "six-check", "double-answer", "double-check"]
    assert made.cells[1].source == a_sum.code
    made = rounds.notebook(release, {"six": six.answers[0], "double": times})
    assert made.cells[0].id == "six-answer"
    whole = rounds.notebook(release, {"six": a_sum}, whole=True)
    assert [one.id for one in whole.cells] == [one.id for one in release.cells]
    assert whole.cells[-2].source == release.cells[-2].source
    (blank,) = [one.source for one in release.cells if one.id == "six-answer"]
    assert blank == "six = ...", "the release itself must stay as it is"


def test_answers_that_train_share_the_first_rounds(small):
    found = bank.load(small, "one_lesson")
    slow = {"a sum", "text", "square"}
    dealt = rounds.rounds(found, slow=lambda answer: answer.label in slow)
    trained = [any(answer.label in slow for answer in one.values()) for one in dealt]
    assert trained == [True, True] + [False] * 7


@pytest.mark.parametrize(
    ("cells", "answer", "needed"),
    [
        (["a = 1", "b = a", "c = 2"], "x = b", {0, 1}),
        (["a = 1", "a = 2"], "x = a", {1}),
        (["a = []", "a.append(1)", "print(a)"], "x = a", {0, 1}),
        (["a = {}", "a['k'] = 1"], "x = a", {0, 1}),
        (["def f():\n    return g", "g = 1"], "x = f()", {0, 1}),
        (["net = 1", "net.fit(2)", "record = net.fit(3)"], "net.predict()", {0, 1, 2}),
        (["import m", "m.draw(1)"], "x = m.y", {0}),
        (["net = 1", "print(net.count())"], "x = net", {0}),
        (["a = []", "for i in (1, 2):\n    a.append(i)"], "x = a", {0, 1}),
        (["i = 5", "y = [i for i in range(3)]"], "x = i", {0}),
        (["a = 1", "a += 1"], "x = a", {0, 1}),
        (["a = 1"], "not python (", set()),
    ],
)
def test_needed_cells(cells, answer, needed):
    """Functions read their names when they are called: a name bound below them counts."""
    made = [cell("code", f"c{i}", code) for i, code in enumerate(cells)]
    notebook = nbformat.v4.new_notebook(cells=[*made, cell("answer", "x-answer", "x = ...")])
    assert rounds.needed_cells(notebook, [answer]) == {f"c{i}" for i in needed}


def test_a_training_before_exercises_is_done_once():
    cell_of_lesson = (
        "net = build()\nnet.compile('adam')\nrecord = net.fit(x, y, epochs=3)\nprint(1)"
    )
    assert rounds.without_training(cell_of_lesson, "a.weights.h5") == (
        "net = build()\nnet.compile('adam')\nnet.load_weights('a.weights.h5')\nprint(1)"
    )
    for other in (
        "x = 1",
        "net.fit(x)\nnet.fit(y)",
        "for n in nets:\n    n.fit(x)",
        "nets[0].fit(x)",
    ):
        assert rounds.without_training(other, "a.weights.h5") is None


@pytest.fixture(scope="module")
def small_graded(small):
    return trial.try_answers(small, workers=1)[0]


def test_the_small_bank_is_graded_as_it_says(small_graded):
    assert [(one.answer.label, one.faults) for one in small_graded if one.faults] == []
    assert trial.counts(small_graded) == (6, 6, 12, 12)
    messages = {one.answer.label: one.message for one in small_graded}
    assert messages["one too many"].startswith("Not right yet: six is 7")
    assert messages["another name"].startswith("No answer yet: there is no six yet")
    assert messages["no answer"].startswith("No answer yet")
    assert messages["times"] == ""


@pytest.mark.parametrize(
    ("old", "new", "answer", "said"),
    [
        ("double = lambda x: x * 2", "double = lambda x: x * 3", "a lambda", "got double-check 0"),
        ("return x * x", "return x + x", "square", "got double-check 6"),
        ("says: Expected 2", "says: Expected a cube", "square", "does not say 'Expected a cube'"),
    ],
)
def test_a_bank_that_is_not_true_is_found_out(tmp_path, old, new, answer, said):
    course = small_course(tmp_path / "course", BANK.replace(old, new))
    found = mutants.grade_in_process(course, "one_lesson")
    faults = {one.answer.label: one.faults for one in found if one.faults}
    assert list(faults) == [answer]
    assert any(said in fault for fault in faults[answer])


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        # Checks that are wrong: each is found by an answer, which the report names.
        (DOUBLE.replace("[(3,), (5,)]", "[(1,)]"), "the visible case only", "got double-check 6"),
        (DOUBLE.replace("2 * x", "x * x"), "times", "got double-check 0"),
        (
            DOUBLE.replace("check.function", "import sys; sys.stderr.write('x')\ncheck.function"),
            "plus",
            "wrote to stderr",
        ),
        (DOUBLE.replace("twice as much.", "long " * 200), "the visible case only", "characters"),
        (
            DOUBLE.replace('check.function("double", double, like={', "double(1)\nx = ({"),
            "a slip of the pen",
            "an error of its own",
        ),
        (
            "from firstcnn import check\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS\n"
            'check.that(check.call("double", double, 7) == 14, "No.")',
            "the visible case only",
            "does not name what the student has",
        ),
    ],
)
def test_a_check_that_is_wrong_is_found_out(tmp_path, check, answer, said):
    course = small_course(tmp_path / "course", double=check)
    found = mutants.grade_in_process(course, "one_lesson")
    faults = {one.answer.label: one.faults for one in found if one.faults}
    assert answer in faults
    assert any(said in fault for fault in faults[answer]), faults[answer]


def test_any_for_all_turns_the_run_of_nbgrader_red(tmp_path, capsys, monkeypatch):
    """The report names the answer that shows it."""
    right = "check.that(all([double(1) == 2, double(5) == 10]), 'double is wrong')"
    text = f"from firstcnn import check\n\n{right}\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"
    course = small_course(tmp_path / "course", double=text.replace("all(", "any("))
    monkeypatch.chdir(course.root)
    with pytest.raises(typer.Exit):
        cli.answers(["one_lesson"], only=["double"], workers=1)
    said = capsys.readouterr().out
    assert "FAULT one_lesson double, wrong: the visible case only\ngot double-check 6" in said


def test_nothing_leaks_from_one_submission_to_the_next(small, tmp_path):
    """A notebook that spoils all it can reach is graded before one that would notice."""
    desk = trial.Desk(small, tmp_path)
    release = desk.released("one_lesson")

    def submission(six):
        answers = {
            "six": Answer("", "", six),
            "double": Answer("", "", "def double(x): return 2*x"),
        }
        return rounds.notebook(release, answers)

    spoil = (
        "import os, random, sys, numpy as np, keras, firstcnn.check.values as v\n"
        "v._same = lambda *a: True; np.array = None; keras.left = 1\n"
        "keras.config.set_floatx('float16'); random.seed(1); np.random.seed(1)\n"
        "os.environ['LEFT'] = '1'; open('left.txt', 'w').write('1'); six = 6\n"
        "keras.ops.ones(3) + 1"
    )
    look = (
        "import os, random, numpy as np, keras\n"
        "clean = not (hasattr(keras, 'left') or 'LEFT' in os.environ or np.array is None)\n"
        "clean = clean and keras.config.floatx() == 'float32' and not os.path.exists('left.txt')\n"
        "random.random() == 0.13436424411240122 or np.random.rand() == 0.417022004702574\n"
        "six = 6 if clean else 7"
    )
    chance = "import random, numpy as np\nsix = 6\nprint(random.random(), np.random.rand())"
    work = {"a": spoil, "b": look, "c": chance, "d": chance, "e": "six = 7"}
    graded = desk.grade("one_lesson", {name: submission(six) for name, six in work.items()})
    points = {name: graded[name][0]["six-check"] for name in work}
    assert points == {"a": 4, "b": 4, "c": 4, "d": 4, "e": 0}
    printed = [
        one.outputs[0].text
        for name in "cd"
        for one in graded[name][1].cells
        if one.metadata.get("nbgrader", {}).get("grade_id") == "six-answer"
    ]
    assert printed[0] != printed[1], "kernels that share their chance are not independent"


# ---- weakened checks --------------------------------------------------------------------------


def survey(course):
    faults, caught = mutants._try_lesson(course.root, "one_lesson", [])
    assert faults == []
    return caught


def test_each_weakened_check_is_tried(tmp_path):
    caught = survey(small_course(tmp_path / "course"))
    first = "one_lesson double-check: without check.function('double', double, like={(1,): 2})"
    assert caught[first]  # 'square' would no longer be told that 2 was expected
    assert caught["one_lesson double-check: 'double' with its first case only"] is None
    hidden = [name for name in caught if "without check.function" in name and "lambda" in name]
    assert [caught[name] for name in hidden] == ["one_lesson double, the visible case only"]


def test_survivors_are_excused_by_name_and_with_a_reason(tmp_path):
    course = small_course(tmp_path / "course")
    name = "one_lesson double-check: 'double' with its first case only"
    before = mutants.survey(course, ["one_lesson"], workers=1)
    assert name in before.survivors
    assert not before.good
    listed = "".join(f"- `{one}`\n" for one in before.survivors)
    mutants.survivors_file(course).write_text(f"# Survivors\n\nOne case\nis enough.\n\n{listed}")
    after = mutants.survey(course, ["one_lesson"], workers=1)
    assert after.good
    assert after.excused[name] == "One case is enough."
    caught = next(iter(after.caught))
    mutants.survivors_file(course).write_text(f"Gone.\n\n{listed}- `{caught}`\n")
    assert mutants.survey(course, ["one_lesson"], workers=1).stale == [caught]
    mutants.survivors_file(course).write_text(listed)
    with pytest.raises(CourseError, match="no reason for, or twice"):
        mutants.reasons(course)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ('check.that(x.all(), "")', ["without check.that(x.all(), '')", "any for x.all()"]),
        ("a = b and c", ["without 'and' b", "without 'and' c"]),
        ("a = b < 1", ["opposite of b < 1"]),
        ('check.array("a", a, shape=(2,), hint="h")', 2),
        ('check.number("a", a, equals=1, slips={2: "two", 3: "three"})', 3),
        ('check.accuracy("m", m, x, y, at_least=0.9)', 2),
        ('check.function("f", f, like={(1,): 2, (3,): 4})', 2),
        ('check.function("f", f, like=g, cases=[(1,)], dtype="float")', 3),
        ("x = helper(1)", []),
    ],
)
def test_what_is_weakened_in_a_cell(source, changes):
    found = mutants.of_cell("lesson", "cell", source)
    assert all(mutant.source != source for mutant in found)
    if isinstance(changes, int):
        assert len(found) == changes
    else:
        assert [mutant.change for mutant in found] == changes


def test_the_source_of_what_a_cell_defines_can_be_read_as_in_a_notebook():
    names = {}
    mutants._execute("double = lambda x: 2 * x\n", names)
    assert inspect.getsource(names["double"]) == "double = lambda x: 2 * x\n"


def test_the_librarys_mutants_are_functions_that_compile():
    found = mutants.of_library()
    assert len(found) > 150
    assert len({mutant.name for mutant in found}) == len(found)
    for mutant in random.Random(0).sample(found, 20):
        with mutants._installed(mutant):
            pass


def test_weakened_functions_that_no_answer_meets_are_tried_on_their_own_tests():
    """More than one, as pytest is run several times in the process."""
    empty = "models.history: without fail(f'{name} is empty: fit did not run to its end.', hint)"
    order = "functions._compare: opposite of expected is not None"
    same = mutants.Mutant("values.number", "the same", inspect.getsource(values.number))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        caught = pool.submit(mutants._try_tests, WHOLE.root, [empty, order]).result()
        assert caught[empty] == "tests/test_check_models.py::test_histories_of_both_kinds"
        assert caught[order].startswith("tests/test_check.py::")
        assert pool.submit(first_failure_with, same).result() is None


def first_failure_with(mutant):
    with mutants._installed(mutant):
        return check_tests.first_failure(WHOLE.root)


def test_tests_that_cannot_be_run_catch_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="do not run"):
        check_tests.first_failure(tmp_path)


# ---- the page of exercises --------------------------------------------------------------------


def test_the_page_names_every_exercise_and_mistake(tmp_path):
    course = small_course(tmp_path / "course")
    assert exercises.verify(course) != []
    (course.root / "docs").mkdir()
    exercises.write(course)
    assert exercises.verify(course) == []
    text = exercises.exercises_file(course).read_text()
    assert "| 1. Small | 2 | 10 | 6 | 12 |" in text
    assert "`double-answer`, 6 points." in text
    assert "- the visible case only" in text
    edit(course.source("one_lesson"), "double-exercise", "double", "twofold")
    assert any("Twofold" in line for line in exercises.verify(course))
