"""Every link into the repository leads somewhere."""

import re
import subprocess
from urllib.parse import unquote

import nbformat
import pytest
from notebooks import ROOT

_LINK = re.compile(r"\[[^\]]*\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)|<img[^>]+src=[\"']([^\"']+)")


def texts():
    """Yield each document's path and its prose, notebooks without their code."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix == ".md":
            yield path, re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
        else:
            cells = nbformat.read(path, as_version=4).cells
            yield path, "\n".join(one.source for one in cells if one.cell_type == "markdown")


def broken(path, text):
    """Return the links of a document that lead nowhere."""
    found = []
    for match in _LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        if not (path.parent / unquote(target.split("#")[0])).exists():
            found.append(target)
    return found


@pytest.mark.parametrize(
    ("path", "text"),
    [pytest.param(p, t, id=str(p.relative_to(ROOT))) for p, t in texts()],
)
def test_links_into_the_repository_lead_somewhere(path, text):
    assert broken(path, text) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("")
    text = "[a](there.md#part) [b](https://keras.io) [c](gone.md) ![d](gone.png) <img src='no.png'>"
    assert broken(tmp_path / "page.md", text) == ["gone.md", "gone.png", "no.png"]
