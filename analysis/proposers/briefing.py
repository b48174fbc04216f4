"""What a model is shown before it proposes: files, what was tried, findings and traces, each part within its room.

All of it was written by models, or by whatever these had read. So it stands between tags whose names end in a key that
nothing in it can hold, without secrets, and long texts without their middle.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from analysis.findings import score_by_tag
from harness.agent.context import text_tokens
from harness.protocols import History, Trace
from harness.redact import redacted
from traces import otel
from traces.journal import clean_text
from traces.records import Finding, Round, Span, Trial

TAG = re.compile(r"<(?=\s*/?\s*(?:file|more|notes|round|kinds|finding|trial|span)-)", re.IGNORECASE)
WORDS = re.compile(r"[\w./-]*\w")
TRACES = 8
"""How many traces the room for them is shared by, at least."""
SPANS = 12
"""Spans of one trace that are shown, at most: those that failed, then the last ones."""
SAID = 400
"""Characters of a rationale, of what a change put in, of a finding's summary."""
NAME = 80
"""Characters of the name of a tool."""
PREVIEW = 200
"""Characters of a preview that may have been cut."""
ENDS = re.compile(r"^\S+|\S+$")
"""The words at its ends, which may be halves."""
NOTHING = "(none)"


@dataclass(frozen=True)
class Room:
    """How much each part may take, in tokens of about four bytes."""

    files: int = 30_000
    notes: int = 2_000
    """What earlier runs tried and learned."""
    tried: int = 6_000
    kinds: int = 1_000
    findings: int = 3_000
    traces: int = 12_000

    @property
    def whole(self) -> int:
        return self.files + self.notes + self.tried + self.kinds + self.findings + self.traces


@dataclass(frozen=True)
class Briefing:
    """What a model is shown of an incumbent and its history."""

    key: str
    files: str
    readable: frozenset[str]
    """Paths of the files that are shown whole: whoever rewrites another one destroys what it has not seen."""
    notes: str
    tried: str
    kinds: str
    findings: str
    traces: str


def briefing(
    text: Mapping[str, str], history: History, found: Sequence[Finding], key: str, room: Room = Room()
) -> Briefing:
    """*found*: the findings, the costliest first. *key*: what no trial could know when it was made."""
    examples = traces_of(found, history, key, room.traces)
    files, readable = files_of(text, key, room.files, named="".join(examples))
    tried = [round_of(r, history, key) for r in history.rounds]
    return Briefing(
        key=key,
        files=files,
        readable=readable,
        notes=element("notes", key, shortened(sealed(history.memory, key), room.notes - 20)) if history.memory else "",
        tried=latest(tried, room.tried) or NOTHING,
        kinds=first(kinds_of(history.trials, key), room.kinds) or NOTHING,
        findings=first([finding_of(f, history.rounds, key) for f in found], room.findings) or NOTHING,
        traces="\n\n".join(examples) or NOTHING,
    )


# ── untrusted text ─────────────────────────────────────────────────────────────────────────────────────────────


def sealed(text: str, key: str) -> str:
    """*text* without secrets, and without anything that could be taken for the tags that it is put between."""
    return TAG.sub("‹", redacted(clean_text(text)).replace(key, "…"))


def element(name: str, key: str, body: str, /, **about: str) -> str:
    """*body* between tags; *about*, in JSON, within the first of them."""
    end = "" if body.endswith("\n") else "\n"
    told = "".join(f" {k}={json.dumps(sealed(v, key), ensure_ascii=False)}" for k, v in about.items())
    return f"<{name}-{key}{told}>\n{body}{end}</{name}-{key}>"


def beginning(text: str, key: str, characters: int = SAID) -> str:
    """The first so many *characters* of *text*, sealed before the cut: half a secret looks like none."""
    return sealed(text, key)[:characters]


def part(name: str, said: str) -> str:
    """A line that begins with *name*; further lines are indented, so that none of *said* can pass for another part."""
    return f"{name}: " + "\n    ".join(said.splitlines())


def shortened(text: str, tokens: int) -> str:
    """*text*, its middle left out where it takes more than *tokens*. Only for what is sealed."""
    if text_tokens(text) <= tokens:
        return text
    raw, note = text.encode(), f"\n[… of {len(text):,} characters the middle is left out …]\n"
    room = max(4 * tokens - len(note.encode()), 0)
    end = room // 4
    return raw[: room - end].decode(errors="ignore") + note + raw[len(raw) - end :].decode(errors="ignore")


def first(parts: Iterable[str], tokens: int) -> str:
    """As many of the first *parts* as take no more than *tokens*, a line between them."""
    return "\n".join(fitting(parts, tokens))


def latest(parts: Sequence[str], tokens: int) -> str:
    """As many of the last *parts*, and how many are missing before them."""
    kept = list(fitting(reversed(parts), tokens - 20))[::-1]
    missing = len(parts) - len(kept)
    return "\n".join([*([f"[… {missing:,} earlier ones left out …]"] if missing else []), *kept])


def fitting(parts: Iterable[str], tokens: int) -> Iterator[str]:
    for part in parts:
        tokens -= text_tokens(part) + 1
        if tokens < 0:
            return
        yield part


# ── the files ──────────────────────────────────────────────────────────────────────────────────────────────────


def files_of(text: Mapping[str, str], key: str, tokens: int, *, named: str) -> tuple[str, frozenset[str]]:
    """The files whole, as many as there is room for: prompts first, then those *named* in the traces, then the
    shortest; and their paths. Of the others the name. What holds a secret is not shown."""
    words = frozenset(WORDS.findall(named))
    order = sorted(text, key=lambda path: (not path.startswith("prompts/"), not is_named(path, words), len(text[path])))
    whole: dict[str, str] = {}
    left = tokens - tokens // 10
    for path in order:
        part = element("file", key, text[path], path=path)
        if text_tokens(part) <= left and redacted(text[path]) == text[path] and key not in text[path]:
            whole[path] = part
            left -= text_tokens(part) + 1
    rest = [f"{sealed(path, key)} ({len(text[path]):,} characters)" for path in sorted(text) if path not in whole]
    more = element("more", key, first(rest, tokens // 10 - 40), files=f"{len(rest)} that are not shown") if rest else ""
    shown = "\n\n".join([*(whole[path] for path in sorted(whole)), *([more] if more else [])])
    return shown, frozenset(whole)


def is_named(path: str, words: Collection[str]) -> bool:
    """Do the *words* of the traces name the file, or the skill that it belongs to?"""
    folder, _, rest = path.partition("/")
    return path in words or (folder == "skills" and rest.split("/")[0] in words)


# ── what was tried ─────────────────────────────────────────────────────────────────────────────────────────────


def round_of(r: Round, history: History, key: str) -> str:
    """What a round tried, what came of it, and what had been expected."""
    lines = [part("Decision", str(r.decision))] if r.decision else []
    if r.proposal is not None:
        if r.proposal.predicted is not None:
            lines.append(f"Predicted: {r.proposal.predicted:+.3f}")
        lines.append(f"Files: {', '.join(edit.path for edit in r.proposal.edits)}")
        if r.proposal.answers:
            lines.append(f"It answered: {', '.join(r.proposal.answers)}")
        lines += [part("Why", beginning(r.proposal.rationale, key)), *changed_lines(r, history, key)]
    if r.certification is not None:
        lines.append(f"All that was kept until then, tested as one: {r.certification.verdict}")
    for removal in r.removals:
        numbers = ", ".join(map(str, removal.rounds))
        lines.append(f"Then what these rounds had brought was tried without: {numbers}: {removal.verdict}")
    return element("round", key, beginning("\n".join(lines), key, 5 * SAID), number=str(r.number))


def changed_lines(r: Round, history: History, key: str) -> Iterator[str]:
    """The lines that the change put in, and those that it took out."""
    if r.proposal is None or history.text_of is None:
        return
    before = history.text_of(r.incumbent)
    old = [line for e in r.proposal.edits for line in before.get(e.path, "").splitlines()]
    new = [line for e in r.proposal.edits for line in (e.text or "").splitlines()]
    for what, lines in (("It put in", Counter(new) - Counter(old)), ("It took out", Counter(old) - Counter(new))):
        if said := "\n".join(line for line in lines if line.strip()):
            yield part(what, beginning(said, key))


# ── what fails ─────────────────────────────────────────────────────────────────────────────────────────────────


def kinds_of(trials: Sequence[Trial], key: str) -> Iterator[str]:
    """A line for each combination of tags, the worst first."""
    counted = Counter(trial.tags for trial in trials if not trial.is_lost)
    for tags, score in sorted(score_by_tag(trials).items(), key=lambda item: item[1]):
        yield f"{sealed(json.dumps(tags, ensure_ascii=False), key)}: mean score {score:.3f} (n = {counted[tags]})"


def finding_of(finding: Finding, rounds: Sequence[Round], key: str) -> str:
    lines = [
        part("Title", beginning(finding.title, key)),
        f"{finding.count} trials, {finding.share:.1%} of all; score lost: {finding.lost:.1f}",
        *([part("What happens", beginning(finding.summary, key))] if finding.summary else []),
        *([part("Why, as a model supposes", beginning(finding.cause, key))] if finding.cause else []),
    ]
    if against := [f"round {r.number}" for r in rounds if r.proposal and finding.id in r.proposal.answers]:
        lines.append(f"Answered in {', '.join(against[-10:])}")
    return element("finding", key, sealed("\n".join(lines), key), id=finding.id)


# ── traces ─────────────────────────────────────────────────────────────────────────────────────────────────────


def traces_of(found: Sequence[Finding], history: History, key: str, tokens: int) -> list[str]:
    """Traces that show *found*, one of each finding before the second of any."""
    trials = {trial.id: trial for trial in history.trials}
    turns = zip_longest(*([(f, trial) for trial in f.examples] for f in found))
    picked: dict[str, Finding] = {}
    for example in (example for turn in turns for example in turn if example is not None):
        if example[1] in trials:
            picked.setdefault(example[1], example[0])
    made = (trace_of(trials[id], finding, history, key, tokens // TRACES) for id, finding in picked.items())
    return list(fitting(made, tokens))


def trace_of(trial: Trial, finding: Finding, history: History, key: str, tokens: int) -> str:
    """One trial as it can be cited, in about so many *tokens*."""
    task = history.tasks.get(trial.task)
    grade = trial.grade
    parts = [
        ("asked", task.input if task else "", tokens // 5),
        ("expected", " | ".join(task.targets) if task else "", tokens // 12),
        ("output", trial.output or "", tokens // 5),
        ("error", trial.error or "", tokens // 10),
        ("reason of its grade", grade.reason if grade else "", tokens // 10),
    ]
    body = "\n".join(part(name, shortened(sealed(said, key), size)) for name, said, size in parts if said)
    score = "none" if grade is None else f"{grade.score:.2f}"
    about = {"finding": finding.id, "kind": beginning(json.dumps(trial.tags, ensure_ascii=False), key), "score": score}
    left = tokens - text_tokens(body) - 60
    trace = history.trace_of(trial.id) if history.trace_of is not None else Trace(trial, (), {})
    spans = first((span_of(span, trace, key, tokens // 10) for span in worth_showing(trace.spans)), left)
    return element("trial", key, f"{body}\n{spans}", id=trial.id, **about)


def worth_showing(spans: Sequence[Span]) -> list[Span]:
    """The spans that failed, then the last ones, in the order in which they ended. What a grader said stands as the
    reason of the grade, and what frames other spans says nothing itself."""
    telling = [span for span in spans if span.operation in ("chat", "execute_tool") or span.error]
    ranked = sorted(enumerate(telling), key=lambda item: (item[1].status == "ok", -item[0]))
    return [span for _, span in sorted(ranked[:SPANS], key=lambda item: item[0])]


def span_of(span: Span, trace: Trace, key: str, tokens: int) -> str:
    """What went in and came out, as far as it can be quoted. Of a model call not what went in: these are the files,
    and what is shown already."""
    sent = "" if span.operation == "chat" else said(span.input_hash, span.input_preview, trace)
    explained = span.attributes.get(otel.EXPLANATION)
    parts = [
        ("in", sent),
        ("out", said(span.output_hash, span.output_preview, trace)),
        ("error", span.error),
        ("explanation", explained if isinstance(explained, str) else None),
    ]
    body = "\n".join(part(name, shortened(sealed(what, key), tokens)) for name, what in parts if what)
    about = {"name": beginning(span.name, key, NAME), "operation": span.operation, "status": span.status}
    return element("span", key, body or NOTHING, id=span.id, **about)


def said(hash: str | None, preview: str | None, trace: Trace) -> str:
    """The text with that *hash*; where it was not kept, of its *preview* the words that no cut went through."""
    if hash is not None and hash in trace.texts:
        return trace.texts[hash]
    if preview is None or len(preview) < PREVIEW:
        return preview or ""
    return ENDS.sub("", preview)
