"""Student cells are run in a kernel that may do anything: die, hang, flood, or send nonsense.

nbclient expects a kernel that means well. Here nothing is waited for without an end, and nothing
that comes in is taken for more than an output of the cell that is being run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import zmq

from firstcnn.grading.kernels import Kernel
from firstcnn.grading.patience import Patience

__all__ = ["Cells", "Ended", "Ran"]

#: Outputs of one cell; what comes after them is not kept.
MOST_OUTPUTS = 1000

#: Seconds for a kernel to answer at first, to stop when it is interrupted, and to tell that a
#: cell is done after having answered: what it says goes another way than what it shows.
START_PATIENCE = 120
STOP_PATIENCE = 10
IDLE_PATIENCE = 30

#: How often a kernel is interrupted within that time: what has not begun yet hears no interrupt.
_INTERRUPTS = 4


#: Why a kernel is ended that has lost its connection, as the end of a sentence.
UNHEARD = "sent more at once than is taken in"


class Ended(Exception):
    """The kernel has ended, and no cell runs in it any more."""


@dataclass
class Ran:
    """What became of a cell.

    Parameters
    ----------
    outputs : list of dict
        Its outputs, as the kernel sent them: of any form. A later cell may still change them.
    count : int or None
        The number that the kernel gave the cell.
    stopped : bool
        Whether it took too long, and was interrupted.
    ended : bool
        Whether the kernel ended in it.
    """

    outputs: list[dict[str, Any]] = field(default_factory=list)
    count: int | None = None
    stopped: bool = False
    ended: bool = False


class Cells:
    """Run a notebook's cells, one after the other.

    Parameters
    ----------
    kernel : Kernel
        The kernel, of whose client nobody else reads.

    Raises
    ------
    Ended
        If it does not get ready.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._session = kernel.client.session
        self._shell = _plain(kernel.client.shell_channel.socket)
        self._shown = _plain(kernel.client.iopub_channel.socket)
        self._poller = zmq.Poller()
        for one in (self._shell, self._shown):
            self._poller.register(one, zmq.POLLIN)
        #: What was displayed under a name, to be updated by later cells.
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._meet()

    def _meet(self) -> None:
        """Wait until the kernel answers, and what it shows is heard too."""
        patience = Patience(START_PATIENCE)
        answered = heard = False
        sent: set[str] = set()
        while not patience.over:
            # Asked again and again: what it shows is not kept for those who come late.
            sent.add(self._send("kernel_info_request", {}))
            asked = Patience(0.2)
            while not (answered and heard) and not asked.over:
                for socket in self._ready(0.2):
                    answered |= self._receive(socket, sent) is not None and socket is self._shell
                    heard |= socket is self._shown
            if answered and heard:
                return
            if not self._kernel.alive():
                break
        raise Ended

    def run(self, source: str, timeout: float) -> Ran:
        """Run one cell.

        Parameters
        ----------
        source : str
            The cell.
        timeout : float
            Seconds after which it is interrupted.

        Returns
        -------
        Ran

        Raises
        ------
        Ended
            If the kernel had ended before.
        """
        if not self._kernel.alive():
            raise Ended
        request = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        sent = {self._send("execute_request", request)}
        ran, outputs = Ran(), _Outputs(self._displays)
        reply: dict[str, Any] | None = None
        idle = False
        patience = Patience(timeout)
        interrupts = 0
        while reply is None or not idle:
            alive = self._kernel.alive()  # before what it has sent is looked for
            ready = self._ready(0.2)
            for socket in ready:
                message = self._receive(socket, sent)
                if message is None:
                    continue
                kind, content = message
                if socket is self._shown:
                    idle |= kind == "status" and content.get("execution_state") == "idle"
                    outputs.add(kind, content)
                elif kind == "execute_reply" and reply is None:
                    reply = content
                    patience = Patience(min(patience.left, IDLE_PATIENCE))
            if not alive and not ready:
                ran.ended = True
                break
            if patience.over:
                if reply is not None:
                    break
                if interrupts == _INTERRUPTS:
                    self._kernel.end("did not stop when it was interrupted")
                    ran.ended = True
                    break
                interrupts += 1
                ran.stopped = True
                self._kernel.interrupt()
                patience = Patience(STOP_PATIENCE / _INTERRUPTS)
        ran.outputs = outputs.made
        if reply is not None:
            count = reply.get("execution_count")
            ran.count = count if type(count) is int and 0 <= count < 2**31 else None
            _add_error(ran.outputs, reply)
            if _leaves(reply):  # it will, soon, and might begin another cell before
                self._kernel.end("called exit()")
                ran.ended = True
        return ran

    def _ready(self, patience: float) -> list[zmq.Socket]:
        return [socket for socket, _ in self._poller.poll(1000 * patience)]

    def _send(self, kind: str, content: dict[str, Any]) -> str:
        try:
            return self._session.send(self._shell, kind, content)["header"]["msg_id"]
        except zmq.Again:
            self._kernel.end(UNHEARD)
            raise Ended from None

    def _receive(self, socket: zmq.Socket, sent: set[str]) -> tuple[str, dict[str, Any]] | None:
        """Return kind and content of the next message, if it is one about any that was sent."""
        try:
            parts = socket.recv_multipart(zmq.NOBLOCK)
            self._kernel.charge(sum(map(len, parts)))
            message = self._session.deserialize(self._session.feed_identities(parts)[1])
            if message["parent_header"].get("msg_id") not in sent:
                return None
            kind, content = message["header"]["msg_type"], message["content"]
        # A signature that is not right, no JSON, parts missing: anything may come.
        except Exception:
            return None
        return (kind, content) if isinstance(kind, str) and isinstance(content, dict) else None


def _plain(socket: Any) -> zmq.Socket:
    """Return a socket without the event loop that clients put around theirs."""
    return zmq.Socket.shadow(socket.underlying)


def _add_error(outputs: list[dict[str, Any]], reply: dict[str, Any]) -> None:
    """Show the error that the kernel answers with, if it was not shown."""
    if reply.get("status") != "error":
        return
    errors = [one for one in outputs if one["output_type"] == "error"]
    if not any(one.get("ename") == reply.get("ename") for one in errors):
        outputs.append({**_kept(reply, "ename", "evalue", "traceback"), "output_type": "error"})


def _leaves(reply: dict[str, Any]) -> bool:
    """Tell whether a cell has told the kernel to end."""
    payload = reply.get("payload")
    return isinstance(payload, list) and any(
        isinstance(one, dict) and one.get("source") == "ask_exit" and not one.get("keepkernel")
        for one in payload
    )


def _kept(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: content[name] for name in names if name in content}


class _Outputs:
    """Puts together the outputs of a cell as a notebook shows them."""

    def __init__(self, displays: dict[str, list[dict[str, Any]]]) -> None:
        self._displays = displays
        self._outputs: list[dict[str, Any]] = []
        self._clear_next = False

    @property
    def made(self) -> list[dict[str, Any]]:
        """The outputs, as in a notebook's file."""
        for one in self._outputs:
            if one["output_type"] == "stream":
                one["text"] = ["".join(one["text"])]
        return self._outputs

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Take what a message of the kernel shows, if it shows anything."""
        if kind == "clear_output":
            self._clear_next = bool(content.get("wait"))
            if not self._clear_next:
                self._outputs.clear()
        elif len(self._outputs) > MOST_OUTPUTS and not self._clear_next:
            return
        elif kind == "stream":
            self._add_text(content.get("name"), content.get("text"))
        elif kind == "error":
            self._append({**_kept(content, "ename", "evalue", "traceback"), "output_type": kind})
        elif kind in ("display_data", "execute_result", "update_display_data"):
            shown = _kept(content, "data", "metadata", "execution_count")
            transient = content.get("transient")
            name = transient.get("display_id") if isinstance(transient, dict) else None
            places = self._displays.setdefault(name, []) if isinstance(name, str) else []
            if kind == "update_display_data":
                for one in places:
                    one.update(_kept(shown, "data", "metadata"))
                return
            output = {"output_type": kind, **shown}
            if self._append(output):
                places.append(output)

    def _add_text(self, name: Any, text: Any) -> None:
        if not isinstance(text, str):
            return
        last = self._outputs[-1] if self._outputs and not self._clear_next else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"].append(text)
        else:
            self._append({"output_type": "stream", "name": name, "text": [text]})

    def _append(self, output: dict[str, Any]) -> bool:
        if self._clear_next:
            self._outputs.clear()
            self._clear_next = False
        if len(self._outputs) == MOST_OUTPUTS:
            note = "... (the rest is not shown)\n"
            self._outputs.append({"output_type": "stream", "name": "stdout", "text": [note]})
            return False
        self._outputs.append(output)
        return True
