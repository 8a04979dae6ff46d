"""What students write, made safe to show in a grader's browser and on a feedback page.

nbgrader's pages print a student's markdown, and the HTML of outputs, as they are: a script in
them would run as the instructor who opens the page. ``HTMLExporter.sanitize_html`` does not
reach markdown in nbgrader's templates, so it is the notebook itself that is made safe.

HTML is cleaned by bleach, with a list of what is allowed; everything else is not shown.
Markdown cannot be cleaned like that: bleach would also escape quotation marks, code and formulas.
It is turned into HTML as nbconvert will do, and kept as it stands if bleach finds nothing to
clean in that. Otherwise its tags, then also its links, are broken up into plain text by a
character that cannot be seen, and what is still not safe is shown as a block of plain text.
"""

from __future__ import annotations

import base64
import itertools
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import tinycss2
from bleach.sanitizer import Cleaner
from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode, from_dict

__all__ = [
    "Allowance",
    "fenced",
    "plain_text",
    "sanitise_html",
    "sanitise_markdown",
    "sanitise_outputs",
]

#: Characters. Longer HTML is not shown and longer markdown is shown as plain text: bleach and
#: mistune would need too long for it, here and in the pages. Longer text is cut.
LONGEST_HTML = 60_000
LONGEST_MARKDOWN = 5_000
LONGEST_TEXT = 200_000
LONGEST_IMAGE = 8_000_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS = _words(
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption "
    "figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strong "
    "sub summary sup table tbody td tfoot th thead tr tt u ul var"
)
# What nbgrader's pages call their own parts.
_PAGE_IDS = _words("notebook notebook-container statusmessage toc")
_HEADINGS = _words("h1 h2 h3 h4 h5 h6")
_EMPTY = _words("br col hr img input")
# Each paragraph that begins inside of these repeats all of them, in browsers and in bleach.
_REPEATED = _words("a b big code em font i nobr s small strike strong tt u")
_MOST_REPEATED = 20
_WITH_CONTENT = _words("iframe math noscript object script style svg template")

# No property moves, stretches or hides anything: what is shown stays in its place.
_PROPERTIES = _words(
    "background-color color font-family font-style font-weight line-height overflow-x text-align "
    "text-decoration text-decoration-color text-decoration-line text-decoration-style "
    "vertical-align white-space"
)
_VALUE = re.compile(r"[\w\s,.#%'\"()-]*")
_LINE_HEIGHT = re.compile(r"normal|[12](\.\d+)?")

_IMAGE_DATA = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
_ATTACHED = re.compile(r'(="data:image/(?:png|jpeg);base64,)[A-Za-z0-9+/=]+(?=")')
_CLASS = re.compile(r"highlight|anchor-link|task-list-item(-checkbox)?|dataframe|language-[\w+-]+")
_CODE_CLASS = re.compile(r"[a-z]{1,2}\d?|err")

#: What IPython, pandas and nbconvert write most, and bleach takes long for: tags alone.
_BARE_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)>")

# Tags that are begun and never ended cost bleach the square of their number.
_STRAY = re.compile(r"<(?![^<>]*>)")
_MOST_TAGS = 6000

_TAG_START = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(:\[])")
_UNSEEN = "\u2060"  # word joiner: what stands on both sides of it looks as if it stood together

_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")
_IMAGES = ("image/png", "image/jpeg", "image/gif")


def plain_text(value: Any) -> str | None:
    """Return the text that a notebook's file holds as a string or as a list of strings.

    Parameters
    ----------
    value : object
        What stands in the file.

    Returns
    -------
    str or None
        The text, with line ends as everywhere else, and a replacement character for what is no
        character at all (NUL, half of a surrogate pair); None if `value` is no text.
    """
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "".join(value)
    if not isinstance(value, str):
        return None
    return _NOT_TEXT.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))


# ---- HTML -------------------------------------------------------------------------------------


class _Style:
    """What bleach asks about ``style`` attributes."""

    def sanitize_css(self, style: str) -> str:
        """Return the declarations that can do no harm."""
        kept = []
        for one in tinycss2.parse_declaration_list(style, skip_comments=True, skip_whitespace=True):
            if one.type != "declaration" or one.lower_name not in _PROPERTIES:
                continue
            value = tinycss2.serialize(one.value).strip()
            allowed = _LINE_HEIGHT if one.lower_name == "line-height" else _VALUE
            if allowed.fullmatch(value) and "url" not in value.lower():
                kept.append(f"{one.lower_name}: {value}")
        return "; ".join(kept)


def _is_allowed(tag: str, name: str, value: str) -> bool:
    """Tell bleach whether an attribute may stay."""
    if name == "class":
        short = _CODE_CLASS if tag == "span" else _CLASS
        return all(_CLASS.fullmatch(one) or short.fullmatch(one) for one in value.split())
    if name in ("title", "alt", "style", "colspan", "rowspan", "scope", "align"):
        return True
    if tag == "a" and name == "href":
        address = re.sub(r"[\x00-\x20]", "", value)
        try:
            return urlsplit(address).scheme in ("", "http", "https", "mailto")
        except ValueError:
            return False
    if tag == "img":
        # A picture from elsewhere would tell its owner who looks at it, and when.
        return name == "src" and bool(_IMAGE_DATA.fullmatch(value))
    if tag == "input":
        return name in ("checked", "disabled") or (name == "type" and value == "checkbox")
    return (tag == "details" and name == "open") or (tag == "ol" and name == "start")


def _cleaner(markdown: bool) -> Cleaner:
    """Make a cleaner, for outputs or for what markdown becomes: anchors, and lists of tasks."""

    def is_allowed(tag: str, name: str, value: str) -> bool:
        return _is_allowed(tag, name, value) or (markdown and name == "id" and tag in _HEADINGS)

    return Cleaner(
        tags=_TAGS | {"input"} if markdown else _TAGS,
        attributes=is_allowed,
        protocols=frozenset(("http", "https", "mailto", "data")),
        strip=True,
        strip_comments=True,
        css_sanitizer=_Style(),
    )


_CLEANER = _cleaner(markdown=False)
_PAGE_CLEANER = _cleaner(markdown=True)


def sanitise_html(source: str) -> str:
    """Return the part of some HTML that can do no harm on a page.

    Parameters
    ----------
    source : str
        A fragment of HTML, as an output of a cell may be.

    Returns
    -------
    str
        Text, tables, lists, code and pictures that are part of it; no scripts, frames, forms,
        addresses other than http(s) and mail, nor styles that move or cover anything. Empty if
        it is longer than `LONGEST_HTML`, or nested or divided beyond what one can read.
    """
    if len(source) > LONGEST_HTML or source.count("<") > _MOST_TAGS:
        return ""
    if _is_bare(source):
        return source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
            soup = BeautifulSoup(_STRAY.sub("&lt;", source), "html.parser")
        for element in soup.find_all(list(_WITH_CONTENT)):
            element.decompose()
        for element in soup.find_all(list(_REPEATED)):
            around = (one for one in element.parents if one.name in _REPEATED)
            if next(itertools.islice(around, _MOST_REPEATED, None), None) is not None:
                return ""
        cleaned = _CLEANER.clean(str(soup))
        return source if _is_same(source, cleaned) else cleaned
    except RecursionError:  # nested deeper than anything that is meant to be read
        return ""


def _is_bare(source: str) -> bool:
    """Tell whether HTML has nothing but allowed tags without attributes, each closed in turn."""
    open_tags = []
    for closes, tag in _BARE_TAG.findall(source):
        if tag not in _TAGS or tag in _EMPTY:
            return False
        if not closes:
            open_tags.append(tag)
        elif not open_tags or open_tags.pop() != tag:
            return False
    return not open_tags and "<" not in _BARE_TAG.sub("", source)


# ---- markdown ---------------------------------------------------------------------------------


def sanitise_markdown(
    source: str,
    attachments: dict[str, dict[str, str]] | None = None,
    *,
    trusted: Collection[str] = (),
    reserved: Collection[str] = (),
) -> str:
    """Return markdown that can do no harm when nbconvert puts it on a page.

    Parameters
    ----------
    source : str
        The markdown.
    attachments : dict, optional
        The pictures attached to its cell, by name and media type.
    trusted : collection of str, optional
        Lines that may keep their tags: those of the lesson's own text.
    reserved : collection of str, optional
        Ids that the page needs for itself, since headings become ids.

    Returns
    -------
    str
        `source` itself if it is safe. Doing this once more changes nothing.
    """
    attachments = attachments or {}
    sizes = [len(data) for kinds in attachments.values() for data in kinds.values()]
    if source.count("![") * max(sizes, default=0) > LONGEST_IMAGE:
        attachments = {}  # each mention of a picture puts all of it on the page
    if len(source) <= LONGEST_MARKDOWN:
        ways = [source]
        lines = source.split("\n")
        ways.append("\n".join(one if one in trusted else _without_tags(one) for one in lines))
        ways.append(_without_tags(source))
        ways.append(_LINK.sub(f"]{_UNSEEN}", ways[-1]))
        for way in dict.fromkeys(ways):
            if len(way) <= LONGEST_MARKDOWN and _is_safe(way, attachments, reserved):
                return way
    return fenced(source)


def fenced(source: str) -> str:
    """Return markdown that shows a text as it is, in a block of its own.

    Parameters
    ----------
    source : str
        Any text; of one longer than `LONGEST_TEXT`, its beginning is shown.
    """
    if re.fullmatch(r"(`{3,})text\n(?:(?!.*\1).*\n)*\1", source) and len(source) <= LONGEST_TEXT:
        return source
    longest = max((len(run) for run in re.findall("`+", source)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{_cut(source, LONGEST_TEXT - 2 * len(fence) - 6)}\n{fence}"


def _without_tags(source: str) -> str:
    return _TAG_START.sub(f"<{_UNSEEN}", source)


def _is_safe(source: str, attachments: dict, reserved: Collection[str]) -> bool:
    """Tell whether bleach would leave all of the page that markdown becomes."""
    try:
        renderer = IPythonRenderer(escape=False, attachments=attachments)
        page = MarkdownWithMath(renderer=renderer).render(source)
    except Exception:  # an attachment that is missing; mistune's own errors on odd input
        return False
    # What is attached is not cleaned letter by letter: it is long, and holds nothing but letters.
    page = _ATTACHED.sub(r"\1", page)
    if len(page) > 10 * LONGEST_MARKDOWN:
        return False
    events = _events(page)
    taken = [value for _, names in events for name, value in names if name == "id"]
    if any(one in _PAGE_IDS or one in reserved for one in taken) or not _is_nested(events):
        return False
    try:
        return _is_bare(page) or _is_same(page, _PAGE_CLEANER.clean(page))
    except RecursionError:  # nested deeper than anything that is meant to be read
        return False


def _is_nested(events: list) -> bool:
    """Tell whether tags are closed in turn, which cleaning would put right, and not too deep."""
    open_tags: list[str] = []
    for name, _ in events:
        if name.startswith("/"):
            if not open_tags or open_tags.pop() != name[1:]:
                return False
        elif not name.startswith('"') and name not in _EMPTY:
            open_tags.append(name)
            if sum(one in _REPEATED for one in open_tags) > _MOST_REPEATED:
                return False
    return not open_tags


def _is_same(page: str, cleaned: str) -> bool:
    """Tell whether cleaning a page has changed no more than how it is written."""
    return "<" not in re.sub(r"<[^<>]*>", "", page) and _events(page) == _events(cleaned)


class _Events(HTMLParser):
    """Writes down what a page consists of, whatever way it is written."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, list[tuple[str, str]]]] = []

    def handle_starttag(self, tag, attrs):
        kept = [(name.rstrip("/"), _style(value or "", name)) for name, value in attrs]
        self.found.append((tag, sorted(kept)))

    def handle_endtag(self, tag):
        if tag not in _EMPTY:
            self.found.append((f"/{tag}", []))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:  # browsers do not see the slash
            self.found.append(("unclosed", []))

    def handle_data(self, data):
        if self.found and self.found[-1][0].startswith('"'):
            data = self.found.pop()[0][1:] + data
        self.found.append((f'"{data}', []))

    def handle_comment(self, data):
        self.found.append(("comment", []))

    def handle_decl(self, decl):
        self.found.append(("declaration", []))

    unknown_decl = handle_pi = handle_decl


def _style(value: str, name: str) -> str:
    """Leave out of a style what tinycss2 writes in its own way."""
    return re.sub(r"\s+|;\s*$", "", value).replace("'", '"') if name == "style" else value


def _events(page: str) -> list:
    events = _Events()
    events.feed(page)
    events.close()
    return events.found


# ---- outputs ----------------------------------------------------------------------------------


_REST = "... (the rest is not shown)"
_MOST_LINES = 1000  # of a traceback


@dataclass
class Allowance:
    """What the outputs of a notebook may hold, all together; what is beyond that is not shown.

    Parameters
    ----------
    outputs : int
        How many.
    html, markdown : int
        Characters that have to be cleaned, of which those of markdown take longest: up to a
        second for a thousand.
    text : int
        Characters that need not.
    """

    outputs: int = 5000
    html: int = 1_000_000
    markdown: int = 100_000
    text: int = 4_000_000

    def grants(self, what: str, size: int) -> bool:
        """Take from it, if there is as much left."""
        left = getattr(self, what) - size
        if left >= 0:
            setattr(self, what, left)
        return left >= 0


def sanitise_outputs(outputs: Any, allowance: Allowance | None = None) -> list[NotebookNode]:
    """Return the outputs of a student's cell, as far as they can be shown.

    Parameters
    ----------
    outputs : object
        What the notebook or the kernel says are outputs; anything at all.
    allowance : Allowance, optional
        What is left for this cell and the cells after it.

    Returns
    -------
    list of NotebookNode
        Valid outputs: text, pictures, and HTML and markdown made safe. Scripts, controls of
        widgets and kinds that no page shows are left out; what is too long is cut, or left out.
    """
    if not isinstance(outputs, list):
        return []
    allowance = allowance or Allowance()
    made = []
    for one in outputs:
        if not allowance.grants("outputs", 1):
            made.append({"output_type": "stream", "name": "stdout", "text": f"{_REST}\n"})
            break
        if isinstance(one, dict) and (shown := _output(one, allowance)) is not None:
            made.append(shown)
    return [from_dict(one) for one in made]


def _output(output: dict, allowance: Allowance) -> dict | None:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {"output_type": kind, "name": name, "text": _short(output.get("text"), allowance)}
    if kind == "error":
        trace = output.get("traceback")
        trace = trace if isinstance(trace, list) else []
        if len(trace) > _MOST_LINES:
            trace = [*trace[: _MOST_LINES // 2], _REST, *trace[-_MOST_LINES // 2 :]]
        return {
            "output_type": kind,
            "ename": _short(output.get("ename"), allowance),
            "evalue": _short(output.get("evalue"), allowance),
            "traceback": [_short(line, allowance) for line in trace],
        }
    if kind not in ("display_data", "execute_result"):
        return None
    data = output.get("data")
    shown = _data(data, allowance) if isinstance(data, dict) else {}
    if not shown:
        return None
    made = {"output_type": kind, "data": shown, "metadata": _sizes(output.get("metadata"), shown)}
    if kind == "execute_result":
        count = output.get("execution_count")
        made["execution_count"] = count if type(count) is int and 0 <= count < 2**31 else None
    return made


def _data(data: dict, allowance: Allowance) -> dict[str, str]:
    shown = {}
    for kind, value in data.items():
        text = plain_text(value)
        if text is None:
            continue
        if kind == "text/plain":
            shown[kind] = _short(text, allowance)
        elif kind == "text/latex":
            if len(text) <= LONGEST_MARKDOWN and allowance.grants("text", len(text)):
                shown[kind] = text  # nbconvert escapes it
        elif kind == "text/markdown":
            if allowance.grants("markdown", min(len(text), LONGEST_MARKDOWN)):
                shown[kind] = sanitise_markdown(text)
        elif kind == "text/html":
            granted = allowance.grants("html", min(len(text), LONGEST_HTML))
            if granted and (safe := sanitise_html(text)):
                shown[kind] = safe
        elif kind in _IMAGES and is_image(text):
            shown[kind] = text
        elif kind == "image/svg+xml" and len(text) <= LONGEST_IMAGE:
            # As a picture, not as a part of the page, a drawing runs no script and fetches nothing.
            coded = base64.b64encode(text.encode()).decode()
            shown.setdefault(
                "text/html", f'<img src="data:image/svg+xml;base64,{coded}" alt="a drawing">'
            )
    return shown


def is_image(value: Any) -> bool:
    """Tell whether a value is the base64 text of a picture of a size that can be shown."""
    return isinstance(value, str) and len(value) <= LONGEST_IMAGE and bool(_BASE64.fullmatch(value))


def _sizes(metadata: Any, shown: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Keep the words and the size of pictures."""
    kept = {}
    for kind in _IMAGES:
        one = metadata.get(kind) if isinstance(metadata, dict) and kind in shown else None
        if not isinstance(one, dict):
            continue
        alt = plain_text(one.get("alt"))
        kept[kind] = {} if alt is None else {"alt": _cut(alt, LONGEST_MARKDOWN)}
        for name in ("width", "height"):
            if type(one.get(name)) is int and 0 < one[name] <= 4000:
                kept[kind][name] = one[name]
    return {kind: one for kind, one in kept.items() if one}


def _short(value: Any, allowance: Allowance) -> str:
    text = _cut(plain_text(value) or "", LONGEST_TEXT)
    return text if allowance.grants("text", len(text)) else _REST


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    mark = f"\n{_REST}"
    return text[: most - len(mark)] + mark
