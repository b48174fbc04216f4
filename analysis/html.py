"""A report as one HTML file that stands by itself: nothing in it is fetched from anywhere, and nothing in it runs."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may load for the page, whatever got into it: pictures and styles that are in the page itself."""
PNG = b"\x89PNG\r\n\x1a\n"
BRIEF, LONG = 24, 48
"""Characters of a cell up to which it is never wrapped, and from which it is given a wide column."""
STACKED = 4
"""Columns from which a table is stacked on a phone: each row a block, each cell under the name of its column."""
KINDS = {"+": "add", "-": "del", "@": "hunk"}
BOX = '<div class="scroll" role="region" aria-label="Table" tabindex="0">\n'

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --page: #fff; --card: #f6f8fa; --line: #d1d9e0;
  --accent: #0b5cad; --shade: rgb(0 0 0 / .22);
  --add: #116329; --add-page: #dafbe1; --del: #a40e26; --del-page: #ffebe9; --hunk: #6639ba; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b1; --page: #0d1117; --card: #161b22;
  --line: #3d444d; --accent: #6cb6ff; --shade: rgb(255 255 255 / .25);
  --add: #7ee787; --add-page: #12261e; --del: #ffa198; --del-page: #301b1f;
  --hunk: #d2a8ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.55; overflow-wrap: break-word;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif; }
.sheet { max-width: 47rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0; text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.6rem 0 .8rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
h2, h3 { break-after: avoid; scroll-margin-top: 1rem; text-wrap: balance; }
p, ul, ol { margin: .8rem 0; }
li { margin: .35rem 0; }
ul, ol { padding-left: 1.3rem; }
h1 + ul { list-style: none; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem 1rem; }
h1 + ul > li:first-child { font-size: 1.1rem; }
blockquote { margin: .5rem 0; padding: .1rem 0 .1rem .9rem; border-left: 3px solid var(--line); color: var(--soft); }
a { color: var(--accent); }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .86em; }
code { background: var(--card); border-radius: .3em; padding: .1em .3em; overflow-wrap: anywhere; }
nav { font-size: .92rem; margin: 1.5rem 0; }
nav ol { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; }
nav li { margin: 0; }
nav a { text-decoration: none; display: inline-block; padding: .15rem 0; }
nav a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .5rem;
  background: linear-gradient(to right, var(--page) 50%, transparent) left / 2.4rem 100% no-repeat local,
    linear-gradient(to left, var(--page) 50%, transparent) right / 2.4rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .65rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { background: var(--card); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
td.middle { min-width: 8rem; }
td.long { min-width: 10.5rem; }
td.named code:last-child { display: block; width: fit-content; margin-top: .15rem; font-size: .78em;
  color: var(--soft); }
td[style] { white-space: nowrap; }
td.brief { white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
tr { break-inside: avoid; }
figure { margin: 1.2rem 0; background: #fff; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem;
  break-inside: avoid; }
img { display: block; width: 100%; max-width: 38rem; height: auto; margin: 0 auto; color: #1f2328; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 0; margin: 1rem 0;
  overflow-x: auto; line-height: 1.45; tab-size: 4; }
pre code { display: block; background: none; padding: 0 .8rem; font-size: .95em; white-space: pre-wrap; }
pre.diff code { padding: 0; }
pre.diff span { display: block; padding: 0 .8rem 0 1.8rem; text-indent: -1ch; min-height: 1.45em; }
.add { color: var(--add); background: var(--add-page); }
.del { color: var(--del); background: var(--del-page); }
.hunk { color: var(--hunk); }
.file { font-weight: 600; }
@media (min-width: 40rem) { td.long { min-width: 12rem; } }
@media screen and (max-width: 39.99rem) { .stacked thead { display: none; }
  .stacked, .stacked tbody, .stacked tr, .stacked td { display: block; }
  .stacked tr { padding: .5rem .8rem; border-bottom: 1px solid var(--line); }
  .stacked tr:last-child { border-bottom: 0; }
  td.brief, td.middle, td.long, td[style] { min-width: 0; white-space: normal; }
  .stacked td { display: flow-root; padding: .1rem 0 .1rem 8rem; border: 0; text-align: left !important; }
  .stacked td::before { content: attr(data-label); float: left; width: 7.4rem; margin-left: -8rem; line-height: 1.35;
    padding-top: .1rem; color: var(--soft); }
  .stacked td.named { padding-left: 0; font-weight: 600; }
  .stacked td.named::before { content: none; }
  .stacked td.empty { display: none; } }
@media (min-width: 50rem) { .scroll { width: max-content; min-width: 100%; max-width: calc(100vw - 2rem);
    position: relative; left: 50%; transform: translateX(-50%); }
  td.long { max-width: 30rem; } }
@media (min-width: 78rem) { :root { --left: max(18rem, 50vw - 23.5rem); }
  .sheet { margin-left: var(--left); margin-right: 0; }
  .scroll { max-width: min(72rem, 100vw - var(--left) - 2.5rem); left: 0; transform: none; }
  nav { position: fixed; top: 1.4rem; left: calc(var(--left) - 16.5rem); width: 15rem; max-height: calc(100vh - 3rem);
    overflow-y: auto; margin: 0; }
  nav ol { display: block; } }
@media print { :root { --text: #000; --soft: #444; --page: #fff; --card: #f6f8fa; --line: #bbb; --accent: #000;
    --add: #116329; --add-page: #fff; --del: #a40e26; --del-page: #fff; --hunk: #6639ba; }
  nav { display: none; } .sheet { max-width: none; margin: 0; padding: 0; } body { font-size: 10pt; }
  .scroll { overflow: visible; border: 0; background: none; width: auto; max-width: none; left: 0; transform: none; }
  td.long { min-width: 0; max-width: none; } td.brief, td[style] { white-space: normal; } }
"""


def page(markdown: str, title: str, pictures: Mapping[str, bytes]) -> str:
    """*markdown* as a page. *pictures*: name, as the Markdown links to it → PNG or SVG.

    Of any other picture, and of a link that leads out of the page, only the words are shown; HTML in the Markdown is
    shown as the text that it is.
    """
    from markdown_it import MarkdownIt  # here: most commands make no page

    md = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = md.parse(markdown)
    name_sections(tokens)
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if token.children is not None:
            token.children = list(inside(token.children, pictures))
            if before is not None and after is not None:
                dress(before, token, after)
    name_cells(tokens)
    body = md.renderer.render(list(boxed(tokens)), md.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f'<body>\n<main class="sheet">\n{body}</main>\n</body>\n</html>\n'
    )


def name_sections(tokens: list["Token"]) -> None:
    """Give each heading of the second level an anchor, and put the contents before the first."""
    from markdown_it.token import Token

    found = [i for i, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    for n, i in enumerate(found, 1):
        tokens[i].attrSet("id", f"section-{n}")
    if len(found) > 1:
        headings = [words_of(tokens[i + 1]) for i in found]
        tokens.insert(found[0], Token("html_block", "", 0, content=contents(headings)))


def words_of(inline: "Token") -> str:
    return "".join(child.content for child in inline.children or ())


def contents(headings: Iterable[str]) -> str:
    items = "".join(f'<li><a href="#section-{n}">{escape(heading)}</a></li>\n' for n, heading in enumerate(headings, 1))
    return f'<nav aria-label="Contents">\n<ol>\n{items}</ol>\n</nav>\n'


def inside(children: Iterable["Token"], pictures: Mapping[str, bytes]) -> Iterator["Token"]:
    """*children* without what leads out of the page; the words of it stay."""
    from markdown_it.token import Token

    dropped: list[bool] = []  # of the links that are open
    for child in children:
        if child.type == "image":
            data = pictures.get(str(child.attrGet("src")))
            if data is None:
                yield Token("text", "", 0, content=child.content)
                continue
            child.attrs = {"src": data_uri(data), "alt": ""}  # whose words the renderer fills in
        if child.type == "link_open":
            dropped.append(not str(child.attrGet("href")).startswith("#"))
        is_outside = bool(dropped) and dropped[-1] and child.type in ("link_open", "link_close")
        if child.type == "link_close":
            dropped.pop()
        if not is_outside:
            yield child


def data_uri(picture: bytes) -> str:
    kind = "image/png" if picture.startswith(PNG) else "image/svg+xml"
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def dress(before: "Token", inline: "Token", after: "Token") -> None:
    """A paragraph that is a picture becomes a figure; a cell learns how much room its words want."""
    if before.type == "paragraph_open" and [child.type for child in inline.children or ()] == ["image"]:
        before.tag = after.tag = "figure"
    elif before.type == "td_open" and not before.attrGet("style"):
        length = len(words_of(inline))
        width = "brief" if length <= BRIEF else "middle" if length <= LONG else "long"
        before.attrSet("class", f"{width} named" if is_named(inline) else width)


def is_named(cell: "Token") -> bool:
    """Does an id in code come after words?"""
    children = cell.children or []
    return len(children) > 1 and children[0].type == "text" and children[-1].type == "code_inline"


def name_cells(tokens: Sequence["Token"]) -> None:
    """Tell each cell the name of its column, and each table whether it has so many that a phone stacks them."""
    table, names, column = None, list[str](), 0
    for token, inside_it in pairwise(tokens):
        match token.type:
            case "table_open":
                table, names = token, list[str]()
            case "tr_open":
                column = 0
            case "th_open" if table is not None:
                names.append(words_of(inside_it))
                if len(names) == STACKED:
                    table.attrSet("class", "stacked")
            case "td_open":
                token.attrSet("data-label", names[column])
                if not inside_it.children:
                    token.attrJoin("class", "empty")
                column += 1
            case _:
                pass


def boxed(tokens: Iterable["Token"]) -> Iterator["Token"]:
    """*tokens* with each table in a box that scrolls by itself, and the lines of a diff told apart."""
    from markdown_it.token import Token

    for token in tokens:
        if token.type == "table_open":
            yield Token("html_block", "", 0, content=BOX)
        if token.type == "fence" and token.info.strip() == "diff":
            yield Token("html_block", "", 0, content=diff(token.content))
        else:
            yield token
        if token.type == "table_close":
            yield Token("html_block", "", 0, content="</div>\n")


def diff(text: str) -> str:
    """The lines of a unified diff, each in a class of ``STYLE``. What is above a file's first hunk is its header."""
    spans: list[str] = []
    is_header = True
    for line in text.rstrip("\n").split("\n"):
        is_header = line.startswith("diff ") or (is_header and not line.startswith("@"))
        kind = "file" if is_header else KINDS.get(line[:1], "same")
        spans.append(f'<span class="{kind}">{escape(line)}\n</span>')
    return f'<pre class="diff"><code>{"".join(spans)}</code></pre>\n'
