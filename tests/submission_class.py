"""A class of students whose submissions are recipes, graded together, and what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader_course import NbgraderCourse
from notebooks import ROOT, cell
from ports import free_port

from firstcnn import check, data
from firstcnn.grading.sandbox import TRUST_VARIABLE
from firstcnn.source_rules import canonical

FAMILIES = ROOT / "tests" / "submissions"
LESSON = "trial"

#: What must be found nowhere that a student can see: in hidden tests, in the environment and the
#: home of the grader, in the gradebook, and in another student's submission.
HIDDEN = "hidden_5d0c"
SECRETS = {
    "environment": "canary-env-81f2",
    "home": "canary-home-9b07",
    "gradebook": "canary-book-c41e",
    "submission": "canary-work-77aa",
}
#: What a process that outlives its submission has in its command line or environment; other tests
#: run at the same time.
MARKER = f"outlives-{os.getpid()}"

# ---- the lesson --------------------------------------------------------------------------------

# Name, points, the right answer, the visible and the hidden part of the check.
EXERCISES = [
    (
        "number",
        2,
        "n_outputs = 10",
        f"check.number('n_outputs', n_outputs, equals=check.sealed('{check.seal(10)}'))",
        "check.number('n_outputs', n_outputs, equals=10)",
    ),
    (
        "scaled",
        2,
        "scaled = np.array([0, 51, 255], 'uint8').astype('float32') / 255",
        "check.array('scaled', scaled, dtype='float32', shape=(3,))",
        "check.array('scaled', scaled, equals=[0, 0.2, 1])",
    ),
    (
        "area",
        3,
        "def area(rows, columns=1):\n    return rows * columns",
        "check.function('area', area, like={(2, 3): 6})",
        "import numpy as np\n"
        "sizes = [(int(a), int(b)) for a, b in np.random.default_rng(9).integers(5, 99, (4, 2))]\n"
        "check.function('area', area, like=lambda a, b=1: a * b, cases=[*sizes, (7,)])",
    ),
    (
        "network",
        2,
        "network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])",
        "check.model('network', network, input_shape=(4,), output_shape=(2,))",
        "check.model('network', network, layers=[check.layer('Dense', units=2)], parameters=10)",
    ),
    (
        "share",
        4,
        "votes = [1, 2, 3, 4]",
        "check.that(isinstance(votes, list) and len(votes) == 4, 'votes is no list of 4.')",
        "wanted = [1, 2, 3, 4]\nsum(have == want for have, want in zip(votes, wanted))",
    ),
]
POINTS = {f"{name}-check": points for name, points, *_ in EXERCISES}
ANSWERS = {name: right for name, _, right, *_ in EXERCISES} | {"words": "Ten digits, ten outputs."}


def lesson() -> nbformat.NotebookNode:
    """Return the lesson that the students answer: each kind of answer once."""
    cells = [cell("md", "title", "# A trial"), cell("code", "setup", SETUP)]
    for name, points, right, visible, hidden in EXERCISES:
        solution = f"### BEGIN SOLUTION: ...\n{right}\n### END SOLUTION"
        test = (
            f"from firstcnn import check\n\n{visible}\n"
            f"### BEGIN HIDDEN TESTS\n{HIDDEN} = '{HIDDEN}'\n{hidden}\n"
            "### END HIDDEN TESTS"
        )
        cells.append(cell("answer", f"{name}-answer", solution))
        cells.append(cell("check", f"{name}-check", test, points))
    words = cell("md", "words-answer", "### BEGIN SOLUTION\nTen.\n### END SOLUTION")
    words.metadata["nbgrader"] = {
        **{"grade": True, "solution": True, "locked": False, "task": False},
        **{"grade_id": "words-answer", "points": 1, "schema_version": 3},
    }
    return new_notebook(cells=[*cells, words])


SETUP = "import keras\nimport numpy as np"

# ---- recipes -----------------------------------------------------------------------------------

_WORDS = (*ANSWERS, "first", "last", "edit", "files")

#: What the configuration has besides. A short limit is for what is to exceed it, and for nothing
#: else: whatever must keep within its limit has nbgrader_config.py's, on a busy machine too.
STOPPING = """
from firstcnn.grading import execute

SOON = {soon!r}


class Notebook(execute._Notebook):
    def run(self, cell):
        usual = self._timeout
        self._timeout = execute.soon.get(("cell", cell.source.strip()), usual)
        try:
            return super().run(cell)
        finally:
            self._timeout = usual

    def check(self, cell):
        judge, name = self._judge, cell.metadata.nbgrader.grade_id
        usual = judge._cell_timeout, judge._call_timeout
        judge._cell_timeout = execute.soon.get(("check", name), usual[0])
        judge._call_timeout = execute.soon.get(("call", name), usual[1])
        try:
            return super().check(cell)
        finally:
            judge._cell_timeout, judge._call_timeout = usual


class Stopping(execute.GradeApart):
    def preprocess(self, nb, resources):
        execute.soon = SOON.get(resources["nbgrader"]["student"], {{}})
        return super().preprocess(nb, resources)


execute._Notebook = Notebook
c.Autograde.autograde_preprocessors[0] = Stopping
"""


@dataclass
class Recipe:
    """One submission.

    Parameters
    ----------
    title, reason : str
        What the student does, and why that would be dangerous.
    code : list of (str, str)
        What becomes of it, and it.
    points : dict of str to float
        By check, where not all.
    says, hides : list of str
        What the feedback must hold, and what it must not.
    brings : list of str
        Files of the student's own that go along with the notebook.
    stopped : dict of str to int
        After how many seconds its cells, their checks or these checks' calls are stopped, where
        not as usual.
    """

    title: str
    reason: str = ""
    code: list[tuple[str, str]] = field(default_factory=list)
    points: dict[str, float] = field(default_factory=dict)
    says: list[str] = field(default_factory=list)
    hides: list[str] = field(default_factory=list)
    brings: list[str] = field(default_factory=list)
    stopped: dict[str, int] = field(default_factory=dict)

    @property
    def student(self) -> str:
        """The student's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def expected(self) -> dict[str, float]:
        """Points by check."""
        return POINTS | self.points

    def soon(self, places: dict[str, str]) -> dict[tuple[str, str], int]:
        """Return what is stopped earlier than usual, and after how many seconds."""
        found = {}
        for what, seconds in self.stopped.items():
            for word, text in self.code:
                name = filled(text, places).strip() if what == "cell" else f"{word}-check"
                found[what, name] = seconds
        return found


@dataclass
class Family:
    """A class of students.

    Parameters
    ----------
    name : str
        The file's.
    environment : list of str
        What `nbgrader autograde` finds in its environment besides.
    recipes : list of Recipe
        The submissions.
    """

    name: str
    environment: list[str] = field(default_factory=list)
    recipes: list[Recipe] = field(default_factory=list)


def filled(text: str, places: dict[str, str]) -> str:
    """Return code with the places that it is to reach."""
    for place, where in places.items():
        text = text.replace(f"{{{{{place}}}}}", where)
    return text


def families() -> list[str]:
    """Return the names of all families."""
    return sorted(path.stem for path in FAMILIES.glob("*.md") if path.stem != "README")


def load(name: str) -> Family:
    """Read a family; ValueError names the line that is not understood."""
    family = Family(name)
    lines = iter(enumerate((FAMILIES / f"{name}.md").read_text(encoding="utf-8").split("\n"), 1))
    for number, line in lines:
        one = family.recipes[-1] if family.recipes else None
        if line.startswith("## "):
            family.recipes.append(Recipe(line[3:].strip()))
        elif match := re.fullmatch(r"- environment: (.+)", line):
            family.environment += match[1].split()
        elif one and (match := re.fullmatch(r"- points: (.+)", line)):
            pairs = (part.rsplit(maxsplit=1) for part in match[1].split(","))
            for check, points in pairs:
                names = POINTS if check == "all" else [f"{check.strip()}-check"]
                one.points |= dict.fromkeys(names, float(points))
        elif one and (match := re.fullmatch(r"- (says|hides): (.+)", line)):
            getattr(one, match[1]).append(match[2])
        elif one and (match := re.fullmatch(r"- stopped: (cell|check|call) (\d+) s", line)):
            one.stopped[match[1]] = int(match[2])
        elif one and (match := re.fullmatch(r"- brings: (.+)", line)):
            one.brings += match[1].split()
        elif one and (match := re.fullmatch(r"```python (\w+)", line)):
            code = []
            for _, line in lines:
                if line == "```":
                    break
                code.append(line)
            if match[1] not in _WORDS or not one.reason:
                raise ValueError(f"{name}.md, line {number}: {line}")
            one.code.append((match[1], "\n".join(code)))
        elif line.startswith(("- ", "```", "### ")):
            raise ValueError(f"{name}.md, line {number}: {line}")
        elif one and line.strip():
            one.reason = f"{one.reason} {line.strip()}".strip()
    students = [one.student for one in family.recipes]
    if len(set(students)) < len(students) or not all(one.code for one in family.recipes):
        raise ValueError(f"{name}.md: two recipes of one name, or one that does nothing")
    return family


# ---- the class ---------------------------------------------------------------------------------


class Decoys:
    """What attackers look for: a home with a key, and places where someone listens.

    Attributes
    ----------
    places : dict of str to str
        Where they are.
    visitors : list of str
        Who came.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh" / "id_ed25519").write_text(SECRETS["home"])
        (self.home / "notes.txt").write_text(SECRETS["home"])
        self.visitors: list[str] = []
        self._serving: list[threading.Thread] = []
        self._listening = [self._listen(socket.AF_INET, ("127.0.0.1", free_port()))]
        name = f"firstcnn-decoy-{os.getpid()}"
        self._sockets = Path(tempfile.mkdtemp(prefix="decoy-"))
        self._sockets.chmod(0o755)
        path = str(self._sockets / "socket")
        self._listening.append(self._listen(socket.AF_UNIX, path))
        os.chmod(path, 0o777)
        self._listening.append(self._listen(socket.AF_UNIX, f"\0{name}"))
        self.places = {
            "port": str(self._listening[0].getsockname()[1]),
            "socket": path,
            "abstract": name,
            "home": str(self.home),
            "course": str(folder / "instructor"),
            "marker": MARKER,
        }

    def _listen(self, kind: int, address) -> socket.socket:
        listener = socket.socket(kind)
        listener.bind(address)
        listener.listen(64)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    self.visitors.append(str(address))

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        self._serving.append(serving)
        return listener

    def close(self) -> None:
        """Listen no more."""
        for one, serving in zip(self._listening, self._serving, strict=True):
            one.shutdown(socket.SHUT_RDWR)
            serving.join()  # as long as it is in accept(), the name is taken
            one.close()
        shutil.rmtree(self._sockets)


def hand_out(folder: Path) -> Path:
    """Make a course of one lesson, ready to be answered; return its root."""
    course = NbgraderCourse(folder, [])
    source = course.root / "source" / LESSON
    source.mkdir(parents=True)
    (source / f"{LESSON}.ipynb").write_text(canonical(lesson()))
    (source / "pixels.txt").write_text("0 51 255\n")
    course.nbgrader("generate_assignment", LESSON)
    return course.root


class GradedClass:
    """A family of submissions, handed in and graded.

    Parameters
    ----------
    folder : Path
        An empty folder for all of it.
    families : list of Family
        The submissions. After each tenth one comes an honest student, and a first and a last.
    handed_out : Path
        The course, see `hand_out`.

    Attributes
    ----------
    said : str
        What nbgrader said.
    before, after : dict of str to str
        A fingerprint of each file that must stay as it is.
    left : list of str
        What is left in the folder for temporary files.
    survivors : list of str
        Processes that are there and should not be.
    visitors : list of str
        Who came to the places where nobody should come.
    """

    def __init__(self, folder: Path, families: list[Family], handed_out: Path) -> None:
        self.course = NbgraderCourse(folder, [])
        shutil.copytree(handed_out, self.course.root, dirs_exist_ok=True)
        decoys = Decoys(folder)
        self.honest = []
        self.recipes = [recipe for family in families for recipe in family.recipes]
        for number, recipe in enumerate(self.recipes):
            self._submit(recipe, decoys.places)
            if number % 10 == 0 or number == len(self.recipes) - 1:
                self.honest.append(f"{recipe.student}-then-honest")
                self._submit(Recipe(self.honest[-1]), {})
        # Someone else's work, with a secret in it, which comes first.
        self.honest.append("0-honest")
        self._submit(Recipe("0 honest", code=[("last", f"# {SECRETS['submission']}")]), {})
        soon = {recipe.student: recipe.soon(decoys.places) for recipe in self.recipes}
        with open(self.course.root / "nbgrader_config.py", "a", encoding="utf-8") as file:
            file.write(STOPPING.format(soon={name: one for name, one in soon.items() if one}))
        with Gradebook(f"sqlite:///{self.course.root / 'gradebook.db'}", "first-cnn") as gradebook:
            gradebook.add_student(SECRETS["gradebook"], last_name=SECRETS["gradebook"])
        watched = [self.course.root / one for one in ("source", "course", "submitted")]
        watched += [self.course.root / "nbgrader_config.py", decoys.home]
        self.before = fingerprints(watched)
        with tempfile.TemporaryDirectory(prefix="class-") as temporary:
            environment = {
                "HOME": str(decoys.home),
                "TMPDIR": temporary,
                # What the grader keeps for itself is not what is watched here.
                "FIRSTCNN_CACHE": str(data._cache_folder()),
                "FIRSTCNN_DECOY": SECRETS["environment"],
            }
            for family in families:
                environment |= dict(one.split("=", 1) for one in family.environment)
            self.said = grade(self.course, environment)
            self.left = os.listdir(temporary)
        self.said += self.course.nbgrader("generate_feedback", LESSON, "--force")
        self.after = fingerprints(watched)
        self.survivors = survivors(MARKER)
        decoys.close()
        self.visitors = decoys.visitors

    def _submit(self, recipe: Recipe, places: dict[str, str]) -> None:
        folder = self.course.root / "submitted" / recipe.student / LESSON
        folder.mkdir(parents=True)
        file = folder / f"{LESSON}.ipynb"
        released = self.course.root / "course" / LESSON / f"{LESSON}.ipynb"
        shutil.copy(released.with_name("pixels.txt"), folder)
        made = nbformat.read(released, as_version=4)
        by_name = {one.id: one for one in made.cells}
        for name, right in ANSWERS.items():
            by_name[f"{name}-answer"].source = right
        steps: dict[str, list[str]] = {}
        for word, text in recipe.code:
            text = filled(text, places)
            if word in ANSWERS:
                by_name[f"{word}-answer"].source = text
            elif word in ("first", "last"):
                one = new_code_cell(text, id=f"{word}-{len(made.cells)}")
                made.cells.insert(0 if word == "first" else len(made.cells), one)
            else:
                steps.setdefault(word, []).append(text)
        notebook = json.loads(json.dumps(made))
        tools = {"notebook": notebook, "folder": folder, "file": file}
        tools["cell"] = lambda name: next(one for one in notebook["cells"] if one["id"] == name)
        for text in steps.get("edit", ()):
            exec(compile(text, recipe.title, "exec"), tools)
        file.write_text(json.dumps(notebook))
        for text in steps.get("files", ()):
            exec(compile(text, recipe.title, "exec"), tools)

    def points(self, student: str) -> dict[str, float | None]:
        """Return what a student has, by check."""
        found = self.course.points(student, LESSON)
        return {name: got for name, (got, _) in found.items() if name in POINTS}

    def strangers(self) -> list[str]:
        """Return files beside the graded notebooks that should not be there, or should."""
        known = {f"{LESSON}.ipynb", "pixels.txt", "timestamp.txt", "submission_secret.txt"}
        root = self.course.root / "autograded"
        brought = {
            root / recipe.student / LESSON / name
            for recipe in self.recipes
            for name in recipe.brings
        }
        found = {path for path in root.rglob("*") if path.name not in known and not path.is_dir()}
        return sorted(map(str, found ^ brought))

    def page(self, student: str) -> str:
        """Return a student's feedback."""
        return (self.course.root / "feedback" / student / LESSON / f"{LESSON}.html").read_text()

    def graded(self, student: str) -> nbformat.NotebookNode:
        """Return a student's notebook as it was graded."""
        file = self.course.root / "autograded" / student / LESSON / f"{LESSON}.ipynb"
        return nbformat.read(file, as_version=4)


def grade(course: NbgraderCourse, environment: dict[str, str]) -> str:
    """Grade a class as an instructor does, and return what was said.

    Always in a sandbox, whatever those who run the tests have set: the submissions are harmful.
    """
    environment = environment | {TRUST_VARIABLE: "0"}
    return course.nbgrader("autograde", LESSON, environment=environment)


def fingerprints(places: list[Path]) -> dict[str, str]:
    """Return what is in files, links and folders, by their path."""
    found = {}
    for place in places:
        for path in [place, *place.rglob("*")]:
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else ""
            if path.is_file() and not path.is_symlink() and status.st_size < 2**27:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = f"{status.st_mode} {status.st_size} {status.st_nlink} {content}"
    return found


def processes(marker: str) -> list[str]:
    """Return the command lines of processes that bear a marker."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command, environment = (folder / "cmdline").read_bytes(), b""
            with contextlib.suppress(OSError):
                environment = (folder / "environ").read_bytes()
            if marker.encode() in command + environment + (folder / "comm").read_bytes():
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def survivors(marker: str) -> list[str]:
    """Return the processes that bear a marker and do not end: they would stay for ten minutes."""
    until = time.monotonic() + 120
    while (found := processes(marker)) and time.monotonic() < until:
        time.sleep(0.1)
    return found
