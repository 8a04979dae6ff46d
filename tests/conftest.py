"""What several test files share."""

import pytest

from firstcnn import data
from firstcnn.figures import display


@pytest.fixture(scope="session")
def official_mnist():
    """Return the folder with the four official MNIST files, or skip the test."""
    folder = data._find_folder()[1]
    if folder is None:
        pytest.skip("needs the four official MNIST files; set MNIST_DIR")
    return folder


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
