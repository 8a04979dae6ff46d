"""What tests of figures ask of each."""

import matplotlib.pyplot as plt


def words(shown):
    """Return the words of the one figure shown (the fixture of that name); none is left open."""
    [(png, text)] = shown
    assert png.startswith(b"\x89PNG")
    assert not plt.get_fignums()
    return text
