"""Set-up: the lock, the conda environment, the Makefile and what CI runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# What pip sees: one entry a requirement, its lines joined, its hashes apart.
ENTRIES = [line.split("--hash=") for line in LOCK.replace("\\\n", " ").splitlines() if line.strip()]
LOCKED = [Requirement(entry[0]) for entry in ENTRIES]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

PYTHONS = ["3.11", "3.12", "3.13"]
PLATFORMS = {
    "Linux on x86-64": ("linux", "Linux", "x86_64", "posix"),
    "Linux on ARM": ("linux", "Linux", "aarch64", "posix"),
    "macOS on ARM": ("darwin", "Darwin", "arm64", "posix"),
    "Windows": ("win32", "Windows", "AMD64", "nt"),
}


def environment(platform: str, python: str) -> dict[str, str]:
    """Return what the markers of requirements are judged by, for another machine."""
    sys_platform, system, machine, os_name = PLATFORMS[platform]
    return {
        "implementation_name": "cpython",
        "os_name": os_name,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": system,
        "python_full_version": f"{python}.1",
        "python_version": python,
        "sys_platform": sys_platform,
        "extra": "",
    }


def applies(requirement: Requirement, where: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(where)


# ---- requirements.lock ----------------------------------------------------------------------


def test_every_locked_requirement_has_one_version_and_a_hash():
    assert len(LOCKED) > 100
    for requirement, (_, *hashes) in zip(LOCKED, ENTRIES, strict=True):
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, f"{requirement.name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text.strip()) for text in hashes)


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml"])
def test_no_address_of_a_registry(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^ *(- )?--(?!hash)", text, re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_one_version_of_everything_on_each_machine(platform, python):
    where = environment(platform, python)
    names = [canonicalize_name(locked.name) for locked in LOCKED if applies(locked, where)]
    assert len(names) == len(set(names))

    tensorflow = {"tensorflow", "tensorflow-cpu"} & set(names)
    assert tensorflow == {"tensorflow-cpu" if platform == "Linux on x86-64" else "tensorflow"}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_the_package_asks_for_is_locked(platform, python):
    where = environment(platform, python)
    locked = {canonicalize_name(entry.name): entry for entry in LOCKED if applies(entry, where)}
    groups = PROJECT["dependency-groups"].values()
    for text in [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(text for group in groups for text in group),
    ]:
        asked = Requirement(text)
        if applies(asked, where):
            found = locked.get(canonicalize_name(asked.name))
            assert found, f"{asked.name} is not in requirements.lock: run `make lock`"
            version = str(found.specifier).removeprefix("==")
            assert asked.specifier.contains(version, prereleases=True), f"{asked}: {version}"


# ---- environment.yml ------------------------------------------------------------------------


def test_conda_users_get_the_same_versions():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == "first-cnn"
    *from_conda, from_pip = conda["dependencies"]
    assert from_conda == [f"python {PROJECT['project']['requires-python']}", "pip"]
    *pinned, package = from_pip["pip"]
    assert package == "-e ."
    stale = {str(Requirement(text)) for text in pinned} ^ {str(locked) for locked in LOCKED}
    assert not stale, "environment.yml is not what requirements.lock says: run `make lock`"


# ---- Makefile -------------------------------------------------------------------------------


def make(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    """Run make as from a shell that knows none of the Makefile's variables."""
    ours = {"PYTHON", "PORT", "NO_BROWSER", "ROOT", "MODEL", "LAB_ARGS"}
    ours |= {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [shutil.which("make"), *arguments],
        cwd=cwd,
        env=kept | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def bare_checkout(tmp_path):
    """Return a checkout that was never set up, of the files that set-up needs."""
    checkout = tmp_path / "a checkout"
    checkout.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    return checkout


def fake_python(folder: Path, name: str, version: str, *, has_venv: bool = True) -> Path:
    """Write a Python that knows its version and whether it can make environments."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *ensurepip*) exit {0 if has_venv else 1} ;;\n'
        f"*version_info*) echo {version} ;;\n"
        f'-V) echo "Python {version}.1" ;;\n'
        '"-m venv"*) echo "$0" > made-by; exit 9 ;; esac\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def path_with_only(folder: Path) -> str:
    """Put beside the fake Pythons the few tools that the Makefile uses, and nothing else."""
    folder.mkdir(exist_ok=True)
    for tool in ("cat", "id", "rm", "sh"):
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


@pytest.mark.parametrize(
    "target", ["help", "lab", "app", "test", "build", "verify", "lock", "clean"]
)
def test_targets(target):
    assert make("-n", target).returncode == 0
    assert f"make {target}" in make().stdout


def test_lab_passes_on_port_and_browser():
    plain = make("-n", "lab").stdout
    assert "--port=8888" in plain
    assert "port_retries" not in plain
    assert "--no-browser" not in plain
    assert 'cd "course"' in plain

    asked = make("-n", "lab", "PORT=8890", "NO_BROWSER=1", "LAB_ARGS=--ip=0.0.0.0").stdout
    assert "--port=8890 --ServerApp.port_retries=0" in asked
    assert "--no-browser" in asked
    assert "--ip=0.0.0.0" in asked
    assert "--no-browser" not in make("-n", "lab", "NO_BROWSER=0").stdout


def test_app_passes_on_model_port_and_browser():
    plain = make("-n", "app").stdout
    assert plain.split()[-2:] == [".venv/bin/firstcnn", "app"]

    asked = make("-n", "app", "MODEL=my models/a.keras", "PORT=8123", "NO_BROWSER=1").stdout
    assert '"my models/a.keras" --port=8123' in asked
    assert asked.split()[-1] == "--no-browser"
    assert "--no-browser" not in make("-n", "app", "NO_BROWSER=0").stdout


def test_root_is_allowed_only_to_root():
    assert ("--allow-root" in make("-n", "lab").stdout) == (os.getuid() == 0)


def test_first_python_that_fits(bare_checkout, tmp_path):
    tools = tmp_path / "tools"
    fake_python(tools, "python3.13", "3.13", has_venv=False)
    fake_python(tools, "python3.11", "3.11")
    fake_python(tools, "python3", "3.14")
    make("build", cwd=bare_checkout, PATH=path_with_only(tools))
    assert (bare_checkout / "made-by").read_text().strip().endswith("python3.11")


def test_no_python_that_fits(bare_checkout, tmp_path):
    tools = tmp_path / "tools"
    fake_python(tools, "python3", "3.9")
    done = make("lab", cwd=bare_checkout, PATH=path_with_only(tools))
    assert done.returncode != 0
    assert "First CNN needs Python 3.11, 3.12 or 3.13; found: python3 (3.9)." in done.stderr


def test_the_python_asked_for_does_not_fit(bare_checkout, tmp_path):
    old = fake_python(tmp_path / "bin", "python", "2.7")
    done = make("test", f"PYTHON={old}", cwd=bare_checkout)
    assert done.returncode != 0
    assert f"found: {old} (2.7)." in done.stderr
    assert not (bare_checkout / ".venv").exists()

    gone = make("test", "PYTHON=/no/such/python", cwd=bare_checkout)
    assert gone.returncode != 0
    assert "found: none." in gone.stderr


def test_python_without_venv(bare_checkout, tmp_path):
    python = fake_python(tmp_path / "bin", "python", "3.12", has_venv=False)
    done = make("lab", f"PYTHON={python}", cwd=bare_checkout)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr


def test_interrupted_installation_starts_over(bare_checkout):
    venv = bare_checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    fake_python(venv / "bin", "python", "3.12")
    assert "rm -rf .venv" in make("-n", "build", cwd=bare_checkout).stdout

    (venv / ".installed").write_text(f"{bare_checkout}\n")
    assert "pip install" not in make("-n", "build", cwd=bare_checkout).stdout
    assert "rm -rf .venv" in make("-n", "build", "PYTHON=/other", cwd=bare_checkout).stdout

    lock = bare_checkout / "requirements.lock"
    os.utime(lock, (lock.stat().st_atime, (venv / ".installed").stat().st_mtime + 5))
    updated = make("-n", "build", cwd=bare_checkout).stdout
    assert "--require-hashes" in updated
    assert "rm -rf .venv" not in updated

    moved = bare_checkout.rename(bare_checkout.with_name("elsewhere"))
    assert "rm -rf .venv" in make("-n", "build", cwd=moved).stdout


# ---- continuous integration -----------------------------------------------------------------


def test_ci_script():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert re.search(r"^exec make test\b", text, re.MULTILINE)


def test_workflow():
    text = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert "ubuntu-latest" in job["strategy"]["matrix"]["os"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
