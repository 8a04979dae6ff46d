"""What several test files share."""

import pytest

from firstcnn import data


@pytest.fixture(scope="session")
def official_mnist():
    """Return the folder with the four official MNIST files, or skip the test."""
    folder = data._find_folder()[1]
    if folder is None:
        pytest.skip("needs the four official MNIST files; set MNIST_DIR")
    return folder
