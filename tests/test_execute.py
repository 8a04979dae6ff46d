"""Cells run apart leave in a notebook what stock nbgrader would, whatever a student's cells do."""

import logging
import re
import shutil
import sys
import textwrap

import nbformat
import pytest
from jupyter_client import KernelManager
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import determine_grade
from nbgrader_course import NbgraderCourse
from notebooks import ROOT, cell, lesson, write_course

from firstcnn.grading import agent, cells, execute, nursery, provisioner, sandbox
from firstcnn.grading.execute import ApartExporter, GradeApart
from firstcnn.grading.judge import Judge
from firstcnn.grading.sandbox import SandboxError, SandboxUnavailable

NUMBER = "from firstcnn import check\ncheck.number('x', x, equals=3)"
FUNCTION = "from firstcnn import check\ncheck.function('f', f, like={(1,): 2, (5,): 6})"


pytestmark = pytest.mark.usefixtures("sandbox_here", "warm")


def notebook(*sources):
    """Return a notebook of students' cells, and of grade cells: those that import the checks."""
    made = []
    for number, source in enumerate(sources):
        is_check = source.startswith("from firstcnn import check")
        kind = "check" if is_check else "answer"
        made.append(cell(kind, f"{kind}-{number}", textwrap.dedent(source), 2))
    return nbformat.v4.new_notebook(cells=made)


@pytest.fixture
def graded(tmp_path):
    """Return a function that has a notebook's cells run, and returns them."""

    def grade(*sources, made=None, **traits):
        made = made or notebook(*sources)
        nbformat.write(made, tmp_path / "small.ipynb")
        GradeApart(**traits).preprocess(made, {"metadata": {"path": str(tmp_path)}})
        nbformat.validate(made)
        return made.cells

    return grade


@pytest.fixture
def hurried(monkeypatch):
    """Return ``hurried(word, seconds)``: only cells of students with that word have a time limit.

    Others have all the time that a busy machine may need, and so have grade cells.
    """

    def hurried(word, seconds):
        run = cells.Cells.run

        def run_in_time(self, source, timeout):
            return run(self, source, seconds if word in source else 300)

        monkeypatch.setattr(cells.Cells, "run", run_in_time)
        monkeypatch.setattr(execute, "Judge", lambda start, **limits: Judge(start))

    return hurried


@pytest.fixture
def at_the_end_of_its_time(monkeypatch):
    """Let a sandbox's time be over when a cell begins to sleep, and not before."""
    boxes, make, run = [], sandbox.Sandbox._make, cells.Cells.run

    def made(self, program):
        make(self, program)
        boxes.append(self)

    def run_late(self, source, timeout):
        if "sleep" in source:
            boxes[0]._until = 0
        return run(self, source, timeout)

    monkeypatch.setattr(sandbox.Sandbox, "_make", made)
    monkeypatch.setattr(cells.Cells, "run", run_late)


def points(made):
    return [determine_grade(one)[0] for one in made if one.metadata.nbgrader.grade]


def words(one):
    """Return what a cell shows, as one line."""
    shown = []
    for output in one.outputs:
        shown += output.get("traceback", [output.get("text", "")])
        shown.append(output.get("data", {}).get("text/plain", ""))
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", " ".join(shown)).split())


# ---- as stock nbgrader does --------------------------------------------------------------------


def test_points_are_for_what_is_right(graded):
    made = graded("x = 3", NUMBER, "x = 4", NUMBER, "def f(a):\n    return a + 1", FUNCTION)
    assert points(made) == [2, 0, 2]
    assert words(made[1]) == "Correct: x is right."
    assert words(made[3]) == "Not right yet: x is 4, and that is not it. Expected 3."
    assert [one.execution_count for one in made] == [1, None, 2, None, 3, None]


def test_time_and_memory_are_told(graded):
    made = notebook("x = 3\nhoard = bytes(range(256)) * 800_000", NUMBER)
    graded(made=made)
    told = made.metadata.firstcnn
    assert 0.1 < told["seconds"] < 300
    assert 195 < told["memory"] < 1500
    assert points(made.cells) == [2]


def test_kernel_and_judge_get_the_environment_that_is_asked_for(graded):
    checked = "from firstcnn import check\nimport os\nprint(os.environ['CHECKED'])"
    made = graded("import os\nprint(os.environ['CHECKED'])", checked, environment={"CHECKED": "1"})
    assert [words(one) for one in made] == ["1", "1"]


def merged(outputs):
    """Join what a kernel printed at once and, being busy, sent in pieces, as a notebook does."""
    made = []
    for one in outputs:
        if made and one.get("name", 0) == made[-1].get("name"):
            made[-1].text += one.text
        else:
            made.append(one)
    return made


def test_a_cell_looks_as_it_does_in_an_ordinary_kernel(graded, monkeypatch):
    sources = [
        "import numpy as np\nimport matplotlib.pyplot as plt\nprint(1)\nprint(2)\nx = 4\nx",
        NUMBER,
        "plt.plot([1, 2])\nplt.show()",
        "import sys\nprint('a', file=sys.stderr, flush=True)\nprint('b')\n1 / 0",
        "from firstcnn import check\ncheck.number('y', y, equals=3)",
        "from firstcnn import check\nprint('seen')\ncheck.array('x', x, equals=[1])",
    ]
    monkeypatch.setenv(sandbox.TRUST_VARIABLE, "1")
    # Whoever runs the tests may have set it: there would be no pictures.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=300)
    ordinary = []
    for source in sources:
        shown = []
        client.execute_interactive(
            source, stop_on_error=False, output_hook=lambda one, to=shown: to.append(one)
        )
        ordinary.append(
            merged(
                nbformat.v4.output_from_msg(one)
                for one in shown
                if one["msg_type"] in ("stream", "error", "display_data", "execute_result")
            )
        )
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    monkeypatch.delenv(sandbox.TRUST_VARIABLE)
    for source, one, outputs in zip(sources, graded(*sources), ordinary, strict=True):
        # Nobody sees the name of an error: for a missing answer a kernel has its own.
        kinds = ("output_type", "name", "text", "data", "traceback")
        left = [{key: output[key] for key in kinds if key in output} for output in one.outputs]
        right = [{key: output[key] for key in kinds if key in output} for output in outputs]
        if "sys.stderr" in source:  # the number of a cell is in its traceback
            left[-1].pop("traceback"), right[-1].pop("traceback")
        assert left == right, source


def test_a_cell_that_stops_does_not_stop_the_notebook(graded):
    made = graded("y = 1 / 0\nx = 3", NUMBER, "x = 3", NUMBER)
    assert points(made) == [0, 2]
    assert words(made[1]).startswith("No answer yet: there is no x yet.")


def test_stderr_costs_nothing(graded):
    noisy = "import sys, warnings\ndef f(a):\n    warnings.warn('w')\n    print(1, file=sys.stderr)"
    made = graded(
        noisy + "\n    return a + 1\nf(1)",
        "from firstcnn import check\nimport sys, warnings\nprint('x', file=sys.stderr)\n"
        "warnings.warn('old')\ncheck.function('f', f, like={(1,): 2})",
    )
    assert points(made) == [2]
    assert [one.name for one in made[0].outputs if one.output_type == "stream"] == ["stderr"]
    assert words(made[1]) == "Correct: f answers as it should."


@pytest.mark.parametrize(
    ("last", "got"),
    [("0.5", 0.5), ("7", 2), ("-1", 0), ("True", 2), ("float('nan')", 0), ("'2'", 0)],
)
def test_a_number_at_the_end_is_partial_credit(graded, last, got):
    assert points(graded(f"from firstcnn import check\n{last}")) == [got]


def test_what_a_person_grades_runs_in_the_students_kernel(graded):
    made = notebook("import os", "x = os.getcwd()\nprint(x)", NUMBER)
    made.cells[1].metadata.nbgrader |= {"grade": True, "points": 1}
    made = graded(made=made)
    assert determine_grade(made[1])[0] is None
    assert words(made[1]) == str(sandbox.keeper.WORK)


def test_refused_checks_earn_nothing_and_say_why(graded):
    made = notebook("x = 3\nprint('ran')", NUMBER, NUMBER)
    made.metadata["firstcnn"] = {"refusals": {"check-1": "It was too long."}}
    one = graded(made=made)
    assert points(one) == [0, 2]
    assert words(one[1]) == "Not graded: It was too long."
    made = notebook("x = 3\nprint('ran')", NUMBER, NUMBER)
    made.metadata["firstcnn"] = {"refusals": {"": "It was no notebook."}}
    one = graded(made=made)
    assert points(one) == [0, 0]
    assert words(one[0]) == ""


# ---- outputs ----------------------------------------------------------------------------------


def test_outputs_are_put_together_as_jupyter_does(graded):
    made = graded(
        """
        from IPython.display import clear_output, display
        shown = display('old', display_id='name')
        print('gone', flush=True)
        clear_output()
        shown = display('old', display_id='name')
        for i in range(3):
            print(i, flush=True)
            clear_output(wait=i == 1)
        """,
        "shown = display('a', display_id='b')",
        "from IPython.display import update_display\nupdate_display('new', display_id='b')",
    )
    assert [words(one) for one in made] == ["", "'new'", ""]


def test_what_is_shown_can_do_no_harm(graded):
    made = graded(
        "from IPython.display import HTML, display\n"
        "display(HTML('<b>bold</b><script>alert(1)</script>'))\n"
        "for i in range(1500):\n    display(i)"
    )
    assert made[0].outputs[0].data["text/html"] == "<b>bold</b>"
    assert len(made[0].outputs) == cells.MOST_OUTPUTS + 1
    assert made[0].outputs[-1].text == "... (the rest is not shown)\n"


# ---- kernels that end, hang or lie -------------------------------------------------------------

ENDS = [
    ("import os\nos._exit(3)", {}, "The kernel ended here by itself."),
    ("exit()", {}, "The kernel was stopped here: the notebook called exit()."),
    ("import time\ntime.sleep(600)", {}, "stopped here: the notebook took longer than"),
    (
        "while True:\n    print('x' * 10_000)",
        {"output": 2**20},
        "stopped here: the notebook put out more than 1 MiB",
    ),
    (
        "import mmap\nkept = []\nwhile True:\n    kept.append(mmap.mmap(-1, 2**25))\n"
        "    kept[-1].write(b'1' * 2**25)",
        {"memory": 900 * 2**20},
        "stopped here: the notebook used more than 900 MiB of memory",
    ),
]


@pytest.mark.parametrize(
    ("source", "limits", "said"), ENDS, ids=["_exit", "exit", "time", "output", "mem"]
)
def test_the_end_of_a_kernel_is_told_where_it_happened(
    graded, at_the_end_of_its_time, source, limits, said
):
    made = graded("x = 3", NUMBER, source, NUMBER, "x = 3", FUNCTION, "print(1)", limits=limits)
    assert points(made) == [2, 0, 0]
    assert said in words(made[2])
    assert words(made[4]) == words(made[6]) == "Not run: the kernel had ended before."
    reason = said.partition("stopped here: the ")[2] or "the kernel has ended."
    for one in (made[3], made[5]):
        assert words(one).startswith("Not right yet: ")
        assert "cannot be read: the kernel has ended" in words(one)
        assert reason in words(one)
        assert len(one.outputs) == 1


def test_a_message_that_is_too_large_is_told_where_it_was_sent(graded):
    made = graded("x = 3", NUMBER, "print('x' * 30_000_000)")
    assert points(made) == [2]
    assert "the notebook put out more than" in words(made[2])


PARTS = """
    kernel = get_ipython().kernel
    iopub, shell = kernel.iopub_thread.socket, kernel.shell_stream.socket
    ident = kernel._parent_ident["shell"]
    {}
    import time
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "send",
    [
        "iopub.send_multipart([b'x', *[b'x' * 4_000_000] * 200], copy=False)",
        "shell.send_multipart([*ident, *[b'x' * 4_000_000] * 200], copy=False)",
    ],
)
def test_a_message_of_endless_parts_does_not_fill_the_graders_memory(graded, monkeypatch, send):
    monkeypatch.setattr(provisioner, "_MOST_GROWTH", 200 * 2**20)
    made = graded("x = 3", NUMBER, PARTS.format(send), NUMBER)
    assert points(made) == [2, 0]
    assert "or too much at once" in words(made[2])


def test_a_part_that_is_too_large_is_told_where_it_was_sent(graded):
    send = "shell.send_multipart([*ident, b'x' * 40_000_000], copy=False)"
    made = graded("x = 3", NUMBER, PARTS.format(send), NUMBER)
    assert points(made) == [2, 0]
    assert "or too much at once" in words(made[2])


def test_an_answer_that_is_too_large_for_the_connection_ends_no_notebook(graded, monkeypatch):
    """What is sent over a connection that was closed for that would wait for ever."""
    monkeypatch.setattr(agent, "MAX_BYTES", 2**20)
    monkeypatch.setattr(agent, "_SEND_PATIENCE", 1)
    real = agent.Student.__init__

    def hasty(self, *args, **more):
        real(self, *args, **more, patience=1)

    monkeypatch.setattr(agent.Student, "__init__", hasty)
    made = graded(
        """
        kernel = get_ipython().kernel
        send = kernel.session.send
        def too_much(stream, kind, *args, **more):
            if kind == "firstcnn_reply":
                kernel.shell_stream.socket.send_multipart([*more["ident"], bytes(3 * 2**20)])
            return send(stream, kind, *args, **more)
        kernel.session.send = too_much
        x = 3
        """,
        NUMBER,
        NUMBER,
        "print('still there')",
    )
    assert points(made) == [0, 0]
    assert "x cannot be read: the kernel" in words(made[1])
    assert "x cannot be read: the kernel" in words(made[2])
    assert words(made[3]) == "still there"


def test_a_cell_that_takes_too_long_is_interrupted(graded, hurried):
    hurried("sleep", 3)
    made = graded("x = 3", "import time\ntime.sleep(600)", NUMBER, "x = 4", NUMBER, timeout=3)
    assert points(made) == [2, 0]
    assert words(made[1]).endswith("This cell was stopped: it took longer than 3 s.")


def test_a_cell_that_cannot_be_interrupted_ends_the_kernel(graded, hurried, monkeypatch):
    monkeypatch.setattr(cells, "STOP_PATIENCE", 1)
    hurried("sleep", 2)
    made = graded(
        "x = 3",
        NUMBER,
        "import time\nwhile True:\n    try: time.sleep(600)\n    except BaseException: pass",
        NUMBER,
        timeout=2,
    )
    assert points(made) == [2, 0]
    assert "the notebook did not stop when it was interrupted" in words(made[2])


def test_a_function_without_end_costs_its_own_check(graded):
    made = graded("x = 3\ndef f(a):\n    while True: pass", FUNCTION, NUMBER, call_timeout=1)
    assert points(made) == [0, 2]
    assert "f(1) does not come to an end" in words(made[1])


def test_a_kernel_that_sends_nonsense_earns_nothing_by_it(graded):
    made = graded(
        """
        import contextlib
        kernel = get_ipython().kernel
        session, shown = kernel.session, kernel.iopub_socket
        parent = kernel.get_parent()
        late = {"name": "stdout", "text": "late"}
        sent = session.send(shown, "stream", late, parent={"msg_id": "x"})
        for content in ({}, [], 7, {"name": [], "text": {}}, {"data": 1, "transient": []}):
            for kind in ("stream", "display_data", "error", "execute_reply", "status", 7):
                with contextlib.suppress(Exception):
                    session.send(shown, kind, content, parent=parent)
        shown.send_multipart([b"nothing"])
        """,
        NUMBER,
        "x = 3",
        NUMBER,
    )
    assert points(made) == [0, 2]
    assert "late" not in words(made[0])


def test_what_a_student_does_to_the_checks_is_not_heard(graded):
    made = graded(
        """
        from firstcnn import check
        import builtins, numpy
        check.number = check.function = lambda *args, **more: None
        builtins.print = numpy.array = None
        x = 4
        """.lstrip("\n").replace("from firstcnn", "from  firstcnn"),
        NUMBER,
    )
    assert points(made) == [0]


def test_hidden_tests_are_not_where_the_student_is(graded):
    made = graded(
        """
        import os, sys
        found = []
        for folder, _, names in os.walk("/"):
            if folder.split("/")[1] in ("proc", "usr", "dev") or "site-packages" in folder:
                continue
            for name in names:
                if name.endswith(".ipynb"):
                    found.append(name)
        def f(a):
            frame = sys._getframe()
            while frame:
                if "sec" + "ret" in str(frame.f_globals) + str(frame.f_locals):
                    print("found")
                    os._exit(1)
                frame = frame.f_back
            return a + 1
        print(found)
        """,
        FUNCTION + "\nsecret = 'secret'\ncheck.that(f(2) == 3, 'wrong')",
    )
    assert words(made[0]) == "[]"
    assert points(made) == [2]


def test_modules_beside_the_notebook_can_be_imported(graded, tmp_path):
    (tmp_path / "beside.py").write_text("x = 2")
    made = graded(
        "%%writefile written.py\ny = 1",
        "import beside, written, sys\nx = beside.x + written.y\nprint(sys.path.index(''))",
        NUMBER,
    )
    assert points(made) == [2]
    assert words(made[1]) != "0"  # behind Python's own


def test_environment_and_files_reach_the_kernel(graded, tmp_path):
    (tmp_path / "beside.txt").write_text("3")
    made = graded("import os\nx = int(open('beside.txt').read() + os.environ['NONE'])", NUMBER,
                  environment={"NONE": ""})  # fmt: skip
    assert points(made) == [2]


def test_networks_are_fed_without_waiting_for_what_tunes_the_feeding(graded):
    made = graded(
        """
        import numpy as np
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        fed = ArrayDataAdapter(np.arange(5), np.arange(5), batch_size=2).get_tf_dataset()
        print(fed.options().autotune.enabled, [y.numpy().tolist() for _, y in fed])
        x = 3
        """,
        NUMBER,
    )
    assert words(made[0]) == "False [[0, 1], [2, 3], [4]]"
    assert points(made) == [2]


def test_a_keras_that_feeds_them_from_elsewhere_ends_no_nursery(monkeypatch):
    place = "keras.src.trainers.data_adapters.array_data_adapter"
    monkeypatch.setitem(sys.modules, place, None)
    nursery._feed_without_autotuning()


def test_a_sandbox_that_cannot_be_made_costs_nobody_points(monkeypatch, caplog):
    def none(*args, **more):
        raise SandboxError("the sandbox cannot be furnished: No space left on device")

    monkeypatch.setattr(execute, "sandboxed", none)
    resources = {"nbgrader": {"student": "ada", "notebook": "small"}}
    words = "ada, small was not graded: the sandbox cannot be furnished: No space left on device."
    grader = GradeApart()
    grader.log = logging.getLogger("grading")
    with pytest.raises(NbGraderException, match=re.escape(words)):
        grader.preprocess(notebook("x = 3", NUMBER), resources)
    assert words in caplog.text


# ---- without a sandbox ---------------------------------------------------------------------------


@pytest.fixture
def unavailable(monkeypatch):
    def none():
        raise SandboxUnavailable("apt install bubblewrap")

    monkeypatch.setattr(sandbox, "_bubblewrap", none)


def converter(root):
    course = CourseDirectory(root=str(root), assignment_id="small")
    return Autograde(coursedir=course)


def test_without_a_sandbox_grading_stops_before_it_begins(unavailable, tmp_path, caplog):
    one = converter(tmp_path)
    one.log = logging.getLogger("grading")
    with pytest.raises(NbGraderException, match="apt install bubblewrap"):
        ApartExporter(parent=one, config=one.config)
    assert "apt install bubblewrap" in caplog.text
    ApartExporter()  # any other use is the ordinary exporter's
    with pytest.raises(SandboxUnavailable):
        GradeApart().preprocess(notebook("x = 3", NUMBER), {})


def test_trusted_submissions_need_none(unavailable, graded, monkeypatch):
    monkeypatch.setenv(sandbox.TRUST_VARIABLE, "1")
    made = graded("x = 3\ndef f(a):\n    return a", NUMBER, FUNCTION, "import os\nos._exit(1)")
    assert points(made) == [2, 0]
    assert "The kernel ended here" in words(made[3])


# ---- on the command line ------------------------------------------------------------------------


def test_nbgraders_own_command_grades_a_class(tmp_path):
    """A right, a partly right, a blank and a crashing submission, and one that is none."""
    course = NbgraderCourse(tmp_path, [])
    write_course(course.root, small=lesson())
    course.nbgrader("generate_assignment", "small")
    answers = {
        "right": ["a_value = 5", "b_value = 6", "c_value = 7", "d_value = 8"],
        "partly": ["a_value = 5", "b_value = 5", "c_value = 7", "d_value ="],
        "blank": [],
        "crash": ["a_value = 5", "b_value = 6", "import os\nos._exit(1)", "d_value = 8"],
    }
    for student, sources in answers.items():
        course.answer(student, "small", sources)
    (tmp_path / "work.ipynb").write_text("no notebook")
    course.submit_by_hand("none", "small", tmp_path / "work.ipynb")
    course.nbgrader("autograde", "small")
    course.nbgrader("generate_feedback", "small")
    earned = {
        student: [got for got, _ in course.points(student, "small").values()]
        for student in (*answers, "none")
    }
    assert earned == {
        "right": [1, 2, 3, 4],
        "partly": [1, 0, 3, 0],
        "blank": [0, 0, 0, 0],
        "crash": [1, 2, 0, 0],
        "none": [0, 0, 0, 0],
    }
    page = (course.root / "feedback" / "crash" / "small" / "small.html").read_text()
    assert "The kernel ended here by itself" in page
    assert (
        "The untouched notebook stands here"
        in (course.root / "feedback" / "none" / "small" / "small.html").read_text()
    )


def test_a_course_may_hold_another_copy_of_the_package(tmp_path):
    """nbgrader imports from the folder that it is called in; kernels and judges must follow."""
    course = NbgraderCourse(tmp_path, [])
    write_course(course.root, small=lesson())
    shutil.copytree(ROOT / "firstcnn", course.root / "firstcnn")
    course.nbgrader("generate_assignment", "small")
    course.answer("somebody", "small", ["a_value = 5", "b_value = 6", "c_value = 7", "d_value = 9"])
    said = course.nbgrader("autograde", "small")
    assert "did not start" not in said
    assert [got for got, _ in course.points("somebody", "small").values()] == [1, 2, 3, 0]
