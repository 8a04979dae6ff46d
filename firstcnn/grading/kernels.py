"""A kernel for one submission: in a sandbox, or an ordinary one where submissions are trusted.

Both look alike to those who run cells in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.connect import write_connection_file
from jupyter_client.kernelspec import KernelSpecManager

from firstcnn import kernel
from firstcnn.grading.private import private_folder
from firstcnn.grading.provisioner import cautious
from firstcnn.grading.sandbox import MIB, Limits, Sandbox

__all__ = ["Kernel", "ordinary", "sandboxed"]


@dataclass(frozen=True)
class Kernel:
    """A kernel that runs.

    Parameters
    ----------
    connection_file : str
        Where it is, for another client.
    client : BlockingKernelClient
        A client whose channels are open.
    alive : callable
        Tells whether its process still runs.
    interrupt : callable
        Interrupts what it does.
    end : callable
        Ends it, for a reason: a sentence's end, of which the notebook is the subject.
    charge : callable
        Counts bytes that it has put out; too many end it.
    why : callable
        Says why it was ended, as such a sentence's end; nothing if it has ended by itself.
    memory : callable
        Returns the most memory that it was seen to use, in bytes; 0 if nobody looked.
    """

    connection_file: str
    client: BlockingKernelClient
    alive: Callable[[], bool]
    interrupt: Callable[[], None]
    end: Callable[[str], None]
    charge: Callable[[int], None]
    why: Callable[[], str]
    memory: Callable[[], int]


@contextlib.contextmanager
def sandboxed(
    folder: Path | None, *, data: Path | None, limits: Limits, env: Mapping[str, str]
) -> Iterator[Kernel]:
    """Start a kernel in a sandbox.

    Parameters
    ----------
    folder : Path or None
        The files beside the notebook, if any. Notebooks are left out of the copy that the kernel
        sees: the one that is being graded holds the hidden tests.
    data : Path or None
        The folder with MNIST.
    limits : Limits
        What it may take.
    env : mapping of str to str
        More environment variables for it.

    Raises
    ------
    SandboxUnavailable
        If there can be no sandbox on this system.
    SandboxError
        If this one cannot be made, or the kernel does not start.
    """
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(private_folder())
        files = None if folder is None else place / "files"
        if folder is not None:
            shutil.copytree(folder, files, ignore=shutil.ignore_patterns("*.ipynb"))
        box = stack.enter_context(
            Sandbox(files, data=data, limits=limits, env={**_own_environment(), **env})
        )
        file = str(place / "connection.json")
        write_connection_file(file, ip=box.ip, transport="ipc")
        process = box.start_kernel(file)
        client = cautious(BlockingKernelClient, box)()
        stack.enter_context(_opened(client, file))
        yield Kernel(
            file,
            client,
            alive=lambda: process.poll() is None,
            interrupt=lambda: process.send_signal(2),
            end=box.end,
            charge=box.charge,
            why=lambda: _in_words(box),
            memory=lambda: box.peak,
        )


def _own_kernels() -> str:
    """Return the folder with the course's kernelspec."""
    return str(Path(kernel.jupyter_path(), "kernels"))


def _own_environment() -> dict[str, str]:
    """Return what the course's kernelspec sets."""
    return json.loads(Path(_own_kernels(), "python3", "kernel.json").read_text())["env"]


def _in_words(box: Sandbox) -> str:
    limits = box.limits
    known = {
        "memory": f"used more than {limits.memory // MIB} MiB of memory",
        "tasks": f"started {limits.tasks} processes and threads or more",
        "sockets": f"opened more than {limits.sockets} sockets",
        "time": f"took longer than {limits.seconds} s in all",
        "output": f"put out more than {limits.output // MIB} MiB, or too much at once",
    }
    return known.get(box.ended or "", box.ended or "")


@contextlib.contextmanager
def ordinary(folder: Path | None, *, env: Mapping[str, str]) -> Iterator[Kernel]:
    """Start the course's kernel as nbgrader does, which can do whatever the grader can.

    Parameters
    ----------
    folder : Path or None
        The folder to start it in; by default the grader's own.
    env : mapping of str to str
        More environment variables for it.
    """
    # Also on a worker far away, where nobody has set JUPYTER_PATH.
    known = KernelSpecManager(kernel_dirs=[_own_kernels()])
    reasons: list[str] = []

    def end(reason: str) -> None:
        reasons.append(reason)
        manager.shutdown_kernel(now=True)

    with private_folder() as place:
        # Not over ports: one that is free may be another kernel's when this one comes to take it.
        file = str(place / "connection.json")
        manager = KernelManager(
            kernel_name="python3",
            kernel_spec_manager=known,
            transport="ipc",
            connection_file=file,
        )
        manager.start_kernel(cwd=None if folder is None else str(folder), env={**os.environ, **env})
        try:
            client = manager.client()
            with _opened(client, file):
                yield Kernel(
                    file,
                    client,
                    alive=manager.is_alive,
                    interrupt=manager.interrupt_kernel,
                    end=end,
                    charge=lambda size: None,
                    why=lambda: "".join(reasons[:1]),
                    memory=lambda: 0,
                )
        finally:
            manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def _opened(client: BlockingKernelClient, file: str) -> Iterator[None]:
    client.load_connection_file(file)
    client.start_channels(stdin=False, hb=False)
    try:
        yield
    finally:
        client.stop_channels()
