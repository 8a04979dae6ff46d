"""The keeper of a sandbox: the first process in it, and the only one with any power there.

bubblewrap starts it in the new namespaces. It furnishes them: one file system in memory, of a
fixed size, for all that can be written, with the submission's files in it. Then it waits for
what the grader says on a socket:

- to start a process from nothing, confined (`firstcnn.grading.confine`);
- to seal the folder of the kernel's sockets, and with it give up its own power;
- nothing more, ever: the grader is gone, and with the keeper the whole sandbox ends.

It imports the standard library only, without the site's packages, to start in no time. No code
of a student runs in it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any

from firstcnn.grading import confine

# Where things are in a sandbox. The grader binds the first two.
SOCKETS = Path("/run/kernel")
SUBMISSION = Path("/run/submission")
HOME = Path("/student")
WORK = HOME / "work"
SCRATCH = Path("/run/scratch")

#: The most that one message between grader and keeper may have.
MESSAGE = 100_000

#: Seconds for the kernel to have made its sockets, once they can be seen.
_SEAL_PATIENCE = 30

_NOSUID, _NODEV, _NOEXEC, _RDONLY = 0x2, 0x4, 0x8, 0x1  # <linux/mount.h>
_REMOUNT, _BIND, _RECURSIVE = 0x20, 0x1000, 0x4000

# What the system says of others than the one who asks.
_HIDDEN = tuple(
    f"/proc/{name}"
    for name in ("kcore", "keys", "kmsg", "latency_stats", "sched_debug", "timer_list")
)


def send(channel: socket.socket, message: dict[str, Any], *descriptors: int) -> None:
    """Send one message, with open files, over a socket that keeps messages apart."""
    socket.send_fds(channel, [json.dumps(message).encode()], list(descriptors))


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one message and its open files.

    Raises
    ------
    EOFError
        If the other side is gone.
    """
    try:
        content, descriptors, _, _ = socket.recv_fds(channel, MESSAGE, 8)
    except ConnectionError as error:
        raise EOFError from error
    if not content:
        raise EOFError
    return json.loads(content), descriptors


def main(number: int) -> None:
    """Furnish the sandbox and serve the grader, whose socket is this file descriptor."""
    channel = socket.socket(fileno=number)
    try:
        order, _ = receive(channel)
        try:
            if os.getppid() != 1:  # the grader ends the sandbox by ending process 1
                raise OSError("bubblewrap has made no pid namespace")
            log = furnish(order)
        except Exception as error:
            send(channel, {"error": str(error)})
            return
        places = [os.open(place, os.O_RDONLY | os.O_DIRECTORY) for place in (WORK, "/proc")]
        processes = [os.pidfd_open(1), os.pidfd_open(os.getpid())]
        send(channel, {"ready": True}, log, *places, *processes)
        for one in (*places, *processes):
            os.close(one)
        _serve(channel, log)
    except EOFError:
        return


def _serve(channel: socket.socket, log: int) -> None:
    child = ended = None
    while True:
        ready, _, _ = select.select([channel, *([] if ended is None else [ended])], [], [])
        if ended in ready:
            _, status = os.waitpid(child, 0)
            os.close(ended)
            ended = None
            send(channel, {"status": os.waitstatus_to_exitcode(status)})
        if channel in ready:
            order, descriptors = receive(channel)
            if order["do"] == "start":
                if not order["sockets"]:
                    _seal()
                child = _start(order, log, descriptors)
                ended = os.pidfd_open(child)
                send(channel, {"started": child}, ended)
            else:
                _seal()
                send(channel, {"sealed": True})
            if order["do"] == "seal" or not order["sockets"]:
                # There is nothing left to do that would take any.
                confine.drop_capabilities()
            for one in descriptors:
                os.close(one)


# ---- furnishing --------------------------------------------------------------------------------


def furnish(order: dict[str, Any]) -> int:
    """Make the places of a student's process, and nothing else writable.

    Parameters
    ----------
    order : dict
        ``user``, ``disk`` (bytes) and ``files`` (how many).

    Returns
    -------
    int
        The log, a file that has no name in the sandbox.

    Raises
    ------
    OSError
        If the submission does not fit, or the system does not let us.
    """
    user = order["user"]
    os.umask(0o022)
    for name, content in (
        ("passwd", f"student:x:{confine.STUDENT}:{confine.STUDENT}:Student:{HOME}:/bin/sh\n"),
        ("group", f"student:x:{confine.STUDENT}:\n"),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ):
        Path("/etc", name).write_text(content)

    size = f"size={order['disk']},nr_inodes={order['files']},mode=0755"
    confine.mount("scratch", str(SCRATCH), "tmpfs", _NOSUID | _NODEV, size)
    for name, target, mode in (
        ("home", HOME, 0o755),
        ("tmp", Path("/tmp"), 0o1777),
        ("shm", Path("/dev/shm"), 0o1777),
    ):
        place = SCRATCH / name
        place.mkdir()
        place.chmod(mode)
        _cover(place, target)
    log = os.open(SCRATCH / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    confine.unmount(str(SCRATCH))

    if SUBMISSION.is_dir():
        copy_plain_files(SUBMISSION, WORK)
        confine.unmount(str(SUBMISSION))
    else:
        WORK.mkdir()
    _give(HOME, user)
    # Writing to a device is allowed all the same; changing its owner or mode is not. Nor is
    # setting what the system asks for nothing but user 0.
    confine.mount("/proc/sys", "/proc/sys", "", _BIND)
    hidden = [place for place in _HIDDEN if os.path.exists(place)]
    for place in hidden:
        confine.mount("/dev/null", place, "", _BIND)
    devices = [one.path for one in os.scandir("/dev") if stat.S_ISCHR(_mode(one))]
    for place in ("/proc/sys", *hidden, *devices, "/dev/pts", "/dev", "/"):
        confine.mount("", place, "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _flags(place))
    return log


def _cover(place: Path, target: Path) -> None:
    """Mount a folder over another, in which what was there can still be seen, but not changed.

    Python may be in /tmp.
    """
    before = {name: os.open(target / name, os.O_PATH) for name in os.listdir(target)}
    confine.mount(str(place), str(target), "", _BIND)
    for name, folder in before.items():
        (target / name).mkdir()
        confine.mount(f"/proc/self/fd/{folder}", str(target / name), "", _BIND | _RECURSIVE)
        flags = _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV
        confine.mount("", str(target / name), "", flags)
        os.close(folder)


def _flags(place: str) -> int:
    """Return what a mount is to forbid besides: device files, where there are to be none."""
    if place == "/proc/sys":
        return _NODEV | _NOEXEC
    return _NODEV if place == "/" else 0


def copy_plain_files(source: Path, target: Path) -> None:
    """Copy folders and regular files, and leave out links, devices and all else."""
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            kind = _mode(entry)
            if stat.S_ISDIR(kind):
                copy_plain_files(Path(entry.path), target / entry.name)
            elif stat.S_ISREG(kind):
                shutil.copyfile(entry.path, target / entry.name, follow_symlinks=False)


def _mode(entry: os.DirEntry) -> int:
    return entry.stat(follow_symlinks=False).st_mode


def _give(folder: Path, user: int) -> None:
    os.chown(folder, user, user)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(place, name), user, user, follow_symlinks=False)


def _seal() -> None:
    """Let the kernel's sockets stay what and where they are.

    The grader connects to these files by name. A student who could replace one by a link
    would have it connect elsewhere.
    """
    flags = _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _NOEXEC
    deadline = time.monotonic() + _SEAL_PATIENCE
    while True:
        try:
            return confine.mount("", str(SOCKETS), "", flags)
        except OSError as error:
            # The last socket can be seen a moment before the system is done with making it.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


# ---- starting ----------------------------------------------------------------------------------


def _start(order: dict[str, Any], log: int, descriptors: list[int]) -> int:
    """Start a confined process from nothing; its descriptors are 3 and on. Return its id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        confine.arrange(log, descriptors)
        os.chdir(WORK)
        confine.confine(order["user"], order["limits"])
        os.execve(order["argv"][0], order["argv"], order["env"])
    except BaseException:
        import traceback

        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
