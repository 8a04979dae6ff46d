"""Files of their own that students may bring: modules and data for their cells.

Nothing else is taken over, and nothing that Python, IPython or Jupyter would read by itself: the
name of a module that there is already, or a file with settings.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import PurePosixPath

from firstcnn.grading.choice import may_be_notebook
from firstcnn.grading.intake import Folder

__all__ = ["brought", "may_be_brought"]

MOST_FILES = 100
MOST_BYTES = 16 * 2**20

#: What no page runs, and no program reads unless it is told to.
_KINDS = (
    *(".py", ".csv", ".tsv", ".txt", ".json", ".npy", ".npz", ".h5"),
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp"),
)
# No dot in a folder's name: a page, a notebook or a file of the release may come in its place.
_FOLDER = re.compile(r"\w[\w ()+-]{0,99}")
_FILE = re.compile(r"[\w(][\w ()+.-]{0,99}")
_SETTINGS = re.compile(r".*config\.(py|json)|(site|user)customize\.py")


def may_be_brought(name: str) -> bool:
    """Tell by its path whether a file may go where a student's cells run.

    Parameters
    ----------
    name : str
        The path in the submission, with slashes.
    """
    *folders, file = name.split("/")
    if not all(map(_FOLDER.fullmatch, folders)) or not _FILE.fullmatch(file):
        return False
    if not file.lower().endswith(_KINDS) or _SETTINGS.fullmatch(file.lower()):
        return False
    if may_be_notebook(file):
        return False
    # A module is a file, or the folder that it is in.
    top = folders[0] if folders else file.removesuffix(".py")
    return top == file or not _is_known(top)


def _is_known(module: str) -> bool:
    """Tell whether there is a module of this name, other than as an empty shell."""
    if module in sys.stdlib_module_names or module.startswith("__"):
        return True
    found = find_spec(module) if module.isidentifier() else None
    return found is not None and found.origin is not None


def brought(folder: Folder, others: Collection[str]) -> list[str]:
    """Return the files that go along with a notebook; none if they are too many or too large.

    Parameters
    ----------
    folder : Folder
        The submission.
    others : collection of str
        The release's own files, which go along in any case.
    """
    taken = set(others)
    found = [
        name
        for name in folder.files
        if may_be_brought(name) and taken.isdisjoint([name, *map(str, PurePosixPath(name).parents)])
    ]
    size = sum(folder.files[name] for name in found)
    return found if len(found) <= MOST_FILES and size <= MOST_BYTES else []
