"""Labels: what people say about outputs, a ``Label`` a line in a file beside the experiment.

The file only grows: who changes their mind writes another line, and the later one counts. A mark of null takes back
what that person said by that criterion.
"""

import csv
import hashlib
import io
import json
import math
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from harness.agreement import Pair
from harness.errors import UserError
from harness.experiment import split_tasks
from harness.snoop import words
from traces.journal import clean_text
from traces.records import Label, Task, now

FILE = "labels.jsonl"
"""Beside the experiment."""
WORK = ("asked", "output")
"""Columns that an import must have: what was labelled."""
TOLD = frozenset({*WORK, "who", "trial", "maker", "labelled"})
"""Columns of an import that are no criterion."""
SAID: Mapping[str, bool] = {
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "y", "pass", "passed"), True),
    **dict.fromkeys(("0", "0.0", "false", "f", "no", "n", "fail", "failed"), False),
}
"""What a cell may say, in any case; an empty one says nothing."""
SEPARATORS = ";\t|"
"""What cells are parted by in files that are called CSV, besides commas."""
SHINGLE = 3
"""Words in a row that two outputs have in common or not."""
ALIKE = 0.6
"""Share of their shingles that two outputs have in common to be nearly the same."""


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────────────


def label_id(asked: str, output: str) -> str:
    return hashlib.sha256(json.dumps([asked, output]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Line:
    """A line of the file."""

    label: Label
    taken_back: frozenset[str] = frozenset()
    """Criteria by which that person says nothing any more."""

    @property
    def text(self) -> str:
        said = self.label.model_dump_json(exclude_defaults=True)
        if not self.taken_back:
            return said + "\n"
        data = json.loads(said)
        return json.dumps({**data, "marks": {**data["marks"], **dict.fromkeys(sorted(self.taken_back))}}) + "\n"


def load_labels(path: Path) -> list[Label]:
    """The labels of a JSON Lines file, merged (see ``merged``). A line may leave ``id`` out.

    Raises:
        UserError: there is no such file, or a line is no label; names the line.
    """
    if not path.exists():
        raise UserError(
            f"there are no labels, {path}, so nothing tells whether a judge is right. Write some: "
            f"ratchet label {path.parent.name}"
        )
    return merged(standing(read_lines(path)))


def read_lines(path: Path) -> list[Line]:
    """All of the file, also what was replaced or taken back.

    Raises:
        UserError: a line is no label; names it.
    """
    found: list[Line] = []
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            data, taken_back = without_nulls(json.loads(line))
            label = Label.model_validate({"id": "", **data} if isinstance(data, dict) else data)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise refused(path, number, f"{where}: {first['msg']}") from e
        except (ValueError, RecursionError) as e:
            raise refused(path, number, f"it is not JSON: {e}") from e
        if not label.marks and not taken_back:
            raise refused(path, number, "it marks no criterion")
        found.append(Line(identified(label, path, number), taken_back))
    return found


def without_nulls(data: Any) -> tuple[Any, frozenset[str]]:
    """*data* with only those of its marks that say something; and the others."""
    row = cast(dict[str, Any], data) if isinstance(data, dict) else {}
    if not isinstance(row.get("marks"), dict):
        return data, frozenset()
    marks = cast(dict[str, Any], row["marks"])
    said = {criterion: mark for criterion, mark in marks.items() if mark is not None}
    return {**row, "marks": said}, frozenset(marks.keys() - said.keys())


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read as text ({e}), and the labels are in it. Check the path") from e


def refused(path: Path, number: int, why: str) -> UserError:
    return UserError(
        f"{path} line {number} is no label: {why}. One looks like "
        '{"asked": "Where is my parcel?", "output": "On its way.", "marks": {"polite": true}, "who": "Ada", '
        '"labelled": "2026-11-20T09:00:00Z"}. Mend that line, or take it out'
    )


def identified(label: Label, path: Path, number: int) -> Label:
    """*label* with the id of its text."""
    id = label_id(label.asked, label.output)
    if label.id not in ("", id):
        raise refused(path, number, "its id is not that of its text, so that was changed after it was labelled")
    return label.model_copy(update={"id": id})


def append_labels(path: Path, labels: Iterable[Label]) -> None:
    append_lines(path, map(Line, labels))


def append_lines(path: Path, lines: Iterable[Line]) -> None:
    """Add *lines* at the end of the file, on the disk when this returns; a file that does not end in a line break is
    given one first."""
    text = "".join(line.text for line in lines)
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def standing(lines: Iterable[Line]) -> list[Label]:
    """The labels of *lines*, oldest first, without the marks that their person took back later."""
    gone: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    found: list[Label] = []
    oldest_first = sorted(lines, key=lambda line: moment(line.label))
    for line in reversed(oldest_first):  # not sorted in reverse: of two as old the lower one counts
        label, later = line.label, gone[line.label.id, line.label.who]
        if marks := {criterion: mark for criterion, mark in label.marks.items() if criterion not in later}:
            found.append(label.model_copy(update={"marks": marks}))
        later |= line.taken_back
    return found[::-1]


def merged(labels: Iterable[Label]) -> list[Label]:
    """One for each output and person, in the order in which they came: a later mark of the same person replaces the
    earlier one of that criterion. Two people who disagree are both there."""
    found: dict[tuple[str, str], Label] = {}
    for label in sorted(labels, key=moment):
        key = (label.id, label.who)
        found[key] = replaced(found.get(key), label)
    return list(found.values())


def replaced(before: Label | None, label: Label) -> Label:
    """*label*, and of the one *before* what it does not say."""
    if before is None:
        return label
    marks, maker, trial = {**before.marks, **label.marks}, label.maker or before.maker, label.trial or before.trial
    return label.model_copy(update={"marks": marks, "maker": maker, "trial": trial})


def moment(label: Label) -> datetime:
    """When it was given; UTC, where it does not say."""
    return label.labelled if label.labelled.tzinfo else label.labelled.replace(tzinfo=UTC)


# ── from elsewhere ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Import:
    """What a file from elsewhere says."""

    labels: list[Label]
    """One for each output, person and time."""
    unmarked: int
    """Rows that mark nothing."""
    contradicting: int
    """Rows that say otherwise than one above of the same person: the newer one counts, of two as old the one below."""


def import_labels(path: Path, who: str, criteria: Collection[str] = ()) -> Import:
    """The labels of a CSV or JSON Lines file with the columns ``asked``, ``output`` and one for each criterion, perhaps
    ``who``, ``trial``, ``maker`` and ``labelled``.

    *criteria*: those that there are; without any, each other column is one. *who*: whose the rows are that do not say.
    A row that does not say when it was labelled is of now.

    Raises:
        UserError: a row cannot be understood; names it. Nothing is taken over then.
    """
    rows = csv_rows(path) if path.suffix.lower() == ".csv" else json_rows(path)
    at = now()
    lines: list[Line] = []
    unmarked = 0
    for number, row, taken_back in rows:
        asked, output = (text_in(path, number, row, name) for name in WORK)
        marks = {name: mark for name, cell in cells_of(path, number, row, criteria) if (mark := cell) is not None}
        unmarked += not marks
        label = Label(
            id=label_id(asked, output),
            asked=asked,
            output=output,
            marks=marks,
            who=clean_text(str(row.get("who") or who)),
            labelled=time_in(path, number, row) or at,
            trial=clean_text(str(row["trial"])) if row.get("trial") else None,
            maker=clean_text(str(row.get("maker") or "")),
        )
        lines.append(Line(label, taken_back))
    found: dict[tuple[str, str, datetime], Label] = {}
    for label in standing(lines):
        key = (label.id, label.who, moment(label))
        found[key] = replaced(found.get(key), label)
    if not found:
        raise UserError(
            f"{path} holds no mark: {unmarked} row{'s' * (unmarked != 1)}, and none says whether a criterion passes. "
            "It needs the columns asked, output and one for each criterion, with pass or fail"
        )
    return Import([*found.values()], unmarked, contradictions(line.label for line in lines))


def contradictions(labels: Iterable[Label]) -> int:
    """How many of *labels* say otherwise than what the same person said of the same output before."""
    said: defaultdict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    found = 0
    for label in labels:
        before = said[label.id, label.who]
        found += any(before.get(criterion, mark) != mark for criterion, mark in label.marks.items())
        before |= label.marks
    return found


Row = tuple[int, Mapping[str, Any], frozenset[str]]
"""Its number, its cells by column, and the criteria by which it takes back what was said."""


def csv_rows(path: Path) -> Iterator[Row]:
    """The header has number 1."""
    text = "\n".join(lines_of(path))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # an output may be long
    names: list[str] = []
    try:
        for number, row in enumerate(reader, 1):
            if number == 1:
                names = [name.strip() for name in row]
                check_headings(path, names, text)
            elif row and len(row) != len(names):
                raise UserError(
                    f"{path} row {number} has {len(row)} cells under {len(names)} headings, so they may be out of "
                    "place. Put quotes around a cell that holds a comma"
                )
            elif row:
                yield number, dict(zip(names, row, strict=True)), frozenset()
    except csv.Error as e:
        if not names:
            check_headings(path, [], text)
        raise UserError(f"{path} line {reader.line_num} is not CSV: {e}. Mend it, and import it again") from e


def check_headings(path: Path, names: Sequence[str], text: str) -> None:
    """Refuse the *names* of the columns where a cell would have no place, or what was labelled is not among them."""
    first = text.partition("\n")[0].strip()
    seen = max(SEPARATORS, key=first.count)
    missing = " and no column ".join(name for name in WORK if name not in names)
    if missing and seen in first and first.count(seen) >= first.count(","):
        raise UserError(
            f"{path} has no column {missing}: its cells seem to be parted by {seen!r}, and are read with commas "
            f"between them. Its first line is {first[:100]!r}. Save it with commas, under the headings asked, output "
            "and one for each criterion"
        )
    if missing and names:
        raise UserError(
            f"{path} has no column {missing}, so it is not known what was labelled. With commas between them, its "
            f"headings are {', '.join(map(repr, names))}. Rename those that hold it to {' and '.join(WORK)}"
        )
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path} has two columns named {repeated[0]!r}, so no cell has a place. Rename one")


def json_rows(path: Path) -> Iterator[Row]:
    """By line; its marks as columns, also where they stand under ``marks`` as in a label."""
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            data: Any = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise UserError(f"{path} line {number} is not JSON: {e}. Mend it, and import it again") from e
        if not isinstance(data, dict):
            raise UserError(f"{path} line {number} is not an object with asked, output and marks. Mend it")
        row, taken_back = without_nulls(cast(dict[str, Any], data))
        marks: Any = row.get("marks", {})
        if not isinstance(marks, dict):
            raise UserError(f"{path} line {number}: marks is not an object of criteria. Mend it")
        told = {name: value for name, value in row.items() if name not in ("marks", "id")}
        yield number, told | cast(dict[str, Any], marks), taken_back


def cells_of(
    path: Path, number: int, row: Mapping[str, Any], criteria: Collection[str]
) -> Iterator[tuple[str, bool | None]]:
    """Criterion and mark of a row; ``None``: it says nothing about it."""
    for name, value in row.items():
        if name in TOLD:
            continue
        if criteria and name not in criteria:
            raise UserError(
                f"{path} row {number} has {name!r}, and the rubric has no such criterion, so it would count for "
                f"nothing. There are: {', '.join(criteria)}. Rename the column, or take it out"
            )
        said = "" if value is None else str(value).strip().casefold()
        if said and said not in SAID:
            raise UserError(
                f"{path} row {number}: {name} is {str(value)[:60]!r}, which neither passes nor fails. Write pass or "
                "fail, 1 or 0, yes or no; or nothing, where nobody looked"
            )
        yield name, SAID[said] if said else None


def text_in(path: Path, number: int, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        raise UserError(
            f"{path} row {number} has no {name}, so it is not known what was labelled. It has "
            f"{', '.join(row) or 'nothing'}. Add {name}"
        )
    if not isinstance(value, str):
        raise UserError(f"{path} row {number}: {name} is {str(value)[:60]}, which is no text. Put it in quotes")
    return clean_text(value)


def time_in(path: Path, number: int, row: Mapping[str, Any]) -> datetime | None:
    """When it was labelled, where it says so."""
    value = row.get("labelled")
    if value in (None, ""):
        return None
    try:
        return datetime.fromisoformat(str(value).strip())
    except ValueError as e:
        raise UserError(
            f"{path} row {number}: labelled is {str(value)[:60]!r}, which is no time, and the newer of two labels "
            "counts. Write it as 2026-11-20T09:00:00Z, or leave it out"
        ) from e


def new_among(labels: Iterable[Label], lines: Sequence[Line]) -> list[Label]:
    """Those of *labels* that, added to *lines*, change what their person says."""
    labels = [*labels]
    before, after = (
        {(label.id, label.who): label.marks for label in merged(standing(each))}
        for each in (lines, [*lines, *map(Line, labels)])
    )

    def counts(label: Label) -> bool:
        key = (label.id, label.who)
        was, becomes = before.get(key, {}), after.get(key, {})
        return any(becomes.get(c) == mark != was.get(c) for c, mark in label.marks.items())

    return [label for label in labels if counts(label)]


# ── what people say together ───────────────────────────────────────────────────────────────────────────────────────


def opinions(labels: Iterable[Label], criterion: str) -> dict[str, list[bool]]:
    """Output → what each person who marked it says, by name."""
    found: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
    for label in labels:
        if criterion in label.marks:
            found[label.id].append((label.who, label.marks[criterion]))
    return {id: [mark for _, mark in sorted(said)] for id, said in found.items()}


def agreed_marks(labels: Sequence[Label], criterion: str) -> dict[str, bool]:
    """Output → what most of those who marked it say; where as many say one as the other, it is left out."""
    found = opinions(labels, criterion)
    return {id: 2 * sum(said) > len(said) for id, said in found.items() if 2 * sum(said) != len(said)}


def between_people(labels: Sequence[Label], criterion: str) -> list[Pair]:
    """What two people say of the same output, those first by name where more did: no judge can agree with people
    further than they agree with each other."""
    return [(said[0], said[1]) for said in opinions(labels, criterion).values() if len(said) > 1]


# ── labels as tasks ────────────────────────────────────────────────────────────────────────────────────────────────


def tasks_from_labels(labels: Sequence[Label], criteria: Sequence[str], *, seed: int = 0) -> list[Task]:
    """A task for each labelled output: judge it as people do.

    Its input is what was asked and the output, its target what people say by each of *criteria* as far as they agree
    on it. Outputs that are nearly the same share a cluster, and so a split; its name is that of the first of them, so
    that a label that is added moves none.

    Raises:
        UserError: nobody marked one of *criteria*.
    """
    labels = merged(labels)
    marks = {criterion: agreed_marks(labels, criterion) for criterion in criteria}
    if missing := [criterion for criterion in criteria if not marks[criterion]]:
        known = sorted({criterion for label in labels for criterion in label.marks})
        raise UserError(
            f"no label marks {missing[0]!r}, so whether a judge is right about it is not known. Marked are: "
            f"{', '.join(known) or 'none'}. Label some outputs, or leave it out"
        )
    first: dict[str, Label] = {}
    for label in labels:
        if any(label.id in found for found in marks.values()):
            first.setdefault(label.id, label)
    clusters = nearly_same([label.output for label in first.values()])
    names = list(first)
    tasks = [
        Task(
            id=label.id,
            input=json.dumps({"asked": label.asked, "output": label.output}, ensure_ascii=False),
            targets=(json.dumps({c: marks[c][label.id] for c in criteria if label.id in marks[c]}),),
            tags=(label.maker,) if label.maker else (),
            cluster=names[cluster],
        )
        for label, cluster in zip(first.values(), clusters, strict=True)
    ]
    return split_tasks(tasks, seed=seed)


def nearly_same(texts: Sequence[str]) -> list[int]:
    """For each of *texts* the first one that it is nearly the same as, by way of others perhaps.

    Two are nearly the same that have most runs of three words in common (the Jaccard index of Broder, "On the
    resemblance and containment of documents", 1997). Such two share one of the rarest runs of each, so that only those
    are looked for: Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", 2007. What all texts have in
    common, such as a greeting, costs nothing then.
    """
    shingles = [shingles_of(text) for text in texts]
    seen: dict[frozenset[int], int] = {}
    first = [seen.setdefault(own, at) for at, own in enumerate(shingles)]
    counts = Counter(shingle for own in seen for shingle in own)
    buckets: defaultdict[int, list[int]] = defaultdict(list)

    def root(at: int) -> int:
        while first[at] != at:
            first[at] = at = first[first[at]]
        return at

    for own, at in seen.items():
        rarest = sorted(own, key=lambda shingle: (counts[shingle], shingle))
        rarest = rarest[: len(own) - math.ceil(ALIKE * len(own)) + 1]
        for other in sorted({other for shingle in rarest for other in buckets[shingle]}):
            one, two = sorted((root(at), root(other)))
            if one != two and len(own & shingles[other]) >= ALIKE * len(own | shingles[other]):
                first[two] = one
        for shingle in rarest:
            buckets[shingle].append(at)
    return [root(at) for at in range(len(texts))]


def shingles_of(text: str) -> frozenset[int]:
    """Hashes of its runs of words; of a text with fewer words, of itself."""
    found = words(text)
    runs = [found[at : at + SHINGLE] for at in range(max(len(found) - SHINGLE + 1, 1))]
    return frozenset(zlib.crc32(" ".join(run).encode(errors="replace")) for run in runs)
