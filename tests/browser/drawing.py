"""Drawing on the pad in a browser, and looking at what comes of it."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Page, expect

from firstcnn import strokes


def points(page: Page, digit: int) -> list[list[tuple[float, float]]]:
    """Return the lines of a digit as points on the screen."""
    box = page.get_by_label("Drawing pad").bounding_box()
    corner, side = np.array([box["x"], box["y"]]), box["width"]
    return [
        [tuple(corner + side * (0.5 + (point - 0.5) * (0.55, 0.65))) for point in line[::4]]
        for line in strokes.lines(digit)
    ]


def draw(page: Page, digit: int) -> None:
    """Draw a digit with the mouse."""
    for first, *others in points(page, digit):
        page.mouse.move(*first)
        page.mouse.down()
        for point in others:
            page.mouse.move(*point)
        page.mouse.up()


def touch(page: Page, digit: int) -> None:
    """Draw a digit with a finger."""
    session = page.context.new_cdp_session(page)
    for first, *others in points(page, digit):
        for kind, place in [("touchStart", first), *(("touchMove", point) for point in others)]:
            session.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [{"x": place[0], "y": place[1]}]},
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def answer(page: Page) -> str:
    """Return the digit that the page shows when all is read."""
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")
    return page.locator(".digit").inner_text()


def ink(page: Page) -> int:
    """Return how many pixels of the paper are dark, as the screen shows it."""
    script = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
        const sheet = document.querySelector('.sheet');
        const pixels = sheet.getContext('2d').getImageData(0, 0, sheet.width, sheet.height).data;
        let dark = 0;
        for (let i = 0; i < pixels.length; i += 4) dark += pixels[i] < 128;
        done(dark);
    })))"""
    return page.evaluate(script)
