"""A real browser for the tests of this folder, and what they keep and check of its pages."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest
from notebooks import ROOT
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from watch import Watch

HERE = Path(__file__).parent
SCREENSHOTS = ROOT / "build" / "screenshots"
NODE = ROOT / "build" / "node"

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
VIEWPORT = {"width": 1280, "height": 900}
PATIENCE = 300_000  # ms; a test waits for states, and this only ends what hangs
CDN = "cdnjs.cloudflare.com"  # of nbconvert's templates
# What npm says where there is no network, or a registry behind it that does not answer.
NO_NETWORK = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|ENOTCACHED|E[45]\d\d)\b"
)

expect.set_options(timeout=PATIENCE)

# A time limit or a cancelled job ends pytest so. As after Ctrl-C, servers are to be stopped then.
signal.signal(signal.SIGTERM, signal.default_int_handler)

OUTCOME = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let fixtures know, when they are taken down, how the test went."""
    report = yield
    if report.when == "call":
        item.stash[OUTCOME] = report
    return report


# One browser a file, not a session: as long as Playwright is there, this thread has a running
# event loop, and the kernels of nbval, which come after these tests, would meet it.
@pytest.fixture(scope="module")
def chromium() -> Browser:
    """Return a running Chromium, or skip the test where there is none."""
    asked = os.environ.get("CHROMIUM")
    names = [asked] if asked else BROWSERS
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(
            f"no browser (looked for {', '.join(names)}): install Chromium, or set CHROMIUM to "
            "where it is, to run the browser tests"
        )
    # Chromium cannot sandbox itself as root, nor in most containers.
    sandbox = os.geteuid() != 0 and not os.environ.get("CI")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=ARGUMENTS, chromium_sandbox=sandbox
        )
        yield browser
        browser.close()


@pytest.fixture
def watch() -> Watch:
    """Return the record of what goes wrong behind this test's pages."""
    return Watch()


@pytest.fixture
def allow(watch):
    """Return ``allow(pattern, reason)``: a problem that is known and harmless."""
    return watch.allow


@pytest.fixture
def new_page(chromium, watch, request):
    """Return ``new_page(**context_options)``, which opens a page in a context of its own.

    At the end of the test, errors in the console, failed requests and requests to other hosts
    fail it. A test that failed leaves a picture of each page, and Playwright's trace of what it
    did, in ``build/screenshots``.
    """
    contexts: list[BrowserContext] = []
    name = f"failed-{_file_name(request.node.nodeid)}"
    for stale in SCREENSHOTS.glob(f"{name}-*"):
        stale.unlink()

    def new_page(**options) -> Page:
        usual = {"viewport": VIEWPORT, "reduced_motion": "reduce"}
        context = chromium.new_context(**{**usual, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        watch.follow(context)
        # Without snapshots and pictures of the page, which make JupyterLab slower.
        context.tracing.start()
        return context.new_page()

    yield new_page

    outcome = request.node.stash.get(OUTCOME, None)
    failed = outcome is None or outcome.failed or watch.problems()
    for number, context in enumerate(contexts):
        if failed:
            for place, page in enumerate(context.pages):
                keep_screenshot(page, f"{name}-{number}-{place}")
        context.tracing.stop(path=SCREENSHOTS / f"{name}-{number}.zip" if failed else None)
        context.close()
    if problems := watch.problems():
        pytest.fail("behind the page:\n" + "\n".join(problems), pytrace=False)


@pytest.fixture
def page(new_page) -> Page:
    """Return an empty page of 1280 x 900 in a context of its own; see `new_page`."""
    return new_page()


@pytest.fixture
def without_cdn(allow):
    """Return ``without_cdn(page)``, for pages that nbconvert made: as without a network."""
    reason = (
        "nbconvert's templates, nbgrader's too, fetch MathJax and other scripts from a public "
        "host; without them, formulas stay in TeX and the rest of the page is whole"
    )

    def without_cdn(page: Page) -> None:
        page.context.route(f"https://{CDN}/**", lambda route: route.abort("namenotresolved"))
        allow(rf"https://{re.escape(CDN)}/|MathJax is not defined", reason)

    return without_cdn


@pytest.fixture
def show_html(without_cdn):
    """Return ``show_html(page, html)``, which shows a text as a page with an address."""

    def show_html(page: Page, html: str) -> None:
        without_cdn(page)
        address = "http://localhost/page.html"
        page.route(address, lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(address)

    return show_html


def keep_screenshot(page: Page, name: str) -> Path:
    """Keep what the page shows as ``build/screenshots/NAME.png``."""
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    return path


@pytest.fixture(scope="session")
def screenshot():
    """Return ``screenshot(page, name)``, which keeps ``build/screenshots/NAME.png``."""
    return keep_screenshot


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text.removeprefix("tests/browser/")).strip("-")


# ---- accessibility --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def axe_script() -> str:
    """Return the text of axe-core, installed by npm once, or skip the test."""
    script = NODE / "node_modules" / "axe-core" / "axe.min.js"
    lock = HERE / "package-lock.json"
    NODE.parent.mkdir(exist_ok=True)
    with (NODE.parent / "node.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)  # with `-n`, several processes come here at once
        if not script.exists() or (NODE / lock.name).read_bytes() != lock.read_bytes():
            _npm_ci()
    return script.read_text(encoding="utf-8")


def _npm_ci() -> None:
    """Install what ``package-lock.json`` names, and put it into ``build/node`` once whole."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm: install Node.js with npm to check accessibility with axe-core")
    with tempfile.TemporaryDirectory(dir=NODE.parent) as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and NO_NETWORK.search(done.stderr):
            pytest.skip(f"npm cannot fetch axe-core: {done.stderr.strip().splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        shutil.rmtree(NODE, ignore_errors=True)
        shutil.copytree(folder, NODE)


@pytest.fixture
def axe(axe_script):
    """Return ``axe(page, inside=None, without=(), rules_off=())``: it fails on serious findings.

    `inside` and `without` are CSS selectors: what to look at, and what in it to leave out.
    """

    def axe(
        page: Page,
        inside: str | None = None,
        without: tuple[str, ...] = (),
        rules_off: tuple[str, ...] = (),
    ) -> None:
        for frame in page.frames:
            frame.evaluate(axe_script)
        found = page.evaluate(
            "([where, rules]) => axe.run(where, {rules, resultTypes: ['violations']})",
            [
                {"include": [inside or "html"], "exclude": list(without)},
                {rule: {"enabled": False} for rule in rules_off},
            ],
        )
        serious = [
            f"{rule['impact']}: {rule['id']}: {rule['help']}\n    {node['html'][:200]}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
        if serious:
            pytest.fail("axe-core found:\n" + "\n".join(serious), pytrace=False)

    return axe


@pytest.fixture
def axe_content(request):
    """Return ``axe_content(page, inside=None)``: `axe` for what a lesson itself says and shows.

    Without axe-core it warns, and what else the test looks at is still tested.
    """
    # Not the course's: how Jupyter and nbgrader colour code, prompts and links, and how Keras
    # colours the table of model.summary().
    without = (
        *(".highlight", ".cm-editor"),
        *(".jp-InputPrompt", ".jp-OutputPrompt", ".prompt", ".anchor-link"),
        "pre[style] span[style]",
    )

    def axe_content(page: Page, inside: str | None = None) -> None:
        try:
            axe = request.getfixturevalue("axe")
        except pytest.skip.Exception as reason:
            warnings.warn(f"accessibility not checked: {reason.msg}", stacklevel=2)
        else:
            axe(page, inside, without, rules_off=("link-in-text-block",))

    return axe_content
