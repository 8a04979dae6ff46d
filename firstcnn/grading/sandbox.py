"""A sandbox: the one place where code that nobody trusts runs, and nothing gets out of.

A `Sandbox` is a set of namespaces made by bubblewrap, of its own for every submission: no
network, no other process, no file but the system's programs, Python, this package, MNIST (all
of them read-only) and a copy of the submission, which is the only thing that can be written and
lives in memory. One process is started in it, a student's kernel or a judge. It is forked from
the nursery, which has TensorFlow imported (`firstcnn.grading.nursery`), or started from nothing
where there is none, and gives up all privileges first (`firstcnn.grading.confine`).

What a process cannot be kept from by the system is watched from outside, by a thread for each
sandbox: memory, threads and sockets of all processes together, and time. Whoever takes too much
ends the sandbox, with all that is in it; so does the end of the grader, however it comes about.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import select
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from firstcnn import data as mnist
from firstcnn.grading import confine, isolated, keeper
from firstcnn.grading.nursery import NurseryError, clean_environment, fork_confined
from firstcnn.grading.private import private_folder

__all__ = [
    "Inside",
    "Limits",
    "Sandbox",
    "SandboxError",
    "SandboxUnavailable",
    "is_trusted",
    "start_judge",
]

_log = logging.getLogger(__name__)

MIB = 2**20

#: Set to 1 to run submissions that are trusted in ordinary kernels.
TRUST_VARIABLE = "FIRSTCNN_TRUST_SUBMISSIONS"


class SandboxUnavailable(RuntimeError):
    """No sandbox can be made on this system; the message says what to do."""


class SandboxError(RuntimeError):
    """A sandbox, or what should run in it, did not start; the message says why."""


def is_trusted() -> bool:
    """Tell whether submissions may run in ordinary kernels, because someone said so."""
    return os.environ.get(TRUST_VARIABLE, "") not in ("", "0")


@dataclass(frozen=True)
class Limits:
    """What all processes in a sandbox together may take, if not said otherwise.

    Parameters
    ----------
    memory : int
        Bytes of memory, files included. Also the most that one process can ask for, which it
        is told by a MemoryError.
    tasks : int
        Processes and threads. TensorFlow has some for each core.
    sockets : int
        Sockets: their buffers are memory that belongs to no process.
    disk : int
        Bytes of files.
    files : int
        How many files.
    file_size : int
        Bytes of one file.
    cpu : int
        Seconds of CPU time of one process.
    seconds : int
        Seconds from start to end.
    output : int
        Bytes that the grader takes from it, see `Sandbox.charge`.
    message : int
        Bytes of one message of the kernel, not of several.
    """

    memory: int = 3072 * MIB
    tasks: int = 256 + 8 * (os.cpu_count() or 1)
    sockets: int = 256
    disk: int = 512 * MIB
    files: int = 20_000
    file_size: int = 256 * MIB
    cpu: int = 3600
    seconds: int = 1800
    output: int = 64 * MIB
    message: int = 16 * MIB

    @classmethod
    def from_environment(cls, **given: int) -> Limits:
        """Return the limits of ``FIRSTCNN_LIMIT_MEMORY`` and so on; what is given goes first."""
        found = {
            one.name: int(os.environ[variable])
            for one in fields(cls)
            if (variable := f"FIRSTCNN_LIMIT_{one.name.upper()}") in os.environ
        }
        return cls(**{**found, **given})

    def of_process(self) -> dict[str, int]:
        """Return those that the system enforces for a process, by name as in `resource`."""
        limits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_CPU": self.cpu,
            "RLIMIT_DATA": self.memory,
            "RLIMIT_FSIZE": self.file_size,
            "RLIMIT_MEMLOCK": 8 * MIB,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_NOFILE": 512,
            "RLIMIT_SIGPENDING": 1024,
        }
        if os.geteuid() == 0 or _linux() >= (5, 14):
            # On older systems a user's processes outside would count too.
            limits["RLIMIT_NPROC"] = self.tasks
        return limits


def _linux() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


# ---- what is in it -----------------------------------------------------------------------------

_MNIST, _CACHE = "/run/mnist", "/run/firstcnn-cache"
_CONNECTION_FILE = "connection.json"
# Not /usr/local, where nbgrader's exchange with everyone's submissions is by default.
_USR = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share")
_ETC = ("alternatives", "fonts", "ld.so.cache", "localtime")
_PYTHON = ("bin", "lib", "lib64", "pyvenv.cfg")
# Capabilities over the sandbox, for the keeper alone: to mount, to give files to the student's
# user, to become that user, and to take care that it stays so; the last one is asked of whoever
# gives another name to user 0.
_KEEPERS = (
    "CAP_SYS_ADMIN",
    "CAP_CHOWN",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETFCAP",
)
_START_KEEPER = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from firstcnn.grading import keeper; keeper.main(int(sys.argv[2]))"
)
#: Seconds for bubblewrap and the keeper, which import next to nothing, and for a cold process,
#: which may import TensorFlow, on a machine that is busy.
_PATIENCE, _COLD_PATIENCE = 120, 300


def _python_places() -> list[str]:
    """Return what this Python, its environment and this package are made of."""
    real = Path(os.path.realpath(sys.executable)).parents[1]
    places: list[str] = []
    for prefix in dict.fromkeys([sys.prefix, sys.base_prefix, str(real)]):
        if prefix not in ("/", "/usr"):
            places += [os.path.join(prefix, name) for name in _PYTHON]
    places = [place for place in places if os.path.exists(place)]
    libraries = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    for place in (*libraries, str(isolated.PACKAGE)):
        inside = any(Path(place).is_relative_to(one) for one in (*places, "/usr/lib"))
        if not inside and place != site.getusersitepackages() and os.path.exists(place):
            places.append(place)
    return places


def _shown(place: str) -> list[str]:
    """Return bubblewrap's arguments that show a place as it is, to be read only."""
    if os.path.islink(place):
        target = os.readlink(place)
        if not os.path.isabs(target) and ".." not in target.split("/"):
            return ["--symlink", target, place]
    return ["--ro-bind-try", place, place]


def _cache_files() -> list[Path]:
    """Return what `firstcnn.data` has verified, so that it need not be verified again inside."""
    folder = mnist._cache_folder()
    if folder is None:
        return []
    files = [folder / f"{part.file}.npy" for part in mnist._PARTS]
    if not all(file.is_file() for file in files):
        return []
    return [*files, *folder.glob("verified-*")]


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment inside, in which nothing of the grader's is left."""
    named = {"USER": "student", "LOGNAME": "student", "TMPDIR": "/tmp", "FIRSTCNN_CACHE": _CACHE}
    return {**clean_environment(str(keeper.HOME)), **named, **given}


# ---- whose it is -------------------------------------------------------------------------------


def _user_outside(places: Sequence[str]) -> int | None:
    """Return a user id that nobody has, for root to start a student's process as.

    The system lets root do much for being root, without any capability. An ordinary grader has
    no other user to give, and needs none: its own has no say in the sandbox. So has root of a
    container that knows no other user, which is an ordinary user outside.

    Raises
    ------
    SandboxUnavailable
        If that user could not read what it must.
    """
    if os.geteuid():
        return None
    # In the middle of a stretch that no distribution gives to anyone; nobody if there is none.
    for user in (0x7000_0000 + random.SystemRandom().randrange(2**24), 65534):
        if all(_is_known(user, f"/proc/self/{name}") for name in ("uid_map", "gid_map")):
            break
    else:
        return None
    if secret := _first_secret(places):
        raise SandboxUnavailable(
            "When root grades, students' code runs as a user who is nobody, and who must be able "
            f"to read Python, firstcnn and MNIST, but not {secret}: chmod -R o+rX is missing there."
        )
    return user


def _is_known(user: int, file: str) -> bool:
    """Tell whether an id exists in the user namespace of this process."""
    with open(file) as lines:
        ranges = [tuple(map(int, line.split())) for line in lines]
    return any(first <= user < first + length for first, _, length in ranges)


def _first_secret(places: Sequence[str]) -> str | None:
    """Return one of these that not everyone may read, as far as samples of them can tell."""
    tensorflow = find_spec("tensorflow")
    samples = [*places, __file__, os.path.realpath(sys.executable)]
    if tensorflow is not None and tensorflow.origin:
        samples.append(tensorflow.origin)
    for place in filter(os.path.exists, samples):
        mode = os.stat(place).st_mode
        if not mode & 0o004 or (os.path.isdir(place) and not mode & 0o001):
            return place
    return None


# ---- the sandbox -------------------------------------------------------------------------------


class Sandbox:
    """Namespaces of their own, for one process that is not trusted and its children.

    Parameters
    ----------
    submission : Path or None
        A folder. Its regular files are copied to the folder that the process works in.
    data : Path or None, optional
        The folder with MNIST. What `firstcnn.data` has verified before is there in any case.
    limits : Limits, optional
        Otherwise those of the environment.
    env : mapping of str to str, optional
        More environment variables for the process.

    Attributes
    ----------
    ip : str
        What a kernel's connection file must have as its "ip", the transport being "ipc".
    ended : str or None
        Why it was ended, if not by the one who made it: "memory", "tasks", "sockets", "time",
        "output", or in words why it could not be watched.
    why_cold : str or None
        Why its process was not forked from the nursery, if that was wanted.
    peak : int
        The most memory that the watcher has seen in use, in bytes.

    Raises
    ------
    SandboxUnavailable
        On entering, if there can be none on this system.
    SandboxError
        On entering, if this one cannot be made: the submission is too large, say.
    """

    def __init__(
        self,
        submission: Path | None,
        *,
        data: Path | None = None,
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = Limits.from_environment() if limits is None else limits
        self.ended: str | None = None
        self.why_cold: str | None = None
        self.peak = 0
        self._submission = submission
        self._data = data
        self._env = _environment({} if env is None else env)
        self._cache = _cache_files()
        if data is not None:
            self._env["MNIST_DIR"] = _MNIST
        self._open = contextlib.ExitStack()
        self._over = threading.Event()
        # Whoever ends it may be its watcher, in the midst of that: a provisioner that is no longer
        # needed is taken apart in any thread.
        self._ending = threading.RLock()
        self._watcher: threading.Thread | None = None
        self._checks: list[Check] = []
        self._status: int | None = None
        self._taken = 0

    # ---- its beginning ----

    def __enter__(self) -> Sandbox:
        program = _bubblewrap()
        try:
            self._make(program)
        except BaseException:
            self.close()
            raise
        return self

    def _make(self, program: str) -> None:
        self._folder = self._open.enter_context(private_folder())
        self.ip = str(self._folder / "k")
        python = _python_places()
        data = [] if self._data is None else [self._data, *self._data.iterdir()]
        user = _user_outside([*python, *map(str, data)])
        #: The user inside, as the keeper knows it.
        self._user = 0 if user is None else confine.STUDENT
        if user is not None:
            os.chown(self._folder, user, user)

        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._open.callback(self._channel.close)
        self._channel.settimeout(_PATIENCE)
        with contextlib.ExitStack() as for_start:
            said = for_start.enter_context(tempfile.TemporaryFile())
            for_start.callback(theirs.close)
            inherited = [theirs.fileno()]
            options = self._options(python)
            if user is not None:
                told, tells = os.pipe()
                waits, go = os.pipe()
                for one in (told, waits, go):
                    for_start.callback(os.close, one)
                tells = for_start.enter_context(os.fdopen(tells, "wb"))
                options += ["--info-fd", str(tells.fileno()), "--userns-block-fd", str(waits)]
                inherited += [tells.fileno(), waits]
            # Through a file: its command line can be read inside, too.
            listed = for_start.enter_context(tempfile.TemporaryFile())
            listed.write(os.fsencode("\0".join(options)))
            listed.seek(0)
            inherited.append(listed.fileno())
            keep = [sys.executable, "-I", "-S", "-c", _START_KEEPER, str(isolated.PACKAGE.parent)]
            command = [program, "--args", str(listed.fileno()), "--", *keep, str(theirs.fileno())]
            self._bubblewrap = _start(command, inherited, said)
            theirs.close()
            try:
                if user is not None:
                    tells.close()
                    _map_users(_child(told), user)
                    os.write(go, b"1")
                order = {"user": self._user, "disk": self.limits.disk, "files": self.limits.files}
                keeper.send(self._channel, order)
                answer, descriptors = keeper.receive(self._channel)
            except (OSError, EOFError) as error:
                self._bubblewrap.kill()
                self._bubblewrap.wait()
                said.seek(0)
                words = said.read().decode(errors="replace").strip() or str(error)
                raise SandboxUnavailable(_ADVICE.format(words)) from None
        for one in descriptors:
            self._open.callback(os.close, one)
        if "error" in answer:
            self._bubblewrap.wait()
            raise SandboxError(f"the sandbox cannot be furnished: {answer['error']}")
        self._log, self._work, self._proc, self._first, self._keeper = descriptors
        self._until = time.monotonic() + self.limits.seconds
        self._watcher = threading.Thread(target=self._watch, name="firstcnn-watch", daemon=True)
        self._watcher.start()

    def _options(self, python: Sequence[str]) -> list[str]:
        """Return bubblewrap's options."""
        made = ["--unshare-user", "--uid", "0", "--gid", "0", "--hostname", "sandbox"]
        made += [f"--unshare-{kind}" for kind in ("ipc", "pid", "net", "uts", "cgroup")]
        made += ["--die-with-parent", "--cap-drop", "ALL"]
        for capability in _KEEPERS:
            made += ["--cap-add", capability]
        shown: list[str] = []
        for name in _USR:
            shown += _shown(f"/usr/{name}")
            if name not in ("libexec", "share"):
                shown += _shown(f"/{name}")
        for place in (*(f"/etc/{name}" for name in _ETC), *python):
            shown += _shown(place)
        if self._data is not None:
            shown += ["--ro-bind", str(self._data.resolve()), _MNIST]
        for file in self._cache:
            shown += ["--ro-bind", str(file), f"{_CACHE}/{file.name}"]
        if self._submission is not None:
            shown += ["--ro-bind", str(self._submission.resolve()), str(keeper.SUBMISSION)]
        shown += ["--bind", str(self._folder), str(keeper.SOCKETS)]
        made += ["--proc", "/proc", "--dev", "/dev"]
        # Those on the way to a place too, which would else be for their owner alone.
        folders = {Path("/tmp"), Path("/etc"), keeper.HOME, keeper.SCRATCH}
        folders |= {keeper.HOME.parent, keeper.SCRATCH.parent}
        folders |= {parent for place in shown[2::3] for parent in Path(place).parents}
        for folder in sorted(folders - {Path("/")}):
            made += ["--dir", str(folder)]
        return [*made, *shown]

    # ---- what runs in it ----

    def start_kernel(self, connection_file: Path | str, *, warm: bool = True) -> Inside:
        """Start a student's kernel; return when its sockets are there, and cannot be changed.

        Parameters
        ----------
        connection_file : Path or str
            As jupyter_client wrote it, with `ip` as its "ip" and "ipc" as its transport.
        warm : bool, optional
            Fork it from the nursery, if there can be one.

        Raises
        ------
        SandboxError
            If it does not start.
        """
        connection = json.loads(Path(connection_file).read_text())
        if (connection["transport"], connection["ip"]) != ("ipc", self.ip):
            raise ValueError(f"the connection file must have transport ipc and ip {self.ip}")
        file = self._folder / _CONNECTION_FILE
        inside = {**connection, "ip": str(keeper.SOCKETS / Path(self.ip).name)}
        file.write_text(json.dumps(inside))
        file.chmod(0o444)
        arguments = ["-f", str(keeper.SOCKETS / _CONNECTION_FILE)]
        process = self._start_warm("kernel", arguments, []) if warm else None
        if process is None:
            command = isolated.command("firstcnn.kernel", *arguments)
            process = self._start_cold(command, [], sockets=True)
        ports = [value for name, value in connection.items() if name.endswith("_port")]
        awaited = [Path(f"{self.ip}-{port}") for port in ports]
        patience = time.monotonic() + _COLD_PATIENCE
        while not all(os.path.lexists(one) for one in awaited):
            if process.poll() is not None or time.monotonic() > patience:
                raise SandboxError(f"the kernel did not start: {self.log() or 'it says nothing'}")
            time.sleep(0.005)
        self._order({"do": "seal"}, "sealed")
        return process

    def start_judge(self, *, warm: bool = True) -> tuple[socket.socket, Inside]:
        """Start a judge.

        Parameters
        ----------
        warm : bool, optional
            Fork it from the nursery, if there can be one.

        Returns
        -------
        socket.socket
            Connected to `firstcnn.grading.judge.main`.
        Inside
            Its process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._start_warm("judge", [], [theirs.fileno()]) if warm else None
            if process is None:
                command = isolated.command("firstcnn.grading.judge", "3")
                process = self.start(command, [theirs.fileno()])
            else:
                self._order({"do": "seal"}, "sealed")
        self._open.callback(ours.close)
        return ours, process

    def start(self, command: Sequence[str], descriptors: Sequence[int] = ()) -> Inside:
        """Start any program of those that are in the sandbox, from nothing.

        Parameters
        ----------
        command : sequence of str
            The program's path and its arguments.
        descriptors : sequence of int, optional
            Open files that it is to have as its descriptors 3, 4 and so on.
        """
        return self._start_cold(command, descriptors, sockets=False)

    def _start_cold(
        self, command: Sequence[str], descriptors: Sequence[int], *, sockets: bool
    ) -> Inside:
        order = {
            "do": "start",
            "sockets": sockets,
            "argv": list(command),
            "env": self._env,
            "user": self._user,
            "limits": self.limits.of_process(),
        }
        answer, (process,) = self._order(order, "started", *descriptors)
        self._open.callback(os.close, process)
        return Inside(self, answer["started"], process, _Kept(self))

    def _start_warm(
        self, target: str, arguments: list[str], descriptors: list[int]
    ) -> Inside | None:
        """Fork a process from the nursery; None where that cannot be done."""
        order = {
            "target": target,
            "arguments": arguments,
            "cwd": str(keeper.WORK),
            "env": self._env,
            "user": self._user,
            "limits": self.limits.of_process(),
        }
        try:
            forked = fork_confined(order, [self._keeper, self._log, *descriptors])
        except NurseryError as error:
            self.why_cold = str(error)
            _log.warning("No warm %s (%s): starting a cold one.", target, error)
            return None
        self._open.callback(os.close, forked.descriptor)
        return Inside(self, forked.pid, forked.descriptor, forked)

    def _order(
        self, order: dict[str, Any], answer: str, *descriptors: int
    ) -> tuple[dict[str, Any], list[int]]:
        """Have the keeper do something, and return what it answers."""
        try:
            keeper.send(self._channel, order, *descriptors)
            while True:
                said, received = keeper.receive(self._channel)
                if answer in said:
                    return said, received
                self._status = said["status"]
        except (OSError, EOFError) as error:
            raise SandboxError(f"the sandbox has ended: {self.ended or error}") from None

    # ---- while it runs ----

    def charge(self, size: int) -> None:
        """Count bytes of output that the grader has taken; too many end the sandbox."""
        self._taken += size
        if self._taken > self.limits.output:
            self.end("output")

    def log(self, most: int = 8192) -> str:
        """Return the end of what was written to standard output and error outside of cells."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, most, max(0, size - most)).decode(errors="replace").strip()

    def _watch(self) -> None:
        """End the sandbox when it takes too much."""
        while not self._over.wait(_WATCH_EVERY):
            try:
                reason = "time" if time.monotonic() > self._until else self._excess()
                found = [reason, *(check() for check in self._checks)]
            except Exception as error:  # whatever it is: nothing runs unwatched
                found = [f"it cannot be watched: {error!r}"]
            if any(found):
                self.end(next(filter(None, found)))
        with self._ending:
            for check in self._checks:
                check.close()

    def watch(self, check: Check) -> None:
        """Have the watcher ask something else too, every moment, until it closes it."""
        with self._ending:
            if self._over.is_set():
                check.close()
            else:
                self._checks.append(check)

    def _excess(self) -> str | None:
        """Name what is taken too much of."""
        try:
            processes = [name for name in os.listdir(self._proc) if name.isdigit()]
            sockets = _number("sockets: used", _read(self._proc, "1/net/sockstat"))
        except (FileNotFoundError, ProcessLookupError):  # it has ended by itself
            return None
        tasks, memory = 0, {}
        for process in processes:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = _read(self._proc, f"{process}/status")
                tasks += _number("Threads:", status)
                memory[process] = 1024 * sum(_number(name, status) for name in _MEMORY)
        system = os.fstatvfs(self._work)
        files = (system.f_blocks - system.f_bfree) * system.f_frsize
        if sum(memory.values()) + files > self.limits.memory:
            # What several processes share was counted for each.
            memory = {process: self._share(process, size) for process, size in memory.items()}
        used = sum(memory.values()) + files
        self.peak = max(self.peak, used)
        if used > self.limits.memory:
            return "memory"
        # A system that holds them to the limit lets them come no further than that.
        if tasks >= self.limits.tasks:
            return "tasks"
        return "sockets" if sockets > self.limits.sockets else None

    def _share(self, process: str, size: int) -> int:
        """Return the memory of a process without what others have to answer for."""
        try:
            rollup = _read(self._proc, f"{process}/smaps_rollup")
            tables = _number("VmPTE:", _read(self._proc, f"{process}/status"))
        except (FileNotFoundError, ProcessLookupError):  # it has ended, and holds nothing any more
            return 0
        except OSError:
            return size
        return 1024 * (sum(_number(name, rollup) for name in _SHARE) + tables)

    # ---- its end ----

    def end(self, reason: str | None = None) -> None:
        """End all processes in it; when this returns, there are none.

        Parameters
        ----------
        reason : str, optional
            What `ended` is to say.
        """
        with self._ending:
            if self._over.is_set():
                return
            if reason is not None:
                self.ended = reason
            self._over.set()
            with contextlib.suppress(ProcessLookupError):
                # The first process of a pid namespace takes all others with it.
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            self._bubblewrap.wait()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set() or self._bubblewrap.poll() is not None

    def close(self) -> None:
        """End it, if that was not done, and leave nothing of it."""
        if self._watcher is not None:
            self.end()
            if self._watcher is not threading.current_thread():
                self._watcher.join()
        self._open.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_WATCH_EVERY = 0.05
# Of what /proc says of a process: without what can be read from files again, with the tables of
# its memory, which can be large where that is not.
_MEMORY = ("RssAnon:", "RssShmem:", "VmSwap:", "VmPTE:")
_SHARE = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")


def start_judge(
    data: Path | None = None,
    limits: Limits | None = None,
    *,
    env: Mapping[str, str] | None = None,
    warm: bool = True,
) -> tuple[socket.socket, Callable[[], None]]:
    """Start a judge in a sandbox of its own, as `firstcnn.grading.judge.Judge` wants it started.

    Parameters
    ----------
    data : Path or None, optional
        The folder with MNIST.
    limits : Limits, optional
        Otherwise those of the environment.
    env : mapping of str to str, optional
        More environment variables for it.
    warm : bool, optional
        Fork it from the nursery, if there can be one.

    Returns
    -------
    socket.socket
        Connected to the judge.
    callable
        Ends the judge, and closes the sandbox.
    """
    sandbox = Sandbox(None, data=data, limits=limits, env=env)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sandbox)
        connected, _ = sandbox.start_judge(warm=warm)
        stack.pop_all()
    return connected, sandbox.close


class Check(Protocol):
    """What is asked every moment by a sandbox's watcher, in its thread."""

    def __call__(self) -> str | None:
        """Name what the sandbox is to be ended for, if anything."""

    def close(self) -> None:
        """Hear that it is not asked again."""


class _Ending(Protocol):
    """Someone who knows when a process has ended, in the manner of `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status."""


class _Kept:
    """A process that the keeper started, which tells when it has ended."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self._sandbox._status is None and _is_ready(self._sandbox._channel, 0):
            self._hear()
        return self._sandbox._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status."""
        if self._sandbox._status is None:
            if not _is_ready(self._sandbox._channel, timeout):
                raise subprocess.TimeoutExpired("sandbox", timeout)
            self._hear()
        return self._sandbox._status

    def _hear(self) -> None:
        try:
            self._sandbox._status = keeper.receive(self._sandbox._channel)[0]["status"]
        except EOFError:
            self._sandbox._status = -signal.SIGKILL


class Inside:
    """A process in a sandbox, in the manner of `subprocess.Popen`.

    Attributes
    ----------
    pid : int
        Its process id, outside if it was forked from the nursery, else inside.
    returncode : int or None
        Its exit status, once it has ended and someone has asked.
    """

    stdin = stdout = stderr = None

    def __init__(self, sandbox: Sandbox, pid: int, descriptor: int, ending: _Ending) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._sandbox = sandbox
        self._descriptor = descriptor
        self._ending = ending

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None:
            over = self._sandbox.over
            self.returncode = self._ending.poll()
            if self.returncode is None and over:
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status."""
        if self.poll() is None:
            self.returncode = self._ending.wait(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to it; one that cannot be refused ends the whole sandbox."""
        if number == signal.SIGKILL:
            self._sandbox.end()
        elif self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole sandbox."""
        self.send_signal(signal.SIGKILL)


# ---- the system --------------------------------------------------------------------------------

_ADVICE = (
    "No sandbox can be made here. bubblewrap says: {}\n"
    "It needs user namespaces: for ordinary users, the settings user.max_user_namespaces above 0, "
    "kernel.unprivileged_userns_clone=1 (Debian) and "
    "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) of sysctl; in a container, a seccomp "
    f"profile that allows them. To run submissions that you trust without one, set "
    f"{TRUST_VARIABLE}=1."
)


def _bubblewrap() -> str:
    """Return the path of bubblewrap, or say why there can be no sandbox."""
    trust = f"To run submissions that you trust without one, set {TRUST_VARIABLE}=1."
    if not confine.can_confine():
        system = os.uname()
        raise SandboxUnavailable(
            "The sandbox for students' code needs Linux on x86_64 or aarch64; this is "
            f"{system.sysname} on {system.machine}. {trust}"
        )
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(
            "The sandbox for students' code needs bubblewrap: apt install bubblewrap, "
            f"or dnf install bubblewrap. {trust}"
        )
    return program


_starters: dict[int, ThreadPoolExecutor] = {}


def _start(command: Sequence[str], inherited: Sequence[int], said: Any) -> subprocess.Popen:
    """Start bubblewrap from a thread that lives as long as this process.

    It is to die with its parent, which for the system is the thread that started it.
    """
    starter = _starters.setdefault(os.getpid(), ThreadPoolExecutor(1, "firstcnn-starter"))
    return starter.submit(
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env={},  # bubblewrap's own can be read inside, as that of process 1
        cwd="/",
        pass_fds=inherited,
        start_new_session=True,
    ).result()


def _child(told: int) -> int:
    """Return the id of bubblewrap's child, which waits for its users to be mapped."""
    words = b""
    while chunk := os.read(told, 4096):
        words += chunk
    try:
        return json.loads(words)["child-pid"]
    except ValueError:
        raise OSError("it has not started") from None


def _map_users(child: int, user: int) -> None:
    """Let root of a new user namespace be root outside, and its student a user of no one."""
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w") as file:
            file.write(f"0 0 1\n{confine.STUDENT} {user} 1\n")


def _is_ready(channel: socket.socket, timeout: float | None) -> bool:
    waiting = select.poll()  # unlike select.select, for any number of open files
    waiting.register(channel, select.POLLIN)
    return bool(waiting.poll(None if timeout is None else 1000 * timeout))


def _read(folder: int, name: str) -> str:
    file = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(file, 65536).decode(errors="replace")
    finally:
        os.close(file)


def _number(label: str, text: str) -> int:
    """Return the number behind a label at the start of a line, 0 where there is none.

    Nowhere else: a process can give itself a name that looks like a label.
    """
    _, found, rest = f"\n{text}".partition(f"\n{label}")
    return int(rest.split(maxsplit=1)[0]) if found else 0
