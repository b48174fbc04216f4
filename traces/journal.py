"""The journal: an append-only file of JSON lines, one record in its envelope each.

    {"writer": "w", "seq": 7, "at": "…", "type": "Trial", "key": "round/1/…", "data": {…}, "chain": "…"}

One writer at a time, by file lock. A line is written with one call and is whole or not there: a torn last line (the
process died, the disk was full) is dropped when the journal is opened again, and readers never see it. The chain makes
each line vouch for those before it, see ``traces.chain``; lines without it are read all the same.
"""

import errno
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast, get_type_hints

from filelock import FileLock
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from traces import records
from traces.errors import BadLine, JournalFull, JournalGone, JournalLocked
from traces.locks import Held, lock
from traces.records import Record, Text

RECORDS: Mapping[str, type[Record]] = {
    name: kind
    for name, kind in vars(records).items()
    if isinstance(kind, type) and issubclass(kind, Record) and kind is not Record
}
"""What a line can hold, by the name in its ``type``."""

REMEMBERED_TEXTS = 16_384
"""How many hashes of texts a journal remembers: its memory stays flat, and a text seen before that is written again."""

DEEPEST = 64
"""Free-form values nested deeper than this are written as text: JSON parsers give up at about 200."""

CHAIN = b',"chain":"'
"""What stands before the chain value of a line: after its data, and never within them, where quotes are escaped."""
CHAIN_LENGTH = 32
"""Characters of a chain value: half of a SHA-256. To find a line with the value of another takes some 2¹²⁸ tries."""
TAIL = len(CHAIN) + CHAIN_LENGTH + len(b'"}\n')

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Line:
    """One record in its envelope, as it was read."""

    writer: str
    seq: int
    """Grows with each line of this writer; a crash may leave a gap."""
    at: datetime
    """When it was written."""
    type: str
    key: str | None
    data: Mapping[str, Any]
    offset: int
    """Of its first byte in the file."""
    path: Path | None = None
    """The file, where that is known."""

    def record(self) -> Record:
        """The record.

        Raises:
            BadLine: the type is unknown, or the data do not fit it.
        """
        kind = RECORDS.get(self.type)
        if kind is None:
            raise bad_line(
                f"the line at byte {self.offset} holds an unknown type, {self.type!r}", self.path, self.writer
            )
        try:
            return kind.model_validate(self.data)
        except ValidationError as e:
            what = f"the line at byte {self.offset} is no valid {self.type}: {e}"
            raise bad_line(what, self.path, self.writer) from e


class Journal:
    """The one writer of the file at *path*; safe to share between threads. The writer's name is the file's stem."""

    def __init__(self, path: Path) -> None:
        """Open *path*, or make it, and drop a torn last line.

        Raises:
            JournalLocked: somebody else is writing it; names the process.
        """
        self.path = path
        self.writer = path.stem
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            _drop_torn_tail(self._file)
            self._seq, self._chain = last_line(self._file)
        except BaseException:
            self._lock.release()
            raise
        self._turn = threading.Lock()
        self._clean = True
        self._texts: OrderedDict[str, None] = OrderedDict()
        self._start = b'{"writer":' + to_json(self.writer) + b',"seq":'

    def append(self, record: Record, *, key: str | None = None, durable: bool = False) -> int:
        """Write *record*; return the offset of its line, for ``at``.

        When this returns, the death of the process loses nothing; with *durable* neither does a power cut.

        Raises:
            JournalFull: no space; what was written of the line is removed again.
            JournalGone: somebody deleted the file.
        """
        data = _dump(record)
        name = to_json(None if key is None else clean_text(key))
        with self._turn:
            offset = self._end()
            self._seq += 1  # before the write: an interrupt leaves a gap, never the same number twice
            now = datetime.now(UTC).isoformat()
            head = f'{self._seq},"at":"{now}","type":"{type(record).__name__}","key":'.encode()
            self._write(b"".join((self._start, head, name, b',"data":', data)), offset)
            if durable:
                os.fsync(self._file)
        return offset

    def text(self, text: str) -> str:
        """Write *text* as a ``Text`` unless this journal did so lately; return its hash."""
        text = clean_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with self._turn:
            known = digest in self._texts
            self._texts[digest] = None
            self._texts.move_to_end(digest)
            if len(self._texts) > REMEMBERED_TEXTS:
                self._texts.popitem(last=False)
        if not known:
            self.append(Text(hash=digest, text=text))
        return digest

    def at(self, offset: int) -> Line:
        """The line that starts at *offset*."""
        pieces: list[bytes] = []
        size = 8192
        position = offset
        while piece := os.pread(self._file, size, position):
            end = piece.find(b"\n")
            if end >= 0:
                return parse(b"".join((*pieces, piece[:end])), offset, self.path)
            pieces.append(piece)
            position += len(piece)
            size = 1 << 20
        raise BadLine(f"{self.path}: no whole line starts at byte {offset}")

    def lines(self) -> Iterator[Line]:
        """All lines that are there now, from the first; see ``read``."""
        return read(self.path)

    @property
    def closed(self) -> bool:
        return self._file < 0

    def close(self) -> None:
        """Let another writer have it. Closing twice is fine."""
        with self._turn:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self) -> int:
        if self._file < 0:
            raise ValueError(f"{self.path} is closed")
        if not self._clean:
            end = _drop_torn_tail(self._file)
            self._chain = last_line(self._file)[1]  # of what is there: an interrupt came in between
            return end
        status = os.fstat(self._file)
        if status.st_nlink == 0:
            raise JournalGone(
                f"{self.path} was deleted while it was being written: whatever is appended now would be lost. "
                "Stop the run and start it again"
            )
        return status.st_size

    def _write(self, body: bytes, offset: int) -> None:
        """Write a line, *body* with its chain value; *offset* is the end of the file."""
        self._clean = False  # until all of it is there
        chain = link(self._chain or self.writer.encode(), body)
        line = b"".join((body, CHAIN, chain, b'"}\n'))
        try:
            written = os.write(self._file, line)
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError as e:
            with suppress(OSError):  # then the next append drops the torn part, or the next open
                os.ftruncate(self._file, offset)
            if e.errno in FULL:
                raise JournalFull(
                    e.errno,
                    f"no space left to write {self.path}; it still ends with its last whole line. "
                    "Make room and start again: nothing that was recorded is lost",
                ) from e
            raise
        self._chain = chain
        self._clean = True


def read(path: Path) -> Iterator[Line]:
    """The whole lines of a journal, also while somebody writes it; a torn last line is left out.

    Raises:
        BadLine: a whole line is not a record in an envelope; names the file, and says what to do.
    """
    for offset, raw in raw_lines(path):
        yield parse(raw, offset, path)


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each whole line, whatever it holds."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            yield offset, raw
            offset += len(raw)


def parse(raw: bytes, offset: int, path: Path | None = None) -> Line:
    """The line with these bytes, found at *offset* of the file *path*.

    Raises:
        BadLine: it is not JSON, or not an envelope.
    """
    try:
        match from_json(raw, allow_inf_nan=False):
            case {
                "writer": str(writer),
                "seq": int(seq),
                "at": str(at),
                "type": str(kind),
                "key": str() | None as key,
                "data": dict(data),
            }:
                when, said = datetime.fromisoformat(at), cast("dict[str, Any]", data)
                return Line(writer, seq, when, kind, key, said, offset, path)
            case _:
                trouble, why = f"the line at byte {offset} is not an envelope: {raw[:80]!r}", None
    except ValueError as e:
        trouble, why = f"the line at byte {offset} is damaged: {e}: {raw[:80]!r}", e
    raise bad_line(trouble, path) from why


def bad_line(what: str, path: Path | None, writer: str = "") -> BadLine:
    """Of a line of the file *path* the message also says what to do."""
    if path is None:
        return BadLine(f"{writer}: {what}" if writer else what)
    return BadLine(
        f"{path}: {what.splitlines()[0]}. It was written by another version of Ratchet, or edited. Read it with the "
        "version that wrote it, or put an edited line back"
    )


# ── the chain ──────────────────────────────────────────────────────────────────────────────────────────────────


def link(before: bytes, body: bytes) -> bytes:
    """The chain value of a line: a hash over the value *before* it and its own bytes up to ``CHAIN``.

    Before the first line stands the writer's name.
    """
    digest = hashlib.sha256(before)
    digest.update(body)
    return digest.hexdigest()[:CHAIN_LENGTH].encode()


def body_and_chain(raw: bytes) -> tuple[bytes, bytes | None]:
    """The body and the chain value of a whole line; ``None`` when it has none."""
    tail = raw[-TAIL:]
    if tail.startswith(CHAIN) and tail.endswith(b'"}\n') and len(tail) == TAIL:
        return raw[:-TAIL], tail[len(CHAIN) : -3]
    return raw, None


# ── what JSON readers cannot take ──────────────────────────────────────────────────────────────────────────────


def clean_text(text: str) -> str:
    """*text* as it can be encoded: surrogate pairs joined, lone surrogates replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean(value: object, depth: int = DEEPEST) -> Any:
    """*value* as JSON that every reader takes without loss.

    Integers beyond 64 bits and numbers that are not finite become text, and so does whatever JSON has no word for.
    """
    match value:
        case None | bool():
            return value
        case int():
            if -(2**63) <= value < 2**63:
                return int(value)
            return str(value) if value.bit_length() < 8192 else hex(value)  # Python refuses to print longer ones
        case float():
            return value if isfinite(value) else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        case str():
            return clean_text(value)
        case bytes() | bytearray():
            return value.decode(errors="replace")
        case datetime():
            return value.isoformat()
        case Mapping() if depth:
            return {clean_text(str(name)): clean(item, depth - 1) for name, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [clean(item, depth - 1) for item in value]
        case _:
            return clean_text(str(value))


def _dump(record: Record) -> bytes:
    """The record as JSON, cleaned where it needs it."""
    free = {name: clean(value) for name in _free_form(type(record)) if (value := getattr(record, name))}
    try:
        return record.__pydantic_serializer__.to_json(record.model_copy(update=free) if free else record)
    except PydanticSerializationError:  # lone surrogates in a text: rare, so only looked for when it failed
        return to_json(clean(record.model_dump()))


@cache
def _free_form(kind: type[Record]) -> tuple[str, ...]:
    """The fields of *kind* that take whatever the user's code puts into them."""
    return tuple(name for name, hint in get_type_hints(kind).items() if hint == dict[str, Any])


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────


def _lock(path: Path) -> FileLock:
    try:
        return lock(Path(f"{path}.lock"), timeout=0)
    except Held as e:
        raise JournalLocked(
            f"{path} is being written by {e}: a journal has one writer. Wait until that run ends, or end it"
        ) from None


def _drop_torn_tail(file: int) -> int:
    """Cut the file after its last newline; return its size then."""
    size = os.fstat(file).st_size
    end = _last_newline(file, size) + 1
    if end < size:
        os.ftruncate(file, end)
    return end


def _last_newline(file: int, end: int) -> int:
    """The offset of the last newline before *end*, or -1."""
    while end > 0:
        start = max(0, end - (1 << 16))
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found
        end = start
    return -1


def last_line(file: int) -> tuple[int, bytes]:
    """Number and chain value of the last whole line that can be read; 0 and empty where there is none."""
    end = _last_newline(file, os.fstat(file).st_size) + 1
    while end > 0:
        start = _last_newline(file, end - 1) + 1
        raw = os.pread(file, end - start, start)
        with suppress(BadLine):
            return parse(raw, start).seq, body_and_chain(raw)[1] or b""
        end = start
    return 0, b""
