"""Messages that say the same of different answers fall together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Group", "grouped", "pattern"]

# What stands for a student's own: quoted text, what is in brackets, numbers, names of functions.
_STRINGS = re.compile(r"(?<!\w)'[^'\n]*'(?!\w)|\"[^\"\n]*\"|`[^`\n]*`")
_INSIDE = re.compile(r"\([^()\[\]{}]*\)|\[[^()\[\]{}]*\]|\{[^()\[\]{}]*\}")
_NUMBER = re.compile(
    r"[-+]?\d{1,3}(?:[ ,_]\d{3})+\b"  # 18 050
    r"|[-+]?(?:\d+\.?|\.)\d*(?:[eE][-+]?\d+)?[jL]?(?<!\.)|[-+]?\b(?:inf|nan)\b"
)
_FUNCTION = re.compile(r"\b(the function|of type|object at) \w+")


@dataclass(frozen=True)
class Group:
    """Messages that say the same.

    Parameters
    ----------
    example : str
        The one that was heard most often, as it was.
    students : int
        How many students heard one of them.
    """

    example: str
    students: int


def pattern(message: str) -> str:
    """Return what messages have in common that differ in numbers, names and values only.

    Words in quotes, everything in brackets and every number become a sign each, numbers inside
    of names too, as in ``float32``; a hint is left out, since it goes with the message.
    """
    text = message.partition("\nHint: ")[0]
    text = _STRINGS.sub("'_'", text)
    while (shorter := _INSIDE.sub("<>", text)) != text:  # from the innermost outwards
        text = shorter
    text = _NUMBER.sub("#", text)
    # One number in place of several is still the same fault.
    text = re.sub(r"<>(?:, <>)+", "<>", re.sub(r"#(?:, #)+", "#", text))
    return " ".join(_FUNCTION.sub(r"\1 _", text).split())


def grouped(heard: Iterable[tuple[str, str]]) -> list[Group]:
    """Group messages, the most frequent group first.

    Parameters
    ----------
    heard : iterable of (str, str)
        Who heard it, and what. A student counts once in each group.
    """
    students: dict[str, set[str]] = {}
    texts: dict[str, Counter[str]] = {}
    for student, message in heard:
        key = pattern(message)
        students.setdefault(key, set()).add(student)
        texts.setdefault(key, Counter())[message] += 1
    groups = [Group(texts[key].most_common(1)[0][0], len(students[key])) for key in texts]
    return sorted(groups, key=lambda one: (-one.students, one.example))
