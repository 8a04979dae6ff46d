"""A gradebook in PostgreSQL, on a server of its own that is stopped in the middle."""

import os
import pwd
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from test_classroom import SIX, SIX_POINTS, Class, rows, wait_until

from firstcnn.grading import recording
from firstcnn.grading.classroom import grade_class

pytest.importorskip("psycopg")


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: on Debian, none of those that PATH names."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """A server that listens on a socket in a folder, and nowhere else."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.data = folder / "data"
        # The server refuses to be root.
        self.user = []
        if not os.geteuid():
            name = "postgres" if _is_user("postgres") else "nobody"
            self.user = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}",
                         "--clear-groups", "--"]  # fmt: skip
            os.chown(folder, pwd.getpwnam(name).pw_uid, -1)
        self.run("initdb", "-D", str(self.data), "-U", "grader", "-A", "trust", "-N")
        self.start()
        self.run("createdb", "-h", str(folder), "-U", "grader", "gradebook")
        self.url = f"postgresql://grader@/gradebook?host={folder}"

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self.user, str(self.programs / program), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        log = str(self.folder / "log")
        self.control("start", "-l", log, "-o", options)

    def stop(self) -> None:
        self.control("stop", "-m", "immediate")

    def control(self, what: str, *how: str) -> None:
        self.run("pg_ctl", what, "-w", "-t", "600", "-D", str(self.data), *how)


def _is_user(name: str) -> bool:
    return any(one.pw_name == name for one in pwd.getpwall())


@pytest.fixture
def server(tmp_path_factory):
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server here: apt install postgresql")
    # The path of a socket must be short, and the server's user must be able to go there.
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/pg-XXXXXX"], text=True).strip())
    folder.chmod(0o755)
    try:
        one = Server(programs, folder)
        yield one
        one.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_lost_connection_loses_nothing(server, tmp_path, monkeypatch):
    """The server ends at once, without a word, while something is recorded, and comes back."""
    school = Class(tmp_path, f"\nc.CourseDirectory.db_url = {server.url!r}\n")
    for number, student in enumerate(SIX):
        school.hand_in(student, [f"{'abcd'[n]}_value = {n + 5}" for n in range(number % 5)])
    said, stopped = [], []
    plain = recording.SaveAutoGrades._add_score

    def interrupted(self, *arguments):
        if school.noted("recorded") and not stopped:
            server.stop()
            stopped.append(True)
        return plain(self, *arguments)

    def come_back():
        wait_until(lambda: said and school.noted("graded") == SIX)
        server.start()

    monkeypatch.setattr(recording.SaveAutoGrades, "_add_score", interrupted)
    other = threading.Thread(target=come_back)
    other.start()
    report = grade_class(school.checkout, ["small"], workers=2, say=said.append)
    other.join()
    assert (report.status, report.stopped) == (0, "")
    assert stopped
    assert said[0].startswith("The gradebook is not to be had: ")
    assert school.noted("graded") == school.noted("recorded") == SIX
    assert [row["score"] for _, row in sorted(rows(server.url).items())] == SIX_POINTS
    assert not school.database.exists()
