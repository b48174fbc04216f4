"""One file that can be sent by mail and opened anywhere: nothing is fetched, nothing runs, and nothing gets lost."""

import base64
import json
import shutil
import struct
import subprocess
import zlib
from html import unescape
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.html import page

CHROMIUM = shutil.which("chromium")
MARKDOWN = """# The night of a day

- **Proven better**: version `abc`.

![Progress by round](progress.png)

## What was tried

| round | change | gain |
|---:|---|---:|
| 1 | mind <b>the</b> plural \\| colour | +3.1 |
| 2 | a change that somebody described in many more words than fit into a column | -1.0 |

## What still fails

| finding | change in points (90 % interval) | before | after | aimed at | n |
|---|---|---:|---:|---|---:|
| [twins] wrong answer: it mends one kind and spoils another, which worked: the new rule holds for other documents \
`ee64a68d106f` | -37.9 (-47.1 to -26.4) | 25 of 66 | 0 of 66 | yes, in round 1, by the proposal `p1`, too | 66 |
| and 3 more, which changed less | | | | | |

## The change

```diff
diff --git a/p.md b/p.md
--- a/p.md
+++ b/p.md
@@ -1,2 +1,2 @@
--- a list within
+<img src=x onerror=alert(1)>
 same
```
"""


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x1a\x7f\x37" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Seen(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def is_closed(seen: Seen) -> bool:
    """Does nothing in it lead out, and does nothing in it run?"""
    runs = {"script", "iframe", "object", "embed", "link", "base", "form", "video", "audio", "svg"}
    leads = [
        value
        for _, attributes in seen.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background", "ping")
        and not (value or "").startswith(("#", "data:image/"))
    ]
    handlers = [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]
    return not leads and not handlers and not runs & {tag for tag, _ in seen.elements}


def test_every_table_picture_and_line_of_the_diff_is_there_and_the_file_stands_by_itself():
    seen = Seen(page(MARKDOWN, "A <night>", {"progress.png": png()}))

    assert is_closed(seen)
    [policy] = [m["content"] for m in seen.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    [picture] = seen.all("img")
    assert picture["src"] == "data:image/png;base64," + base64.b64encode(png()).decode()
    assert picture["alt"] == "Progress by round"
    assert len(seen.all("table")) == 2
    assert len(seen.all("tr")) == 6
    assert "mind <b>the</b> plural | colour" in seen.words
    assert [s["class"] for s in seen.all("span")] == ["file", "file", "file", "hunk", "del", "add", "same"]
    assert "+<img src=x onerror=alert(1)>" in seen.words
    assert "A <night>" in seen.words


def test_its_contents_lead_to_every_section():
    seen = Seen(page(MARKDOWN, "A night", {}))
    anchors = [f"#{h['id']}" for h in seen.all("h2")]
    assert [a["href"] for a in seen.all("a")] == anchors == ["#section-1", "#section-2", "#section-3"]


def test_a_drawing_is_shown_as_one():
    [picture] = Seen(page("![p](p.svg)", "t", {"p.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"})).all("img")
    assert str(picture["src"]).startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize(
    "hostile",
    [
        "![alt words](https://evil.example/p.png)",
        "![alt words](other.png)",
        "![alt words](data:image/svg+xml;base64,AAAA)",
        "[alt words](https://evil.example)",
        "[![alt words](progress.svg)](https://evil.example)",
        "[alt words][x]\n\n[x]: https://evil.example",
        "<https://evil.example/alt words>",
        "<img src=https://evil.example/p.png> alt words",
        "<script>alert(1)</script> alt words",
        '<a href="https://evil.example">alt words</a>',
        "[alt words](javascript:alert(1))",
        "```diff\n+</code></pre><script>alt words</script>\n```",
        '```diff"><script>x</script>\nalt words\n```',
    ],
)
def test_what_leads_out_of_the_page_is_only_words(hostile: str):
    seen = Seen(page(f"# t\n\n{hostile}\n", "t", {"progress.png": png()}))
    assert is_closed(seen)
    assert not seen.all("img")
    assert "alt words" in seen.words


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("[]()!<>`~|#-+*_\\&\"'/:=\n\t aix.https\u2028\x0c{}%"), max_size=60))
def test_nothing_that_anybody_writes_opens_it(text: str):
    assert is_closed(Seen(page(f"# t\n\n{text}\n\n## a\n\n```diff\n{text}\n```\n", text, {"i": png()})))


def test_a_table_has_a_box_of_its_own_to_scroll_in():
    seen = Seen(page(MARKDOWN, "t", {}))
    boxes = [d for d in seen.all("div") if d.get("class") == "scroll"]
    assert [box["tabindex"] for box in boxes] == ["0", "0"]
    assert {c.get("class") for c in seen.all("td")[:6]} == {"middle", "long", None}


def test_a_cell_knows_its_column_and_a_finding_its_id_and_a_phone_stacks_what_is_wide():
    seen = Seen(page(MARKDOWN, "t", {}))
    assert [t.get("class") for t in seen.all("table")] == [None, "stacked"]
    cells = seen.all("td")[6:]
    names = ["finding", "change in points (90 % interval)", "before", "after", "aimed at", "n"]
    assert [cell["data-label"] for cell in cells] == names * 2
    assert cells[0]["class"] == "long named"
    assert cells[4]["class"] == "middle"
    assert [str(cell["class"]).split()[-1] for cell in cells[7:]] == ["empty"] * 5


WATCH = """<!doctype html><iframe src="/page" width="390" height="800" style="border:0"></iframe>
<iframe src="/page" width="1280" height="800" style="border:0"></iframe><script>
onload = () => {
  const inside = document.querySelector("iframe").contentDocument, root = inside.documentElement
  const pictures = [...inside.images].filter(image => image.naturalWidth).map(image => image.naturalWidth)
  const tables = [...inside.querySelectorAll("table")].filter(table => table.offsetHeight > 40).length
  const scrolls = [...document.querySelectorAll("iframe")].map(frame =>
    [...frame.contentDocument.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth + 1).length)
  document.title = JSON.stringify({width: root.scrollWidth, room: root.clientWidth, pictures, tables, scrolls})
}
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_picture_and_table_fetches_nothing_and_scrolls_nothing_sideways_on_a_phone(tmp_path: Path):
    text = page(MARKDOWN, "A night", {"progress.png": png(600, 300)})
    text = text.replace(
        "</main>", '<img src="http://evil.example/p.png"><script>document.body.remove()</script></main>'
    )
    asked: list[str] = []

    class Everything(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "Referer" in self.headers:  # else it is the first page, or something of the browser's own
                asked.append(self.path)
            body = {"/": WATCH, "/page": text}.get(self.path, "").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Everything) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        here = f"127.0.0.1:{server.server_port}"
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --dump-dom"
        )
        everywhere = f"--host-resolver-rules=MAP * {here}"  # whatever it wants to fetch is asked of this server
        seen = subprocess.run(
            [str(CHROMIUM), *flags.split(), everywhere, f"--user-data-dir={tmp_path}", f"http://{here}/"],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        server.shutdown()
        thread.join()

    found = json.loads(unescape(seen.split("<title>")[1].split("</title>")[0]))
    assert found == {"width": 390, "room": 390, "pictures": [600], "tables": 2, "scrolls": [0, 0]}
    assert set(asked) - {"/favicon.ico"} == {"/page"}
