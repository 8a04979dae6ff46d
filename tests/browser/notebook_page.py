"""A notebook open in JupyterLab, used as a person uses it: menus, keys and buttons."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
from lab import JupyterLab
from playwright.sync_api import Locator, Page, WebSocket, expect

# A lesson trains networks, and the machine may be busy: this only ends what hangs.
PATIENCE = 900_000  # ms

FAILURE = ".jp-OutputArea-output:is([data-mime-type$=stderr], [data-mime-type$=error])"
# From a cell on: nothing waits to run, and something failed or everything ran.
SETTLED = """
([start, failure]) => {
    const cells = [...document.querySelectorAll(".jp-Notebook .jp-CodeCell")].filter(
        cell => cell.dataset.windowedListIndex >= start);
    const prompts = cells.map(cell => cell.querySelector(".jp-InputPrompt").textContent);
    return !prompts.some(prompt => prompt.includes("*")) && (
        cells.some(cell => cell.querySelector(failure)) ||
        prompts.every(prompt => /\\d/.test(prompt)));
}
"""
# Messages between JupyterLab and a kernel; an answer names what it answers.
ASKS = re.compile(rb'"msg_type": ?"execute_request"')
REPLIES = re.compile(rb'"msg_type": ?"execute_reply"')
IDLE = re.compile(rb'"execution_state": ?"idle"')
# Scrolls at each look, until one look finds it in its place.
IN_VIEW = """
part => {
    const place = part.getBoundingClientRect();
    const seen = part.contains(document.elementFromPoint(place.x + 5, place.y + 5));
    part.scrollIntoView({block: "center"});
    return seen;
}
"""


def choose(page: Page, menu: str, item: str) -> None:
    """Choose an item of JupyterLab's menu bar."""
    page.get_by_role("menubar").get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem").filter(has=page.get_by_text(item, exact=True)).click()


def click_until(part: Locator, changed: Locator, state: str) -> None:
    """Click until an element has a class: after a run JupyterLab scrolls, away from the mouse."""
    for _ in range(240):
        part.click()
        for _ in range(10):
            if state in changed.get_attribute("class").split():
                return
            part.page.wait_for_timeout(50)
    raise AssertionError(f"clicked, and still not {state}: {changed}")


class Questions:
    """What JupyterLab asks a kernel to run, and whether it was answered.

    After a failure JupyterLab shows at once that nothing runs. But the kernel is still declining
    what waits, and declines with it what it is asked next.
    """

    def __init__(self):
        self._asked = self._open = 0

    def follow(self, socket: WebSocket) -> None:
        """Count what goes over a connection, if it is a kernel's."""
        if "/api/kernels/" in socket.url:
            self._socket = socket
            socket.on("framesent", self._sent)
            socket.on("framereceived", self._received)

    def answered(self):
        """Return a context that ends when what is asked in it, and all before, is answered."""
        before = self._asked
        return self._socket.expect_event(
            "framereceived",
            lambda frame: self._asked > before and self._open == 0,
            timeout=PATIENCE,
        )

    def _sent(self, frame: str | bytes) -> None:
        if ASKS.search(_bytes(frame)):
            self._asked += 1
            self._open += 2  # a reply, and word that the kernel is idle, behind all output

    def _received(self, frame: str | bytes) -> None:
        data = _bytes(frame)
        self._open -= bool(REPLIES.search(data))
        self._open -= bool(IDLE.search(data) and ASKS.search(data))


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


class NotebookPage:
    """A notebook that JupyterLab opens, once it is there and its kernel is ready.

    Parameters
    ----------
    page : playwright.sync_api.Page
        JupyterLab, which will show one notebook.
    file : pathlib.Path
        That notebook.
    go : callable
        What opens it.
    """

    def __init__(self, page: Page, file: Path, go: Callable[[], object]):
        self.page = page
        self._questions = Questions()
        page.on("websocket", self._questions.follow)
        go()
        self._kinds = [one.cell_type for one in nbformat.read(file, as_version=4).cells]
        expect(page.locator(".jp-Notebook")).to_be_visible()
        expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(self._kinds))
        self.expect_idle()

    @classmethod
    def open(cls, page: Page, lab: JupyterLab, path: str) -> NotebookPage:
        """Open a notebook by its address, without the tabs that were open before."""
        address = f"{lab.url}/lab/tree/{path}?token={lab.token}&reset"
        return cls(page, lab.opened / path, lambda: page.goto(address))

    def expect_idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        expect(self.page.get_by_title("Change kernel for")).to_contain_text(
            "Python 3 (First CNN) | Idle", timeout=PATIENCE
        )

    def cell(self, index: int) -> Locator:
        """Return the cell at a place."""
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')

    def run_from(self, index: int) -> int | None:
        """Run a cell and all below; return the place of the cell that fails, if one does."""
        below = self._kinds[index:]
        if "code" not in below:
            return None
        if index:
            cell = self.cell(index)
            click_until(cell.locator(".jp-InputArea-prompt"), cell, "jp-mod-active")
        rest = "and All Below" if below[1:] else "and Do not Advance"
        with self._questions.answered():
            choose(self.page, "Run", f"Run Selected Cell {rest}" if index else "Run All Cells")
        self.page.wait_for_function(SETTLED, arg=[index, FAILURE], timeout=PATIENCE)
        failed = self.page.locator(".jp-Notebook .jp-Cell", has=self.page.locator(FAILURE))
        places = [
            int(place)
            for place in failed.evaluate_all("all => all.map(x => x.dataset.windowedListIndex)")
        ]
        return next((place for place in places if place >= index), None)

    def message(self, index: int) -> str:
        """Return, once it can be seen, what a cell that failed says."""
        output = self.cell(index).locator(FAILURE)
        self.bring_into_view(output)
        return output.inner_text()

    def pictures_without_words(self) -> list[int]:
        """Return the places of cells that show a picture, and no words of it to unfold."""
        words = self.page.get_by_text("This figure in words")
        shown = self.page.locator(".jp-Notebook .jp-Cell:has(.jp-RenderedImage)")
        silent = shown.filter(has_not=words)
        return silent.evaluate_all("all => all.map(x => Number(x.dataset.windowedListIndex))")

    def bring_into_view(self, part: Locator) -> None:
        """Scroll to a part of a cell, and make the cell the active one, so that it stays there."""
        part.click()
        self.page.wait_for_function(IN_VIEW, arg=part.element_handle())

    def write(self, index: int, text: str) -> None:
        """Replace what a cell holds by typing; pasting, where the editor would indent lines."""
        cell = self.cell(index)
        click_until(cell.locator(".cm-content"), cell.locator(".cm-editor"), "cm-focused")
        self.page.keyboard.press("ControlOrMeta+A")
        if "\n" in text:
            self.page.keyboard.insert_text(text)
        else:
            self.page.keyboard.type(text)

    def save(self) -> None:
        """Save, and wait until JupyterLab knows that the server has it."""
        with self.page.expect_request(
            lambda asked: asked.method == "PUT" and "/api/contents/" in asked.url
        ) as asked:
            self.page.keyboard.press("ControlOrMeta+S")
        assert asked.value.response().ok
        # It looks at the file again before it does; saved once more until then, it would ask.
        expect(self.page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)

    def validate(self) -> Locator:
        """Press nbgrader's button and return the dialog with what it found."""
        self.page.get_by_role("button", name="Validate", exact=True).click()
        dialog = self.page.get_by_role("dialog").filter(has_text="Validation Results")
        expect(dialog).to_be_visible(timeout=PATIENCE)
        return dialog

    def close(self) -> None:
        """Close it and end its kernel."""
        choose(self.page, "File", "Close and Shut Down Notebook…")
        self.page.get_by_role("dialog").get_by_role("button", name="Ok").click()
        expect(self.page.locator(".jp-Notebook")).to_have_count(0)
