"""What breaks, cheats and attacks is graded as honest work would be, and harms nobody."""

import re
from html import unescape

import pytest
from submission_class import HIDDEN, LESSON, POINTS, SECRETS, GradedClass, families, load

from firstcnn.grading import nursery
from firstcnn.grading.sandbox import Sandbox, SandboxUnavailable


def pytest_generate_tests(metafunc):
    """Each recipe of a class's family is a test."""
    if "recipe" in metafunc.fixturenames:
        recipes = load(metafunc.cls.family).recipes
        metafunc.parametrize("recipe", recipes, ids=[one.student for one in recipes])


@pytest.fixture(scope="session")
def warm():
    """One nursery for all classes."""
    try:
        with Sandbox(None):
            pass
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox here: {error}")
    one = nursery.Nursery()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(nursery.SOCKET_VARIABLE, one.socket)
        yield
    one.close()


@pytest.fixture(scope="class")
def graded(request, tmp_path_factory, warm):
    """Grade the family of a class of tests."""
    family = request.cls.family
    return GradedClass(tmp_path_factory.mktemp(family), load(family))


class Submissions:
    """What must hold of every family."""

    family: str

    def test_earns_what_honest_work_would(self, graded, recipe):
        assert graded.points(recipe.student) == recipe.expected

    def test_is_told_what_became_of_it(self, graded, recipe):
        page = words(graded.page(recipe.student))
        assert [said for said in recipe.says if said not in page] == []
        assert [said for said in recipe.hides if said in page] == []

    def test_those_in_between_are_graded_as_if_nothing_had_happened(self, graded):
        for student in graded.honest:
            assert graded.points(student) == POINTS, student
            assert "put in order" not in graded.page(student)

    def test_nothing_is_altered(self, graded):
        assert graded.after == graded.before
        assert graded.visitors == []

    def test_nothing_survives(self, graded):
        assert graded.survivors == []
        assert graded.left == []

    def test_nothing_leaks(self, graded, recipe):
        shown = graded.page(recipe.student)
        assert HIDDEN not in shown
        assert [name for name, secret in SECRETS.items() if secret in shown] == []
        for cell in graded.graded(recipe.student).cells:
            assert HIDDEN not in str(cell.get("outputs", "")), cell.id
            if cell.metadata.get("nbgrader", {}).get("locked"):
                continue
            assert HIDDEN not in cell.source, cell.id
        assert [name for name, secret in SECRETS.items() if secret in graded.said] == []

    def test_the_page_can_do_no_harm(self, graded, recipe):
        page = graded.page(recipe.student)
        # The formulas of lessons need a script, which is nbgrader's own.
        assert re.findall(r"<script[^>]*src=\"(?!https://cdnjs)[^\"]*", page) == []
        assert "evil.example" not in re.sub(r">[^<]*<", "><", page)
        assert re.findall(r"<[^<>]*\son\w+\s*=", page) == []
        assert re.findall(r"<(?:iframe|object|embed|form|base|meta http|link)\b", page) == []


def words(page):
    """Return the text of a page."""
    body = page.partition("<body>")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).replace("\u2060", "").split())


class TestForging(Submissions):
    """Points that were not earned."""

    family = "forging"


def test_every_family_is_graded():
    tested = {one.family for one in Submissions.__subclasses__()}
    assert tested == set(families())
    assert sum(len(load(name).recipes) for name in families()) >= 1
    assert LESSON
