"""What could a program read here? Standalone: it is copied to where a version's code would run.

    python3 snoop.py FINGERPRINTS

FINGERPRINTS is a JSON file from ``fingerprints``. It holds keyed hashes and no text, so that neither the file nor this
program is a leak, and it cannot find itself. Looked at are this process's environment, the files from its working
directory upwards, the processes that it can see (environment, command line, open files, what lies in their working
directory), then the files at home, in temporary folders and from the root down; for so many seconds, files and bytes
at most. Prints a line of JSON for each way by which something was found, and a last one with how much was looked at;
never a text or the value of a variable.

The memory of other processes is not looked at: whether it can be read is for the sandbox to settle, by another user or
its own process namespace.
"""

# it runs on the Python of the sandbox, which may be old (3.9): no match, no annotation that is evaluated.
from __future__ import annotations

import hashlib
import heapq
import json
import os
import re
import stat
import sys
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|[nrtbfv\"'/])")
MINUS = re.compile(r"-(?=\s?\d)")
PRINTABLE = re.compile(rb"[\t\n\r\x20-\x7e]{12,}")
PHRASE = 12
"""Words of a text that are looked for: all, or so many around its rarest word."""
NEAR = 24
"""Words on either side of a question in which its answer is looked for."""
STRONG = (4, 16)
"""Words and bytes from which on a text is not found on a disk by chance."""
WEAK_BYTES = 4
"""Of a short question or an id: found next to its answer, for a fifth of the tasks and at least 3, it counts too."""

FILE_BYTES = 1 << 24
"""Of each file only the beginning is read."""
CHUNK, OVERLAP = 1 << 18, 1 << 12
"""Characters that are looked at together, and again with the next ones."""
MEMORY = 200_000
"""Words whose hashes are remembered."""
ALL_BYTES = 1 << 28
ALL_FILES = 50_000
LATER = frozenset(
    {".git", "node_modules", "site-packages", "dist-packages", "__pycache__", ".venv", "venv", ".cache", "lib"}
)
"""Folders of other people's code, looked into when nothing else is left."""
NEVER = frozenset(
    "/" + name for name in ("proc", "sys", "dev", "usr", "lib", "lib32", "lib64", "bin", "sbin", "boot", "nix", "snap")
)


class Plain(dict[int, str]):
    """For ``str.translate``: letters, digits and marks stay, symbols and ideographs become words, the rest blanks."""

    def __missing__(self, code: int) -> str:
        char, kind = chr(code), unicodedata.category(chr(code))
        if (kind[0] == "S" and char != "`") or char in "*/%&@#\\" or "\u2e80" <= char <= "\u9fff":
            plain = f" {char} "
        else:
            plain = char if kind[0] in "LNM" else " "
        self[code] = plain
        return plain


PLAIN = Plain()


def folded(text: str) -> str:
    """*text* without differences of case and of compatible characters."""
    return unicodedata.normalize("NFKC", text).casefold()


def words(text: str) -> list[str]:
    """The words and operators of *text*, folded; punctuation, blanks and JSON's escapes are between them.

    2 + 2 is not 2 - 2, nor is 3 the same as -3; a hyphen before a letter is punctuation.
    """

    def plain(escape: re.Match[str]) -> str:
        return chr(int(escape[1], 16)) if escape[1] else " "

    if "\\" in text:
        text = ESCAPE.sub(plain, text)
    return MINUS.sub("\u2212", folded(text)).translate(PLAIN).split()


def is_strong(phrase: list[str]) -> bool:
    """Is it long enough that finding it is no chance?"""
    return len(phrase) >= STRONG[0] and len(" ".join(phrase).encode(errors="replace")) >= STRONG[1]


def short(salt: str, word: str) -> int:
    """A short hash, fast enough for every word of a disk."""
    return zlib.crc32(word.encode(errors="surrogatepass"), int(salt[:8], 16))


def keyed(salt: str, phrase: Iterable[str]) -> str:
    text = " ".join(phrase).encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=8, key=salt.encode()).hexdigest()


# ── fingerprints ───────────────────────────────────────────────────────────────────────────────────────────────


def fingerprints(tasks: Iterable[tuple[str, str, tuple[str, ...]]], salt: str, seconds: float) -> str:
    """What the program looks for, as JSON: of *tasks* (id, input, targets) keyed hashes of their phrases."""
    texts = [(words(id), words(text), [words(target) for target in targets]) for id, text, targets in tasks]
    common = Counter(word for _, text, targets in texts for word in set(text).union(*targets))
    sought = []
    for id, text, targets in texts:
        answers = [[len(target), keyed(salt, target)] for target in targets if target]
        phrases = [[*marked(phrase, common, salt), False] for phrase in (text, *targets) if is_strong(phrase)]
        weak = [phrase for phrase in (text, id) if not is_strong(phrase) and len(" ".join(phrase)) >= WEAK_BYTES]
        phrases += [[*marked(phrase, common, salt), True] for phrase in weak if answers]
        sought.append({"phrases": phrases, "answers": answers})
    return json.dumps({"salt": salt, "seconds": seconds, "tasks": sought})


def marked(phrase: list[str], common: Counter[str], salt: str) -> list[object]:
    """What finds *phrase*: where in a window around its rarest word the two rarest stand, their short hashes, the
    window's length and its hash."""
    ranked = sorted(range(len(phrase)), key=lambda i: (common[phrase[i]], -len(phrase[i])))
    start = max(0, min(ranked[0] - PHRASE // 2, len(phrase) - PHRASE))
    window = phrase[start : start + PHRASE]
    first, second, *_ = [i - start for i in ranked if 0 <= i - start < len(window)] * 2
    return [first, short(salt, window[first]), second, short(salt, window[second]), len(window), keyed(salt, window)]


class Phrase(NamedTuple):
    """One phrase to find, see ``marked``."""

    first: int
    anchor: int
    second: int
    other: int
    length: int
    digest: str
    needs_answer: bool
    task: int


class Sought:
    """The fingerprints, ready to be found in a text."""

    def __init__(self, source: str) -> None:
        data = json.loads(source)
        self.salt: str = data["salt"]
        self.seconds: float = data["seconds"]
        self.total = len(data["tasks"])
        self.answers: list[list[tuple[int, str]]] = [[(n, h) for n, h in t["answers"]] for t in data["tasks"]]
        self.anchors: dict[int, list[Phrase]] = {}
        for task, found in enumerate(data["tasks"]):
            for fields in found["phrases"]:
                phrase = Phrase._make([*fields, task])
                self.anchors.setdefault(phrase.anchor, []).append(phrase)
        self.short: dict[str, int] = {}

    def find(self, parts: Iterable[str], is_small: bool = False) -> tuple[set[int], set[int]]:
        """The tasks that the *parts* of a text hold, and those of them whose answer stands near.

        One task alone in a large text is taken for chance; in a *small* one, such as a variable, it counts.
        """
        strong: set[int] = set()
        weak: set[int] = set()
        answered: set[int] = set()
        for part in parts:
            self._find(part, strong, weak, answered)
        if len(weak) >= max(3, self.total / 5):
            strong |= weak
        if len(strong) < min(2, self.total) and not is_small:
            return set(), set()
        return strong, strong & answered

    def _find(self, text: str, strong: set[int], weak: set[int], answered: set[int]) -> None:
        found = words(text)
        all_words = set(found)
        if len(self.short) > MEMORY:
            self.short.clear()
        for word in all_words.difference(self.short):
            self.short[word] = short(self.salt, word)
        hot = {word for word in all_words if self.short[word] in self.anchors}
        for i, word in enumerate(found if hot else []):
            if word not in hot:
                continue
            for phrase in self.anchors[self.short[word]]:
                start = i - phrase.first
                end = start + phrase.length
                if start < 0 or end > len(found) or self.short[found[start + phrase.second]] != phrase.other:
                    continue
                if keyed(self.salt, found[start:end]) != phrase.digest:
                    continue
                has_answer = self._is_near(found, start, end, phrase.task)
                if has_answer:
                    answered.add(phrase.task)
                if not phrase.needs_answer:
                    strong.add(phrase.task)
                elif has_answer:
                    weak.add(phrase.task)

    def _is_near(self, found: list[str], start: int, end: int, task: int) -> bool:
        sides = (found[max(0, start - NEAR) : start], found[end : end + NEAR])
        return any(
            keyed(self.salt, side[i : i + length]) == digest
            for length, digest in self.answers[task]
            for side in sides
            for i in range(len(side) - length + 1)
        )


# ── looking ────────────────────────────────────────────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """Where something was found, by which way, and which tasks."""

    way: str
    name: str
    tasks: set[int]
    answered: set[int]


class Search:
    """What was looked at, and what was found."""

    def __init__(self, sought: Sought) -> None:
        self.sought = sought
        self.places: list[Place] = []
        self.files = 0
        self.bytes = 0
        self.seen: set[tuple[int, int]] = set()
        self.started = time.monotonic()
        self.share = 1.0
        """Of the seconds, files and bytes: how much may be used up by now."""

    def is_over(self) -> bool:
        return (
            time.monotonic() > self.started + self.share * self.sought.seconds
            or self.files >= self.share * ALL_FILES
            or self.bytes >= self.share * ALL_BYTES
        )

    def small(self, way: str, place: str, text: str) -> None:
        self._keep(way, place, self.sought.find([text], is_small=True))

    def file(self, way: str, path: str, place: str) -> None:
        try:
            about = Path(path).stat()
            if not stat.S_ISREG(about.st_mode) or not about.st_size or (about.st_dev, about.st_ino) in self.seen:
                return
            self.seen.add((about.st_dev, about.st_ino))
            with Path(path).open("rb") as file:
                data = file.read(FILE_BYTES)
        except OSError:
            return
        self.files += 1
        self._keep(way, place, self.sought.find(self._parts(data)))

    def _parts(self, data: bytes) -> Iterator[str]:
        for content in unpacked(data):
            text = readable(content)
            self.bytes += len(content)
            for start in range(0, len(text), CHUNK):
                yield text[start : start + CHUNK + OVERLAP]
                if self.is_over():
                    return

    def _keep(self, way: str, place: str, found: tuple[set[int], set[int]]) -> None:
        if found[0]:
            self.places.append(Place(way, place, *found))

    def folders(self, way: str, roots: Iterable[tuple[str, str]]) -> None:
        """All files below *roots* (the folder, and how to call it): the nearest first, counted in steps from the first
        root, where the next root is a step as a folder in a folder is."""
        todo = [(False, number, number, *root) for number, root in enumerate(dict.fromkeys(roots))]
        entered: set[tuple[int, int]] = set()
        count = len(todo)
        while todo and not self.is_over():
            is_late, steps, _, folder, name = heapq.heappop(todo)
            try:
                about = Path(folder).stat()
                if (about.st_dev, about.st_ino) in entered or folder in NEVER:
                    continue
                entered.add((about.st_dev, about.st_ino))
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                place = f"{name}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    count += 1
                    heapq.heappush(todo, (is_late or entry.name in LATER, steps + 1, count, entry.path, place))
                elif not self.is_over():
                    self.file(way, entry.path, place)

    def environment(self) -> None:
        for name, value in os.environ.items():
            self.small("environment", name, value)

    def processes(self) -> None:
        """What others show, those that this one descends from first; nothing, where they belong to somebody else."""
        others = [pid for pid in dict.fromkeys((*ancestors(), *pids())) if pid != os.getpid()]
        for pid in others:
            self.told(pid)
        for pid in others:
            self.opened(pid)
        homes: dict[str, str] = {}
        for pid in others:
            homes.setdefault(link(f"/proc/{pid}/cwd"), f"/proc/{pid}/cwd/")
        self.folders("parent", [(folder, name) for name, folder in homes.items() if name not in (os.sep, "?")])

    def told(self, pid: int) -> None:
        """What a process was started with."""
        self.small("parent", f"{called(pid)}: its command line", read(f"/proc/{pid}/cmdline").replace("\0", "\n"))
        for variable in read(f"/proc/{pid}/environ").split("\0"):
            key, _, value = variable.partition("=")
            if os.environ.get(key) != value:
                self.small("parent", f"{called(pid)}: its variable {key}", value)

    def opened(self, pid: int) -> None:
        """The files that a process has open, those included that have no name any more."""
        for number in listed(f"/proc/{pid}/fd"):
            if not self.is_over():
                path = f"/proc/{pid}/fd/{number}"
                self.file("parent", path, f"{called(pid)}: its open file {link(path)}")


def readable(data: bytes) -> str:
    """The text of a file; of one that is no text the runs of ASCII, as ``strings`` prints them."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:8192]:
        return b"\n".join(PRINTABLE.findall(data)).decode("ascii")
    return data.decode("utf-8", "replace")


def unpacked(data: bytes) -> Iterator[bytes]:
    """*data*; where it was compressed by gzip or is an object or a pack of git, what is in it."""
    if data[:4] == b"PACK":
        yield from packed(data)
        return
    try:
        yield zlib.decompressobj(47).decompress(data, FILE_BYTES)  # 47: with the header of zlib or of gzip
    except zlib.error:
        yield data


def packed(data: bytes) -> Iterator[bytes]:
    """The files in a pack of git that are stored whole, as one version at least of each one is."""
    at, room = 12, FILE_BYTES
    try:
        while at < len(data) - 20 and room > 0:
            kind = data[at] >> 4 & 7
            at = after_number(data, at)
            if kind == 7:  # a difference to an object named by its hash
                at += 20
            elif kind == 6:  # or by its place
                at = after_number(data, at)
            stream, content = zlib.decompressobj(), b""
            while not stream.eof and at < len(data):
                piece = data[at : at + (1 << 12)]
                content += stream.decompress(piece)
                at += len(piece) - len(stream.unused_data)
            room -= len(content)
            if kind == 3:
                yield content
    except (zlib.error, IndexError):  # not a pack, or cut
        return


def after_number(data: bytes, at: int) -> int:
    """Where the number of several bytes ends that begins at *at*."""
    while data[at] & 0x80:
        at += 1
    return at + 1


def read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return "?"


def listed(folder: str) -> list[str]:
    try:
        return sorted(entry.name for entry in Path(folder).iterdir())
    except OSError:
        return []


def called(pid: int) -> str:
    return f"process {pid} ({read(f'/proc/{pid}/comm').strip() or '?'})"


def pids() -> list[int]:
    return [int(name) for name in listed("/proc") if name.isdigit()]


def ancestors() -> Iterator[int]:
    pid = os.getppid()
    while pid > 0:
        yield pid
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0


def main(path: str) -> None:
    with Path(path).open(encoding="ascii") as file:
        search = Search(Sought(file.read()))
    here = Path.cwd().resolve()
    near = [str(folder) for folder in (here, *here.parents) if folder != folder.parent]
    far = [os.environ.get("HOME", "/root"), "/tmp", "/var/tmp", "/"]
    search.environment()
    steps = (
        lambda: search.folders("disk", [(folder, folder) for folder in near]),
        search.processes,
        lambda: search.folders("disk", [(folder, folder) for folder in far]),
    )
    for number, step in enumerate(steps, 1):
        search.share = number / len(steps)
        step()
    for way in ("disk", "environment", "parent"):
        places = sorted((p for p in search.places if p.way == way), key=lambda p: (-len(p.tasks), len(p.name)))
        if places:
            found = {
                "way": way,
                "place": places[0].name,
                "task": min(places[0].tasks),
                "tasks": len(places[0].tasks),
                "answered": len(places[0].answered),
                "places": len(places),
                "all": len(set[int]().union(*(p.tasks for p in places))),
            }
            print(json.dumps(found))
    print(json.dumps({"files": search.files, "bytes": search.bytes, "over": search.is_over()}))


if __name__ == "__main__":
    main(sys.argv[1])
