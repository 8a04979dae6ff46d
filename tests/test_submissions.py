"""What breaks, cheats and attacks is graded as honest work would be, and harms nobody."""

import re
from html import unescape

import pytest
from submission_class import HIDDEN, POINTS, SECRETS, GradedClass, families, hand_out, load


def pytest_generate_tests(metafunc):
    """Each recipe of a class's family is a test."""
    if "recipe" in metafunc.fixturenames:
        recipes = [one for name in metafunc.cls.families for one in load(name).recipes]
        metafunc.parametrize("recipe", recipes, ids=[one.student for one in recipes])


@pytest.fixture(scope="session")
def handed_out(tmp_path_factory):
    """Return a course whose lesson can be handed in."""
    return hand_out(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="class")
def graded(request, tmp_path_factory, sandbox_here, warm, handed_out):
    """Grade the families of a class of tests, together."""
    names = request.cls.families
    folder = tmp_path_factory.mktemp(names[0])
    return GradedClass(folder, [load(name) for name in names], handed_out)


class Submissions:
    """What must hold of every submission; its families are graded together."""

    families: tuple[str, ...]

    def test_earns_what_honest_work_would(self, graded, recipe):
        assert graded.points(recipe.student) == recipe.expected

    def test_is_told_what_became_of_it(self, graded, recipe):
        page = words(graded.page(recipe.student))
        assert [said for said in recipe.says if said.replace("`", "") not in page] == []
        assert [said for said in recipe.hides if said in page] == []

    def test_those_in_between_are_graded_as_if_nothing_had_happened(self, graded):
        for student in graded.honest:
            assert graded.points(student) == POINTS, student
            assert "put in order" not in graded.page(student)

    def test_nothing_is_altered(self, graded):
        assert graded.after == graded.before
        assert graded.strangers() == []
        assert graded.visitors == []

    def test_nothing_survives(self, graded):
        assert graded.survivors == []
        assert graded.left == []

    def test_sees_no_secret_and_shows_nothing_harmful(self, graded, recipe):
        page = graded.page(recipe.student)
        assert HIDDEN not in page
        assert [name for name, secret in SECRETS.items() if secret in page] == []
        for cell in graded.graded(recipe.student).cells:
            assert HIDDEN not in str(cell.get("outputs", "")), cell.id
            if cell.metadata.get("nbgrader", {}).get("locked"):
                continue
            assert HIDDEN not in cell.source, cell.id
        assert [name for name, secret in SECRETS.items() if secret in graded.said] == []
        # The formulas of lessons need a script, which is nbgrader's own.
        assert re.findall(r"<script[^>]*src=\"(?!https://cdnjs)[^\"]*", page) == []
        # A link may be there: whoever follows it has chosen to. Nothing is fetched by itself.
        assert re.findall(r"<(?!a )[^<>]*evil\.example", page) == []
        assert re.findall(r"<[^<>]*\son\w+\s*=", page) == []
        assert re.findall(r"<(?:iframe|object|embed|form|base|meta http|link)\b", page) == []


def words(page):
    """Return the text of a page, without that of code."""
    body = re.sub(r'<div class="input_area">.*?</pre>', "", page.partition("<body>")[2], flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).replace("\u2060", "").split())


class TestForging(Submissions):
    """Points that were not earned."""

    families = ("forging",)


class TestDamage(Submissions):
    """Notebooks and files that are not as they should be."""

    families = ("notebooks", "damage")


class TestReaching(Submissions):
    """What is not the student's: secrets, files, other machines, other processes, the next one."""

    families = ("secrets", "writing", "network", "survival")


@pytest.mark.waits
class TestExhausting(Submissions):
    """More of everything than there is."""

    families = ("exhaustion",)


class TestHonest(Submissions):
    """Right answers that a stricter grader would fail."""

    families = ("honest",)


class TestAnswering(Submissions):
    """Functions, networks and pages that are not what they seem."""

    families = ("functions", "models", "feedback")


def test_every_family_is_graded():
    tested = [name for one in Submissions.__subclasses__() for name in one.families]
    assert sorted(tested) == families()
    assert sum(len(load(name).recipes) for name in families()) >= 200
