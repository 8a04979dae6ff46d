"""The drawing pad as people meet it: with mouse, finger, pen and keys, on any screen."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import numpy as np
import pytest
from drawing import answer, draw, ink, points, touch
from drawing_pad import RunningPad, drawn, png
from playwright.sync_api import Page, expect
from ports import free_port

from firstcnn import reader, strokes
from firstcnn.app import reading, server

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "is_mobile": True,
    "has_touch": True,
}


@pytest.fixture(scope="module")
def predict():
    return reading.predictor(reader.load())


@pytest.fixture(scope="module")
def running(predict):
    with RunningPad(predict) as running:
        yield running


@pytest.fixture
def pad(page, running):
    """Return a page with an empty pad."""
    return opened(page, running)


def opened(page: Page, running: RunningPad) -> Page:
    page.goto(running.url)
    expect(page.locator(".statement")).to_have_text("Draw a digit, from 0 to 9.")
    return page


# In the page, and not on the way: what Playwright holds back is sent on when it stops to look.
HOLD_BACK = """
() => {
    const ask = window.fetch;
    const until = new Promise(go => { window.letGo = go; });
    window.fetch = (...what) => until.then(() => ask(...what));
}
"""


@contextlib.contextmanager
def held_back(page: Page) -> Iterator[None]:
    """Let nothing that is asked meanwhile reach the server."""
    page.evaluate(HOLD_BACK)
    yield
    page.evaluate("letGo()")


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


# ---- drawing --------------------------------------------------------------------------------


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_drawn_with_the_mouse(pad, digit):
    draw(pad, digit)
    assert answer(pad) == str(digit)
    row = pad.get_by_role("row", name=re.compile(f"^{digit} ")).filter(has_text="most likely")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("%")
    expect(pad.locator(".statement")).to_contain_text(str(digit))


def test_it_reads_while_one_draws(pad):
    first, *others = points(pad, 7)[0]
    pad.mouse.move(*first)
    with pad.expect_response("**/read"):
        pad.mouse.down()
        for point in others:
            pad.mouse.move(*point)
    assert answer(pad) == "7"  # and the button is still down
    pad.mouse.up()


def test_what_the_network_sees(pad):
    script = """() => {
        const seen = document.querySelector('.seen');
        const pixels = seen.getContext('2d').getImageData(0, 0, 28, 28).data;
        return [...pixels].filter((_, i) => i % 4 === 0);
    }"""
    assert max(pad.evaluate(script)) == 0
    expect(pad.get_by_role("img", name=re.compile("nothing yet"))).to_have_count(1)
    draw(pad, 4)
    assert answer(pad) == "4"
    with pad.expect_response("**/read") as last:
        pad.get_by_role("button", name="Undo").click()
    answer(pad)
    assert pad.evaluate(script) == np.ravel(last.value.json()["image"]).tolist()
    expect(pad.get_by_role("img", name=re.compile("28 by 28 pixels"))).to_have_count(1)


def test_undo_and_clear(pad):
    draw(pad, 4)
    assert answer(pad) == "4"
    both = ink(pad)
    pad.get_by_role("button", name="Undo").click()
    assert 0 < ink(pad) < both
    pad.get_by_role("button", name="Clear").click()
    assert ink(pad) == 0
    assert answer(pad) == "?"
    draw(pad, 1)
    assert answer(pad) == "1"
    pad.get_by_role("button", name="Undo").click()
    assert ink(pad) == 0
    pad.get_by_role("button", name="Undo").click()
    assert answer(pad) == "?"


def test_an_answer_that_comes_too_late_is_not_shown(pad):
    held = []
    pad.route("**/read", lambda route: held.append(route))
    with pad.expect_request("**/read"):
        draw(pad, 3)
    pad.get_by_role("button", name="Clear").click()
    with pad.expect_response("**/read"):
        held[0].continue_()
    assert answer(pad) == "?"
    expect(pad.locator(".statement")).to_have_text("Draw a digit, from 0 to 9.")


def test_a_pen_draws_as_wide_as_a_mouse(pad):
    draw(pad, 1)
    wide = ink(pad)
    pad.get_by_role("button", name="Clear").click()
    session = pad.context.new_cdp_session(pad)
    pen = {"button": "left", "buttons": 1, "pointerType": "pen", "force": 0.1, "clickCount": 1}
    for first, *others in points(pad, 1):
        kinds = ["mousePressed", *len(others) * ["mouseMoved"], "mouseReleased"]
        for kind, (x, y) in zip(kinds, [first, *others, others[-1]], strict=True):
            session.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **pen})
    assert answer(pad) == "1"
    assert ink(pad) == pytest.approx(wide, rel=0.02)


def test_only_the_first_button_draws(pad):
    (x, y) = points(pad, 1)[0][0]
    pad.mouse.click(x, y, button="right")
    pad.mouse.click(x, y, button="middle")
    assert ink(pad) == 0
    pad.mouse.click(x, y)
    assert ink(pad) > 50  # a dot


# ---- pictures -------------------------------------------------------------------------------


def choose(page: Page, name: str, kind: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": kind, "buffer": content}
    )


def test_open_a_picture(pad):
    with pad.expect_file_chooser():
        pad.get_by_role("button", name="Open a picture").click()
    for digit in (5, 8, 8):
        choose(pad, "digit.png", "image/png", drawn(digit))
        assert answer(pad) == str(digit)
        assert ink(pad) > 1000
    draw(pad, 1)  # takes the picture's place
    assert answer(pad) == "1"


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_drop_and_paste_a_picture(pad, event):
    pad.evaluate(
        """([event, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], 'a.png', {type: 'image/png'}));
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(event === 'drop'
                ? new DragEvent('drop', {...options, dataTransfer: data})
                : new ClipboardEvent('paste', {...options, clipboardData: data}));
        }""",
        [event, list(drawn(6))],
    )
    expect(pad.locator(".digit")).to_have_text("6")


def test_a_file_that_is_no_picture(pad, allow):
    allow("status of 400", "the server refuses the file, and the page says why")
    choose(pad, "notes.txt", "image/png", b"seven")
    expect(pad.locator(".statement")).to_contain_text("not a picture")
    assert answer(pad) == "?"
    draw(pad, 7)
    assert answer(pad) == "7"


def test_a_file_that_is_too_large_is_not_sent(pad):
    pad.evaluate(
        """size => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(size)], 'large.png', {type: 'image/png'}));
            const options = {bubbles: true, cancelable: true, dataTransfer: data};
            document.body.dispatchEvent(new DragEvent('drop', options));
        }""",
        server.MAX_BYTES + 1,
    )
    expect(pad.locator(".statement")).to_contain_text("larger than 16 MB")


def test_two_digits_are_pointed_out(pad):
    two = np.hstack([strokes.draw(2, size=180, width=18), strokes.draw(7, size=180, width=18)])
    choose(pad, "two.png", "image/png", png(two))
    expect(pad.locator(".statement")).to_contain_text("more than one digit")
    assert answer(pad) == "?"


# ---- keys -----------------------------------------------------------------------------------


def test_with_keys_only(pad):
    keys = pad.keyboard
    keys.press("Tab")
    expect(pad.get_by_label("Drawing pad")).to_be_focused()
    expect(pad.locator(".pen")).to_be_visible()
    with held_back(pad):  # an answer is told, too, and is not to come before this was seen
        keys.press("Space")
        expect(pad.locator(".announcer")).to_have_text("Pen down.")
    for _ in range(24):
        keys.press("ArrowDown")
    keys.press("Space")
    assert answer(pad) == "1"
    expect(pad.locator(".announcer")).to_contain_text("This is a 1")

    keys.press("Escape")
    assert answer(pad) == "?"
    assert ink(pad) == 0
    for _ in range(3):
        keys.press("Shift+ArrowLeft")
    for _ in range(6):
        keys.press("Shift+ArrowUp")
    keys.press("Enter")
    for _ in range(22):
        keys.press("ArrowRight")
    keys.down("ArrowLeft")  # two arrows at once: the leg of a 7 is slanted
    for _ in range(12):
        keys.press("ArrowDown")
        keys.press("ArrowDown")
    keys.up("ArrowLeft")
    keys.press("Enter")
    assert answer(pad) == "7"
    keys.press("Backspace")
    assert ink(pad) == 0
    assert answer(pad) == "?"


def test_every_control_is_reached_and_seen(pad):
    stops = []
    for _ in range(4):
        pad.keyboard.press("Tab")
        focused = pad.locator(":focus")
        stops.append(focused.get_attribute("aria-label") or focused.inner_text())
        outline = focused.evaluate(
            "e => getComputedStyle(e).outlineStyle + getComputedStyle(e).outlineWidth"
        )
        assert outline == "solid3px", stops[-1]
    assert stops == ["Drawing pad", "Undo", "Clear", "Open a picture"]


def test_a_screen_reader_hears_the_answer_when_the_pen_is_lifted_after_it_has_come(pad):
    said = """() => {
        const announcer = document.querySelector('.announcer');
        window.said = [];
        new MutationObserver(() => window.said.push(announcer.textContent)).observe(
            announcer, {childList: true, characterData: true, subtree: true});
    }"""
    keys = pad.keyboard
    pad.get_by_label("Drawing pad").focus()
    expect(pad.get_by_role("status")).to_have_text("Draw a digit, from 0 to 9.")
    keys.press("Space")
    for _ in range(24):
        keys.press("ArrowDown")
    pad.evaluate(said)
    # In the moment in which the answer is shown, and before it is told.
    lift = """() => { window.lifted = new Promise(done => {
        const [answer, pad] = ['.answer', '.paper'].map(name => document.querySelector(name));
        const look = () => {
            if (answer.ariaBusy === 'true') return false;
            pad.dispatchEvent(new KeyboardEvent('keydown', {key: ' ', bubbles: true}));
            done();
            return true;
        };
        const watch = new MutationObserver(() => look() && watch.disconnect());
        if (!look()) watch.observe(answer, {attributes: true});
    }); }"""
    with held_back(pad):
        keys.press("ArrowDown")
        pad.evaluate(lift)
    pad.evaluate("window.lifted")
    expect(pad.get_by_role("status")).to_contain_text("This is a 1")
    assert "Pen up." in pad.evaluate("window.said")


def test_a_screen_reader_hears_the_last_answer(pad):
    draw(pad, 2)
    expect(pad.get_by_role("status")).to_contain_text("This is a 2")
    pad.get_by_role("button", name="Clear").click()
    expect(pad.get_by_role("status")).to_have_text("Draw a digit, from 0 to 9.")


# ---- screens --------------------------------------------------------------------------------


def test_on_a_phone_with_a_finger(new_page, running, axe, screenshot):
    page = opened(new_page(**PHONE), running)
    touch(page, 2)
    assert answer(page) == "2"
    assert page.evaluate("scrollY") == 0
    assert overflow(page) == 0
    assert page.locator(".statement").bounding_box()["y"] < 700
    screenshot(page, "pad-phone")
    axe(page)


def test_on_the_narrowest_screen(new_page, running):
    page = opened(new_page(viewport={"width": 320, "height": 640}), running)
    draw(page, 8)
    assert answer(page) == "8"
    assert overflow(page) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(new_page, running, axe, screenshot, scheme):
    page = opened(new_page(color_scheme=scheme, viewport={"width": 1000, "height": 700}), running)
    axe(page)
    draw(page, 5)
    assert answer(page) == "5"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 40) == (scheme == "dark")
    axe(page)
    screenshot(page, f"pad-{scheme}")


def test_the_drawing_stays_when_the_window_changes(pad):
    draw(pad, 3)
    pad.set_viewport_size({"width": 360, "height": 700})
    assert ink(pad) > 1000
    assert answer(pad) == "3"


def test_bars_do_not_move_where_motion_is_unwelcome(new_page, running):
    for motion, seconds in (("reduce", "0s"), ("no-preference", "0.12s")):
        page = opened(new_page(reduced_motion=motion), running)
        bar = page.locator(".bar").first
        assert bar.evaluate("bar => getComputedStyle(bar).transitionDuration") == seconds


# ---- the server -----------------------------------------------------------------------------


def test_the_server_goes_and_comes_back(page, predict, allow):
    allow("ERR_CONNECTION_(REFUSED|RESET)|ERR_EMPTY_RESPONSE", "the server is away on purpose")
    port = free_port()  # nobody else is to have it in between
    with RunningPad(predict, port) as first:
        opened(page, first)
        expect(page.locator("#network")).to_have_text("Network: test.keras.")
    draw(page, 9)
    expect(page.locator(".statement")).to_contain_text("The server does not answer")
    for _ in range(3):  # it goes on asking
        page.wait_for_event("requestfailed")
    with RunningPad(predict, port):
        assert answer(page) == "9"  # without a new line drawn
