"""A course folder for tests, on which nbgrader's own commands are run, as in its manual."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from notebooks import ROOT


class NbgraderCourse:
    """A copy of what an instructor has, in a folder of its own, with an exchange beside it."""

    def __init__(self, folder: Path, lessons: list[str]):
        self.root = folder / "instructor"
        self.exchange = folder / "exchange"
        self.root.mkdir(parents=True)
        self.exchange.mkdir()
        self.exchange.chmod(0o777)
        shutil.copy(ROOT / "nbgrader_config.py", self.root)
        for lesson in lessons:
            shutil.copytree(ROOT / "source" / lesson, self.root / "source" / lesson)

    def nbgrader(
        self,
        *arguments: str,
        cwd: Path | None = None,
        status: int = 0,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Run one nbgrader command and return what it says; fail on another exit status."""
        around = {
            **{key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            # nbgrader remembers there what somebody has submitted: each person has their own.
            "JUPYTER_DATA_DIR": str((cwd or self.root) / ".jupyter"),
            **(environment or {}),
        }
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *arguments, f"--Exchange.root={self.exchange}"],
            cwd=cwd or self.root,
            env=around,
            capture_output=True,
            text=True,
            timeout=3600,  # of a class; only what hangs takes so long
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, said
        return said

    def submit_by_hand(self, student: str, lesson: str, notebook: Path) -> None:
        """Put a notebook where nbgrader's collect would put it."""
        folder = self.root / "submitted" / student / lesson
        folder.mkdir(parents=True)
        shutil.copy(notebook, folder / f"{lesson}.ipynb")

    def answer(self, student: str, lesson: str, sources: list[str]) -> Path:
        """Hand in the released notebook with its first answers filled in; return the folder."""
        name = f"{lesson}.ipynb"
        work = nbformat.read(self.root / "course" / lesson / name, as_version=4)
        blanks = [one for one in work.cells if one.metadata.get("nbgrader", {}).get("solution")]
        for one, source in zip(blanks, sources, strict=False):
            one.source = source
        folder = self.root / "submitted" / student / lesson
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(work, folder / name)
        return folder

    def points(self, student: str, lesson: str) -> dict[str, tuple[float, float]]:
        """Return, by exercise, the points that a student has and could have."""
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}", "first-cnn") as gradebook:
            submission = gradebook.find_submission(lesson, student)
            return {
                grade.name: (grade.score, grade.max_score)
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
