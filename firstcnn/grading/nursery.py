"""Warm kernels: forked from one process that has imported TensorFlow, and has run nothing.

Importing TensorFlow and Keras takes some two seconds of CPU, more than most students' own
work. A *nursery* imports them once. Each kernel that is asked for is a fork of it: it has
the modules, and memory of its own from there on, so nothing that one kernel does is seen by
the next.

A fork is safe only as long as the nursery has no more than imported: after one TensorFlow
operation its thread pools exist in the parent alone, and ``fit`` hangs in a child. The
nursery refuses to serve in that case, and kernels are then started cold.

A fork can also become a process in a sandbox: a student's kernel or a judge. The nursery is
therefore started with a clean environment, and is told nothing that a student must not find in
the memory of such a fork.

`WarmProvisioner` is the jupyter_client kernel provisioner ``firstcnn-warm``: a kernelspec that
names it gets warm kernels from nbgrader, nbclient or anything else that starts kernels.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from firstcnn.grading import confine, isolated

#: Seconds in which a nursery must have imported what it holds; the first time from a cold disk.
START_TIMEOUT = 300


class NurseryError(RuntimeError):
    """A nursery that cannot be had, with the reason."""


# ---- the nursery's own process ----------------------------------------------------------------


def _import_everything() -> None:
    """Import what lessons import. Nothing may be computed here."""
    from firstcnn import kernel

    kernel.install()
    # What IPython would set in the kernel: matplotlib reads it when it is imported.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    with kernel.native_stderr_closed():
        import ipykernel.kernelapp  # noqa: F401
        import keras  # noqa: F401
        import matplotlib.pyplot  # noqa: F401
        import tensorflow  # noqa: F401

        import firstcnn.check
        import firstcnn.figures  # noqa: F401

        _feed_without_autotuning()


def _feed_without_autotuning() -> None:
    """Have Keras feed arrays to networks without tf.data tuning how they are fed.

    With it, the end of an epoch may be waited for while nothing is computed, for seconds where the
    epoch is long; without, it never was (`benchmarks/waits.py`). What is fed, and in which order,
    stays the same.
    """
    try:
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    except ImportError:  # Keras does not promise where it is; kernels only wait then
        return
    from tensorflow.data import Options

    make = ArrayDataAdapter.get_tf_dataset

    @functools.wraps(make)
    def without_autotuning(self: Any) -> Any:
        options = Options()
        options.autotune.enabled = False
        return make(self).with_options(options)

    ArrayDataAdapter.get_tf_dataset = without_autotuning


def _has_computed() -> bool:
    """Tell whether TensorFlow has started to work in this process."""
    from tensorflow.python.eager import context

    current = context.context_safe()
    return current is not None and current._context_handle is not None


def _serve(path: str) -> None:
    """Fork a kernel for each request until the one who started this process is gone."""
    _import_everything()
    if _has_computed():
        raise NurseryError("TensorFlow has run an operation: forks of this process would hang")
    # What forks look through in search of garbage is copied to each: let them look at their own.
    gc.collect()
    gc.freeze()
    ended = _ended_children()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    waiting: dict[int, socket.socket] = {}
    nursery = os.getpid()
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin, ended], [], [])
        if ended in ready:
            ended.recv(4096)
            _report_ended(waiting)
        if listener in ready:
            connection, _ = listener.accept()
            try:
                request, descriptors, _ = _hear(connection)
            except (OSError, EOFError):
                connection.close()
                continue
            if request["package"] != str(isolated.PACKAGE):
                _tell(connection, refused=f"it runs another copy of firstcnn, {isolated.PACKAGE}")
                for one in (connection.detach(), *descriptors):
                    os.close(one)
                continue
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listener, ended, *waiting.values()):
                    one.close()
                if "target" in request:
                    _become_confined(request, connection, descriptors, nursery)
                _become_kernel(request, connection, nursery)
            waiting[pid] = connection
            for one in descriptors:
                os.close(one)
        if sys.stdin in ready and not os.read(0, 1):
            for pid in waiting:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            return


def _ended_children() -> socket.socket:
    """Return a socket that becomes readable when a child has ended."""
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    _ended_children.sender = sender  # kept alive: the descriptor is all that signal has
    return receiver


def _report_ended(waiting: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        connection = waiting.pop(pid, None)
        if connection is not None:
            _tell(connection, status=os.waitstatus_to_exitcode(status))
            connection.close()


def _hear(connection: socket.socket, heard: bytes = b"") -> tuple[dict[str, Any], list[int], bytes]:
    """Read one line, the open files that come with it, and what was heard of the next line.

    Whoever is late finds two lines: that a process was forked, and that it has ended.
    """
    descriptors: list[int] = []
    while b"\n" not in heard:
        content, more, _, _ = socket.recv_fds(connection, 65536, 8)
        if not content:
            raise EOFError
        heard += content
        descriptors += more
    line, _, rest = heard.partition(b"\n")
    return json.loads(line), descriptors, rest


def _tell(connection: socket.socket, *descriptors: int, **what: int | str) -> None:
    with contextlib.suppress(OSError):
        line = json.dumps(what).encode() + b"\n"
        sent = socket.send_fds(connection, [line], list(descriptors))
        connection.sendall(line[sent:])


def _end_with(parent: int) -> None:
    """Have the system end this process with its parent, even if that has ended just now.

    Parameters
    ----------
    parent : int
        The parent's id; 0 for one outside of this process's pid namespace.
    """
    confine.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def _become_kernel(request: dict[str, Any], connection: socket.socket, nursery: int) -> None:
    """Turn a fresh fork into a kernel; does not return."""

    def run() -> None:
        os.setsid()
        _end_with(nursery)
        # Not before: whoever knows of it may signal its group of processes.
        _tell(connection, pid=os.getpid())
        connection.close()
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        null = os.open(os.devnull, os.O_RDWR)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, source in enumerate((null, log, log)):
            os.dup2(source, number)
        _reseed()
        sys.argv = request["argv"]
        from firstcnn import kernel

        kernel.run()

    _run_and_leave(run)


def _become_confined(
    request: dict[str, Any], connection: socket.socket, descriptors: list[int], nursery: int
) -> None:
    """Turn a fresh fork into the parent of a process in a sandbox; does not return.

    Only a child is born into the pid namespace that its parent has joined. The parent stays
    outside, where nobody in the sandbox sees it, tells when the child has ended, and ends as it
    has.
    """
    try:
        keeper, log, *inherited = descriptors
        try:
            _end_with(nursery)
            confine.join(keeper)
            child = os.fork()
        except OSError as error:
            _tell(connection, refused=str(error))
            os._exit(1)
        if not child:
            connection.detach()  # closed with all other files
            _run_confined(request, log, inherited)
        _end_with(nursery)
        process = os.pidfd_open(child)
        _tell(connection, process, pid=child)
        confine.close_all()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if status not in (-signal.SIGKILL, -signal.SIGSTOP):
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(max(status, 0))
    finally:
        os._exit(1)


def _run_confined(request: dict[str, Any], log: int, inherited: list[int]) -> None:
    """Give up everything, and run what was asked for; does not return."""

    def run() -> None:
        os.setsid()
        confine.arrange(log, inherited)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        confine.confine(request["user"], request["limits"])
        _end_with(0)
        _reseed()
        sys.argv = [request["target"], *request["arguments"]]
        if request["target"] == "kernel":
            from firstcnn import kernel

            kernel.run()
        else:
            from firstcnn.grading import judge

            judge.main(socket.socket(fileno=3))

    _run_and_leave(run)


def _run_and_leave(run: Callable[[], None]) -> NoReturn:
    """Run something, and end this process with the status that Python would end with."""
    status = 1
    try:
        run()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _reseed() -> None:
    """Give each fork chance of its own, as a process of its own would have."""
    import random

    import numpy as np

    random.seed()
    np.random.seed()  # noqa: NPY002 - the global generator is the one that a fork would share


# ---- those who ask it -------------------------------------------------------------------------


#: Names the socket of a nursery that another process has started, for its own children to use.
SOCKET_VARIABLE = "FIRSTCNN_NURSERY"


def fork_kernel(argv: list[str], *, cwd: str, env: dict[str, str], log: str) -> ForkedKernel:
    """Fork a kernel from this process's nursery, or the one that `SOCKET_VARIABLE` names.

    Parameters
    ----------
    argv : list of str
        What the kernel reads as its command line.
    cwd : str
        The folder that it works in.
    env : dict of str
        Its environment, whole.
    log : str
        The file for what it writes outside of cells.

    Returns
    -------
    ForkedKernel

    Raises
    ------
    NurseryError
        If there is no nursery and none can be started, or it does not answer, or runs another copy
        of this package.
    """
    forked = ForkedKernel(_ask({"argv": argv, "cwd": cwd, "env": env, "log": log}))
    if not forked.pid:
        raise NurseryError(f"the nursery forks no kernel: {forked.refused or 'it ended at once'}")
    return forked


def fork_confined(order: dict[str, Any], descriptors: list[int]) -> ForkedKernel:
    """Fork a process that joins a sandbox, from the same nursery.

    Parameters
    ----------
    order : dict
        ``target`` ("kernel" or "judge"), ``arguments``, ``cwd``, ``env``, and ``user`` and
        ``limits`` as for `firstcnn.grading.confine.confine`. Nothing in it may be a secret to
        students: later forks of the nursery may have it in their memory.
    descriptors : list of int
        The process, from `os.pidfd_open`, whose namespaces it joins; the log; and what it is to
        have as its descriptors 3, 4 and so on.

    Returns
    -------
    ForkedKernel
        With a `descriptor` for its process.

    Raises
    ------
    NurseryError
        As `fork_kernel`, and if the system does not let it join; then nothing was started.
    """
    forked = ForkedKernel(_ask(order, descriptors))
    if forked.descriptor is None:
        forked.wait()
        raise NurseryError(f"the nursery forks no process into the sandbox: {forked.refused}")
    return forked


def _ask(request: dict[str, Any], descriptors: Sequence[int] = ()) -> socket.socket:
    path = os.environ.get(SOCKET_VARIABLE) or Nursery.shared().socket
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        line = json.dumps({**request, "package": str(isolated.PACKAGE)}).encode() + b"\n"
        sent = socket.send_fds(connection, [line], list(descriptors))
        if sent < len(line):  # who has all of it may have answered, and gone
            connection.sendall(line[sent:])
        return connection
    except OSError as error:
        connection.close()
        raise NurseryError(f"the nursery does not answer: {error}") from error


#: How much of the machine TensorFlow takes: what it reads of the environment when it is imported.
_KEPT = (
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


def clean_environment(home: str) -> dict[str, str]:
    """Return an environment that Python and TensorFlow work in, and nothing else of this one's.

    Parameters
    ----------
    home : str
        What it names as the home, from which libraries read settings.
    """
    made = {
        "HOME": home,
        "LANG": "C.UTF-8",
        "PATH": os.pathsep.join([os.path.join(sys.prefix, "bin"), "/usr/bin", "/bin"]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    made |= {name: os.environ[name] for name in _KEPT if name in os.environ}
    # Some Pythons do not find their own library without it.
    own = os.path.join(sys.base_prefix, "lib")
    if own in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        made["LD_LIBRARY_PATH"] = own
    return made


class Nursery:
    """A process from which kernels are forked.

    Parameters
    ----------
    process_group : int, optional
        As for `subprocess.Popen`: in a group of its own, 0, it does not hear of Ctrl-C.
    wait : bool, optional
        Whether to wait until it is ready. Whoever has something else to do meanwhile calls
        `wait_until_ready` after it, and asks for no kernels before.

    Attributes
    ----------
    socket : str
        The path of the socket on which it is asked for kernels.

    Raises
    ------
    NurseryError
        If it cannot start: no fork on this system, TensorFlow not to be imported, or too slow.
    """

    _instance: Nursery | None = None
    _lock = threading.Lock()

    def __init__(self, process_group: int | None = None, *, wait: bool = True) -> None:
        if not sys.platform.startswith("linux"):
            raise NurseryError("warm kernels need Linux")
        self.owner = os.getpid()
        self._folder = tempfile.TemporaryDirectory(prefix="firstcnn-nursery-")
        self.socket = str(Path(self._folder.name, "socket"))
        self._process = subprocess.Popen(
            isolated.command("firstcnn.grading.nursery", self.socket),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(self._folder.name),
            cwd=self._folder.name,
            process_group=process_group,
        )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it has imported everything.

        Raises
        ------
        NurseryError
            If it cannot, or takes too long; then it has been ended.
        """
        ready, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT)
        if not ready or self._process.stdout.readline().strip() != "ready":
            self._process.kill()
            said = self._process.communicate()[1].strip().splitlines()
            self._folder.cleanup()
            raise NurseryError(said[-1] if said else f"not ready after {START_TIMEOUT} s")
        # What a library prints there later must not fill the pipe and block the nursery.
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    @classmethod
    def shared(cls) -> Nursery:
        """Return this process's nursery, started when it is first asked for."""
        with cls._lock:
            one = cls._instance
            if one is None or one.owner != os.getpid() or one._process.poll() is not None:
                one = cls._instance = cls()
                atexit.register(one.close)
            return one

    def close(self) -> None:
        """End the nursery, and every kernel that is still running."""
        if self.owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


class ForkedKernel:
    """A kernel that is a child of the nursery, in the manner of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._waiting = select.poll()
        self._waiting.register(connection, select.POLLIN)
        self.returncode: int | None = None
        self.refused: str | None = None
        self._heard = b""
        said, descriptors = self._hear()
        self.refused = said.get("refused")
        self.pid: int = said.get("pid", 0)
        self.descriptor: int | None = descriptors[0] if descriptors else None

    def _hear(self) -> tuple[dict[str, Any], list[int]]:
        try:
            said, descriptors, self._heard = _hear(self._connection, self._heard)
            return said, descriptors
        except (OSError, EOFError):
            # The nursery is gone, and its kernels with it.
            return {"refused": "the nursery is gone", "status": -signal.SIGKILL}, []

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None and (self._heard or self._waiting.poll(0)):
            self._finish()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status."""
        if self.returncode is None:
            patience = None if timeout is None else 1000 * timeout
            if not self._heard and not self._waiting.poll(patience):
                raise subprocess.TimeoutExpired("kernel", timeout)
            self._finish()
        return self.returncode

    def _finish(self) -> None:
        self.returncode = self._hear()[0]["status"]
        self._connection.close()

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel and its children."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class WarmProvisioner(LocalProvisioner):
    """The kernel provisioner ``firstcnn-warm``: a fork of the nursery where there can be one."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork a kernel; start a cold one where that cannot be done."""
        try:
            folder = Path(self.parent.connection_file).parent
            cwd = str(Path(kwargs.get("cwd") or Path.cwd()).resolve())
            self.process = fork_kernel(
                ["kernel", "-f", str(self.parent.connection_file)],
                cwd=cwd,
                env=kwargs["env"],
                log=str(folder / f"{self.kernel_id}.log"),
            )
        except NurseryError as error:
            self.log.warning("No warm kernel (%s): starting a cold one.", error)
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        self.cwd = cwd
        return self.connection_info


if __name__ == "__main__":
    try:
        _serve(sys.argv[1])
    except NurseryError as error:
        sys.exit(str(error))
    # Whoever started it may have been killed, and cannot remove the folder.
    shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
    os._exit(0)  # taking TensorFlow apart would take seconds, and nothing needs it
