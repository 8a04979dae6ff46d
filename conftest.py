"""What every test run needs: the course's kernel, and honesty about the data it has."""

import os
from pathlib import Path

import pytest

from firstcnn import data, kernel

HERE = Path(__file__).parent
SOLUTIONS = HERE / "solutions"
BROWSER = HERE / "tests" / "browser"


def pytest_configure(config):
    """Let the kernels that tests start be the course's, as ``make lab`` does."""
    paths = [kernel.jupyter_path(), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(paths)


def pytest_collection_modifyitems(config, items):
    """Without the whole of MNIST, do not compare outputs that were made with it."""
    inside = [item for item in items if SOLUTIONS in Path(item.path).parents]
    if inside and not data.is_complete():
        reason = "its outputs were made with all of MNIST, and only the fallback data is here"
        for item in inside:
            item.add_marker(pytest.mark.skip(reason=reason))
    # Browser tests come first: they take longest, and wait often enough to leave others the cores.
    items.sort(key=lambda item: BROWSER not in Path(item.path).parents)
