"""A report tells what the gradebook and the autograded notebooks hold, and changes neither."""

import csv
import hashlib
import io
import math
import os
import shutil
import stat
import sys
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from nbgrader_course import NbgraderCourse
from notebooks import cell, exercise, lesson, write_course
from sqlalchemy import text
from typer.testing import CliRunner

from firstcnn import cli
from firstcnn.course import CourseError
from firstcnn.reports import files, gradebook, platforms, statistics, tables
from firstcnn.reports.messages import Group, grouped, pattern
from firstcnn.reports.page import page
from firstcnn.reports.survey import survey

# ---- numbers ------------------------------------------------------------------------------------

# Ten students: five have the exercise right. The others' points of the rest are known.
RIGHT = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
REST = [5, 4, 4, 3, 4, 2, 1, 1, 0, 1]


def total(item, rest):
    return [x + r for x, r in zip(item, rest, strict=True)]


def test_discrimination_is_the_point_biserial_correlation_with_the_rest():
    # Means of the rest 4 and 1, its variance 26.5 / 10, half of them right:
    # (4 - 1) / sqrt(2.65) * sqrt(0.5 * 0.5).
    by_hand = 1.5 / math.sqrt(2.65)
    assert statistics.discrimination(RIGHT, total(RIGHT, REST)) == pytest.approx(by_hand)
    wrong_way = [1 - x for x in RIGHT]
    found = statistics.discrimination(wrong_way, total(wrong_way, REST))
    assert found == pytest.approx(-by_hand)


def test_discrimination_of_partial_points():
    item = [0, 0, 1, 1, 2, 2, 2, 0, 1, 1]  # mean 1, sum of squares 6
    rest = [1, 3, 2, 2, 3, 3, 2, 1, 1, 2]  # mean 2, sum of squares 6
    # Sum of products of the differences: 1 - 1 + 0 + 0 + 1 + 1 + 0 + 1 + 0 + 0.
    assert statistics.discrimination(item, total(item, rest)) == pytest.approx(3 / 6)


@pytest.mark.parametrize(
    ("item", "rest"),
    [
        ([1] * 10, REST),  # everybody has it
        ([0] * 10, REST),  # nobody has it
        (RIGHT, [3] * 10),  # the rest tells nobody apart
        ([0.1 + 0.2, 0.3] * 5, REST),  # equal but for the last binary digit
        (RIGHT[:9], REST[:9]),  # too few
        ([], []),
    ],
)
def test_discrimination_is_not_defined(item, rest):
    assert statistics.discrimination(item, total(item, rest)) is None


def test_difficulty_is_the_share_of_points_earned():
    assert statistics.difficulty([2, 1, 0, 0], 2) == pytest.approx(3 / 8)
    assert statistics.difficulty([], 2) is None
    assert statistics.difficulty([0], 0) is None


def test_quartiles_are_interpolated():
    found = statistics.summary([0, 1, 2, 9])
    quartiles = (found.lower_quartile, found.median, found.upper_quartile)
    assert quartiles == (0.75, 1.5, 3.75)
    assert (found.lowest, found.mean, found.highest) == (0, 3, 9)
    assert statistics.summary([]) is None


def test_histogram_counts_tenths_and_full_marks():
    scores = [0, 0.3, 0.69, 0.7, 2.9, 3, 3.5, -1]
    assert statistics.histogram(scores, 3) == [2, 1, 2, 0, 0, 0, 0, 0, 0, 1, 2]
    assert statistics.histogram([0.7], 1)[7] == 1  # 0.7 / 0.1 is 6.999...


# ---- messages -----------------------------------------------------------------------------------

SAME = [
    ("x is 4, and that is not it. Expected 3.", "x is -4.5e-3, and that is not it. Expected 3."),
    ("y is [1, 2, 3].", "y is [[1 2]\n [3 4]]."),
    ("y is [1, 2, 3].", "y is []."),
    ("y has shape (10,).", "y has shape (2, (3, 4), 5)."),
    ("n is 18 050. No.", "n is 7. No."),
    ("z is nan.", "z is 12."),
    ("dtype float32", "dtype float64"),
    ("there is no 'a'", "there is no 'another name'"),
    ('has activation="relu"', 'has activation="softmax"'),
    ("f is the function mine", "f is the function yours"),
    ("values 1, 2, 3 are wrong", "values 7 are wrong"),
    ("x is 4.\nHint: look at line 3.", "x is 5.\nHint: elsewhere."),
]
DIFFERENT = [
    ("Not right yet: x is 4.", "No answer yet: x is 4."),
    ("x is 4.", "y is 4."),
    ("x is a list.", "x is an array."),
    ("Keras' layers don't add", "Keras' weights don't add"),
    ("x is None.", "x is 3."),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_messages_fall_together(one, other):
    assert pattern(one) == pattern(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_messages_stay_apart(one, other):
    assert pattern(one) != pattern(other)


def test_a_group_shows_what_was_heard_most_and_counts_students():
    heard = [("a", "x is 1."), ("b", "x is 2."), ("c", "x is 2."), ("a", "x is 5."), ("a", "No.")]
    assert grouped(heard) == [Group("x is 2.", 3), Group("No.", 1)]


# ---- a class, made by hand ----------------------------------------------------------------------

HEADINGS = ["## Exercise 1: add it up (3 points)", "## Exercise 2, a stretch: the end (2 points)"]


def small():
    """Return a lesson: one exercise in two parts, of 1 and 2 points, and one of 2 points."""
    first, second = exercise("sum", 1, 5), exercise("end", 2, 6)
    first[1]["id"] = first[1].metadata.nbgrader.grade_id = "sum-few-check"
    many = cell("check", "sum-many-check", "pass", 2)
    cells = [cell("md", "one", HEADINGS[0]), *first, many]
    return nbformat.v4.new_notebook(cells=[*cells, cell("md", "two", HEADINGS[1]), *second])


CHECKS = {"sum-few-check": 1, "sum-many-check": 2, "end-check": 2}


class HandMade:
    """A course whose gradebook and autograded notebooks are written by hand."""

    def __init__(self, root, empty):
        self.root = write_course(root, small=small())
        self.url = f"sqlite:///{root / 'gradebook.db'}"
        shutil.copy(empty, root / "gradebook.db")
        with self.open() as book:
            self.add_lesson(book, "small", CHECKS)

    def open(self):
        return Gradebook(self.url, "first-cnn")

    @staticmethod
    def add_lesson(book, name, checks):
        book.add_assignment(name)
        book.add_notebook(name, name)
        for check, points in checks.items():
            book.add_grade_cell(check, name, name, max_score=points, cell_type="code")

    def student(self, name, **more):
        with self.open() as book:
            book.update_or_create_student(name, **more)

    def submit(self, name, points, *, lesson="small", penalty=0, waiting=()):
        """Enter a submission with these points, in the order of the checks."""
        with self.open() as book:
            book.update_or_create_student(name)
            submission = book.add_submission(lesson, name, timestamp="2026-01-02 03:04:05")
            (notebook,) = submission.notebooks
            notebook.late_submission_penalty = penalty
            for check, got in points.items():
                grade = book.find_grade(check, lesson, lesson, name)
                grade.auto_score, grade.needs_manual_grade = got, check in waiting
            book.db.commit()

    def autograded(self, name, messages=(), *, told=None, shown=(), lesson="small"):
        """Write what grading leaves: messages of checks, and errors of the student's cells."""
        made = small()
        for one in made.cells:
            for check, words in dict(messages).items():
                if one["id"] == check:
                    one.outputs = [error("CheckFailed", words)]
            if one["id"] == "sum-answer":
                one.outputs = [error(*each) for each in shown]
        made.metadata["firstcnn"] = told or {}
        place = self.root / "autograded" / name / lesson
        place.mkdir(parents=True)
        nbformat.write(made, place / f"{lesson}.ipynb")

    def survey(self, *lessons):
        return survey(self.root, lessons)


def error(kind, words):
    return new_output("error", ename=kind, evalue=words, traceback=words.split("\n"))


def points(*got):
    return dict(zip(CHECKS, got, strict=True))


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty gradebook: nbgrader takes a second to make one, and needs alembic for it."""
    place = tmp_path_factory.mktemp("gradebook") / "gradebook.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        )
        Gradebook(f"sqlite:///{place}", "first-cnn").close()
    return place


@pytest.fixture
def course(tmp_path, empty):
    return HandMade(tmp_path / "course", empty)


@pytest.fixture
def ten(course):
    """Ten students, of which one has handed in late; and one who has handed in nothing."""
    for i, (few, rest) in enumerate(zip(RIGHT, REST, strict=True)):
        many, end = min(rest, 2), max(rest - 2, 0)
        course.submit(f"s{i}", points(few, many, end), penalty=1 if i == 2 else 0)
    course.student("nobody")
    return course


def test_numbers_of_a_class(ten):
    (found,) = ten.survey().lessons
    first, second = found.exercises
    assert [one.exercise.title for one in found.exercises] == ["Add it up", "The end"]
    assert first.exercise.cells == ("sum-few-check", "sum-many-check")
    assert (first.exercise.possible, second.exercise.possible, found.lesson.possible) == (3, 2, 5)
    # Parts of 1 and 2 points: 5 of 10 and 2+2+2+2+2+2+1+1+0+1 = 15 of 20.
    assert first.difficulty == pytest.approx(20 / 30)
    # 3+2+2+1+2 = 10 of 20; the one with 5 of the rest has more than there is to have.
    assert second.difficulty == pytest.approx(10 / 20)
    assert (first.full, first.none, second.full, second.none) == (5, 1, 4, 5)
    # x = 3 3 3 3 3 2 1 1 0 1 and r = 3 2 2 1 2 0 0 0 0 0, of means 2 and 1.
    by_hand = 10 / math.sqrt(12 * 12)
    assert second.discrimination == pytest.approx(by_hand)
    assert first.discrimination == pytest.approx(by_hand)
    scores = [6, 5, 5 - 1, 4, 5, 2, 1, 1, 0, 1]
    assert [one.score for one in found.lesson.submissions] == scores
    assert found.scores.median == 3
    assert [one.id for one in found.missing] == ["nobody"]


def test_a_penalty_takes_no_more_than_there_is(course):
    course.submit("late", points(1, 0, 0), penalty=3)
    (one,) = course.survey().lessons[0].lesson.submissions
    assert (one.raw_score, one.score) == (1, 0)


def test_exercises_without_a_source_notebook(ten):
    place = ten.root / "source" / "small" / "small.ipynb"
    released = ten.root / "course" / "small" / "small.ipynb"
    released.parent.mkdir(parents=True)
    place.rename(released)
    assert [one.exercise.name for one in ten.survey().lessons[0].exercises] == ["sum", "end"]
    released.unlink()
    alone = [one.exercise.cells for one in ten.survey().lessons[0].exercises]
    assert sorted(alone) == sorted((name,) for name in CHECKS)
    released.write_text("{")
    with pytest.raises(CourseError, match=r"small\.ipynb is not a notebook"):
        ten.survey()


def test_a_check_that_the_gradebook_does_not_know_counts_nowhere(course):
    """The source has changed since the class was graded."""
    with course.open() as book:
        course.add_lesson(book, "other", {"sum-few-check": 1, "old-check": 4})
    place = course.root / "source" / "other" / "other.ipynb"
    place.parent.mkdir()
    nbformat.write(small(), place)
    course.submit("a", {"sum-few-check": 1, "old-check": 2}, lesson="other")
    found = course.survey("other").lessons[0]
    assert {one.exercise.name: one.exercise.possible for one in found.exercises} == {
        "sum": 1,
        "old-check": 4,
    }
    assert found.lesson.possible == 5


def test_two_notebooks_in_one_lesson_may_use_the_same_names(course):
    with course.open() as book:
        book.add_assignment("two")
        for name in ("a", "b"):
            book.add_notebook(name, "two")
            book.add_grade_cell("same", name, "two", max_score=2, cell_type="code")
        book.add_student("ada")
        book.add_submission("two", "ada")
        for name, got in (("a", 2), ("b", 1)):
            book.find_grade("same", name, "two", "ada").auto_score = got
        book.db.commit()
    found = course.survey("two").lessons[0]
    assert {one.exercise.name: one.difficulty for one in found.exercises} == {
        "a/same": 1,
        "b/same": 0.5,
    }


# ---- what autograded notebooks tell -------------------------------------------------------------


def test_messages_of_an_exercise(course):
    said = "Not right yet: x is {},\nand that is not it.\nHint: add up."
    for name, number in (("a", 4), ("b", 5), ("c", 5)):
        course.submit(name, points(0, 0, 2))
        course.autograded(name, {"sum-few-check": said.format(number), "sum-many-check": "No."})
    first, second = course.survey().lessons[0].exercises
    assert first.messages == [
        Group("No.", 3),
        Group("Not right yet: x is 5, and that is not it.\nHint: add up.", 3),
    ]
    assert second.messages == []


def test_a_long_message_is_cut(course):
    course.submit("a", points(0, 0, 2))
    course.autograded("a", {"sum-few-check": "x" * 501, "sum-many-check": "y" * 500})
    told = course.survey().lessons[0].traces["a"].messages
    assert told == {"sum-few-check": "x" * 497 + "...", "sum-many-check": "y" * 500}


def test_time_and_memory(course):
    told = [{"seconds": 3.5, "memory": 400}, {"seconds": 4.5, "memory": 500}, {}]
    for name, one in zip("abc", told, strict=True):
        course.submit(name, points(1, 2, 2))
        course.autograded(name, told=one)
    found = course.survey()
    assert (found.lessons[0].seconds.median, found.lessons[0].memory.highest) == (4, 500)
    assert "4 s, at most 4.5" in page_of(found)
    assert "450 MiB, at most 500" in page_of(found)


def test_what_was_not_measured_is_not_made_up(course):
    course.submit("a", points(1, 2, 2))
    found = course.survey()
    assert (found.lessons[0].seconds, found.lessons[0].memory) == (None, None)
    assert page_of(found).count("not measured") == 2
    assert "autograded notebooks of 1 submission are not there" in page_of(found)
    (row,) = rows(tables.grades(found))
    assert (row["seconds"], row["memory_mib"]) == ("", "")


def test_submissions_to_look_at(course):
    course.submit("ended", points(1, 0, 0))
    ended = "The kernel ended here by itself."
    echo = "Not run: the kernel had ended before."
    course.autograded("ended", shown=[("KernelEnded", ended), ("KernelEnded", echo)])
    course.submit("stopped", points(1, 0, 0))
    course.autograded("stopped", shown=[("CellTimeoutError", "This cell was stopped.")])
    course.submit("own", points(1, 0, 0))
    course.autograded("own", shown=[("ValueError", "an error of one's own")])
    course.submit("refused", points(0, 0, 0))
    told = {"refusals": {"": "It was no notebook.", "end-check": "It was split."}}
    course.autograded("refused", {"end-check": "no"}, told=told)
    course.submit("repaired", points(1, 2, 2))
    course.autograded("repaired", told={"repairs": ["A check was put back."]})
    course.submit("waits", points(1, 2, 0), waiting=["end-check"])
    course.autograded("waits")
    found = course.survey().lessons[0]
    traces = {name: found.traces[name] for name in ("ended", "stopped", "own")}
    assert {name: one.flags for name, one in traces.items()} == {
        "ended": [ended],
        "stopped": ["This cell was stopped."],
        "own": [],
    }
    assert found.traces["refused"].refusals == [
        "It was no notebook.",
        "end-check: It was split.",
    ]
    assert found.traces["repaired"].repairs == ["A check was put back."]
    assert [one.student.id for one in found.waiting] == ["waits"]
    shown = page_of(course.survey())
    looked_at = shown[shown.index("Submissions to look at") :]
    for words in (ended, "This cell was stopped.", "Not graded: It was no notebook.", "put back"):
        assert words in looked_at
    assert echo not in shown
    assert "Waiting for a person&#x27;s grade: end-check." in looked_at
    assert ">own<" not in looked_at
    statuses = {row["student"]: row["status"] for row in rows(tables.grades(course.survey()))}
    assert statuses["waits"] == "waiting for a person"
    assert statuses["own"] == "graded"


def test_what_was_not_graded_is_no_message_of_a_check(course):
    course.submit("a", points(0, 0, 0))
    course.autograded("a", told={"refusals": {"": "It was no notebook."}})
    place = course.root / "autograded" / "a" / "small" / "small.ipynb"
    made = nbformat.read(place, as_version=4)
    for one in made.cells:
        if one["id"].endswith("check"):
            one.outputs = [error("NotGraded", "Not graded: It was no notebook.")]
    nbformat.write(made, place)
    assert not any(one.messages for one in course.survey().lessons[0].exercises)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3, "nbformat": 4}', "\xff\x00"])
def test_a_notebook_that_cannot_be_read_stops_nothing(course, content):
    course.submit("a", points(1, 2, 2))
    place = course.root / "autograded" / "a" / "small"
    place.mkdir(parents=True)
    (place / "small.ipynb").write_text(content, encoding="latin-1")
    assert course.survey().lessons[0].traces["a"].found is False


def test_a_grading_that_was_cut_short_is_no_score(course):
    course.submit("whole", points(1, 2, 2))
    course.submit("cut", {"sum-few-check": 1})
    found = course.survey()
    assert [one.student.id for one in found.lessons[0].lesson.submissions] == ["whole"]
    assert [one.id for one in found.lessons[0].lesson.ungraded] == ["cut"]
    assert found.lessons[0].missing == ()
    assert "not graded to the end: cut." in page_of(found)
    assert [row["status"] for row in rows(tables.grades(found))] == ["not graded", "graded"]
    zeros = platforms.canvas(found, missing_as_zero=True)
    assert {row["Student"]: row["small"] for row in rows(zeros)}["cut"] == ""
    zeros = platforms.moodle(found, missing_as_zero=True)
    assert {row["Username"]: row["small"] for row in rows(zeros)}["cut"] == "-"


def test_what_a_person_grades_is_not_cut_short(course):
    with course.open() as book:
        course.add_lesson(book, "essay", {"text": 5})
        book.add_solution_cell("text", "essay", "essay")
        book.add_student("a")
        book.add_submission("essay", "a")
        book.db.commit()
    found = course.survey("essay").lessons[0]
    assert [one.student.id for one in found.waiting] == ["a"]


# ---- the page -----------------------------------------------------------------------------------

HARM = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def page_of(found):
    return page(found, datetime(2026, 1, 2, 3, 4))


class Tags(HTMLParser):
    """Collects tags, and complains about those that do not match."""

    EMPTY = frozenset({"meta", "rect", "line"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.attributes, self.words = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, *one) for one in attrs]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += data


@pytest.fixture
def harmful(course):
    """A class in which everything that a student can write is hostile."""
    course.student("evil", first_name=HARM, last_name=HARM, email=HARM, lms_user_id=HARM)
    course.submit("evil", points(0, 0, 0))
    told = {"repairs": [HARM], "refusals": {HARM: HARM}, "seconds": 1}
    course.autograded("evil", {"sum-few-check": HARM}, told=told, shown=[("KernelEnded", HARM)])
    return course


def test_text_of_students_is_text(harmful):
    made = page_of(harmful.survey())
    tags = Tags(made)
    assert "script" not in tags.seen
    assert "img" not in tags.seen
    assert not [one for one in tags.attributes if one[1].startswith("on")]
    assert tags.words.count(HARM) >= 5  # two names, message, repair, refusal, flag: all shown


def test_the_page_stands_alone(ten):
    made = page_of(ten.survey())
    tags = Tags(made)
    assert not [one for one in tags.attributes if one[1] in ("src", "srcset", "data")]
    assert all(link.startswith("#") for _, name, link in tags.attributes if name == "href")
    assert "http:" not in made
    assert "https:" not in made
    assert "@import" not in made
    assert "url(" not in made
    for _, _, anchor in (one for one in tags.attributes if one[1] == "href"):
        assert ("section", "id", anchor[1:]) in tags.attributes


def test_every_figure_says_what_it_shows(ten):
    tags = Tags(page_of(ten.survey()))
    figures = tags.seen.count("svg")
    assert figures == 3  # a histogram, and a bar for each exercise
    assert len([one for one in tags.attributes if one[:2] == ("svg", "aria-label")]) == figures
    told = next(one[2] for one in tags.attributes if one[:2] == ("svg", "aria-label"))
    # 0 1 1 1 2 4 4 5 5 6 of 5: the last three have all there is.
    assert told == (
        "Score distribution, in points: 1 with 0 to under 0.5; 3 with 1 to under 1.5; "
        "1 with 2 to under 2.5; 2 with 4 to under 4.5; 3 with 5. Median 3."
    )


def test_what_is_not_defined_says_so(course):
    course.submit("only", points(1, 2, 2))
    assert page_of(course.survey()).count("not defined</span>") == 2


# ---- tables -------------------------------------------------------------------------------------


def rows(table):
    return list(csv.DictReader(io.StringIO(tables.text(table))))


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r\n=1", "'=1"),
        (" =1", "'=1"),
        ("a\nb", "a b"),
        ("\x00=1", "'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("plain = text", "plain = text"),
        ("", ""),
    ],
)
def test_text_is_never_a_formula(words, made):
    assert tables.harmless(words) == made


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [(10.0, 2, "10"), (7.25, 2, "7.25"), (2 / 3, 2, "0.67"), (-0.001, 2, "0"), (457, 0, "457"),
     (-0.25, 3, "-0.25"), (None, 2, ""), (100, 1, "100")],
)  # fmt: skip
def test_numbers_are_short(value, digits, words):
    assert tables.number(value, digits) == words


def test_no_cell_of_any_table_is_a_formula(course):
    formula = "=cmd|' /C calc'!A0"
    more = dict.fromkeys(("first_name", "last_name", "email", "lms_user_id"), formula)
    course.student("@evil", **more)
    course.submit("@evil", points(0, 0, 0))
    told = {"repairs": [formula], "refusals": {"": formula}}
    course.autograded("@evil", {"end-check": formula}, told=told, shown=[("KernelEnded", formula)])
    found = course.survey()
    makes = (tables.grades, tables.exercises, tables.messages, platforms.canvas, platforms.moodle)
    cells = [one for make in makes for row in make(found) for one in row]
    # Five of grades, a message, two for Canvas, four for Moodle.
    assert sum(formula in one for one in cells) == 12
    assert not [one for one in cells if one.strip()[:1] in tuple("=+@")]
    assert {one for one in cells if one.startswith("-")} == set()


def test_table_of_grades(ten):
    ten.autograded("s2", told={"seconds": 3.456, "memory": 457, "repairs": ["A.", "B."]})
    by_student = {row["student"]: row for row in rows(tables.grades(ten.survey()))}
    assert by_student["s2"] == {
        **dict(lesson="small", student="s2", last_name="", first_name="", status="graded"),
        **dict(submitted_utc="2026-01-02 03:04:05", raw_score="5", late_penalty="1", score="4"),
        **dict(max_score="5", seconds="3.46", memory_mib="457", repairs="A. B."),
        **dict(refusals="", flags=""),
    }
    assert by_student["nobody"]["status"] == "missing"
    assert by_student["nobody"]["score"] == ""
    assert len(by_student) == 11


def test_table_of_exercises(ten):
    first, second = rows(tables.exercises(ten.survey()))
    assert (first["exercise"], first["share_of_points_earned"]) == ("sum", "0.667")
    assert (second["discrimination"], second["full_points"], second["no_points"]) == (
        "0.833",
        "4",
        "5",
    )


# ---- learning platforms -------------------------------------------------------------------------


@pytest.fixture
def known(course):
    """Two lessons, and students that platforms know in different ways."""
    with course.open() as book:
        course.add_lesson(book, "a lesson", {"check": 4})
    course.student("ada", first_name="Ada", last_name="Okafor", lms_user_id="1001")
    course.student("bela", last_name="Nagy", email="b@example.org", lms_user_id="12ab")
    course.student("chidi")
    course.submit("ada", points(1, 2, 0.5), penalty=0.25)
    course.submit("bela", points(0, 0, 0))
    course.submit("ada", {"check": 4}, lesson="a lesson")
    return course.survey()


def test_canvas(known):
    assert tables.text(platforms.canvas(known)) == (
        "Student,ID,SIS User ID,SIS Login ID,Section,a lesson,small\n"
        "    Points Possible,,,,,4,5\n"
        '"Okafor, Ada",1001,,ada,,4,3.25\n'
        "Nagy,,12ab,bela,,,0\n"
        "chidi,,,chidi,,,\n"
    )


def test_moodle(known):
    assert tables.text(platforms.moodle(known)) == (
        "Username,Email address,ID number,First name,Last name,a lesson,small\n"
        "ada,,1001,Ada,Okafor,4,3.25\n"
        "bela,b@example.org,12ab,,Nagy,-,0\n"
        "chidi,,,,,-,-\n"
    )


@pytest.mark.parametrize("make", [platforms.canvas, platforms.moodle])
def test_missing_is_0_when_asked_for(known, make):
    made = rows(make(known, missing_as_zero=True))
    assert [row["small"] for row in made][-3:] == ["3.25", "0", "0"]
    assert [row["a lesson"] for row in made][-3:] == ["4", "0", "0"]


def test_what_platforms_lack_is_told(known):
    lines = platforms.advice(known)
    assert [line.partition(":")[0] for line in lines[:3]] == [
        "nbgrader has no lms_user_id of 1 of 3 students (chidi)",
        "nbgrader has no email of 2 of 3 students (ada, chidi)",
        "nbgrader has no last_name of 1 of 3 students (chidi)",
    ]
    assert "nbgrader db student import" in lines[3]


def test_the_advice_can_be_followed(course, tmp_path):
    """Importing sets what is in the file, and leaves alone what is not."""
    course.student("ada", first_name="Ada")
    course.submit("ada", points(1, 2, 2))
    (tmp_path / "class.csv").write_text("id,lms_user_id,email,last_name\nada,7,a@b.c,Okafor\n")
    made = object.__new__(NbgraderCourse)
    made.root, made.exchange = course.root, tmp_path
    made.nbgrader("db", "student", "import", str(tmp_path / "class.csv"))
    found = course.survey()
    assert found.group.students == (
        gradebook.Student("ada", "Ada", "Okafor", "a@b.c", "7"),
    )  # fmt: skip
    assert platforms.advice(found) == []


# ---- files, and the command ---------------------------------------------------------------------

FILES = {"report.html", "grades.csv", "exercises.csv", "messages.csv", "canvas.csv", "moodle.csv"}


def run(monkeypatch, root, *arguments):
    """Run the command in a folder, and return its exit status and what it prints."""
    monkeypatch.chdir(root)
    done = CliRunner().invoke(cli.app, ["report", *arguments])
    if isinstance(done.exception, CourseError):
        return 1, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_command_writes_everything(ten, monkeypatch):
    status, said = run(monkeypatch, ten.root, "small", "--output", "some/folder")
    assert status == 0
    folder = ten.root / "some" / "folder"
    assert {path.name for path in folder.iterdir()} == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert said.split()[:6] == ["lesson", "graded", "missing", "median", "of", "waiting"]
    assert said.split()[6:12] == ["small", "10", "1", "3", "5", "0"]
    assert "Open some/folder/report.html" in said
    for name in ("grades.csv", "exercises.csv", "messages.csv"):
        assert (folder / name).read_bytes().startswith(b"\xef\xbb\xbflesson,"), name
    assert (folder / "canvas.csv").read_bytes().startswith(b"Student,ID,")
    assert (folder / "moodle.csv").read_bytes().startswith(b"Username,")
    assert "s9,,,,,1\nnobody" not in (folder / "moodle.csv").read_text()
    run(monkeypatch, ten.root, "--output", "some/folder", "--missing-as-zero")
    assert "nobody,,,,,0\n" in (folder / "moodle.csv").read_text()
    assert "nobody,,,nobody,,0\n" in (folder / "canvas.csv").read_text()


def test_a_name_that_is_no_text_stops_nothing(course, monkeypatch):
    """A lone surrogate can be in a notebook's JSON."""
    course.submit("a", points(0, 0, 0))
    course.autograded("a", told={"repairs": ["SURROGATE was left out"]})
    place = course.root / "autograded" / "a" / "small" / "small.ipynb"
    place.write_text(place.read_text().replace("SURROGATE", "\\ud800"))
    status, _ = run(monkeypatch, course.root)
    assert status == 0
    assert "? was left out" in (course.root / "report" / "report.html").read_text()


def test_nothing_is_changed(ten, monkeypatch):
    ten.autograded("s1", {"end-check": "No."})
    watched = [ten.root / "gradebook.db", *ten.root.glob("autograded/*/*/*")]
    before = [hashlib.sha256(path.read_bytes()).digest() for path in watched]
    known = {path for path in ten.root.rglob("*") if path.is_file()}
    assert run(monkeypatch, ten.root)[0] == 0
    assert [hashlib.sha256(path.read_bytes()).digest() for path in watched] == before
    made = {path for path in ten.root.rglob("*") if path.is_file()} - known
    assert {path.parent for path in made} == {ten.root / "report"}


def test_the_connection_cannot_write(ten):
    with (
        pytest.raises(CourseError, match="attempt to write a readonly database"),
        gradebook._session(ten.url) as session,
    ):
        session.execute(text("DELETE FROM student"))


def test_without_a_gradebook_none_is_made(tmp_path, monkeypatch):
    root = write_course(tmp_path / "course", small=small())
    status, said = run(monkeypatch, root)
    assert status == 1
    assert said.startswith(f"There is no gradebook at {root / 'gradebook.db'}.")
    assert "nbgrader autograde LESSON" in said
    assert not (root / "gradebook.db").exists()
    assert not (root / "report").exists()


def test_what_is_no_gradebook_is_told(tmp_path, monkeypatch):
    root = write_course(tmp_path / "course", small=small())
    (root / "gradebook.db").write_text("nothing of the kind")
    status, said = run(monkeypatch, root)
    assert status == 1
    assert "cannot be read: file is not a database" in said


def test_a_missing_driver_is_told_without_the_password(course):
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write('\nc.CourseDirectory.db_url = "postgresql+asyncpg://me:secret@host/grades"\n')
    with pytest.raises(CourseError, match="needs a driver for its database") as caught:
        course.survey()
    assert "secret" not in str(caught.value)


def test_unknown_lessons_and_those_not_graded(course, monkeypatch):
    assert run(monkeypatch, course.root, "smal") == (
        1,
        "The gradebook has no lesson 'smal'. It has: small.",
    )
    assert run(monkeypatch, course.root, "small") == (
        1,
        "Nothing of small has been graded yet: run `nbgrader autograde small`.",
    )
    status, said = run(monkeypatch, course.root)
    assert (status, said) == (1, "Nothing has been graded yet: run `nbgrader autograde LESSON`.")
    assert not (course.root / "report").exists()


def test_other_lessons_are_left_out(ten, monkeypatch):
    with ten.open() as book:
        ten.add_lesson(book, "other", {"check": 4})
        ten.add_lesson(book, "not yet", {"check": 4})
    ten.submit("s0", {"check": 4}, lesson="other")
    assert [one.lesson.name for one in ten.survey().lessons] == ["other", "small"]
    assert [one.lesson.name for one in ten.survey("small").lessons] == ["small"]


def test_lessons_of_another_course_in_the_same_gradebook_are_not_ours(ten):
    with Gradebook(ten.url, "another") as book:
        ten.add_lesson(book, "theirs", {"check": 4})
        book.add_submission("theirs", "s0")
        book.find_grade("check", "theirs", "theirs", "s0").auto_score = 4
        book.db.commit()
    assert [one.lesson.name for one in ten.survey().lessons] == ["small"]


def test_the_configured_gradebook_is_read(ten, tmp_path):
    moved = tmp_path / "a # b" / "grades.db"
    moved.parent.mkdir()
    (ten.root / "gradebook.db").rename(moved)
    with (ten.root / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.CourseDirectory.db_url = {f'sqlite:///{moved}'!r}\n")
    assert len(ten.survey().lessons) == 1
    assert not (ten.root / "gradebook.db").exists()


def test_a_folder_that_cannot_be_written_is_told(ten, monkeypatch):
    (ten.root / "taken").write_text("")
    status, said = run(monkeypatch, ten.root, "--output", "taken")
    assert status == 1
    assert said.startswith("The report cannot be written to taken: ")


# ---- after a real grading -----------------------------------------------------------------------


def test_a_class_graded_by_nbgrader(tmp_path):
    course = NbgraderCourse(tmp_path, [])
    write_course(course.root, small=lesson())
    course.nbgrader("generate_assignment", "small")
    answers = {
        "right": ["a_value = 5", "b_value = 6", "c_value = 7", "d_value = 8"],
        "wrong": ["a_value = 50", "b_value = 60", "c_value = 7", "d_value = 8"],
        "other": ["a_value = 51", "b_value = 6", "c_value = 7", "import os\nos._exit(1)"],
    }
    for student, sources in answers.items():
        course.answer(student, "small", sources)
    (tmp_path / "work.ipynb").write_text("no notebook")
    course.submit_by_hand("none", "small", tmp_path / "work.ipynb")
    course.nbgrader("autograde", "small")
    found = files.write(course.root, tmp_path / "report").lessons[0]
    scores = {one.student.id: one.score for one in found.lesson.submissions}
    assert scores == {"none": 0, "other": 5, "right": 10, "wrong": 7}
    first = found.exercises[0]
    assert first.exercise.name == "a-value"
    assert [one.students for one in first.messages] == [2]
    assert "a_value is 5" in first.messages[0].example
    assert "not valid JSON" in found.traces["none"].refusals[0]
    assert found.traces["other"].flags[0].startswith("The kernel ended here by itself")
    assert all(found.traces[name].seconds > 0 for name in ("right", "wrong", "other"))
    assert found.traces["none"].seconds is None
