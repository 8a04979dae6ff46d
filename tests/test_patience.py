"""Whoever waits for others does not count the time in which they stood still themselves."""

import struct
from types import SimpleNamespace

import pytest
import zmq
from jupyter_client.session import Session

from firstcnn.grading import cells, patience, provisioner
from firstcnn.grading.agent import Student
from firstcnn.grading.cells import Cells
from firstcnn.grading.patience import Patience


@pytest.fixture
def clock(monkeypatch):
    """Return a clock: it goes on by `step` seconds whenever somebody looks at it."""
    clock = SimpleNamespace(now=0.0, step=0.0)

    def look():
        clock.now += clock.step
        return clock.now

    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=look))
    return clock


def test_it_is_over_when_there_was_as_much_time_to_look(clock):
    one = Patience(3)
    clock.step = 0.5
    assert [one.left for _ in range(3)] == [2.5, 2, 1.5]
    clock.step = 3600
    assert one.left == 0.5
    assert one.over


@pytest.fixture
def kernel():
    """Return a client as of a kernel, and the ends of its sockets at which the kernel would be."""
    with zmq.Context() as context:
        ends = {}
        client = SimpleNamespace(session=Session(key=b"key"), ends=ends)
        for name in ("shell", "iopub"):
            here, ends[name] = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
            here.bind(f"inproc://{name}")
            ends[name].connect(f"inproc://{name}")
            setattr(client, f"{name}_channel", SimpleNamespace(socket=here))
        yield client
        context.destroy(linger=0)


def test_what_a_cell_has_shown_in_time_is_shown_however_late_it_is_looked_at(clock, kernel):
    def said(name, kind, content, asked):
        kernel.session.send(kernel.ends[name], kind, content, parent=asked)

    class Answered(Cells):
        def _meet(self):
            """It is there."""

        def _send(self, kind, content):
            asked = self._session.msg(kind, content)
            said("shell", "execute_reply", {"status": "ok", "execution_count": 7}, asked)
            said("iopub", "status", {"execution_state": "busy"}, asked)
            for word in "abcde":
                said("iopub", "stream", {"name": "stdout", "text": word}, asked)
            said("iopub", "status", {"execution_state": "idle"}, asked)
            clock.step = 3600
            return asked["header"]["msg_id"]

    alive = SimpleNamespace(client=kernel, alive=lambda: True, charge=lambda size: None)
    ran = Answered(alive).run("print('abcde')", timeout=60)
    assert (ran.count, ran.stopped, ran.ended) == (7, False, False)
    assert [one["text"] for one in ran.outputs] == [["abcde"]]


def test_a_kernel_that_answers_slowly_is_there(kernel, monkeypatch):
    """It has not answered yet when it is asked again."""
    monkeypatch.setattr(cells, "START_PATIENCE", 5)
    asked = []

    class Slow(Cells):
        def _send(self, kind, content):
            asked.append(self._session.msg(kind, content))
            for name, kind in (("shell", "kernel_info_reply"), ("iopub", "status")):
                if len(asked) > 1:
                    kernel.session.send(kernel.ends[name], kind, {}, parent=asked[-2])
            return asked[-1]["header"]["msg_id"]

    Slow(SimpleNamespace(client=kernel, alive=lambda: True, charge=lambda size: None))
    assert len(asked) == 2


def test_a_cell_that_had_not_begun_when_it_was_interrupted_is_interrupted_again(
    kernel, monkeypatch
):
    """A kernel that is held up hears no interrupt: it ignores those between two cells."""
    monkeypatch.setattr(cells, "STOP_PATIENCE", 2)
    asked, interrupts, ended = [], [], []

    class Held(Cells):
        def _meet(self):
            """It is there."""

        def _send(self, kind, content):
            asked.append(self._session.msg(kind, content))
            return asked[0]["header"]["msg_id"]

    def interrupt():
        interrupts.append(1)
        if len(interrupts) == heeded:
            content = {"status": "error", "ename": "KeyboardInterrupt", "execution_state": "idle"}
            for name, kind in (("iopub", "status"), ("shell", "execute_reply")):
                kernel.session.send(kernel.ends[name], kind, content, parent=asked[0])

    alive = SimpleNamespace(
        client=kernel,
        alive=lambda: True,
        charge=lambda size: None,
        interrupt=interrupt,
        end=ended.append,
    )
    heeded = 2
    ran = Held(alive).run("wait()", timeout=0.1)
    assert (ran.stopped, ran.ended, len(interrupts)) == (True, False, 2)
    heeded = None
    ran = Held(alive).run("wait()", timeout=0.1)
    assert (ran.stopped, ran.ended) == (True, True)
    assert ended == ["did not stop when it was interrupted"]


def test_an_answer_that_came_in_time_is_heard_however_late_it_is_looked_at(clock, kernel):
    student = Student(kernel, lambda: True)
    sent = student._send("kernel_info_request", {})
    asked = kernel.session.recv(kernel.ends["shell"])[1]
    for parent in ({"msg_id": "another"}, asked):
        kernel.session.send(kernel.ends["shell"], "kernel_info_reply", {}, parent=parent)
    clock.step = 3600
    assert student._reply(sent, 10)["parent_header"]["msg_id"] == sent
    assert student._reply(sent, 10) is None


@pytest.mark.parametrize("retried", [True, False])
def test_a_connection_is_lost_when_it_stays_so_while_there_is_time_to_look(clock, retried):
    came = [zmq.EVENT_DISCONNECTED]

    def receive(flags):
        if not came:
            raise zmq.Again
        return [struct.pack("=hi", came.pop(0), 0), b""]

    hearing = provisioner._Hearing.__new__(provisioner._Hearing)
    hearing._lost, hearing._events = None, SimpleNamespace(closed=False, recv_multipart=receive)
    clock.step = 3600
    assert [hearing() for _ in range(5)] == [None] * 5
    if retried:
        came.append(zmq.EVENT_CONNECT_RETRIED)
    found = [hearing() for _ in range(20)]
    assert found[-1] == (None if retried else "output")
