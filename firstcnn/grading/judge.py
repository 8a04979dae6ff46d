"""The judge: grade cells run here, in a process that never runs a student's code.

A grade cell reads names that the student's answers bind. What it reads is fetched from the
student's kernel as data (`wire`), anew for each cell; a function arrives as something that can be
called, and is called over there. So a grade cell is nowhere that a student's code could see it,
nor change what it says.

The judge's process knows nobody but the grader, over one socket: it is told to run a cell, asks
for values and calls while it does, and tells the outcome. `Judge` is the grader's side of it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dis
import gc
import importlib
import io
import itertools
import json
import math
import socket as sockets
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import CodeType
from typing import Any

import numpy as np

from firstcnn.check import CheckFailed, missing
from firstcnn.check.functions import Remote, RemoteError
from firstcnn.check.outcome import describe, fail
from firstcnn.grading import isolated, wire
from firstcnn.grading.agent import StudentKernelError, TooSlow
from firstcnn.grading.wire import MAX_BYTES, WireError

#: Seconds for a judge to start, on a machine that is busy.
START_PATIENCE = 300

#: Seconds for one grade cell, and within it for one call of a student's function.
CELL_TIMEOUT = 300
CALL_TIMEOUT = 60

#: Modules by names that they usually go under.
_ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "tf": "tensorflow"}

_LONGEST_STDOUT = 20_000
_LARGEST_HEAD = 2**20


class JudgeError(RuntimeError):
    """A judge that does not start."""


@dataclass(frozen=True)
class Outcome:
    """What became of a grade cell.

    Parameters
    ----------
    status : str
        ``"ok"``, ``"failed"``, or ``"broken"`` if the judge itself came to no end or to a bad one.
    ename : str
        The name of the error, if any.
    message : str
        What the student is told, in lines.
    partial : float or None
        The value of the cell's last expression, if it has one. It fails where that is no finite
        number, nor True or False.
    stdout : str
        What the cell printed. What its hidden tests did is left out if there is anything else.
    seconds : float
        Wall time.
    traceback : str
        For the instructor: it shows the cell, hidden tests too.
    """

    status: str
    ename: str = ""
    message: str = ""
    partial: float | None = None
    stdout: str = ""
    seconds: float = 0.0
    traceback: str = ""


# ---- messages between the two -----------------------------------------------------------------


class _HungUp(Exception):
    """The other side is gone, or does not keep to what was agreed."""


class _Line:
    """A socket over which whole messages go: a small dict, and bytes."""

    def __init__(self, socket: sockets.socket) -> None:
        self._socket = socket

    def send(self, head: dict, body: bytes = b"", timeout: float | None = None) -> None:
        """Send a message; `_HungUp` if nobody takes it."""
        text = json.dumps(head).encode()
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(struct.pack("<IQ", len(text), len(body)) + text)
            self._socket.sendall(body)
        except OSError as error:
            raise _HungUp from error

    def receive(self, timeout: float | None = None) -> tuple[dict[str, Any], bytearray]:
        """Return the next message; `_HungUp` if there is none, TimeoutError if it is late."""
        deadline = None if timeout is None else time.monotonic() + timeout
        size, length = struct.unpack("<IQ", self._read(12, deadline))
        if size > _LARGEST_HEAD or length > MAX_BYTES:
            raise _HungUp
        head = self._read(size, deadline)
        body = self._read(length, deadline)
        try:
            return dict(json.loads(bytes(head))), body
        except (ValueError, TypeError, RecursionError) as error:
            raise _HungUp from error

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read(self, length: int, deadline: float | None) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            try:
                self._socket.settimeout(left)
                count = self._socket.recv_into(view)
            except TimeoutError:
                raise
            except OSError as error:
                raise _HungUp from error
            if not count:
                raise _HungUp
            view = view[count:]
        return data


# ---- the judge's own process ------------------------------------------------------------------


def main(socket: sockets.socket) -> None:
    """Run grade cells as they come, until the grader hangs up.

    Parameters
    ----------
    socket : socket.socket
        Connected to the grader.
    """
    line = _Line(socket)
    with contextlib.suppress(_HungUp):
        line.send({"ready": True})
        while True:
            order, source = line.receive()
            outcome = _judged(line, order["cell"], source.decode())
            line.send({"outcome": asdict(outcome)})
            gc.collect()  # a model holds itself
            gc.freeze()  # what is left are modules, which need not be looked through again


class _Kernel:
    """The student's kernel, as seen from the judge: asked over the line.

    Parameters
    ----------
    line : _Line
        To the grader.
    in_place : bool
        Whether arguments of calls are changed here as they are there.

    Attributes
    ----------
    stayed : dict of str to str
        Values that did not travel: their names and types.
    changed : bool
        Whether a function has changed its arguments.
    """

    def __init__(self, line: _Line, in_place: bool = False) -> None:
        self._line, self.in_place = line, in_place
        self.stayed: dict[str, str] = {}
        self.changed = False

    def fetch(self, name: str) -> Any:
        """Return a value; KeyError if there is no such name, CheckFailed if it cannot travel."""
        self._line.send({"fetch": name})
        head, body = self._line.receive()
        if head["status"] == "missing":
            raise KeyError(name)
        if head["status"] != "ok":
            fail(f"{name} cannot be read: the kernel {head['message']}.")
        try:
            value = _answer(body)["value"]
        except WireError as error:
            fail(f"{name} {wire.printable(str(error))}.")
        if isinstance(value, wire.Function):
            return _proxy(self, name, value)
        if type(value).__name__ == "module" and (known := _module(name)):
            return known
        if isinstance(value, wire.Opaque) and not isinstance(value, wire.Arraylike):
            self.stayed[name] = type(value).__name__
        return value

    def call(self, name: str, args: tuple, kwargs: dict) -> tuple[Any, tuple, dict]:
        """Call a function: what it returns, and the arguments after that."""
        self._line.send({"call": name}, wire.encode((args, kwargs)).to_bytes())
        head, body = self._line.receive()
        if head["status"] != "ok":
            raise RemoteError(f"does not come to an end: the kernel {head['message']}.")
        try:
            answer = _answer(body)
        except WireError as error:
            said = wire.printable(str(error))
            raise RemoteError(f"returns a value that {said}.") from None
        if "error" in answer:
            _raise(answer["error"])
        return answer["value"], *answer.get("given", (args, kwargs))


def _module(name: str) -> Any:
    """Return the module that goes under a name, whichever it is in the notebook; None if none."""
    try:
        return importlib.import_module(_ALIASES.get(name, name))
    except ImportError:
        return None


def _answer(body: bytearray) -> dict[str, Any]:
    """Read what the student's kernel answers: a value, or the error that there was."""
    answer = wire.decode(wire.Packet.from_bytes(body))
    if type(answer) is dict and "refused" in answer:
        raise WireError(_text(answer["refused"]))
    if type(answer) is not dict or not answer.keys() & {"value", "error"}:
        raise WireError("cannot be read")
    given = answer.get("given", ((), {}))
    if type(given) is not tuple or tuple(map(type, given)) != (tuple, dict):
        raise WireError("cannot be read")
    return answer


def _raise(error: Any) -> None:
    """Raise what stands for an error in the student's kernel."""
    told = error if type(error) is dict else {}
    like = told.get("like") if type(told.get("like")) is list else []
    for name in (one for one in like if type(one) is str):
        if name in _ERRORS:
            raise _ERRORS[name](_text(told.get("ending")) or "stops with an error")
    raise RemoteError(_text(told.get("ending")) or "stops with an error")


# Errors that a grade cell may look for; Python itself takes none of them for a sign.
_ERRORS = {
    kind.__name__: type(kind.__name__, (RemoteError, kind), {})
    for kind in (
        *(ArithmeticError, FloatingPointError, OverflowError, ZeroDivisionError),
        *(LookupError, IndexError, KeyError),
        *(RuntimeError, NotImplementedError, RecursionError, OSError, FileNotFoundError),
        *(AssertionError, AttributeError, NameError, TypeError, ValueError),
    )
}


def _text(value: Any) -> str:
    return wire.printable(value)[:400] if type(value) is str else ""


class _Proxy(Remote, wire.Opaque):
    """A function of the student's, which is called where it is."""

    kernel: _Kernel
    place: str

    def run(self, args: tuple, kwargs: Any) -> tuple[Any, tuple, dict]:
        """Call it; see `firstcnn.check.functions.Remote`."""
        return self.kernel.call(self.place, args, dict(kwargs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it as if it were here."""
        value, *given = self.run(args, kwargs)
        if given[0] is not args:
            self.kernel.changed = True
            if self.kernel.in_place:
                _followed([args, kwargs], given)
        return value


def _followed(here: Any, there: Any) -> Any:
    """Change a value as its original was changed, and return what then stands in its place."""
    if type(here) is not type(there):
        return there
    if isinstance(here, tuple):
        return tuple(map(_followed, here, there))
    if isinstance(here, list):
        here[:] = [*map(_followed, here, there), *there[len(here) :]]
    elif isinstance(here, dict):
        new = {key: _followed(here.get(key), value) for key, value in there.items()}
        here.clear()
        here.update(new)
    elif isinstance(here, np.ndarray) and (here.shape, here.dtype) == (there.shape, there.dtype):
        if here.flags.writeable:
            here[...] = there
    else:
        return there
    return here


def _proxy(kernel: _Kernel, place: str, function: wire.Function) -> _Proxy:
    one = wire.standin(_Proxy, type(function).__name__)
    vars(one).update(vars(function), kernel=kernel, place=place)  # its own name and text, too
    return one


def _judged(line: _Line, cell: str, source: str) -> Outcome:
    """Run one cell, and tell how it ended.

    Where a function has changed its arguments, a plain assertion may miss that, or hold only
    because of it. So the cell then has to hold both ways: as if they had not changed, and once more
    with what they have become.
    """
    kernel = _Kernel(line)
    outcome = _once(kernel, cell, source)
    if outcome.status != "ok" or not kernel.changed:
        return outcome
    return min(outcome, _once(_Kernel(line, in_place=True), cell, source), key=_worth)


def _worth(outcome: Outcome) -> float:
    if outcome.status != "ok":
        return -math.inf
    return math.inf if outcome.partial is None else outcome.partial


def _once(kernel: _Kernel, cell: str, source: str) -> Outcome:
    start = time.perf_counter()
    printed = _Printed(cell, source)
    found: dict[str, Any] = {}
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            found["partial"] = _run(kernel, cell, source)
        found["status"] = "ok"
    except _HungUp:
        raise
    except CheckFailed as error:
        found = _failed(error, "\n".join(error._render_traceback_()))
    except BaseException as error:
        found = _failed(error, _ended(error, kernel))
    return Outcome(stdout=printed.said(), seconds=time.perf_counter() - start, **found)


def _ended(error: BaseException, kernel: _Kernel) -> str:
    """Say how a check ended that does not say so itself."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # of a number of thousands of digits, for one
        text = ""
    if isinstance(error, RemoteError):
        said = f"Not right yet: a function of yours {text}"
    elif isinstance(error, AssertionError):
        said = f"Not right yet: {text or 'what this check asserts is not so.'}"
    else:
        said = f"This check itself stopped with {type(error).__name__}: {text}"
    if kernel.stayed:
        listed = ", ".join(f"{name} ({kind})" for name, kind in [*kernel.stayed.items()][:3])
        said += f"\nOnly data can be handed to a check, and not {listed}."
    if kernel.changed:
        said += "\nA function of yours changes what it is given. Work on a copy, and return that."
    return said


def _failed(error: BaseException, message: str) -> dict[str, str]:
    trace = "".join(traceback.format_exception(error))[-10_000:]
    kind = type(error).__name__
    return {"status": "failed", "ename": kind, "message": message, "traceback": trace}


class _Printed(io.TextIOBase):
    """Keep what a cell prints, up to a length that nobody reads beyond.

    A right answer passes the visible tests and the hidden ones, and is told so once.
    """

    def __init__(self, cell: str, source: str) -> None:
        self._place = f"<{cell}>"
        lines = source.split("\n")
        begins = ["BEGIN HIDDEN TESTS" in line for line in lines]
        ends = ["END HIDDEN TESTS" in line for line in lines]
        depth = [a - b for a, b in zip(begins, ends, strict=True)]
        self._is_hidden = [False, *map(bool, itertools.accumulate(depth))]  # lines count from 1
        self._seen, self._hidden = io.StringIO(), io.StringIO()

    def write(self, text: str) -> int:
        """Write as much as there is room for."""
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self._place:
            frame = frame.f_back
        hidden = frame is not None and self._is_hidden[frame.f_lineno]
        to = self._hidden if hidden else self._seen
        to.write(text[: max(0, _LONGEST_STDOUT - to.tell())])
        return len(text)

    def said(self) -> str:
        """Return what the visible tests say, or the hidden ones if there are no others."""
        return self._seen.getvalue() or self._hidden.getvalue()


def _run(kernel: _Kernel, cell: str, source: str) -> float | None:
    """Run a cell with what it needs; return the points that its last expression stands for."""
    tree = ast.parse(source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), f"<{cell}>", "eval")
    code = compile(tree, f"<{cell}>", "exec")
    names: dict[str, Any] = {"__name__": "__main__"}
    absent = set()
    for name in _wanted(code, last):
        try:
            names[name] = kernel.fetch(name)
        except KeyError:
            absent.add(name)
    try:
        exec(code, names)
        value = eval(last, names) if last else None
    except NameError as error:
        if error.name in absent:
            raise missing(error.name) from None
        raise
    return _credit(value)


def _credit(value: Any) -> float | None:
    """Return how many points the value of a last expression stands for; None for all.

    Where points are counted from what a student made, it can be anything: an array, or nan.
    """
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return None if value else 0.0
    is_number = type(value) in (int, float) or isinstance(value, np.integer | np.floating)
    if is_number and math.isfinite(value):
        return float(value)
    fail(f"this check ends in {describe(value)}, which is no number of points.")


_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")


def _wanted(*codes: CodeType | None) -> list[str]:
    """Return the names that code reads before it binds them, as it comes to them."""
    found: dict[str, None] = {}
    bound: set[str] = set()
    for code in filter(None, codes):
        inner = _loads(code, found, bound)
        # Functions are called later, when all is bound that the cell binds.
        for name in inner:
            found.setdefault(name)
    known = {"__name__", *vars(builtins)}
    return [name for name in found if name not in known]


def _loads(code: CodeType, found: dict[str, None], bound: set[str]) -> list[str]:
    """Note what code loads and binds; return what the functions in it load and it never binds."""
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            bound.add(step.argval)
        elif step.opname in _LOADS and step.argval not in bound:
            found.setdefault(step.argval)
    inner: list[str] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            own: dict[str, None] = {}
            inner += [*_loads(constant, own, set()), *own]
    return [name for name in inner if name not in bound]


# ---- the grader's side ------------------------------------------------------------------------


class Judge:
    """The judge's process, as the grader sees it.

    Parameters
    ----------
    start : callable, optional
        Starts a judge's process, and returns a socket that is connected to its `main` and a
        function that ends it. By default a plain subprocess, which is for tests, and where
        submissions are trusted.
    cell_timeout, call_timeout : float, optional
        Seconds for a grade cell, and within it for one call of a student's function.
    """

    def __init__(
        self,
        start: Callable[[], tuple[sockets.socket, Callable[[], None]]] | None = None,
        *,
        cell_timeout: float = CELL_TIMEOUT,
        call_timeout: float = CALL_TIMEOUT,
    ) -> None:
        self._start = start or start_process
        self._cell_timeout, self._call_timeout = cell_timeout, call_timeout
        self._line: _Line | None = None
        self._end: Callable[[], None] = lambda: None

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the judge's process; the next cell would start another."""
        if self._line is not None:
            self._line.close()
            self._line = None
            self._end()

    def run(
        self,
        cell_id: str,
        source: str,
        fetch: Callable[[str], bytes | None],
        call: Callable[[str, bytes, float], bytes],
    ) -> Outcome:
        """Run a grade cell.

        Parameters
        ----------
        cell_id : str
            By which the instructor finds it in a traceback.
        source : str
            The cell, with its hidden tests.
        fetch : callable
            Returns a value of the student's kernel by its name, as `Student.fetch` does.
        call : callable
            Calls a function there, as `Student.call` does.

        Returns
        -------
        Outcome
            Also where the judge's process dies or hangs: the next cell then gets a new one.

        Raises
        ------
        JudgeError
            If there is no such process. It has seen nothing of the student's then.
        """
        if self._line is None:
            self._begin()
        start = time.monotonic()
        # The judge's own time, and the student's: neither is to use up the other's.
        own, lent = 0.0, 0.0
        try:
            self._line.send({"cell": cell_id}, source.encode())
            while True:
                before = time.monotonic()
                head, body = self._line.receive(self._cell_timeout - own)
                if "outcome" in head:
                    return _outcome(head["outcome"], time.monotonic() - start)
                asked = time.monotonic()
                reply = self._reply(head, body, self._cell_timeout - lent, fetch, call)
                lent += time.monotonic() - asked
                own += asked - before
                self._line.send(*reply, timeout=self._cell_timeout)
        except TimeoutError:
            message = f"This check was stopped: it took longer than {self._cell_timeout:.0f} s."
            return self._broken("TimeoutError", message, start)
        except _HungUp:
            message = "This check came to no end. Is something far larger than it should be?"
            return self._broken("JudgeDied", message, start)
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        socket, self._end = self._start()
        self._line = _Line(socket)
        try:
            told, _ = self._line.receive(START_PATIENCE)
        except (_HungUp, TimeoutError):
            told = {}
        if "ready" not in told:
            self.close()
            raise JudgeError("the process that judges it did not start")

    def _reply(
        self,
        head: dict[str, Any],
        body: bytearray,
        left: float,
        fetch: Callable[[str], bytes | None],
        call: Callable[[str, bytes, float], bytes],
    ) -> tuple[dict[str, str], bytes]:
        """Get what the judge asks for, from the student's kernel."""
        name = head.get("fetch", head.get("call"))
        if not isinstance(name, str) or not name.isidentifier():
            raise _HungUp
        try:
            if "fetch" in head:
                packet = fetch(name)
            elif left > 0:
                packet = call(name, bytes(body), min(left, self._call_timeout))
            else:
                raise TooSlow(f"has been busy for {self._cell_timeout:.0f} s")
        except StudentKernelError as error:
            return {"status": "lost", "message": str(error)}, b""
        return {"status": "missing" if packet is None else "ok"}, packet or b""

    def _broken(self, kind: str, message: str, start: float) -> Outcome:
        self.close()
        return Outcome("broken", kind, message, seconds=time.monotonic() - start)


def _outcome(told: Any, seconds: float) -> Outcome:
    """Take the outcome from a process that has read what students made: nothing but exact types."""
    if not isinstance(told, dict):
        raise _HungUp
    partial = told.get("partial")
    number = type(partial) is float and math.isfinite(partial)
    texts = {key: str(told.get(key)) for key in ("ename", "message", "stdout", "traceback")}
    status = "ok" if told.get("status") == "ok" else "failed"
    return Outcome(status, partial=partial if number else None, seconds=seconds, **texts)


def start_process() -> tuple[sockets.socket, Callable[[], None]]:
    """Start a judge as a plain subprocess."""
    ours, its = sockets.socketpair()
    with its:
        process = subprocess.Popen(
            isolated.command("firstcnn.grading.judge", str(its.fileno())),
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        process.kill()
        process.wait()

    return ours, end


if __name__ == "__main__":
    # The descriptor of the socket: standard input where none is named.
    main(sockets.socket(fileno=int(sys.argv[1]) if len(sys.argv) > 1 else 0))
