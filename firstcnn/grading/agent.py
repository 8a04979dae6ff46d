"""The student's kernel hands out values, and calls functions, on the grader's request.

The first part runs in the kernel: `install` adds a kind of request to those that it answers. The
student may tamper with it, as with everything there. That is why nobody relies on it for more
than the value that it hands out, which is the student's own in any case.

`Student` is the grader's side, and expects the worst of the kernel: that it is dead, hangs, sends
too much, or nonsense.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from firstcnn.check.functions import ending
from firstcnn.grading.patience import Patience
from firstcnn.grading.wire import MAX_BYTES, Packet, WireError, decode, encode

if TYPE_CHECKING:
    from jupyter_client import BlockingKernelClient

REQUEST, REPLY = "firstcnn_request", "firstcnn_reply"

#: Seconds for a request to leave. It never does when the connection was closed over an answer.
_SEND_PATIENCE = 10

#: How often a kernel is interrupted in the time that it has to react.
_INTERRUPTS = 4

# ---- in the student's kernel ------------------------------------------------------------------


def install() -> None:
    """Let the kernel that this runs in answer the grader's requests."""
    from IPython import get_ipython

    kernel = get_ipython().kernel

    def answer(stream: Any, ident: Any, message: dict[str, Any]) -> None:
        reply, packet = _answer(kernel.shell.user_ns, message["content"], message["buffers"])
        buffers = [] if packet is None else [packet]
        kernel.session.send(stream, REPLY, reply, parent=message, ident=ident, buffers=buffers)

    kernel.shell_handlers[REQUEST] = answer


def _answer(names: dict[str, Any], request: dict, buffers: list) -> tuple[dict, bytes | None]:
    """Answer one request: with whether the name is there, and a packet."""
    name = request["name"]
    if name not in names:
        return {"status": "missing"}, None
    try:
        if request["op"] == "export":
            return {"status": "ok"}, encode({"value": names[name]}).to_bytes()
        return {"status": "ok"}, _called(names[name], bytes(buffers[0]))
    except WireError as error:
        return {"status": "ok"}, encode({"refused": str(error)}).to_bytes()
    except Exception as error:  # of an object that is not what it says it is
        refused = f"cannot be read ({type(error).__name__})"
        return {"status": "ok"}, encode({"refused": refused}).to_bytes()


def _called(function: Callable, given: bytes) -> bytes:
    """Call a function with the arguments in a packet, and tell what came of it."""
    args, kwargs = decode(Packet.from_bytes(given))
    try:
        with _undisturbed():
            result = function(*args, **kwargs)
    except BaseException as error:
        return encode({"error": _told(error)}).to_bytes()
    answer = {"value": result}
    if encode((args, kwargs)).to_bytes() != given:
        answer["given"] = args, kwargs
    return encode(answer).to_bytes()


def _told(error: BaseException) -> dict[str, Any]:
    """Tell which of Python's own errors it is, the nearest first, and its words."""
    # NotImplementedError is a RuntimeError, and tells more. UnicodeError is looked for by nobody,
    # but is a ValueError.
    like = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        return {"like": like, "ending": ending(error)}
    except Exception:
        return {"like": like, "ending": f"stops with {type(error).__name__}"}


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep what a function prints, warns of and draws out of the notebook's other cells."""
    plots = sys.modules.get("matplotlib.pyplot")
    before = set(plots.get_fignums()) if plots else set()
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for figure in set(plots.get_fignums()) - before if plots else ():
                plots.close(figure)


# ---- the grader's side ------------------------------------------------------------------------


class StudentKernelError(Exception):
    """No answer from the student's kernel.

    The message is a phrase of which the kernel is the subject: "has stopped".
    """


class Dead(StudentKernelError):
    """The kernel has ended."""


class TooSlow(StudentKernelError):
    """The kernel did not answer in time."""


class TooLarge(StudentKernelError):
    """The answer is larger than may be."""


class Garbled(StudentKernelError):
    """The answer is none."""


class Student:
    """The student's kernel, as the judge's helper sees it.

    Parameters
    ----------
    client : BlockingKernelClient
        A client whose shell and control channels are open; best one of its own (`connected`), of
        which nobody else reads.
    alive : callable
        Tells whether the kernel's process still runs.
    interrupt : callable, optional
        Interrupts it; by default by a message over the control channel.
    patience : float, optional
        Seconds that it has to react to an interrupt. To hand out a value it has three times that.
    """

    def __init__(
        self,
        client: BlockingKernelClient,
        alive: Callable[[], bool],
        *,
        interrupt: Callable[[], None] | None = None,
        patience: float = 10,
    ) -> None:
        self._client = client
        self._alive = alive
        self._interrupt = interrupt or self._send_interrupt
        self._patience = patience
        self._installed = False
        self._late = False

    def fetch(self, name: str) -> bytes | None:
        """Ask for a value by its name in the notebook.

        Returns
        -------
        bytes or None
            A packet: of a dict with the ``"value"``, or why it is ``"refused"``. None if there is
            no such name.

        Raises
        ------
        StudentKernelError
            If there is no answer; see its subclasses.
        """
        return self._ask({"op": "export", "name": name}, [], 3 * self._patience)

    def call(self, name: str, packet: bytes, timeout: float) -> bytes:
        """Have a function called.

        Parameters
        ----------
        name : str
            The function's name in the notebook.
        packet : bytes
            A tuple of positional arguments, and a dict of keyword arguments.
        timeout : float
            Seconds that it may take. It is interrupted after that.

        Returns
        -------
        bytes
            A packet of a dict: the ``"value"``, and what was ``"given"`` as it is after the call,
            if it was changed; or the ``"error"``; or why the value is ``"refused"``.

        Raises
        ------
        StudentKernelError
            If there is no answer; see its subclasses.
        """
        answer = self._ask({"op": "call", "name": name}, [packet], timeout)
        if answer is None:
            raise Garbled(f"does not have {name} any more")
        return answer

    def _ask(self, request: dict, buffers: list[bytes], timeout: float) -> bytes | None:
        self._settle(1)
        if not self._installed:
            self._install()
        sent = self._send(REQUEST, request, buffers)
        reply = self._reply(sent, timeout)
        if reply is None:
            self._late = True
            self._installed = False  # the notebook may have undone it
            self._stop()
            raise TooSlow(f"was interrupted after {timeout:.0f} s")
        return self._packet(reply)

    def _stop(self) -> None:
        """Interrupt it until it heeds that: what has not begun yet hears no interrupt."""
        for _ in range(_INTERRUPTS):
            self._interrupt()
            with contextlib.suppress(TooSlow):
                self._settle(self._patience / _INTERRUPTS)
                return

    def _settle(self, patience: float) -> None:
        """Be sure that the kernel is not busy still with what it was asked before."""
        # It answers in the order in which it is asked.
        if self._late and self._reply(self._send("kernel_info_request", {}), patience) is None:
            raise TooSlow("is busy still with what was called before")
        self._late = False

    def _packet(self, reply: dict[str, Any]) -> bytes | None:
        content, buffers = reply.get("content"), reply.get("buffers")
        status = content.get("status") if isinstance(content, dict) else None
        if status == "missing" and not buffers:
            return None
        if status != "ok" or not isinstance(buffers, list) or len(buffers) != 1:
            raise Garbled("gave an answer that cannot be read")
        if len(buffers[0]) > MAX_BYTES:
            raise TooLarge("gave an answer that is too large")
        return bytes(buffers[0])

    def _install(self) -> None:
        """Have the agent imported in the kernel."""
        code = f"__import__({__name__!r}, fromlist=['install']).install()"
        request = {
            "code": code,
            "silent": True,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        patience = Patience(3 * self._patience)
        while (left := patience.left) > 0:
            reply = self._reply(self._send("execute_request", request), left)
            if reply is None:
                self._late = True
                break
            status = reply["content"].get("status") if isinstance(reply["content"], dict) else None
            if status == "ok":
                self._installed = True
                return
            if status != "aborted":
                raise Garbled("was changed by the notebook, and answers nothing")
            time.sleep(0.05)  # a cell before this has failed, and takes the next ones with it
        raise TooSlow("does not answer")

    def _reply(self, sent: str, timeout: float) -> dict[str, Any] | None:
        """Return the reply to a message, or None if there is none in time."""
        patience = Patience(timeout)
        while (left := patience.left) > 0:
            if not self._socket().poll(1000 * min(left, 0.5)):
                if not self._alive():
                    raise Dead("has stopped, perhaps for want of memory")
                continue
            try:
                reply = self._client.session.recv(self._socket())[1]
                if reply and reply["parent_header"].get("msg_id") == sent:
                    return reply
            # A signature that is not right, no JSON, parts missing: anything may come.
            except Exception as error:
                raise Garbled("gave an answer that cannot be read") from error
        return None

    def _send(self, kind: str, content: dict, buffers: list[bytes] | None = None) -> str:
        import zmq

        try:
            sent = self._client.session.send(self._socket(), kind, content, buffers=buffers)
        except zmq.Again:
            raise TooLarge(
                "sent more at once than is taken in, and is not heard any more"
            ) from None
        return sent["header"]["msg_id"]

    def _socket(self) -> Any:
        import zmq
        import zmq.asyncio

        socket = self._client.shell_channel.socket
        if isinstance(socket, zmq.asyncio.Socket):
            return zmq.Socket.shadow(socket.underlying)
        return socket

    def _send_interrupt(self) -> None:
        self._client.session.send(self._client.control_channel.socket, "interrupt_request", {})


@contextlib.contextmanager
def connected(connection_file: str) -> Iterator[BlockingKernelClient]:
    """Open a client for `Student`, apart from the one that runs the notebook's cells.

    It refuses messages larger than a packet may be before they are in memory, and does not listen
    to what cells print.

    Parameters
    ----------
    connection_file : str
        The path of the kernel's connection file.
    """
    import zmq
    from jupyter_client import BlockingKernelClient

    context = zmq.Context()
    # Sockets made from it have these from the start.
    context.maxmsgsize = MAX_BYTES + 2**20
    context.rcvhwm = 2
    context.sndtimeo = 1000 * _SEND_PATIENCE
    client = BlockingKernelClient(context=context)
    client.load_connection_file(connection_file)
    client.start_channels(iopub=False, stdin=False, hb=False)
    try:
        yield client
    finally:
        client.stop_channels()
        context.destroy(linger=0)
