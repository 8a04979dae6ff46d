"""What several test files share."""

import pytest
from jupyter_client.connect import LocalPortCache
from ports import free_port

from firstcnn import data
from firstcnn.figures import display
from firstcnn.grading import nursery


def pytest_configure():
    """Let the kernels of several workers not be given the same ports.

    Jupyter looks for some that are free, and the kernel takes them a second later.
    """
    LocalPortCache.find_available_port = lambda self, ip: free_port()


@pytest.fixture(scope="session")
def official_mnist():
    """Return the folder with the four official MNIST files, or skip the test."""
    folder = data._find_folder()[1]
    if folder is None:
        pytest.skip("needs the four official MNIST files; set MNIST_DIR")
    return folder


@pytest.fixture(scope="session")
def sandbox_here(pytestconfig):
    """Skip the test where there can be no sandbox."""
    if reason := pytestconfig.firstcnn_no_sandbox:
        pytest.skip(f"no sandbox here: {reason}")


@pytest.fixture(scope="module")
def warm():
    """One nursery for all kernels of a file's tests."""
    one = nursery.Nursery()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(nursery.SOCKET_VARIABLE, one.socket)
        yield
    one.close()


@pytest.fixture
def shown(monkeypatch):
    """Catch what figures show: a list of (PNG, words)."""
    seen = []

    def catch(bundle, *, metadata=None, raw):
        assert raw
        if "image/png" in bundle:  # the words folded below it come apart
            assert metadata["image/png"]["alt"] == bundle["text/plain"]
            seen.append((bundle["image/png"], bundle["text/plain"]))

    monkeypatch.setattr(display, "display", catch)
    return seen
