"""Jupyter's way into the sandbox: the kernel provisioner ``firstcnn-sandbox``.

A kernelspec that names it has its kernels started in a `firstcnn.grading.sandbox.Sandbox`, by
nbgrader, nbclient or anything else that starts kernels. The folder in which a kernel would be
started is the submission, and is copied.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.client import KernelClient
from jupyter_client.connect import KernelConnectionInfo
from traitlets import Dict, Unicode
from zmq.utils.monitor import parse_monitor_message

from firstcnn import data as mnist
from firstcnn.grading.nursery import WarmProvisioner
from firstcnn.grading.patience import Patience
from firstcnn.grading.sandbox import MIB, Limits, Sandbox, is_trusted


class SandboxProvisioner(WarmProvisioner):
    """Start kernels in sandboxes, warm if possible.

    Where submissions are trusted (``FIRSTCNN_TRUST_SUBMISSIONS=1``), kernels are ordinary ones.

    Attributes
    ----------
    folder : str
        The submission; if empty, the folder that whoever starts the kernel gives.
    limits : dict
        Any of `firstcnn.grading.sandbox.Limits`; the others come from the environment.
    sandbox : Sandbox or None
        The sandbox of the kernel, from its start to the end of its clean-up.
    """

    folder = Unicode("").tag(config=True)
    limits = Dict().tag(config=True)
    sandbox: Sandbox | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Make the sandbox, and have the kernel's sockets in its folder."""
        if not is_trusted():
            self._close()
            self.sandbox = Sandbox(
                Path(self.folder or kwargs.get("cwd") or Path.cwd()),
                data=mnist_folder(),
                limits=Limits.from_environment(**self.limits),
                env=self.kernel_spec.env,
            )
            await asyncio.to_thread(self.sandbox.__enter__)
            self.parent.transport = "ipc"
            self.parent.ip = self.sandbox.ip
            self.parent.client_factory = cautious(self.parent.client_factory, self.sandbox)
        return await super().pre_launch(**kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel in the sandbox; the command is not the caller's."""
        if self.sandbox is None:
            return await super().launch_kernel(cmd, **kwargs)
        file = self.parent.connection_file
        self.process = await asyncio.to_thread(self.sandbox.start_kernel, file)
        self.pid = self.process.pid
        self.pgid = None  # there is no group of processes that could be signalled from outside
        self.cwd = kwargs.get("cwd")
        return self.connection_info

    async def kill(self, restart: bool = False) -> None:
        """End the kernel, and all else in its sandbox."""
        if self.sandbox is None:
            await super().kill(restart=restart)
        else:
            await asyncio.to_thread(self.sandbox.end)

    async def cleanup(self, restart: bool = False) -> None:
        """Leave nothing of the sandbox."""
        await super().cleanup(restart=restart)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        if self.sandbox is not None:
            self.sandbox.close()

    def __del__(self) -> None:
        self._close()


#: Seconds for a message to leave. It never does when the connection was closed over what came in.
SEND_PATIENCE = 10


def cautious(client: type[KernelClient], sandbox: Sandbox) -> type[KernelClient]:
    """Return a kind of client whose memory a kernel cannot fill.

    What a kernel sends is received in the background, before anyone looks at it. So a message
    has a size that it must not have, and there is a number of them that may wait.

    Parameters
    ----------
    client : type
        A class of clients.
    sandbox : Sandbox
        Where the kernel is. It is ended when the kernel sends a message that is too large.
    """

    class CautiousClient(client):
        def _context_default(self) -> zmq.Context:
            context = super()._context_default()
            # Sockets made from it have these from the start.
            context.maxmsgsize = sandbox.limits.message
            context.rcvhwm = 100
            context.sndtimeo = 1000 * SEND_PATIENCE
            return context

        def connect_iopub(self, identity: bytes | None = None) -> zmq.Socket:
            connected = super().connect_iopub(identity)
            sandbox.watch(_Hearing(connected))
            sandbox.watch(_Growth())
            return connected

        def connect_shell(self, identity: bytes | None = None) -> zmq.Socket:
            connected = super().connect_shell(identity)
            sandbox.watch(_Hearing(connected))
            return connected

    return CautiousClient


#: Seconds in which it is retried; in fact at once, but by another thread. And at how many looks
#: of the watcher it must have been gone: the first may come when nobody has run for a while.
_RETRIED_AFTER, _LOOKS = 0.5, 10


class _Hearing:
    """Tell when a kernel cannot be heard any more: it has sent a message that is too large.

    The connection is closed then and not made again, as one would be that the kernel has closed.
    """

    def __init__(self, connected: zmq.Socket) -> None:
        address = f"inproc://{secrets.token_hex(8)}"
        events = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_MONITOR_STOPPED
        zmq.Socket.shadow(connected.underlying).monitor(address, events)
        self._events = zmq.Context.shadow(connected.context.underlying).socket(zmq.PAIR)
        self._events.linger = 0
        self._events.connect(address)
        self._lost: Patience | None = None

    def __call__(self) -> str | None:
        """Name what the sandbox is to be ended for."""
        try:
            while not self._events.closed:
                event = parse_monitor_message(self._events.recv_multipart(zmq.NOBLOCK))["event"]
                lost = event == zmq.EVENT_DISCONNECTED
                self._lost = Patience(_RETRIED_AFTER, _RETRIED_AFTER / _LOOKS) if lost else None
                if event == zmq.EVENT_MONITOR_STOPPED:
                    self.close()
        except zmq.Again:
            pass
        except zmq.ZMQError:  # whoever it listens for is at its end
            self.close()
        return "output" if self._lost is not None and self._lost.over else None

    def close(self) -> None:
        """Listen no more; until then the client's context cannot come to its end."""
        self._events.close()


#: Bytes. To take in the largest value that can be graded takes half of it.
_MOST_GROWTH = 1536 * MIB


class _Growth:
    """Tell when this process takes in far more than a kernel has any reason to send.

    A message may have any number of parts, all of which are received before anyone can look at
    the first one, and ZeroMQ has a limit for the size of a part alone.
    """

    def __init__(self) -> None:
        self._before = self._memory()

    def __call__(self) -> str | None:
        """Name what the sandbox is to be ended for."""
        return "output" if self._memory() - self._before > _MOST_GROWTH else None

    def close(self) -> None:
        """There is nothing to close."""

    @staticmethod
    def _memory() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * sum(map(int, re.findall(r"^(?:RssAnon|VmSwap):\s*(\d+)", status, re.M)))


def mnist_folder() -> Path | None:
    """Return the folder with MNIST, whose files have been verified."""
    mnist.load_local()
    return mnist._find_folder()[1]
