"""A folder as data, to be sent to where it is graded.

What a student handed in arrives there as it was: links as links, so that preflight says of them
what it would say here, and what is no ordinary file as a pipe, which is none either. Only what
can be graded has its contents sent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from firstcnn.grading.intake import Folder, Refused, read_file
from firstcnn.grading.reading import LARGEST_FILE

__all__ = ["Parcel", "pack"]

#: Bytes of contents that are sent of one folder.
MOST = 4 * LARGEST_FILE


@dataclass(frozen=True)
class Parcel:
    """A folder.

    Parameters
    ----------
    files : dict of str to bytes
        What ordinary files hold, by their path with slashes.
    holes : dict of str to int
        The sizes of ordinary files whose contents are not sent.
    folders : list of str
        Folders, which may be empty.
    others : dict of str to bool
        What is neither: whether it is a link.
    is_link : bool
        Whether the folder itself is one.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    holes: dict[str, int] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    others: dict[str, bool] = field(default_factory=dict)
    is_link: bool = False

    @property
    def digest(self) -> str:
        """A name for what is in it: equal if all that would be sent is equal."""
        made = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            made.update(repr((name, len(content))).encode())
            made.update(content)
        rest = (sorted(self.holes.items()), sorted(self.folders), sorted(self.others.items()))
        made.update(repr((rest, self.is_link)).encode())
        return made.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of contents."""
        return sum(map(len, self.files.values()))

    def unpack(self, place: Path) -> None:
        """Write the folder to a place that does not exist yet."""
        if self.is_link:
            target = place.with_name(f".{place.name}-target")
            target.mkdir(parents=True)
            place.symlink_to(target)
            return
        place.mkdir(parents=True)
        for name in self.folders:
            (place / name).mkdir(parents=True, exist_ok=True)
        for name in (*self.files, *self.holes, *self.others):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (place / name).write_bytes(content)
        for name, size in self.holes.items():
            with open(place / name, "wb") as file:
                file.truncate(size)
        for name, is_link in self.others.items():
            if is_link:
                (place / name).symlink_to(os.devnull)
            else:
                os.mkfifo(place / name)


def pack(
    path: Path,
    ignore: Iterable[str] = (),
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    beside: Iterable[str] = (),
) -> Parcel:
    """Read a folder that is not trusted, as `firstcnn.grading.intake` does.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    ignore : iterable of str, optional
        Patterns of names that are left out.
    wanted : callable, optional
        Tells by its path whether the contents of a file are sent.
    beside : iterable of str, optional
        Names of small files in the folder itself that are sent although they are litter.

    Returns
    -------
    Parcel
    """
    if path.is_symlink():
        return Parcel(is_link=True)
    folder = Folder(path, ignore)
    parcel = Parcel(
        folders=[name.rstrip("/") for name in folder.entries if name.endswith("/")],
        others=dict(folder.others),
    )
    left = MOST
    for name, size in folder.files.items():
        if not wanted(name) or size > min(left, LARGEST_FILE):
            parcel.holes[name] = size
            continue
        try:
            parcel.files[name] = folder.read(name, LARGEST_FILE)
            left -= size
        except Refused:
            parcel.others[name] = False
    for name in beside:
        if os.path.lexists(path / name):
            try:
                parcel.files[name] = read_file(path, name, 1000)
            except Refused:
                parcel.others[name] = False
    return parcel
