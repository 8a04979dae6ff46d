"""What every test run needs: the course's kernel, and honesty about the data it has."""

import os
from pathlib import Path

import pytest

from firstcnn import data, kernel
from firstcnn.grading.sandbox import TRUST_VARIABLE, Sandbox, SandboxUnavailable

HERE = Path(__file__).parent
SOLUTIONS = HERE / "solutions"
BROWSER = HERE / "tests" / "browser"


def pytest_configure(config):
    """Let the kernels that tests start be the course's, as ``make lab`` does."""
    paths = [kernel.jupyter_path(), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(paths)
    # The submissions that tests grade are their own: where there is no sandbox, they need none.
    config.firstcnn_no_sandbox = _no_sandbox()
    if config.firstcnn_no_sandbox:
        os.environ[TRUST_VARIABLE] = "1"


def _no_sandbox():
    """Return why there can be no sandbox here, if so."""
    try:
        with Sandbox(None):
            return None
    except SandboxUnavailable as error:
        return str(error).partition("\n")[0]


def pytest_report_header(config):
    """Say what is tested less than it should be."""
    if config.firstcnn_no_sandbox:
        return f"no sandbox, submissions are graded without one: {config.firstcnn_no_sandbox}"
    return None


def pytest_collection_modifyitems(config, items):
    """Compare outputs that were made with all of MNIST only where it is; order the tests."""
    inside = [item for item in items if SOLUTIONS in Path(item.path).parents]
    if inside and not data.is_complete():
        reason = "its outputs were made with all of MNIST, and only the fallback data is here"
        for item in inside:
            item.add_marker(pytest.mark.skip(reason=reason))
    for item in inside:
        # Seconds from one output to the next, in place of nbval's 5: a kernel may be held up.
        item.output_timeout = 300
    # What waits leaves others the cores, so it comes first; browser tests take longest.
    items.sort(key=_place)


def _place(item):
    if BROWSER in Path(item.path).parents:
        return 0
    return 1 if item.get_closest_marker("waits") else 2
