"""The tests of ``firstcnn.check`` itself, run on it as it is in this process.

They hold what no answer to an exercise of the course shows: forms that the course does not ask
for yet, and the words for mistakes that its exercises do not invite.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

#: In ``tests/``.
FILES = ("test_check.py", "test_check_models.py")


class _Recorder:
    """A plugin that keeps the name of the first test that does not pass."""

    failed: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def first_failure(root: Path) -> str | None:
    """Run them, and return the first that fails; None if all pass.

    Parameters
    ----------
    root : pathlib.Path
        The checkout.

    Raises
    ------
    RuntimeError
        If they cannot be run at all.
    """
    recorder, said = _Recorder(), io.StringIO()
    options = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:nbval"]
    files = [str(root / "tests" / name) for name in FILES]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main([*options, f"--rootdir={root}", *files], [recorder])
    if (status != pytest.ExitCode.OK) != (recorder.failed is not None):
        raise RuntimeError(f"the tests of firstcnn.check do not run:\n{said.getvalue()}")
    return recorder.failed
