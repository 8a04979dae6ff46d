"""What students write can do no harm on a page, and what is harmless is shown as they wrote it."""

import base64
import json
import time

import nbformat
import pytest
from bs4 import BeautifulSoup
from harmful import HARMFUL, HARMFUL_MARKDOWN
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from notebooks import LESSONS, ROOT

from firstcnn.grading.sanitise import (
    LONGEST_HTML,
    LONGEST_MARKDOWN,
    LONGEST_TEXT,
    Allowance,
    fenced,
    plain_text,
    sanitise_html,
    sanitise_markdown,
    sanitise_outputs,
)

PNG = base64.b64encode(b"\x89PNG, as good as any").decode()

RESERVED = {"softmax-check"}


def page(source, attachments=None):
    """Return the page that nbconvert makes of markdown."""
    renderer = IPythonRenderer(escape=False, attachments=attachments or {})
    return MarkdownWithMath(renderer=renderer).render(source)


def assert_harmless(shown):
    """Look at a page as a browser would, by another parser than the one that cleaned it."""
    allowed = {"class", "href", "id", "style", "src", "alt", "title", "open"}
    allowed |= {"type", "disabled", "checked"}
    for element in BeautifulSoup(f"<main>{shown}</main>", "html.parser").main.find_all(True):
        assert element.name not in (
            *("script", "style", "iframe", "object", "embed", "form", "button", "meta", "base"),
            *("link", "svg", "math", "video", "template", "noscript", "textarea", "select"),
        )
        assert set(element.attrs) <= allowed, element
        address = element.get("href", "").replace("\t", "").strip("\x01 ").lower()
        assert not address.startswith(("javascript:", "data:", "vbscript:"))
        assert element.get("src", "data:image/").startswith("data:image/")
        style = element.get("style", "")
        assert not any(
            bad in style for bad in ("position", "size", "px", "url", "margin", "transform")
        )
        assert element.get("id") not in {*RESERVED, "notebook-container"}
        assert "navbar-fixed-top" not in element.get("class", [])
    for part in ("<!--", "<![", "<?", "</main><"):
        assert part not in shown.removesuffix("</main>")


@pytest.mark.parametrize("source", HARMFUL)
def test_harmful_html_is_taken_out(source):
    safe = sanitise_html(f"<p>before</p>{source}<p>after</p>")
    assert_harmless(safe)
    assert "before" in safe
    assert sanitise_html(safe) == safe


@pytest.mark.parametrize("source", [*HARMFUL, *HARMFUL_MARKDOWN])
@pytest.mark.parametrize(
    "frame", ["{}", "Some *words*\n\n{}\n\nand more", "- {}", "> {}", "`a` {}"]
)
def test_harmful_markdown_is_shown_as_text(source, frame):
    written = frame.format(source)
    safe = sanitise_markdown(written, reserved=RESERVED)
    shown = page(safe)
    assert_harmless(shown)
    # Nothing that was written is lost: it stands there to be read.
    seen = BeautifulSoup(shown, "html.parser").get_text().replace("\u2060", "")
    for word in ("alert(1)", "words", "more"):
        assert seen.count(word) >= (word in written)
    assert sanitise_markdown(safe, reserved=RESERVED) == safe


@pytest.mark.parametrize(
    "source",
    [
        "**Bold**, *italics*, `a < b`, $a < b$ and $$\\sum_{i<j} x_i$$",
        "> quoted\n\n- [ ] one\n- [x] two\n\n1. three",
        "| a | b |\n|--:|:--|\n| 1 | 2 |",
        "```python\nif a < b and b > c:\n    print('<b>')\n```",
        "# A heading\n\n[a link](https://keras.io), <https://keras.io>, <b>bold</b>, 2<sup>3</sup>",
        "<details><summary>More</summary>\n\nless\n\n</details>",
        "a < b, c > d & e",
        "line<br>break<br/>and &lt;script&gt;",
    ],
)
def test_harmless_markdown_stays_as_it_is(source):
    assert sanitise_markdown(source) == source


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_courses_own_text_and_outputs_are_harmless(lesson):
    notebook = nbformat.read(ROOT / "solutions" / lesson / f"{lesson}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert sanitise_markdown(cell.source) == cell.source
        else:
            assert sanitise_outputs(cell.get("outputs", [])) == cell.get("outputs", [])


def test_lines_of_the_lesson_keep_their_tags_and_others_do_not():
    source = "<details><summary>Hint</summary>\nmine <img src=x>\n</details>"
    lines = {"<details><summary>Hint</summary>", "</details>"}
    safe = sanitise_markdown(source, trusted=lines)
    assert safe.split("\n")[::2] == source.split("\n")[::2]
    assert "<img" not in safe
    assert_harmless(page(safe))


def test_attached_pictures_are_shown():
    attachments = {"a.png": {"image/png": PNG}}
    source = "Look: ![a](attachment:a.png)"
    assert sanitise_markdown(source, attachments) == source
    assert PNG in page(source, attachments)


def test_a_large_picture_is_not_shown_a_thousand_times():
    attachments = {"a.png": {"image/png": "A" * 100_000}}
    safe = sanitise_markdown("![a](attachment:a.png)" * 200, attachments)
    assert len(page(safe, attachments)) < 100_000


def test_fenced_text_is_shown_letter_by_letter():
    source = "a ``` b\n````\n<script>*x*"
    assert BeautifulSoup(page(fenced(source)), "html.parser").get_text().strip() == source
    assert fenced(fenced(source)) == fenced(source)


def test_what_is_too_long_is_not_parsed():
    start = time.process_time()
    assert sanitise_html("<b>" * LONGEST_HTML) == ""
    for unit in ("<a ", "<b>", '<a b="', "<!--", "<p style='color:red'>"):
        assert_harmless(sanitise_html(unit * (LONGEST_HTML // len(unit))))
    long = "<b>x</b> " * LONGEST_MARKDOWN
    assert sanitise_markdown(long) == fenced(long)
    assert sanitise_markdown(sanitise_markdown(long)) == sanitise_markdown(long)
    assert len(fenced("x" * 10**7)) <= LONGEST_TEXT
    # Without the limits this would be minutes.
    assert time.process_time() - start < 60


@pytest.mark.parametrize("bracket", "([{")
def test_brackets_without_end_in_a_style_are_no_error(bracket):
    source = f'before <b style="color: {bracket * 2000}">x</b>'
    assert_harmless(sanitise_html(source))
    safe = sanitise_markdown(source)
    assert_harmless(page(safe))
    assert "before" in safe


def test_what_a_notebook_shows_has_a_limit():
    shown = [
        {"output_type": "stream", "text": "x" * 60},
        {"output_type": "display_data", "data": {"text/plain": "p", "text/html": "<b>x</b>"}},
        {"output_type": "display_data", "data": {"text/plain": "p", "text/markdown": "*x*"}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"] * 5000},
    ]
    assert len(sanitise_outputs(shown)[3].traceback) == 1001
    allowance = Allowance(outputs=9, html=10, markdown=3, text=1100)
    first, second, third = (sanitise_outputs(shown, allowance) for _ in range(3))
    assert [set(one.get("data", {})) for one in first] == [
        *(set(), {"text/plain", "text/html"}, {"text/plain", "text/markdown"}, set())
    ]
    assert first[0].text == "x" * 60
    # Of each, there is less left than would be needed.
    assert second[0].text == "... (the rest is not shown)"
    assert [set(one.get("data", {})) for one in second] == [
        *(set(), {"text/plain"}, {"text/plain"}, set())
    ]
    assert len(third) == 2
    assert third[1].text == "... (the rest is not shown)\n"


def test_outputs_keep_what_can_be_seen():
    table = (
        "<div>\n<style scoped>\n.dataframe { color: red }\n</style>\n"
        '<table border="1" class="dataframe">\n<thead><tr style="text-align: right;"><th></th>'
        "</tr></thead>\n</table>\n</div>"
    )
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": ["a\r\n", "b"]},
        {
            "output_type": "execute_result",
            "execution_count": 3,
            "data": {"text/plain": "df", "text/html": table},
            "metadata": {"text/html": {"isolated": True}},
        },
        {
            "output_type": "display_data",
            "data": {"image/png": PNG, "text/plain": "p"},
            "metadata": {"image/png": {"alt": 'a "p"', "width": 20, "height": "9 onload=x"}},
        },
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["t"]},
    ]
    stream, table, picture, error = sanitise_outputs(outputs)
    assert stream == {"output_type": "stream", "name": "stderr", "text": "a\nb"}
    assert table.data["text/plain"] == "df"
    assert 'class="dataframe"' in table.data["text/html"]
    assert "color: red" not in table.data["text/html"]
    assert table.metadata == {}
    assert picture.data == outputs[2]["data"]
    assert picture.metadata == {"image/png": {"alt": 'a "p"', "width": 20}}
    assert error == outputs[3]


def test_outputs_lose_scripts_controls_and_drawings_that_run():
    drawing = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    outputs = [
        {"output_type": "display_data", "data": {"application/javascript": "alert(1)"}},
        {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {}}},
        {"output_type": "display_data", "data": {"text/html": "<script>alert(1)</script>"}},
        {"output_type": "display_data", "data": {"image/svg+xml": drawing}},
        {"output_type": "display_data", "data": {"text/markdown": "[x](javascript:alert(1))"}},
        {"output_type": "display_data", "data": {"image/png": "<script>", "text/plain": "left"}},
    ]
    drawn, text, left = sanitise_outputs(outputs)
    assert set(drawn.data) == {"text/html"}
    assert_harmless(drawn.data["text/html"])
    assert base64.b64encode(drawing.encode()).decode() in drawn.data["text/html"]
    assert_harmless(page(text.data["text/markdown"]))
    assert left.data == {"text/plain": "left"}


@pytest.mark.parametrize(
    "junk", [None, 3, {}, "x", [None, 3, [], "x", {}], [{"output_type": []}], [{"data": 1}]]
)
def test_outputs_that_are_none_are_dropped(junk):
    assert sanitise_outputs(junk) == []


def test_outputs_of_any_types_become_valid_ones():
    junk = [None, 1, True, [1], {"a": 1}, "\ud800", ["a", 1], float("nan"), 10**40]
    outputs = []
    for one in junk:
        outputs += [
            {"output_type": "stream", "name": one, "text": one},
            {"output_type": "error", "ename": one, "evalue": one, "traceback": one},
            {"output_type": "execute_result", "data": one, "metadata": one},
            {
                "output_type": "execute_result",
                "execution_count": one,
                "data": {"text/plain": "x", "text/html": one, "image/png": one, "odd": one},
                "metadata": {"image/png": one, "text/plain": one},
            },
        ]
    made = sanitise_outputs(json.loads(json.dumps(outputs)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=made)])
    nbformat.validate(notebook)
    nbformat.writes(notebook).encode()
    assert [one.output_type for one in made].count("execute_result") == len(junk)


def test_long_text_is_cut():
    (made,) = sanitise_outputs([{"output_type": "stream", "text": "x" * 10**7}])
    assert len(made.text) == LONGEST_TEXT
    assert made.text.endswith("(the rest is not shown)")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a\r\n", "b"], "a\nb"),
        ("a\rb\x00\ud800", "a\nb\ufffd\ufffd"),
        ([], ""),
        (3, None),
        (["a", 3], None),
        ({"a": 1}, None),
    ],
)
def test_text_is_a_string_or_a_list_of_strings(value, text):
    assert plain_text(value) == text
