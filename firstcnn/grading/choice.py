"""Which of the files in a submission is the lesson's notebook."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from firstcnn.grading.intake import Folder, Refused
from firstcnn.grading.lesson import Lesson
from firstcnn.grading.reading import LARGEST_FILE, Draft, Unreadable, read
from firstcnn.grading.repairs import quoted

__all__ = ["Choice", "choose", "may_be_notebook"]

_NOTEBOOK = re.compile(r".*\.ipynb(\.json|\.txt)?", re.IGNORECASE | re.DOTALL)
_MOST_READ = 12


@dataclass
class Choice:
    """The notebook that is graded.

    Parameters
    ----------
    place : str or None
        The path of its file in the submission; None if there is none.
    draft : Draft or None
        What it holds.
    repairs : list of str
        What a student should know about the choice.
    reason : str
        Why there is none.
    """

    place: str | None = None
    draft: Draft | None = None
    repairs: list[str] = field(default_factory=list)
    reason: str = ""


def choose(folder: Folder, name: str, lesson: Lesson, siblings: Collection[str] = ()) -> Choice:
    """Find the notebook of a lesson.

    The file with the right name is taken if it can be read and belongs to the lesson; in the
    submission's own folder, or else in one below. Otherwise it is the newest of the others, by
    what they hold, since times do not survive copying: the one with the most answers that are
    not as released; among these, with the most of the lesson's cells; among these, the last by
    name, with numbers in names compared as numbers.

    Parameters
    ----------
    folder : Folder
        The submission.
    name : str
        The notebook's name, without ``.ipynb``.
    lesson : Lesson
        The notebook as it was released.
    siblings : collection of str, optional
        The names of the assignment's other notebooks.

    Returns
    -------
    Choice
    """
    right = f"{name}.ipynb"
    taken = {f"{sibling}.ipynb" for sibling in siblings}
    found = [
        place
        for place in folder.files
        if may_be_notebook(place) and place.rpartition("/")[2] not in taken
    ]
    named = [place for place in found if place.rpartition("/")[2] == right]
    named.sort(key=lambda place: (place.count("/"), place))
    others = sorted((place for place in found if place not in named), key=_natural)
    reason = ""
    if right not in named and right in (entry.rstrip("/") for entry in folder.entries):
        reason = _try(folder, right, lesson)[1]
    chosen = draft = None
    for place in named[:_MOST_READ]:
        draft, why = _try(folder, place, lesson)
        if draft is not None:
            chosen = place
            break
        reason = reason or why
    if chosen is None:
        best = (0, 0)
        for place in others[-_MOST_READ:]:
            other, why = _try(folder, place, lesson)
            if other is not None:
                marked, answered = lesson.recognised(other)
                if (answered, marked) >= best:
                    chosen, draft, best = place, other, (answered, marked)
            elif not named and len(others) == 1:
                reason = reason or f"{quoted(place)}: {why}"
    if chosen is None:
        missing = f"There is no notebook `{right}`."
        return Choice(reason=f"The notebook could not be graded. {reason or missing}")
    repairs = []
    if chosen != right:
        why = (
            f"`{right}` could not be graded ({reason[:-1]})" if reason else f"There is no `{right}`"
        )
        repairs.append(f"{why}: {quoted(chosen)} was graded.")
    rest = [place for place in found if place != chosen and "/" not in place]
    if rest:
        shown = ", ".join(map(quoted, rest[:5])) + (" and others" if len(rest) > 5 else "")
        repairs.append(f"There were other notebooks, which were not graded: {shown}.")
    return Choice(chosen, draft, repairs)


def may_be_notebook(place: str) -> bool:
    """Tell by its path whether a file is looked at."""
    hidden = any(part.startswith(".") for part in place.split("/"))
    return not hidden and _NOTEBOOK.fullmatch(place) is not None


def _natural(place: str) -> list[tuple[int, str]]:
    return [
        (int(part[:9]) if part.isascii() and part.isdigit() else -1, part.lower())
        for part in re.split(r"(\d+)", place)
    ]


def _try(folder: Folder, place: str, lesson: Lesson) -> tuple[Draft | None, str]:
    """Read a file; return what it holds of the lesson, or why it holds nothing."""
    try:
        draft = read(folder.read(place, LARGEST_FILE))
    except (Refused, Unreadable) as error:
        return None, str(error)
    if not lesson.has_part_in(draft):
        return None, "It holds nothing of this lesson."
    return draft, ""
