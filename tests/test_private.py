"""Folders for what is being graded: whose they are, and when they go."""

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from firstcnn.grading import private
from firstcnn.grading.private import private_folder

HOLD = """
from firstcnn.grading.private import private_folder
with private_folder() as folder:
    (folder / "some work").touch()
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def base(tmp_path_factory, monkeypatch):
    """A place for temporary folders, with a path that is short enough."""
    tmp_path_factory.getbasetemp()  # pytest's own, which is to be elsewhere and to stay
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield folder


@pytest.fixture
def another(base):
    """A grader in a process of its own, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def age(folder):
    """Make a folder look as if nothing had been put into it for an hour."""
    times = os.stat(folder).st_mtime - 3600
    os.utime(folder, (times, times))


def test_a_folder_is_its_users_alone_and_goes(base):
    with private_folder() as folder:
        assert str(folder.parent) == base
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "below").mkdir()
        (folder / "below" / "file").touch()
    assert not folder.exists()


def test_it_goes_when_something_fails(base):
    with pytest.raises(ZeroDivisionError), private_folder() as folder:
        1 / 0  # noqa: B018
    assert not folder.exists()


def test_what_a_killed_grader_leaves_is_removed(another):
    process, folder = another
    process.kill()
    process.wait()
    assert os.listdir(folder) == ["some work"]
    age(folder)
    with private_folder():
        assert not os.path.exists(folder)


def test_what_a_grader_uses_stays_however_old(another):
    _, folder = another
    age(folder)
    with private_folder():
        assert os.listdir(folder) == ["some work"]


def test_what_is_just_being_made_stays(another, monkeypatch):
    """Its lock comes a moment later."""
    process, folder = another
    process.kill()
    process.wait()
    now = os.stat(folder).st_mtime + 59
    monkeypatch.setattr(private, "time", SimpleNamespace(time=lambda: now))
    with private_folder():
        assert os.path.exists(folder)
    now += 2
    with private_folder():
        assert not os.path.exists(folder)


@pytest.mark.parametrize("step", ["open", "flock"])
def test_what_was_removed_before_it_was_locked_is_made_again(base, monkeypatch, step):
    """The machine slept in between, and somebody else woke first."""
    owner = os if step == "open" else fcntl
    plain, removed = getattr(owner, step), []

    def late(place, *arguments, **more):
        if not removed:
            removed.extend(os.listdir(base))
            os.rmdir(os.path.join(base, *removed))
        return plain(place, *arguments, **more)

    monkeypatch.setattr(owner, step, late)
    with private_folder() as folder:
        assert folder.is_dir()
        assert os.listdir(base) == [folder.name] != removed
    assert os.listdir(base) == []


def test_a_link_leads_nowhere(base, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    link = os.path.join(base, "firstcnn-grading-link")
    os.symlink(tmp_path / "mine", link)
    times = os.lstat(link).st_mtime - 3600
    os.utime(link, (times, times), follow_symlinks=False)
    with private_folder():
        assert (tmp_path / "mine" / "file").exists()


def test_a_long_path_is_no_place_for_sockets(base, monkeypatch):
    long = os.path.join(base, "long" * 20)
    os.mkdir(long)
    monkeypatch.setattr(tempfile, "tempdir", long)
    with private_folder() as folder:
        assert str(folder.parent) == "/tmp"
