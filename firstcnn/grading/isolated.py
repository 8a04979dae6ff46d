"""Processes of Python that run this very package, whatever folder or environment they start in.

An instructor may work in one checkout with the Python of another, and nbgrader imports from the
folder that it is called in. The processes that this one starts must not find another version of
the package, nor one that their sandbox does not show.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["PACKAGE", "command"]

#: The folder of the package that is running.
PACKAGE = Path(__file__).resolve().parents[1]

# The folder around the package is searched for nothing else.
_RUN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); import firstcnn; del sys.path[0]; "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the package as a program.

    Parameters
    ----------
    module : str
        Its full name.
    *arguments : str
        What it finds in ``sys.argv``.
    """
    return [sys.executable, "-I", "-c", _RUN, str(PACKAGE.parent), module, *arguments]
