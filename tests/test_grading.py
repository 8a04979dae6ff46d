"""Solutions graded as submissions earn everything; untouched notebooks earn nothing."""

import pytest
from nbgrader_course import NbgraderCourse
from notebooks import LESSONS, ROOT

from firstcnn.source_rules import EXERCISES, POINTS


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_solution_earns_all_points_and_a_blank_none(tmp_path, lesson):
    course = NbgraderCourse(tmp_path, [lesson])
    course.nbgrader("generate_assignment", lesson)
    course.submit_by_hand("solved", lesson, ROOT / "solutions" / lesson / f"{lesson}.ipynb")
    course.submit_by_hand("blank", lesson, ROOT / "course" / lesson / f"{lesson}.ipynb")
    course.nbgrader("autograde", lesson)

    solved = course.points("solved", lesson)
    assert len(solved) >= EXERCISES.start
    assert {name: got for name, (got, _) in solved.items()} == {
        name: most for name, (_, most) in solved.items()
    }
    assert sum(got for got, _ in solved.values()) == POINTS

    blank = course.points("blank", lesson)
    assert blank.keys() == solved.keys()
    assert {name: got for name, (got, _) in blank.items()} == dict.fromkeys(blank, 0)
