"""Files that learning platforms import: Canvas' gradebook, Moodle's grade import."""

from __future__ import annotations

from collections.abc import Iterator

from firstcnn.reports.gradebook import Lesson, Student
from firstcnn.reports.survey import Survey
from firstcnn.reports.tables import Row, harmless, number

__all__ = ["advice", "canvas", "moodle"]


def canvas(survey: Survey, *, missing_as_zero: bool = False) -> Iterator[Row]:
    """Yield the rows of a file for Canvas: Grades, Import.

    Canvas looks for a student by ``ID``, which is its own number of a user, then by ``SIS User
    ID``, then by ``SIS Login ID``, then by name. The first is nbgrader's ``lms_user_id`` where
    that is a number, the second where it is not, the third nbgrader's id of the student. An
    assignment is found by its title, or by ``TITLE (NUMBER)``; otherwise Canvas asks.

    Parameters
    ----------
    survey : Survey
        The class.
    missing_as_zero : bool, optional
        Give 0 to those who have handed in nothing. By default their cell is empty, and Canvas
        keeps what it has.
    """
    lessons = [one.lesson for one in survey.lessons]
    names = [harmless(lesson.name) for lesson in lessons]
    yield ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", *names)
    yield ("    Points Possible", "", "", "", "", *(number(one.possible) for one in lessons))
    for student in survey.group.students:
        number_of_user = student.lms_user_id if _is_number(student.lms_user_id) else ""
        sis = "" if number_of_user else student.lms_user_id
        yield (
            *map(harmless, (student.name, number_of_user, sis, student.id)),
            "",
            *(_score(one, student, "", missing_as_zero) for one in lessons),
        )


def moodle(survey: Survey, *, missing_as_zero: bool = False) -> Iterator[Row]:
    """Yield the rows of a file for Moodle: Grades, Import, CSV file.

    Moodle asks which column says who a student is (Map from) and what that is (Map to), and to
    which grade item each other column belongs. The first three columns are for that:
    nbgrader's id as username, email address, and ``lms_user_id`` as ID number.

    Parameters
    ----------
    survey : Survey
        The class.
    missing_as_zero : bool, optional
        Give 0 to those who have handed in nothing. By default they get ``-``, which is how
        Moodle itself writes that there is no grade; an empty cell could count as 0 in a new item.
    """
    lessons = [one.lesson for one in survey.lessons]
    names = [harmless(lesson.name) for lesson in lessons]
    yield ("Username", "Email address", "ID number", "First name", "Last name", *names)
    for student in survey.group.students:
        who = (student.id, student.email, student.lms_user_id)
        yield (
            *map(harmless, (*who, student.first_name, student.last_name)),
            *(_score(one, student, "-", missing_as_zero) for one in lessons),
        )


def _score(lesson: Lesson, student: Student, none: str, missing_as_zero: bool) -> str:
    """Return the points that count, or what stands for no grade."""
    submission = lesson.of(student)
    if submission is not None:
        return number(submission.score)
    # Whose grading was cut short has handed in something.
    ungraded = any(one.id == student.id for one in lesson.ungraded)
    return "0" if missing_as_zero and not ungraded else none


def _is_number(words: str) -> bool:
    # Canvas reads the digits at the start and no further: 12ab would be user 12.
    return words.isascii() and words.isdigit()


def advice(survey: Survey) -> list[str]:
    """Say what nbgrader does not know of students that a platform may want, and how to tell it."""
    means = {
        "lms_user_id": "Canvas looks for them by login and name, and Moodle cannot by ID number",
        "email": "Moodle cannot find them by email address",
        "last_name": "files name them by their id",
    }
    lines = []
    for name, without_it in means.items():
        without = [one.id for one in survey.group.students if not getattr(one, name)]
        if without:
            shown = ", ".join(map(harmless, without[:3])) + (", ..." if len(without) > 3 else "")
            of = f"{len(without)} of {len(survey.group.students)} students ({shown})"
            lines.append(f"nbgrader has no {name} of {of}: {without_it}.")
    if lines:
        lines.append(
            "To set them, write a CSV file with a column `id` and a column for each of these, and "
            "run `nbgrader db student import FILE`."
        )
    return lines
