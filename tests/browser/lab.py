"""JupyterLab as ``make lab`` starts it, in a copy of the checkout and for a user almost new to it.

The one thing this user has set: JupyterLab does not save by itself. Where it does so just while it
is told to save, it may take what it wrote for somebody else's, and ask what to do (4.6:
`_maybeSave` compares hashes, and knows of a save only once it is over).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from notebooks import ROOT
from ports import free_port

# What the shell of the tests may have set that a newcomer's has not.
OTHERS = re.compile(r"JUPYTER|IPYTHON|XDG_|NBGRADER|PYTEST|MAKE|MFLAGS")
VARIABLES = {"PYTHON", "PORT", "NO_BROWSER", "ROOT", "LAB_ARGS"}
ADDRESS = re.compile(r"(http://(?:127\.0\.0\.1|localhost):\d+)/lab\?token=(\w+)")
SAVING = "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings"
TRACES = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "*.keras")


def set_up(checkout: Path, *copies: str) -> Path:
    """Make a folder a checkout that `make` finds set up; its environment is the tests' own.

    `copies` are the folders to copy, such as ``course``.
    """
    checkout.mkdir(parents=True, exist_ok=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "nbgrader_config.py"):
        shutil.copyfile(ROOT / name, checkout / name)
    for name in copies:
        shutil.copytree(ROOT / name, checkout / name, ignore=TRACES)
    (checkout / "firstcnn").symlink_to(ROOT / "firstcnn")
    venv = checkout / ".venv"
    venv.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".installed":
            (venv / part.name).symlink_to(part)
    # Written last, as the Makefile does: it is what says that the installation is whole.
    (venv / ".installed").write_text(f"{checkout}\n", encoding="utf-8")
    return checkout


class JupyterLab:
    """A running ``make lab``; use it in a ``with`` statement.

    Parameters
    ----------
    checkout : pathlib.Path
        What `set_up` made.
    nbgrader_config : str, optional
        What the user has in ``~/.jupyter/nbgrader_config.py``.
    variables : str
        The Makefile's variables: ``ROOT="."``.

    Attributes
    ----------
    url : str
        ``http://127.0.0.1:PORT``.
    token : str
        What the printed address carries.
    checkout, opened : pathlib.Path
        What it was given, and the folder in it that it opens.
    log : pathlib.Path
        What it prints, beside the checkout.
    """

    def __init__(self, checkout: Path, *, nbgrader_config: str = "", **variables: str):
        home = checkout.with_name(f"{checkout.name}-home")
        saving = home / ".jupyter" / "lab" / "user-settings" / SAVING
        saving.parent.mkdir(parents=True)
        saving.write_text('{"autosave": false}\n', encoding="utf-8")
        if nbgrader_config:
            config = home / ".jupyter" / "nbgrader_config.py"
            config.write_text(f"c = get_config()\n{nbgrader_config}\n", encoding="utf-8")
        self.log = checkout.with_name(f"{checkout.name}-lab.log")
        self.opened = checkout / variables.get("ROOT", "course")
        self._settings = {"NO_BROWSER": "1", "PORT": str(free_port()), **variables}
        self.checkout = checkout
        self._environment = {
            # Keras' copy of MNIST is found in HOME, and is not to be downloaded once a test.
            "KERAS_HOME": str(Path.home() / ".keras"),
            **{
                name: value
                for name, value in os.environ.items()
                if name not in VARIABLES and not OTHERS.match(name)
            },
            "HOME": str(home),
        }
        self._listens = threading.Event()

    def __enter__(self) -> JupyterLab:
        self._make = subprocess.Popen(
            [shutil.which("make"), "lab", *(f"{k}={v}" for k, v in self._settings.items())],
            cwd=self.checkout,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        found = self._listens.wait(timeout=600) and ADDRESS.search(self.said)
        if not found:
            self.__exit__()
            raise RuntimeError(f"make lab printed no address:\n{self.said}")
        self.url, self.token = found.groups()
        return self

    def __exit__(self, *error) -> None:
        """Stop it as Ctrl-C would; the pipe is at its end once no kernel holds it either."""
        self._make.terminate()
        self._reader.join(timeout=300)
        if self._reader.is_alive():
            os.killpg(self._make.pid, signal.SIGKILL)
            self._reader.join(timeout=300)
        self._make.wait()
        assert not self._reader.is_alive(), f"a process of make lab is left over:\n{self.said}"

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    def _read(self) -> None:
        with self.log.open("w", encoding="utf-8") as log:
            for line in self._make.stdout:
                log.write(line)
                log.flush()
                if ADDRESS.search(line):
                    self._listens.set()
        self._listens.set()
