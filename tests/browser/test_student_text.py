"""A browser runs nothing of what a student wrote, once it was sanitised, and fetches nothing."""

import pytest
from harmful import HARMFUL, HARMFUL_MARKDOWN
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from firstcnn.grading.sanitise import sanitise_html, sanitise_markdown


@pytest.fixture
def visit(chromium):
    """Open a page that holds some HTML; return what it did: dialogs, requests, and its links."""
    page = chromium.new_page()

    def visit(content: str) -> list[str]:
        did = []
        page.on("dialog", lambda dialog: (did.append(dialog.message), dialog.dismiss()))
        page.route("**", lambda route: (did.append(route.request.url), route.abort()))
        page.set_content(f"<body><div id='cell'>{content}</div><p id='end'>end</p></body>")
        page.locator("#cell details").evaluate_all("all => all.forEach(one => one.open = true)")
        page.locator("#cell a").evaluate_all("all => all.forEach(one => one.click())")
        page.wait_for_timeout(300)
        inside = page.locator("#cell #end").count() + page.locator("#cell ~ h1").count()
        assert inside == 0, "a cell reaches beyond its end"
        return did

    yield visit
    page.close()


def test_the_browser_does_notice_what_is_harmful(visit):
    assert "1" in visit("<img src='x' onerror='alert(1)'>")


def test_nothing_runs_and_nothing_is_fetched(visit):
    cells = [sanitise_html(one) for one in HARMFUL]
    cells += [
        markdown2html_mistune(sanitise_markdown(one)) for one in (*HARMFUL, *HARMFUL_MARKDOWN)
    ]
    assert visit("".join(f"<div>{cell}</div>" for cell in cells)) == []
