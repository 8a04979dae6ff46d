"""The bytes of a notebook file, whatever has happened to them, as a list of plain cells.

Nothing of the file is trusted, not even its types. What a lesson has no use for (outputs, counts,
the state of widgets, metadata of editors) is not taken over at all.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from typing import Any

from firstcnn.grading.sanitise import is_image, plain_text

__all__ = ["Cell", "Draft", "Unreadable", "read"]

#: More is not read. A notebook of this course with all its figures has less than 1 MB.
LARGEST_FILE = 64 * 2**20
MOST_CELLS = 3000
MOST_CHARACTERS = 500_000  # in one cell

#: A few bytes of JSON can ask for hundreds of bytes of memory, once for each value.
_MOST_LISTS = 300_000
_MOST_VALUES = 5_000_000
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

_KINDS = ("code", "markdown", "raw")


class Unreadable(ValueError):
    """A file that is no notebook, with the reason, as a sentence for the student."""


@dataclass
class Cell:
    """One cell, with nothing but what is needed for grading.

    Parameters
    ----------
    kind : str
        ``code``, ``markdown`` or ``raw``.
    source : str or None
        Its text; None if what the file holds is no text, or far too long.
    cell_id : str or None
        Its id, as the file has it.
    marks : dict
        nbgrader's metadata, as the file has them: any types.
    tags : list of str
        Its tags.
    attachments : dict
        Pictures, by name and media type.
    """

    kind: str
    source: str | None
    cell_id: str | None = None
    marks: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def grade_id(self) -> str | None:
        """The name by which nbgrader knows the cell."""
        name = self.marks.get("grade_id")
        return name if isinstance(name, str) else None


@dataclass
class Draft:
    """A notebook as it was read.

    Parameters
    ----------
    cells : list of Cell
        Its cells.
    kernel, language : str
        What it asks for; empty if it does not say.
    repairs : list of str
        What had to be put right, a sentence each.
    """

    cells: list[Cell]
    kernel: str = ""
    language: str = ""
    repairs: list[str] = field(default_factory=list)


def read(data: bytes) -> Draft:
    """Read a notebook from the bytes of its file.

    Parameters
    ----------
    data : bytes
        The file's content. Any encoding of Unicode, any version of the notebook format.

    Returns
    -------
    Draft

    Raises
    ------
    Unreadable
        If there is no notebook in it.
    """
    if len(data) > LARGEST_FILE:
        raise Unreadable(f"The file is larger than {LARGEST_FILE // 2**20} MB.")
    if not data.strip(b"\0 \t\r\n"):
        raise Unreadable("The file is empty.")
    repairs: list[str] = []
    document = _parse(_decode(data, repairs), repairs)
    if not isinstance(document, dict):
        raise Unreadable("The file holds no notebook.")
    cells = _cells(document, repairs)
    kernel, language = _kernel(document.get("metadata"))
    return Draft(cells, kernel, language, list(dict.fromkeys(repairs)))


# ---- from bytes to JSON -----------------------------------------------------------------------


def _decode(data: bytes, repairs: list[str]) -> str:
    encoding = json.detect_encoding(data)
    if encoding == "utf-8-sig":
        repairs.append("The file began with a byte-order mark: it was read without it.")
    elif encoding != "utf-8":
        repairs.append(f"The file was in {encoding[:6].upper()}: it was read as that.")
    try:
        return data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError:
        repairs.append("The file was not in UTF-8: letters with accents may have been lost.")
    if encoding.startswith("utf-8"):
        return data.removeprefix(codecs.BOM_UTF8).decode("cp1252", "replace")
    return data.decode(encoding, "replace")


def _parse(text: str, repairs: list[str]) -> Any:
    text = text.lstrip("\ufeff\0 \t\r\n")
    _refuse_too_many_values(text)
    twice = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        made = dict(items)
        twice |= len(made) < len(items)
        return made

    options = {
        "object_pairs_hook": pairs,
        # Counts and versions are the only numbers, and NaN is none.
        "parse_int": lambda digits: int(digits) if len(digits) < 10 else None,
        "parse_constant": lambda name: None,
    }
    try:
        try:
            document, end = json.JSONDecoder(**options).raw_decode(text)
        except json.JSONDecodeError:
            document, end = json.JSONDecoder(strict=False, **options).raw_decode(text)
            repairs.append("The file held control characters: they were read as text.")
    except json.JSONDecodeError as error:
        if re.search(r"^(<{7} |>{7} )", text, re.MULTILINE):
            raise Unreadable(
                "The file is not valid: it holds both sides of a conflict that git has marked."
            ) from None
        raise Unreadable(
            "The file is not valid JSON, as a notebook must be: "
            f"it cannot be read beyond line {error.lineno}."
        ) from None
    except RecursionError:
        raise Unreadable("The file is nested too deeply to be a notebook.") from None
    if text[end:].strip("\ufeff\0 \t\r\n"):
        repairs.append("There was text behind the end of the notebook: it was left out.")
    if twice:
        repairs.append("Some entries of the file stood twice: the last one was used.")
    return document


def _refuse_too_many_values(text: str) -> None:
    """Refuse what would fill the memory. Commas and brackets in strings are no values."""
    if _has_too_many(text) and _has_too_many(_STRING.sub("", text)):
        raise Unreadable("The file holds too many values to be a notebook.")


def _has_too_many(text: str) -> bool:
    lists = text.count("[") + text.count("{")
    return lists > _MOST_LISTS or text.count(",") > _MOST_VALUES


# ---- from JSON to cells -----------------------------------------------------------------------


def _cells(document: dict, repairs: list[str]) -> list[Cell]:
    found = document.get("cells")
    sheets = document.get("worksheets")
    if not isinstance(found, list) and isinstance(sheets, list):
        lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        found = [cell for cells in lists if isinstance(cells, list) for cell in cells]
    if not isinstance(found, list):
        raise Unreadable("The file holds no list of cells, so it is no notebook.")
    if len(found) > MOST_CELLS:
        raise Unreadable(f"The notebook has more than {MOST_CELLS:,} cells.")
    version = tuple(
        number if isinstance(number := document.get(name), int) else 0
        for name in ("nbformat", "nbformat_minor")
    )
    if version != (4, 5):
        repairs.append("The notebook was in another version of the format: it was brought to 4.5.")
    cells = [_cell(one, repairs) for one in found if isinstance(one, dict)]
    if len(cells) < len(found):
        repairs.append("Some entries in the list of cells were no cells: they were left out.")
    return cells


def _cell(one: dict, repairs: list[str]) -> Cell:
    kind = one.get("cell_type")
    # Format 3 has headings, and calls the text of a code cell its input.
    source = one.get("source", one.get("input", "" if kind == "code" else None))
    text = plain_text(source)
    if text is not None:
        _report_text("".join(source), text, repairs)
        if len(text) > MOST_CHARACTERS:
            text = None
    if kind == "heading":
        level = one.get("level")
        kind, text = (
            "markdown",
            f"{'#' * (level if type(level) is int and 0 < level < 7 else 1)} {text or ''}",
        )
    elif kind not in _KINDS:
        kind = "code" if "outputs" in one or "input" in one else "raw"
        repairs.append("Some cells were of no known type: they are shown as plain text.")
    metadata = one.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    marks, tags = metadata.get("nbgrader"), metadata.get("tags")
    # Colab keeps a cell's id there.
    cell_id = one.get("id", metadata.get("id"))
    return Cell(
        kind,
        text,
        cell_id if isinstance(cell_id, str) else None,
        marks if isinstance(marks, dict) else {},
        [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
        _attachments(one.get("attachments")),
    )


def _report_text(written: str, text: str, repairs: list[str]) -> None:
    if "\r" in written:
        repairs.append("Lines ended as on another system: they were given the usual ends.")
    if text.count("\ufffd") > written.count("\ufffd"):
        repairs.append("Characters that do not exist were replaced by \ufffd.")


def _attachments(found: Any) -> dict[str, dict[str, str]]:
    kept: dict[str, dict[str, str]] = {}
    for name, kinds in found.items() if isinstance(found, dict) else ():
        for kind in ("image/png", "image/jpeg"):
            data = plain_text(kinds.get(kind)) if isinstance(kinds, dict) else None
            if is_image(data) and name.isprintable():
                kept[name] = {kind: re.sub(r"\s", "", data)}
    return kept


def _kernel(metadata: Any) -> tuple[str, str]:
    metadata = metadata if isinstance(metadata, dict) else {}
    spec, info = metadata.get("kernelspec"), metadata.get("language_info")
    spec = spec if isinstance(spec, dict) else {}
    info = info if isinstance(info, dict) else {}
    kernel, language = spec.get("name"), info.get("name", spec.get("language"))
    return (
        kernel if isinstance(kernel, str) else "",
        language if isinstance(language, str) else "",
    )
