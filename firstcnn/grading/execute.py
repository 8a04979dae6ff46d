"""Grading apart: students' cells run in one place, the cells that grade them in another.

`GradeApart` takes the place of nbgrader's Execute in ``nbgrader autograde`` and behind
formgrader's button. Students' cells run in a kernel in a sandbox. Grade cells run in the judge,
which gets values from that kernel as data. What both leave in the notebook is what stock nbgrader
would leave there, so that all that follows, from the gradebook to the feedback, is nbgrader's own::

    c.Autograde.exporter_class = "firstcnn.grading.execute.ApartExporter"
    c.Autograde.autograde_preprocessors = [GradeApart, IgnorePattern, ...]
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution
from traitlets import Dict, Integer

from firstcnn.grading.agent import Dead, Student, connected
from firstcnn.grading.cells import Cells, Ended, Ran
from firstcnn.grading.judge import Judge, JudgeError, Outcome
from firstcnn.grading.kernels import Kernel, ordinary, sandboxed
from firstcnn.grading.preflight import PreparedExporter
from firstcnn.grading.provisioner import mnist_folder
from firstcnn.grading.sandbox import (
    MIB,
    Limits,
    Sandbox,
    SandboxError,
    SandboxUnavailable,
    is_trusted,
    start_judge,
)
from firstcnn.grading.sanitise import Allowance, sanitise_outputs

__all__ = ["ApartExporter", "GradeApart"]


class ApartExporter(PreparedExporter):
    """nbgrader's exporter: being made, it also makes sure that there can be a sandbox.

    Without one, grading stops before it has begun, with the reason, and not at each submission.

    Raises
    ------
    nbgrader.converters.base.NbGraderException
        If there can be none, and nobody said that submissions are trusted.
    """

    def __init__(self, config=None, **options) -> None:
        parent = options.get("parent")
        if isinstance(parent, Autograde) and not is_trusted():
            try:
                with Sandbox(None):
                    pass
            except SandboxUnavailable as error:
                parent.log.error("%s", error)
                raise NbGraderException(str(error)) from None
        super().__init__(config=config, **options)


class GradeApart(NbGraderPreprocessor):
    """Run a submission's cells, those that grade it apart from those of the student.

    Where submissions are trusted (``FIRSTCNN_TRUST_SUBMISSIONS=1``), the student's kernel is an
    ordinary one; the judge is another process still.

    Attributes
    ----------
    timeout : int
        Seconds for one cell.
    call_timeout : int
        Seconds for one call of a student's function by a grade cell.
    limits : dict
        Any of `firstcnn.grading.sandbox.Limits`, as ``{"seconds": 900}``; the others come from
        the environment.
    environment : dict
        More environment variables for the student's kernel and the judge.
    """

    timeout = Integer(300, help="Seconds for one cell.").tag(config=True)
    call_timeout = Integer(60, help="Seconds for one call of a student's function.").tag(
        config=True
    )
    limits = Dict(help="What a submission may take, where not as usual.").tag(config=True)
    environment = Dict(help="More environment variables, for kernel and judge.").tag(config=True)

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any]
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Run the cells of a notebook.

        Its metadata then tell, under ``firstcnn``, the ``seconds`` that this took, and the most
        ``memory`` that the student's kernel was seen to use, in MiB.

        Raises
        ------
        SandboxUnavailable
            If there can be no sandbox on this system.
        nbgrader.converters.base.NbGraderException
            If this one could not be made, or the judge. nbgrader goes on with the next submission.
        """
        cells = [cell for cell in nb.cells if cell.cell_type == "code"]
        refusals = nb.metadata.get("firstcnn", {}).get("refusals", {})
        if "" in refusals:  # the untouched notebook stands there, and nothing of the student's
            for cell in filter(_is_check, cells):
                cell.outputs = [_error("NotGraded", f"Not graded: {refusals['']}")]
            return nb, resources
        start = time.monotonic()
        path = resources.get("metadata", {}).get("path")
        folder = Path(path) if path else None
        try:
            shown, memory = self._run(cells, refusals, folder)
        except (SandboxError, JudgeError) as error:
            # Not the student's fault, who must not lose points by it.
            whose = resources.get("nbgrader", {})
            name = ", ".join(filter(None, map(whose.get, ("student", "notebook"))))
            words = f"{name or 'A notebook'} was not graded: {error}. Grade it again."
            self.log.error("%s", words)
            raise NbGraderException(words) from None
        told = nb.metadata.setdefault("firstcnn", {})
        told["seconds"] = round(time.monotonic() - start, 2)
        if memory:
            told["memory"] = round(memory / MIB)
        allowance = Allowance()
        for cell, ran in shown:  # not before: a cell may update what another has shown
            cell.outputs = sanitise_outputs(ran.outputs, allowance)
            cell.execution_count = ran.count
        return nb, resources

    def _run(
        self, cells: list[NotebookNode], refusals: dict[str, str], folder: Path | None
    ) -> tuple[list[tuple[NotebookNode, Ran]], int]:
        """Run code cells; fill in what checks show.

        Returns what the student's cells did, and the most memory that they used, in bytes.
        """
        with self._kernel(folder) as kernel, self._judge(sum(map(_is_check, cells))) as judge:
            notebook = _Notebook(kernel, judge, timeout=self.timeout, log=self.log)
            shown = []
            for cell in cells:
                if not _is_check(cell):
                    shown.append((cell, notebook.run(cell)))
                elif (name := cell.metadata.nbgrader.grade_id) in refusals:
                    cell.outputs = [_error("NotGraded", f"Not graded: {refusals[name]}")]
                else:
                    cell.outputs = notebook.check(cell)
            notebook.close()
            return shown, kernel.memory()

    def _kernel(self, folder: Path | None) -> contextlib.AbstractContextManager[Kernel]:
        if is_trusted():
            return ordinary(folder, env=self.environment)
        limits = Limits.from_environment(**self.limits)
        return sandboxed(folder, data=mnist_folder(), limits=limits, env=self.environment)

    def _judge(self, checks: int) -> Judge:
        start = None
        if not is_trusted():
            usual = Limits.from_environment(**self.limits)
            # It waits for the student's cells, and must not run out of time over that.
            seconds = usual.seconds + checks * self.timeout
            limits = Limits.from_environment(**{**self.limits, "seconds": seconds})
            start = partial(start_judge, data=mnist_folder(), limits=limits, env=self.environment)
        return Judge(start, cell_timeout=self.timeout, call_timeout=self.call_timeout)


def _is_check(cell: NotebookNode) -> bool:
    """Tell whether the judge runs a cell. A cell that a person grades is the student's."""
    return is_grade(cell) and not is_solution(cell)


class _Notebook:
    """Runs the cells of one notebook, and tells in each what became of it.

    Parameters
    ----------
    kernel : Kernel
        The student's.
    judge : Judge
        For this notebook alone.
    timeout : float
        Seconds for one cell.
    log : logging.Logger
        For the instructor.
    """

    def __init__(self, kernel: Kernel, judge: Judge, *, timeout: float, log: Any) -> None:
        self._kernel, self._judge = kernel, judge
        self._timeout, self._log = timeout, log
        self._cells: Cells | None = None
        self._told = False
        self._open = contextlib.ExitStack()
        self._student: Student | None = None

    def close(self) -> None:
        """Hang up."""
        self._open.close()

    # ---- students' cells ----

    def run(self, cell: NotebookNode) -> Ran:
        """Run a student's cell; what it shows is not safe yet."""
        if not cell.source.strip():
            return Ran()
        try:
            self._cells = self._cells or Cells(self._kernel)
            ran = self._cells.run(cell.source, self._timeout)
        except Ended:
            ran = Ran(ended=True)
            if self._told:
                ran.outputs.append(_error("KernelEnded", "Not run: the kernel had ended before."))
                return ran
        if ran.ended:
            self._told = True
            ran.outputs.append(_error("KernelEnded", f"The kernel {self._end()}."))
        elif ran.stopped:
            words = f"This cell was stopped: it took longer than {self._timeout:.0f} s."
            ran.outputs.append(_error("CellTimeoutError", words))
        return ran

    def _end(self) -> str:
        """Say how the kernel ended, with the kernel as the subject."""
        why = self._kernel.why()
        if why:
            return f"was stopped here: the notebook {why}"
        return "ended here by itself. It was told to, or it asked for too much memory"

    # ---- grade cells ----

    def check(self, cell: NotebookNode) -> list[NotebookNode]:
        """Have a grade cell run by the judge, and return its outputs."""
        name = cell.metadata.nbgrader.grade_id
        outcome = self._judge.run(name, cell.source, self._fetch, self._call)
        if outcome.status == "broken":
            self._log.warning("%s: %s", name, outcome.message)
        elif outcome.traceback:
            self._log.debug("%s: %s", name, outcome.traceback)
        return _outputs(outcome, float(cell.metadata.nbgrader.points))

    def _fetch(self, name: str) -> bytes | None:
        return self._asked(lambda student: student.fetch(name))

    def _call(self, name: str, packet: bytes, timeout: float) -> bytes:
        return self._asked(lambda student: student.call(name, packet, timeout))

    def _asked(self, ask: Callable[[Student], Any]) -> Any:
        """Ask the student's kernel, and say why it cannot answer if it has ended."""
        try:
            if not self._kernel.alive():
                raise Dead
            if self._student is None:
                client = self._open.enter_context(connected(self._kernel.connection_file))
                alive, interrupt = self._kernel.alive, self._kernel.interrupt
                self._student = Student(client, alive, interrupt=interrupt)
            return ask(self._student)
        except Dead:
            why = self._kernel.why()
            raise Dead(f"has ended, since the notebook {why}" if why else "has ended") from None


# ---- outputs -----------------------------------------------------------------------------------


def _error(kind: str, words: str) -> NotebookNode:
    """Return the output of an error that is told in words, as the course's kernel writes them."""
    return from_dict(
        {"output_type": "error", "ename": kind, "evalue": words, "traceback": words.split("\n")}
    )


def _outputs(outcome: Outcome, points: float) -> list[NotebookNode]:
    """Return what a grade cell's outcome looks like in a notebook, where nbgrader reads it."""
    return sanitise_outputs(list(_raw_outputs(outcome, points)))


def _raw_outputs(outcome: Outcome, points: float) -> Iterator[dict[str, Any]]:
    if outcome.stdout:
        yield {"output_type": "stream", "name": "stdout", "text": outcome.stdout}
    if outcome.status != "ok":
        yield _error(outcome.ename, outcome.message)
    elif outcome.partial is not None:
        # More than there is to have would stop nbgrader, and less than nothing be everything.
        value = min(max(outcome.partial, 0.0), points)
        data = {"text/plain": repr(value)}
        yield {"output_type": "execute_result", "data": data, "metadata": {}}
