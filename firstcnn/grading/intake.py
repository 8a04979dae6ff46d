"""The folder that a student handed in: what is in it, and how it is read without trusting it.

No link is followed, nothing but ordinary files is opened, and nothing is written.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Folder", "Refused", "read_file"]

MOST_ENTRIES = 5000
DEEPEST = 6

#: Left by operating systems, editors and nbgrader: neither read nor mentioned.
_LITTER = (
    *("timestamp.txt", "submission_secret.txt", ".ipynb_checkpoints", "__pycache__", "*.pyc"),
    *(".DS_Store", "._*", "__MACOSX", "Thumbs.db", "desktop.ini", ".~*", ".virtual_documents"),
)

_SAFELY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Refused(ValueError):
    """A file that is not read, with the reason, as a sentence for the student."""


class Folder:
    """What is in a folder.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    ignore : iterable of str, optional
        Patterns of names that are neither read nor mentioned.

    Attributes
    ----------
    files : dict of str to int
        Ordinary files in it and below: the path, with slashes, and the size in bytes. No more
        than `MOST_ENTRIES` entries are looked at, and no deeper than `DEEPEST` folders.
    others : dict of str to bool
        What is neither a folder nor an ordinary file, by its path: whether it is a link.
    entries : list of str
        What is in the folder itself, with a slash behind the names of folders.
    """

    def __init__(self, path: Path, ignore: Iterable[str] = ()) -> None:
        self.path = path
        self.files: dict[str, int] = {}
        self.others: dict[str, bool] = {}
        self.entries: list[str] = []
        ignored = (*_LITTER, *ignore)
        left, folders = MOST_ENTRIES, [""]
        while folders:
            folder = folders.pop(0)
            for name, status in self._list(folder, left):
                left -= 1
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in ignored):
                    continue
                place = f"{folder}/{name}" if folder else name
                is_folder = stat.S_ISDIR(status.st_mode)
                if not folder:
                    self.entries.append(name + "/" * is_folder)
                if is_folder and place.count("/") < DEEPEST:
                    folders.append(place)
                elif stat.S_ISREG(status.st_mode):
                    self.files[place] = status.st_size
                elif not is_folder:
                    self.others[place] = stat.S_ISLNK(status.st_mode)

    def _list(self, folder: str, most: int) -> list[tuple[str, os.stat_result]]:
        """List a folder, in the order of names; one that cannot be opened is empty."""
        try:
            descriptor = _open_folder(self.path, folder)
        except OSError:
            return []
        try:
            with os.scandir(descriptor) as found:
                entries = list(itertools.islice(found, most))
                seen = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
            return sorted(seen, key=lambda entry: entry[0])
        except OSError:
            return []
        finally:
            os.close(descriptor)

    def read(self, place: str, most: int) -> bytes:
        """Read a file in it, as `read_file` does."""
        return read_file(self.path, place, most)


def _open_folder(path: Path, folder: str) -> int:
    """Open a folder below another; neither it nor anything on the way to it may be a link."""
    descriptor = os.open(path, _SAFELY | os.O_DIRECTORY)
    for part in filter(None, folder.split("/")):
        try:
            below = os.open(part, _SAFELY | os.O_DIRECTORY, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def read_file(path: Path, place: str, most: int) -> bytes:
    """Read an ordinary file.

    Parameters
    ----------
    path : pathlib.Path
        A folder.
    place : str
        The file's path in it.
    most : int
        Bytes.

    Returns
    -------
    bytes

    Raises
    ------
    Refused
        If it is no ordinary file, cannot be read, or is larger.
    """
    folder, _, name = place.rpartition("/")
    try:
        descriptor = _open_folder(path, folder)
    except OSError:
        raise Refused("Its folder cannot be opened.") from None
    try:
        mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
        # To open a device can be an act of its own.
        if not stat.S_ISREG(mode):
            what = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else ""
            raise Refused(f"It is {what or 'no ordinary file'}.")
        with os.fdopen(os.open(name, _SAFELY, dir_fd=descriptor), "rb") as file:
            if os.fstat(file.fileno()).st_size > most:
                raise Refused(f"It is larger than {most // 2**20} MB.")
            return file.read(most)
    except FileNotFoundError:
        raise Refused("It is missing.") from None
    except OSError:
        raise Refused("It cannot be read.") from None
    finally:
        os.close(descriptor)
