"""The browser tests' own fixtures: what they are there to see, they see."""

import json
from pathlib import Path

import pytest
from watch import Watch

HERE = Path(__file__).parent
GOOD = "<html lang=en><title>A page</title><main><h1>A page</h1><p>Words.</p></main></html>"
NO_ALT = GOOD.replace("Words.", "<img src='data:,' width=9 height=9>")


@pytest.fixture
def watched(chromium):
    """Return a page that may go wrong, and the record of what did."""
    watch = Watch()
    context = chromium.new_context()
    watch.follow(context)
    yield context.new_page(), watch
    context.close()


def test_a_sound_page_passes(page, axe, watch):
    page.set_content(GOOD)
    axe(page)
    assert watch.problems() == []


def test_axe_fails_on_an_image_without_words(page, axe):
    page.set_content(NO_ALT)
    with pytest.raises(pytest.fail.Exception, match=r"critical: image-alt: .*\n +<img src"):
        axe(page)
    axe(page, without=("img",))
    axe(page, inside="h1")


def test_axe_looks_into_frames_and_past_a_content_security_policy(page, axe):
    policy = "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">"
    inner = NO_ALT.replace('"', "&quot;")
    frame = f'<iframe title=Inner srcdoc="{inner}"></iframe>'
    html = GOOD.replace("<title>", f"{policy}<title>").replace("Words.", frame)
    # Frames talk to each other only on a page that has an address.
    page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.goto("http://localhost/")
    page.frame_locator("iframe").locator("img").wait_for(state="attached")
    with pytest.raises(pytest.fail.Exception, match="image-alt"):
        axe(page)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("<script>console.error('on fire')</script>", "console error: on fire"),
        ("<script>missing()</script>", "page error: missing is not defined"),
        ("<img src='http://elsewhere.invalid/a.png'>", "request to another host: http://elsewhere"),
        ("<img src='http://127.0.0.1:9/a.png'>", "failed request: net::ERR_"),
        (
            "<script>new WebSocket('ws://elsewhere.invalid')</script>",
            "another host: ws://elsewhere",
        ),
    ],
)
def test_what_goes_wrong_behind_a_page_is_seen(watched, body, seen):
    page, watch = watched
    page.set_content(body)
    for _ in range(2400):
        if any(seen in problem for problem in watch.problems()):
            break
        page.wait_for_timeout(50)
    assert any(seen in problem for problem in watch.problems())
    watch.allow(".", "this page is wrong on purpose")
    assert watch.problems() == []


def test_a_problem_is_not_allowed_without_a_reason():
    with pytest.raises(AssertionError, match="say why"):
        Watch().allow("404", " ")


def test_the_lock_has_hashes_and_no_address():
    text = (HERE / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = json.loads(text)["packages"]
    asked = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    locked = {name: package for name, package in packages.items() if name}
    assert {f"node_modules/{name}" for name in asked} <= set(locked)
    for package in locked.values():
        assert package["integrity"].startswith("sha512-")
    assert all(locked[f"node_modules/{name}"]["version"] == asked[name] for name in asked)
