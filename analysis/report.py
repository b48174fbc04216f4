"""The morning report: what was tried, what is proven and how strongly, what to do now.

Much of what it tells was written by models, or by what they read: that is escaped, so that it stays the words that it
is and adds no heading, table, link or picture (``plain``, ``code``, ``fenced``).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING

from analysis.findings import lost, members, score_by_tag
from analysis.night import Night
from analysis.predictions import Gain, Scored, calibrated, gains_of_kept, scored, within_in_words
from analysis.shrinkage import After, Aftermath, Shrinkage, by_chance, confirmed
from harness.certify import kept_changes
from harness.gate.confidence import mean_interval
from traces.records import Certification, Comparison, Escalation, Finding, Guard, Round, Trial, Usage

if TYPE_CHECKING:
    from analysis.states import FindingState

PROGRESS, EVIDENCE, FINDINGS = "progress.png", "evidence.png", "findings.png"
COST, PREDICTIONS = "cost.png", "predictions.png"
"""The pictures that a report shows, where they lie beside it."""
ROWS = 10
"""Of a table of findings; what is left out is counted."""
REST = 3
"""Findings that a table shows though no change aimed at them and they did not clearly move."""
QUOTES = 3
"""Passages that are quoted of what a change rests on."""
QUOTE = 240
"""Characters of one."""
DIFF = 1500
"""Lines of the change that are shown."""
CONFIDENCE = 0.9
NOTHING = Aftermath((), ())
NEW_SCALE = (
    "Promoting this rubric begins a new scale: scores from judges that go by it are compared with none from before. "
    "How far such a judge agrees with people: `ratchet calibrate {name}`."
)
OWN_WORD = "The number is what the candidate's own process said: read the diff."
FLATTERED = "the trials that it was kept for among them, which flatters it a little"

ACTIVE = re.compile(r"""
      [\\`*|~$]                                # escapes, code, emphasis, cells, strikes, formulas
    | (?<![^\W_])_ | _(?![^\W_])              # emphasis, but not within a word
    | <(?=[A-Za-z/!?]) | &(?=\#?\w+;)         # HTML, and characters by name
    | \](?=[(\[:]|$) | !(?=\[)                # links and pictures
    | :(?=//) | (?<=\bwww)\. | @(?=\w)        # what GitHub makes links of by itself
    | ^[\#>+=-] | ^(?P<item>\d+)(?=[.)](?:\s|$))  # what begins a heading, a quotation or a list
    """, re.VERBOSE)  # fmt: skip
"""Characters that mean something to Markdown where they stand. Backslashes make them themselves again."""
MARKS = re.compile(r"\\([!-/:-@\[-`{-~])|\*\*|`")
"""What is not to be read in a line of Markdown: backslashes, and the marks of bold and of code."""
TRACEBACK = "Traceback (most recent call last):"
PLACE = re.compile(r'File "(?:[^"]*/)?([^"/]+)", line (\d+)')
"""Where a line of a traceback points to."""
CODE = r"""(?<!\w)[rbfRBF]{0,2}(?:"(?:\\.|[^"\\…])*["…]|'(?:\\.|[^'\\…])*['…])"""
"""A text as code has it; its end may have been cut."""
TRIED = re.compile(rf"(?:“[^”]*”|`[^`]*`|{CODE}|(?!: ).)*")
"""What a rationale begins with, up to the first colon; those in what it quotes are not meant."""

ENDINGS = {
    "rounds": "the declared number of rounds was played",
    "hours": "the time was up",
    "trials": "the budget of trials was spent",
    "tokens": "the budget of tokens was spent",
    "dollars": "the budget of dollars was spent",
    "out-of-ideas": "the proposer had nothing left to try",
    "no-progress": "the score on train did not clearly rise for too long",
    "thrashing": "much was changed for too long, and the score on train did not clearly rise",
    "failing": "what it ran on kept breaking",
    "stopped": "a person stopped it",
}


@dataclass(frozen=True)
class Standing:
    """How things stand around a night."""

    live: str
    """The version that is live by now."""
    running: bool = False
    """Has a process the run open?"""
    waiting: Certification | None = None
    """What another run has certified against the live version, and nobody has promoted yet."""
    doubts: Sequence[str] = ()
    """Why what the verifier or the grader says may not count, such as a judge that is the maker's model."""
    proven_in: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Live version and candidate → the first earlier run that has proven this very pair, on the same tasks."""
    measured_before: int = 0
    """Earlier runs that were measured on the same test tasks."""
    is_own_word: bool = False
    """Does code of the candidate run where the number is made?"""


def report(
    night: Night,
    standing: Standing,
    *,
    diff: str,
    before: Sequence[Trial],
    after: Sequence[Trial],
    now: Sequence[Finding],
    costs: str = "",
    waiting: Sequence[Escalation] = (),
    pictures: Collection[str] = (),
    states: "Sequence[FindingState]" = (),
    aftermath: Aftermath = NOTHING,
    by_kind: Sequence[Scored] = (),
    people: str = "",
    trials: Mapping[str, Sequence[Trial]] | None = None,
) -> str:
    """The report as Markdown.

    *diff*: live against working version. *before*, *after*: train trials of the two. *now*: what still fails.
    *costs*: Markdown, by role. *waiting*: what needs a person. *pictures*: those that lie beside the report. *states*:
    what became of the findings of all nights. *aftermath*: of those of this one. *by_kind*: predictions by kind of
    task. *people*: Markdown, how far the versions of a rubric agree with people. *trials*: on train, by version.
    """
    gains = gains_of_kept(night.rounds, trials or {})
    parts = [
        f"# {plain(night.run.experiment)}: the night of {night.began:%Y-%m-%d}",
        "\n".join(f"- {line}" for line in headline(night, standing)),
        picture("Progress by round", PROGRESS, pictures),
        section("What to promote" if is_to_promote(night, standing) else "What was kept", promotable(night, gains)),
        section("What needs a person", needs_person(night, waiting) if waiting else ""),
        section(
            "Promotion tests", promotion_tests(night, standing), picture("Evidence in each test", EVIDENCE, pictures)
        ),
        section("What got worse", worse(night, before, after, aftermath)),
        section(
            "Did the failures shrink?",
            shrinkage_tables(aftermath),
            picture("Findings before and after", FINDINGS, pictures),
        ),
        section("What still fails", findings_table(now, states) if now else "", causes(now, states, aftermath)),
        section("What was answered", answered_table(now, states)),
        section("What was tried", rounds_table(night, gains), kept_of_tried(night)),
        section("Measured again", refreshes_table(night) if night.refreshes else ""),
        section("Taken apart", removals_table(night) if any(r.removals for r in night.rounds) else ""),
        section(
            "How well do proposals predict?",
            predictions_table(scored(night.rounds, gains), by_kind),
            picture("Gains, predicted and measured", PREDICTIONS, pictures),
        ),
        by_task(night, before, after),
        section("Agreement with people", people, NEW_SCALE.format(name=night.run.experiment)),
        section("Spend", spend(night), picture("Score against what it cost", COST, pictures)),
        section("Costs by role", costs),
        section("The change", fenced(diff) if diff.strip() else ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def section(title: str, *parts: str) -> str:
    """Empty where its first part is."""
    return "\n\n".join([f"## {title}", *filter(None, parts)]) if parts[0] else ""


def picture(words: str, name: str, pictures: Collection[str]) -> str:
    return f"![{words}]({name})" if name in pictures else ""


def is_to_promote(night: Night, standing: Standing) -> bool:
    """Is there something proven against the version that is live by now?"""
    return night.certified is not None and night.certified.live == standing.live != night.certified.candidate


def promotable(night: Night, gains: Mapping[int, Gain]) -> str:
    """The changes of which the working version consists, what each rests on, and how far they are proven."""
    changes = kept_changes(night.rounds)
    if not changes:
        return ""
    best = night.certified
    lines = [f"Version `{night.working[:12]}` is the live one with {count(len(changes), 'change')} in it."]
    if best is None:
        lines.append("None of it is proven." if metric_of(night) else "None of it is proven on hidden tasks.")
    else:
        what = "It" if best.candidate == night.working else f"Version `{best.candidate[:12]}`"
        lines.append(f"{what} is proven: {test_of(night, best)}.")
        proven = next(r.number for r in night.rounds if r.certification == best)
        if later := sum(r.number > proven for r in changes):
            lines.append(f"Not proven by it, for it came later: {count(later, 'change')}.")
    lines.append("Each was kept by a test on train, which is not a claim. The text that changed: *The change*, below.")
    return "\n\n".join([" ".join(lines), *(kept_change(r, gains.get(r.number)) for r in changes)])


def test_of(night: Night, c: Certification) -> str:
    """``promotion test at checkpoint 1, test 3 of the 40 declared for its hidden tasks, alpha = 0.0025; …``"""
    text = f"promotion test at checkpoint {c.checkpoint}"
    if c.test_number is not None and (horizon := night.run.gate.get("horizon")):
        text += f", test {c.test_number} of the {horizon} declared for its hidden tasks"
    text += "" if c.alpha is None else f", alpha = {c.alpha:.4g}"
    return text if c.measured is None else f"{text}; {gain(c.measured)}"


def kept_change(r: Round, known: Gain | None = None) -> str:
    """One kept change with its evidence. *known*: its gain over all train tasks."""
    assert r.proposal is not None
    found = {f.id: f for f in r.proposal.findings}
    c = r.decision.comparison if r.decision else None
    files = ", ".join(code(edit.path) for edit in r.proposal.edits[:ROWS])
    more = len(r.proposal.citations) - QUOTES
    lines = [
        f"- On train: {gain_on_train(c, known)}." if c is not None or known is not None else "",
        f"- It predicted {100 * r.proposal.predicted:+.1f} points." if r.proposal.predicted is not None else "",
        *(f"- It answers {finding_line(id, found.get(id))}" for id in r.proposal.answers[:ROWS]),
        *(f"- It quotes {code(c.trial)}: “{plain(c.quote, QUOTE)}”" for c in r.proposal.citations[:QUOTES]),
        f"- It quotes {count(more, 'passage')} more." if more > 0 else "",
        f"- It changes {files}." if files else "",
    ]
    return "\n".join([f"### Round {r.number}: {plain(change(r))}", "", *filter(None, lines)])


def gain_on_train(c: Comparison | None, known: Gain | None) -> str:
    """Over all tasks where that is known, else where the test that kept the change stopped."""
    if known is None:
        return gain(c) if c is not None else "no gain measured"
    interval = f"{CONFIDENCE:.0%} interval {100 * known.low:+.1f} to {100 * known.high:+.1f}, n = {known.n}"
    return f"{100 * known.gain:+.1f} points ({interval}), {FLATTERED}"


def finding_line(id: str, found: Finding | None) -> str:
    return f"{code(id)}." if found is None else f"{code(id)}, {of_trials(found)} trials: {plain(found.title, QUOTE)}"


def of_trials(f: Finding) -> str:
    """``22 of 180``."""
    return f"{f.count:,} of {max(f.count, round(f.count / f.share)):,}" if f.share > 0 else f"{f.count:,}"


def promotion_tests(night: Night, standing: Standing) -> str:
    tests = night.certifications
    shown = [
        certification(
            c,
            quote=c == night.certified,
            seen=seen_before(night, standing, c),
            proven_in=standing.proven_in.get((c.live, c.candidate)),
        )
        for c in tests
    ]
    numbers = [c.test_number for c in tests if c.test_number is not None]
    if numbers and (horizon := night.run.gate.get("horizon")):
        shown.append(f"Spent of the {horizon} tests declared for these hidden tasks: {max(numbers)}.")
    return "\n\n".join(shown)


def worse(night: Night, before: Sequence[Trial], after: Sequence[Trial], aftermath: Aftermath) -> str:
    """Whatever stands against the night's changes: guards, findings that grew, kinds of task that lost."""
    guards = [(c, g) for c in night.certifications for g in c.guards]
    rows = [(a, row) for a in at_the_end(aftermath) for row in a.rows]
    metric = metric_of(night)
    kinds = {} if metric else gains_by_tags(before, after)
    values = values_by_task(night, before, after) if metric else {}
    lines = [
        f"- Promotion test at checkpoint {c.checkpoint}, {plain(f'{g.kind} {g.name}'.strip())}: "
        f"{plain(guard_line(g))} ({g.verdict})."
        for c, g in guards
        if g.verdict != "pass" or spoils(g)
    ]
    lines += [
        f"- {after_what(a)}, finding {code(row.finding.id)} shows more often, by "
        f"{points(row.change, row.low, row.high)} points, n = {row.clusters}: "
        f"{plain(row.finding.title, QUOTE)}"
        for a, row in rows
        if row.is_more_frequent
    ]
    for tags, differences in kinds.items():
        if fmean(differences) < 0:
            chance = ", which may be chance" if mean_interval(differences, CONFIDENCE)[1] >= 0 else ""
            lines.append(f"- On train, {plain(' '.join(tags) or 'untagged')}: {gain_of(differences)}{chance}.")
    lines += [
        f"- On train, task {code(task)}: {plain(metric)} {better_or_worse(by)}, which may be chance."
        for task, (_, _, by) in values.items()
        if by < 0
    ]
    seen = ((len(guards), "guard"), (len(rows), "finding"), (len(kinds), "kind of task"), (len(values), "task"))
    looked_at = ", ".join(count(n, thing) for n, thing in seen if n).replace("kind of tasks", "kinds of task")
    if not looked_at:
        return ""
    unclear = sum(row.change > 0 and not row.is_more_frequent for _, row in rows)
    also = f" {count(unclear, 'finding')} rose by no more than chance explains." if unclear else ""
    if not lines:
        return f"Nothing that was looked at got worse: {looked_at}.{also}"
    return "\n".join(lines) + f"\n\nLooked at: {looked_at}.{also}"


def spoils(g: Guard) -> bool:
    """Does a guard that lets the promotion pass show a loss all the same? Of costs: are they surely higher?"""
    if g.ratio is not None:
        return g.low is not None and g.low > 1
    return g.kind == "slice" and (g.losses or 0) > (g.wins or 0)


def at_the_end(aftermath: Aftermath) -> Sequence[After]:
    """The whole stack where it is proven, on the split that the test did not stop at; else the changes one by one."""
    return aftermath.certified[-1:] or aftermath.kept


def shrinkage_tables(aftermath: Aftermath) -> str:
    """Each finding before and after: what was proven first, then each kept change."""
    tables = [a for a in (*reversed(aftermath.certified), *aftermath.kept[-ROWS:]) if a.rows]
    if not tables:
        return ""
    rows = [row for a in tables for row in a.rows]
    parts = [
        f"{after_what(a)}, `{a.incumbent[:12]}` → `{a.candidate[:12]}`:\n\n{shrinkage_table(a.rows)}" for a in tables
    ]
    if (earlier := len(aftermath.kept) - ROWS) > 0:
        parts.append(f"{count(earlier, 'change')} that were kept before these are not shown.")
    note = (
        f"The intervals hold one by one: of the {count(len(rows), 'row')} behind these tables about "
        f"{by_chance(rows):.0f} would exclude 0 though nothing had changed. On train a finding was mined from the "
        "trials of before, which flatters its fall; on validation and test it was not. A gain that came from "
        "elsewhere, or a failure that moved, shows in the rows that no change aimed at."
    )
    return "\n\n".join([*parts, note])


def shrinkage_table(rows: Sequence[Shrinkage]) -> str:
    """What the change aimed at, what clearly moved, and some of the rest."""
    rest = [row for row in rows if not says_something(row)]
    shown = [*filter(says_something, rows), *rest[:REST]]
    lines = [
        "| finding | change in points (90 % interval) | before | after | aimed at | n |",
        "|---|---|---:|---:|---|---:|",
    ]
    lines += [
        f"| {named(row.finding.title, row.finding.id)} | {points(row.change, row.low, row.high)} | {row.before:,} of "
        f"{row.n_before:,} | {row.after:,} of {row.n_after:,} | {'yes' if row.targeted else ''} | {row.clusters} |"
        for row in shown
    ]
    if more := len(rows) - len(shown):
        lines.append(f"| and {more} more, which changed less | | | | | |")
    return "\n".join(lines)


def named(title: str, id: str) -> str:
    """A finding's title with its id."""
    return f"{plain(title, QUOTE)} {code(id)}"


def says_something(row: Shrinkage) -> bool:
    return row.targeted or row.is_rarer or row.is_more_frequent


def after_what(a: After) -> str:
    return f"After round {a.round}, on train" if a.split == "train" else f"With all that is proven, on {a.split}"


def points(value: float, low: float | None, high: float | None) -> str:
    """``-9.4 (-14.1 to -3.8)``"""
    known = "no interval" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
    return f"{100 * value:+.1f} ({known})"


def predictions_table(whole: Sequence[Scored], by_kind: Sequence[Scored]) -> str:
    """What proposals promised, against what was measured."""
    if not whole and not by_kind:
        return ""
    found = calibrated(whole)
    lines = [f"The proposer {found}." if whole else "No proposal said what it expects over all tasks."]
    if found.rank is not None:
        lines.append(f"Rank correlation of promises and gains: {found.rank:+.2f} (Spearman, n = {found.n}).")
    if by_kind:
        within, told = sum(s.is_within for s in by_kind), sum(s.is_told for s in by_kind)
        lines.append(f"By kind of task: {within_in_words(within, told, len(by_kind))}.")
    rows = [
        "| round | about | predicted | measured on train (90 % interval) | n | within |",
        "|---:|---|---:|---|---:|---|",
    ]
    rows += [
        f"| {s.round} | {plain(' '.join(s.tags) or 'all tasks')} | {100 * s.predicted:+.1f} | "
        f"{points(s.gain, s.low, s.high)} | {'' if s.n is None else s.n} | {within_cell(s)} |"
        for s in sorted((*whole, *by_kind), key=lambda s: (s.round, s.tags))
    ]
    return " ".join(lines) + "\n\n" + "\n".join(rows)


def within_cell(s: Scored) -> str:
    if s.low is None or s.high is None:
        return "not known"
    return ("yes" if s.is_within else "no") if s.is_told else "too wide to say"


def kept_of_tried(night: Night) -> str:
    """The share of proposals that were worth their trials."""
    from analysis.proposers.paced import acceptance  # here: it takes a tenth of a second, and no other command needs it

    found = acceptance(night.rounds)
    return f"{found}." if found.decided else ""


def headline(night: Night, standing: Standing) -> list[str]:
    """What a person wants to know first."""
    lines = [proven(night, standing), what_next(night, standing)]
    if night.certified is not None and night.certified.alpha is not None:
        lines.insert(1, how_sure(night, night.certified) + (f" {OWN_WORD}" if standing.is_own_word else ""))
    elif standing.is_own_word and night.kept:
        lines.append(OWN_WORD)
    if disagreement := divergence(night):
        lines.append(disagreement)
    lines += [f"**Doubtful**: {plain(doubt)}." for doubt in standing.doubts]
    if night.run.checked is None:
        lines.append(
            f"**It was started unchecked**: whether its grader can be cheated, and what it can resolve, nobody has "
            f"looked at. To do so: `ratchet check {night.run.experiment}`."
        )
    if night.certified is None and standing.waiting is not None:
        c = standing.waiting
        lines.append(
            f"An earlier run, `{c.run}`, has proven version `{c.candidate[:12]}` better than the live one"
            + (f", {gain(c.measured)}" if c.measured else "")
            + f". To make it live: `ratchet promote {night.run.experiment}`."
        )
    if night.ended is None:
        state = night.state if standing.running else "interrupted"
        lines.append(f"Not finished: {state}, last written {night.last:%Y-%m-%d %H:%M:%S} UTC.")
    elif night.ended.stop is not None:
        lines.append(f"It ended because {ENDINGS[night.ended.stop]} ({plain(night.ended.detail)}).")
    lines.append(
        f"{count(len(night.tries), 'change')} tried, {len(night.kept)} kept; {count(night.trials, 'trial')}, "
        f"{count(night.usage.calls, 'model call')}, {money(night.usage)}, {duration(night.seconds)} at work."
    )
    return lines


def proven(night: Night, standing: Standing) -> str:
    """The one sentence to trust."""
    best = night.certified
    if best is not None:
        sentence = f"**Proven better**: version `{best.candidate[:12]}` against live `{best.live[:12]}`"
        if best.measured is None or best.measured.gain is None:
            return f"{sentence}; its gain has not been measured."
        seen = seen_before(night, standing, best)
        if (run := standing.proven_in.get((best.live, best.candidate))) is not None:
            where = "in fresh runs" if best.measured.metric else f"on the same test tasks, on which {seen}"
            return f"{sentence}, {gain(best.measured)}; already proven in `{run}`, this repeats it {where}."
        where = f"on test tasks on which {seen}, too" if seen else "on tasks that nothing had seen"
        return f"{sentence}, {gain(best.measured)} {'in fresh runs' if best.measured.metric else where}."
    if night.certifications:
        last = night.certifications[-1]
        word = "Not promoted" if last.verdict in ("blocked", "hold") and last.validation else "Nothing is proven"
        return f"**{word}**: {not_proven(last)}."
    if night.kept and night.ended is None:
        return "**Nothing is proven yet**: kept changes looked better on train; the promotion test is still to come."
    if night.kept:
        return "**Nothing is proven**: changes were kept on train, and the run ended before a promotion test."
    if night.ended is None:
        return "**Nothing is proven yet**: nothing is kept so far."
    return "**Nothing is proven**: no change was kept."


def seen_before(night: Night, standing: Standing, c: Certification) -> str:
    """What was measured on the test tasks of *c* before it; empty where nothing was."""
    if c.measured is None or c.measured.metric:
        return ""
    nights = standing.measured_before
    stacks = sum(other.measured is not None and other.checkpoint < c.checkpoint for other in night.certifications)
    what = [count(nights, "earlier night")] if nights else []
    what += [count(stacks, "earlier version") + " of this night"] if stacks else []
    return f"{' and '.join(what)} {'was' if nights + stacks == 1 else 'were'} measured" if what else ""


def not_proven(c: Certification) -> str:
    """Why a promotion test ended without a promotion, with its numbers."""
    v = c.validation
    if v is None:
        return f"the promotion test was not carried through: {plain(c.detail)}"
    if c.verdict == "invalid":
        return f"the promotion test means nothing after {v.tasks + v.errors} clusters: {plain(c.detail)}"
    if c.verdict in ("blocked", "hold"):
        objections = "; ".join(guard_line(guard) for guard in c.guards if guard.verdict != "pass")
        why = plain(c.detail) + (f" ({objections})" if objections else "")
        return f"the kept changes as one stack are better on average, {gain(v)}{tested_at(c)}, but {why}"
    if v.metric and not v.tasks:
        return plain(c.detail)
    seen = f"the kept changes as one stack stood at {gain(v)}{tested_at(c)}"
    if c.detail:
        return f"{plain(c.detail)}; {seen}"
    if c.verdict == "reject":
        return f"{seen}, and the promotion test gave up: they do harm, or a proof was out of reach"
    return f"{seen}, which is neither proof of a gain nor of none"


def tested_at(c: Certification) -> str:
    """``, tested at alpha = 0.0025 (e-value 12.3 of the 400 needed)``."""
    if c.alpha is None:
        return ""
    level = f", tested at alpha = {c.alpha:.4g}"
    v = c.validation
    if v is None or v.verdict is None or v.metric:
        return level
    return f"{level} (e-value {v.verdict.e_value:.3g} of the {v.verdict.threshold:.3g} needed)"


def how_sure(night: Night, c: Certification) -> str:
    """What the proof is worth, and what it leaves open."""
    assert c.alpha is not None
    if c.validation is not None and all(is_exact(found) for found in (c.validation, c.measured) if found is not None):
        return (
            f"How sure: all {count(c.validation.tasks, 'run')} of each side gave the same number, so the gain is exact "
            "on this draw, and nothing is known of others."
        )
    odds = f"a stack that is no better passes such a test at most once in {1 / c.alpha:,.0f}"
    horizon = night.run.gate.get("horizon")
    if c.test_number is not None:
        whole = f", test {c.test_number} of the {horizon} declared for these hidden tasks" if horizon else ""
        odds += f" (alpha {c.alpha:.4g}{whole})"
    where = "where it was not run" if metric_of(night) else "on other kinds of task"
    return f"How sure: {odds}. Not known: what each change contributes alone, and what holds {where}."


def divergence(night: Night) -> str | None:
    """Says so when hidden tasks deny what the score on ``train`` claims: a sign of overfitting, or of a weak check."""
    tested = [(r, r.certification) for r in night.rounds if r.certification is not None]
    if not tested or not night.rounds or tested[-1][1].validation is None:
        return None
    round, c = tested[-1]
    as_tested = night.rounds[round.number - 1] if round.removals else round
    hidden, before, after = c.measured or c.validation, night.rounds[0].score, as_tested.score
    if hidden is None or hidden.metric or not hidden.differences or before is None or after is None:
        return None
    _, high = mean_interval(hidden.differences, hidden.confidence)
    if after - before <= high:
        return None
    return (
        f"**Train and hidden tasks disagree**: on train the score rose by {100 * (after - before):+.1f} points, on "
        f"{hidden.split} by {gain(hidden)}. Part of what was kept fits the train tasks only."
    )


def what_next(night: Night, standing: Standing) -> str:
    name = night.run.experiment
    if night.certified is not None and night.certified.candidate == standing.live:
        return f"It is live. To go on from it: `ratchet run {name}`."
    if night.certified is not None and night.certified.live != standing.live:
        return f"The live version is another by now, so this proves nothing now: `ratchet run {name}`."
    if night.certified is not None:
        return f"To make it live: `ratchet promote {night.run.experiment}`."
    if night.certifications and night.certifications[-1].validation is not None:
        verdict = night.certifications[-1].validation.verdict
        if verdict is not None and verdict.tasks_to_settle is not None:
            what = "runs of each" if night.certifications[-1].validation.metric else "validation tasks"
            return f"About {verdict.tasks_to_settle:,} more {what} would settle it at the gain seen."
    if night.certifications and night.certifications[-1].verdict == "blocked" and not night.certifications[-1].guards:
        return "To prove anything more, add validation tasks: these have been looked at as often as was declared."
    if night.ended is None and standing.running:
        return f"It is running. To end it: `ratchet stop {name}`."
    if night.ended is None:
        return f"To carry on: `ratchet run {name}`."
    return f"To go on from here: `ratchet run {night.run.experiment}` starts the next run."


def gain(c: Comparison) -> str:
    """``+41.7 points (90 % interval +33.1 to +50.2, n = 96)``; of a metric ``loss better by 2.1 (…)``, in its unit."""
    if c.gain is None:
        return "no gain measured"
    if c.metric:
        known = "unconfirmed" if c.sigma is None else f"no interval, n = {c.tasks}"
        if is_exact(c):
            known = f"all {count(c.tasks, 'run')} of each side gave the same number"
        elif c.low is not None and c.high is not None:
            known = f"{c.confidence:.0%} interval {ends(c.low, c.high)}, n = {count(c.tasks, 'run')} each"
        return f"{c.metric} {better_or_worse(c.gain)} ({known})"
    points = f"{100 * c.gain:+.1f} points"
    if c.low is None or c.high is None:
        return f"{points} (no interval, n = {c.tasks})"
    return f"{points} ({c.confidence:.0%} interval {100 * c.low:+.1f} to {100 * c.high:+.1f}, n = {c.tasks})"


def is_exact(c: Comparison) -> bool:
    """Of a metric that was measured on both sides: did all runs of each give the same number?"""
    return bool(c.metric) and c.sigma == 0 and c.low is not None


def better_or_worse(by: float) -> str:
    """``better by 253.6``; *by* is positive when better."""
    return f"{'better' if by > 0 else 'worse'} by {abs(by):.4g}" if by else "unchanged"


def ends(low: float, high: float) -> str:
    """Of the interval of a gain in a metric: ``9.69 to 83.9``, or ``0.1 worse to 0.06 better``."""
    if low < 0 < high:
        return f"{-low:.4g} worse to {high:.4g} better"
    near, far = sorted((abs(low), abs(high)))
    return f"{near:.4g} to {far:.4g}"


def figure(value: float, metric: str = "") -> str:
    """A score, or the number that a *metric* gives, whatever its size."""
    return f"{value + 0.0:.5g}" if metric else f"{value:.3f}"


def metric_of(night: Night) -> str:
    """The metric that its scores are in; empty where these are in [0, 1]."""
    return str(night.run.gate.get("metric", ""))


def certification(c: Certification, *, quote: bool, seen: str = "", proven_in: str | None = None) -> str:
    """One promotion test in full: what was tested, at what level, what came out, what is not known.

    *seen*: what was measured on the test tasks before it. *proven_in*: the earlier run that has proven the same.
    """
    lines = [f"**Checkpoint {c.checkpoint}: {c.verdict}.** `{c.candidate[:12]}` against live `{c.live[:12]}`."]
    if c.validation is not None and c.validation.metric:
        if c.validation.tasks:
            lines.append(f"Both were run afresh: {gain(c.validation)}, at alpha = {c.alpha:.4g} (Welch, one-sided).")
        if c.measured is not None:
            lines.append(
                f"Measured once more: {gain(c.measured)}." + (" This is the number to quote." if quote else "")
            )
        return " ".join([*lines, f"({plain(c.detail)})"] if c.detail else lines)
    if c.test_number is not None and c.alpha is not None:
        lines.append(
            f"It was test {c.test_number} of this validation split and could spend alpha = {c.alpha:.4g} of it."
        )
    v = c.validation
    if v is not None and v.verdict is not None:
        lines.append(
            f"On validation both were run afresh on {v.tasks} clusters: e-value {v.verdict.e_value:.3g}, needed "
            f"{v.verdict.threshold:.3g}; gain at the stop {gain(v)}"
            + (
                "; stopping at a high point makes that number too high by a few points."
                if c.verdict == "accept"
                else "."
            )
        )
    if c.measured is not None:
        m = c.measured
        when = (
            f"Already proven in `{proven_in}`; on the same test tasks once more"
            if proven_in
            else (
                "On test, opened for this pair after the verdict" + (f", on tasks on which {seen}, too" if seen else "")
            )
        )
        lines.append(
            f"{when}: {gain(m)}; score {m.incumbent_score or 0:.3f} → "
            f"{m.candidate_score or 0:.3f}." + (" This is the number to quote." if quote else "")
        )
    if c.detail:
        lines.append(f"({plain(c.detail)})")
    return " ".join(lines) + (f"\n\n{guards_table(c)}" if c.guards else "")


def guards_table(c: Certification) -> str:
    """What else the promotion test looked at; so an improvement that ruins something is seen."""
    rows = ["| guard | verdict | found |", "|---|---|---|"]
    rows += [f"| {plain(f'{g.kind} {g.name}'.strip())} | {g.verdict} | {plain(guard_line(g))} |" for g in c.guards]
    return "\n".join(rows)


def guard_line(g: Guard) -> str:
    """The numbers of a guard, in words."""
    match g.kind:
        case "slice":
            p = "" if g.p is None else f", p = {g.p:.2f}"
            return f"{g.wins} of {g.n} clusters better, {g.losses} worse{p}"
        case "failures":
            return f"{g.losses} of {g.n} clusters fail that did not, {g.wins} no longer"
        case "must-pass":
            return f"passed {g.wins} of {g.n} fresh runs"
        case "transfer":
            p = "" if g.p is None else f", p = {g.p:.2g}"
            found = "no gain could be measured" if g.gain is None else better_or_worse(g.gain)
            return found if g.gain is None else f"{found}{p}, n = {g.n} a side"
        case _:
            what = f"{g.name} a trial" if g.name else "seconds a trial"
            cap = "no cap" if g.cap is None else f"cap ×{g.cap:g}"
            return f"{what} ×{g.ratio or 0:.2f} (90 % sure: at least ×{g.low or 0:.2f}; n = {g.n}), {cap}"


def removals_table(night: Night) -> str:
    """What became of the changes of stacks that lost their promotion test."""
    rationale = {r.number: change(r) for r in night.rounds}
    rows = ["| after round | change kept in round | verdict | without it |", "|---:|---|---|---|"]
    for r in night.rounds:
        for removal in r.removals:
            what = "; ".join(f"{n}: {short(rationale[n], 80)}" for n in removal.rounds)
            found = gain(removal.comparison) if removal.comparison else ""
            rows.append(f"| {r.number} | {plain(what)} | {removal.verdict} | {found} |")
    return "\n".join(rows)


def refreshes_table(night: Night) -> str:
    """When the scores at hand were no longer believed, so that the incumbent was measured afresh."""
    rows = ["| in round | because of | what was seen |", "|---:|---|---|"]
    for refresh in night.refreshes:
        at = "" if refresh.round is None else refresh.round
        rows.append(f"| {at} | {refresh.because} | {plain(short(refresh.detail, 300))} |")
    return "\n".join(rows)


def rounds_table(night: Night, gains: Mapping[int, Gain]) -> str:
    metric = metric_of(night)
    gained = f"{plain(metric)} against the incumbent" if metric else "gain on train"
    rows = [
        f"| round | change | decision | {gained} (90 % interval) | n | {plain(metric) or 'score'} (90 % interval) |",
        "|---:|---|---|---|---:|---|",
    ]
    for r in night.rounds:
        if r.stop is not None:
            continue
        c = r.decision.comparison if r.decision else None
        known = gains.get(r.number)
        found = gain_cell(c) if known is None else points(known.gain, known.low, known.high)
        n = known.n if known else c.tasks if c else ""
        rows.append(f"| {r.number} | {plain(change(r))} | {plain(decision(r))} | {found} | {n} | {score(r, metric)} |")
    note = "Gains on train decide what the run builds on; they are not claims."
    if gains:
        note += (
            f" That of a kept change is over all train tasks, {FLATTERED}; that of another is where its test stopped."
        )
    return "\n".join(rows) + f"\n\n{note}"


def gain_cell(c: Comparison | None) -> str:
    """``+37.5 (+20.1 to +51.0)`` in points, or ``better by 2.1 (1.9 to 2.4)`` in the unit of the metric."""
    if c is None or c.gain is None or c.low is None or c.high is None:
        return bare_gain(c)
    known = ends(c.low, c.high) if c.metric else f"{100 * c.low:+.1f} to {100 * c.high:+.1f}"
    return f"{bare_gain(c)} ({known})"


def bare_gain(c: Comparison | None) -> str:
    """In points, or in the unit of the metric."""
    if c is None or c.gain is None:
        return ""
    return better_or_worse(c.gain) if c.metric else f"{100 * c.gain:+.1f}"


def change(r: Round) -> str:
    if r.number == 0:
        return "baseline"
    return short(r.proposal.rationale) if r.proposal else "no proposal"


def short(text: str, limit: int = 200) -> str:
    """*text* on one line that a terminal can show, cut where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def reason(text: str, limit: int = 200) -> str:
    """As ``short``; of a traceback what it ended with, and where."""
    before, found, frames = text.partition(TRACEBACK)
    said = [line for line in frames.splitlines() if line.strip() and not line[0].isspace()]
    if not found or not said:
        return short(text, limit)
    places = PLACE.findall(frames)
    where = f" ({places[-1][0]} line {places[-1][1]})" if places else ""
    return short(f"{before}{short(said[-1], limit // 2)}{where}", limit)


def count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def decision(r: Round) -> str:
    if r.decision is None:
        return ""
    detail = f": {reason(r.decision.detail)}" if r.decision.detail else ""
    return f"{r.decision.verdict} ({r.decision.because}{detail})"


def score(r: Round, metric: str) -> str:
    """``0.312 (0.281 to 0.344)``; without an interval where all runs gave the same number."""
    if r.score is None:
        return ""
    if r.score_low is None or r.score_high is None or (metric and r.score_low == r.score_high):
        return figure(r.score, metric)
    return f"{figure(r.score, metric)} ({figure(r.score_low, metric)} to {figure(r.score_high, metric)})"


def touched(night: Night, before: Sequence[Trial]) -> frozenset[tuple[str, ...]] | None:
    """The tags of the tasks that show the findings which kept changes answer: of those among *before*, the train trials
    of the live version. ``None``: of one of them nobody said what it was about."""
    out = {n for r in night.rounds for removal in r.removals if removal.verdict == "drop" for n in removal.rounds}
    found: set[tuple[str, ...]] = set()
    for r in night.kept:
        if r.number in out or r.proposal is None:
            continue
        answered = [f for f in r.proposal.findings if f.id in r.proposal.answers]
        shown_by = members(answered, before)
        about = {t.tags for trials in shown_by.values() for t in trials} or {f.tags for f in answered if f.tags}
        if not about:
            return None
        found |= about
    return frozenset(found)


def by_task(night: Night, before: Sequence[Trial], after: Sequence[Trial]) -> str:
    """Where several numbers go into the score, each by itself; empty for a metric on one task."""
    if not before or not after:
        return ""
    metric = metric_of(night)
    if not metric:
        return section("Score on train by kind of task", tags_table(before, after, touched(night, before)))
    rows = [
        f"| {code(task)} | {figure(was, metric)} | {figure(is_now, metric)} | {better_or_worse(by)} |"
        for task, (was, is_now, by) in values_by_task(night, before, after).items()
    ]
    head = ["| task | live | working | change |", "|---|---:|---:|---|"]
    return section(f"{plain(metric)} by task", "\n".join([*head, *rows]) if rows else "")


def values_by_task(
    night: Night, before: Iterable[Trial], after: Iterable[Trial]
) -> dict[str, tuple[float, float, float]]:
    """Of a metric on several tasks: its mean on each, before and after, and by how much it is better."""
    old, new = values(before), values(after)
    sign = -1.0 if night.run.gate.get("better") == "lower" else 1.0
    both = sorted(old.keys() & new.keys()) if len(old.keys() | new.keys()) > 1 else ()
    means = {task: (fmean(old[task]), fmean(new[task])) for task in both}
    return {task: (was, is_now, sign * (is_now - was)) for task, (was, is_now) in means.items()}


def values(trials: Iterable[Trial]) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.grade is not None and trial.grade.value is not None:
            found[trial.task].append(trial.grade.value)
    return found


def tags_table(
    before: Sequence[Trial], after: Sequence[Trial], about: frozenset[tuple[str, ...]] | None = frozenset()
) -> str:
    """Scores by tags. *about*: what the kept changes were about; on the rest, a fall is their side effect."""
    was, is_now, gains = score_by_tag(before), score_by_tag(after), gains_by_tags(before, after)
    rows = [
        "| kind | live | working | kept changes | gain in points (90 % interval) | n |",
        "|---|---:|---:|---|---|---:|",
    ]
    for tags in sorted(was.keys() | is_now.keys()):
        side = "" if about is None else "about it" if tags in about else "untouched"
        found = gains.get(tags, ())
        known = points(fmean(found), *mean_interval(found, CONFIDENCE)) if found else ""
        rows.append(
            f"| {plain(' '.join(tags) or 'untagged')} | {score_cell(was.get(tags))} | {score_cell(is_now.get(tags))} | "
            f"{side} | {known} | {len(found)} |"
        )
    table = "\n".join(rows)
    if about is None:
        return f"{table}\n\nOf a kept change nobody said which findings it answers, so what is untouched is not known."
    rest = [d for tags, differences in gains.items() if tags not in about for d in differences]
    if not about or not rest:
        return table
    old, new = (mean_score([t for t in trials if t.tags not in about]) for trials in (before, after))
    return f"{table}\n\nOn the untouched kinds together: {score_cell(old)} → {score_cell(new)}, {gain_of(rest)}."


def gains_by_tags(before: Iterable[Trial], after: Iterable[Trial]) -> dict[tuple[str, ...], list[float]]:
    """Tags → the differences of their clusters, of tasks that were tried on both sides."""
    old, new = scores_by_cluster(before), scores_by_cluster(after)
    found: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for key in sorted(old.keys() & new.keys()):
        if both := sorted(old[key].keys() & new[key].keys()):
            found[key[0]].append(fmean(fmean(new[key][task]) - fmean(old[key][task]) for task in both))
    return dict(found)


def scores_by_cluster(trials: Iterable[Trial]) -> dict[tuple[tuple[str, ...], str], dict[str, list[float]]]:
    """Tags and cluster → task → its scores; a version's own failure counts 0, a lost trial not at all."""
    found: dict[tuple[tuple[str, ...], str], dict[str, list[float]]] = {}
    for trial in trials:
        if not trial.is_lost:
            tasks = found.setdefault((trial.tags, trial.cluster or trial.task), {})
            tasks.setdefault(trial.task, []).append(1.0 - lost(trial))
    return found


def gain_of(differences: Sequence[float]) -> str:
    """As ``gain``, of a fixed number of paired differences, one for each cluster."""
    low, high = mean_interval(differences, CONFIDENCE)
    n = len(differences)
    known = f"{CONFIDENCE:.0%} interval {100 * low:+.1f} to {100 * high:+.1f}, n = {n}"
    return f"{100 * fmean(differences):+.1f} points ({known})"


def mean_score(trials: Sequence[Trial]) -> float | None:
    """As ``score_by_tag``, of all *trials* together."""
    bare = score_by_tag(trial.model_copy(update={"tags": ()}) for trial in trials)
    return bare.get(())


def score_cell(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"


def findings_table(found: Sequence[Finding], states: "Sequence[FindingState]" = (), limit: int = ROWS) -> str:
    """What still fails, the costliest first, and how it stands with each finding over all nights."""
    known = {state.id: state for state in states}
    rows = [
        "| finding | state | failures | score lost | spent on it | seen |",
        "|---|---|---:|---:|---:|---|",
    ]
    for f in found[:limit]:
        state = known.get(f.id)
        first = min((day(at) for at in (f.first_seen, state and state.first_seen) if at is not None), default="")
        rows.append(
            f"| {named(f.title, f.id)} | {state.state if state else 'new'} | {of_trials(f)} | {f.lost:.1f} | "
            f"{money(Usage(dollars=f.dollars))} | {span(first, day(f.last_seen))} |"
        )
    if rest := found[limit:]:
        rows.append(
            f"| and {len(rest)} more | | {sum(f.count for f in rest):,} | {sum(f.lost for f in rest):.1f} | | |"
        )
    return "\n".join(rows)


def causes(found: Sequence[Finding], states: "Sequence[FindingState]", aftermath: Aftermath) -> str:
    """What a model says of the findings. A cause is confirmed only by a kept change that rests on it."""
    refuted = {state.id for state in states if state.state == "refuted"}
    rows = [row for a in (*aftermath.kept, *aftermath.certified) for row in a.rows]
    lines: list[str] = []
    for f in found[:ROWS]:
        word = "confirmed" if confirmed(f.id, rows) else "refuted" if f.id in refuted else "a hypothesis"
        said = [plain(f.summary, QUOTE)] if f.summary else []
        said += [f"Cause ({word}): {plain(f.cause, QUOTE)}"] if f.cause else []
        if said:
            lines.append(f"- {code(f.id)}: {' '.join(said)}")
    return "\n".join(lines)


def answered_table(now: Sequence[Finding], states: "Sequence[FindingState]", limit: int = ROWS) -> str:
    """Findings that no longer stand among those that still fail, the latest first."""
    there = {f.id for f in now}
    gone = [s for s in states if s.id not in there and s.state in ("answered", "gone")]
    gone.sort(key=lambda s: s.last_seen, reverse=True)
    rows = ["| finding | state | by | seen |", "|---|---|---|---|"]
    for s in gone[:limit]:
        by = f"{code(s.answered_by)}, round {s.answered_round}" if s.answered_by is not None else ""
        rows.append(f"| {named(s.title, s.id)} | {s.state} | {by} | {span(day(s.first_seen), day(s.last_seen))} |")
    if len(gone) > limit:
        rows.append(f"| and {len(gone) - limit} more | | | |")
    return "\n".join(rows) if gone else ""


def day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d}"


def span(first: str, last: str) -> str:
    """``2026-11-03 to 2026-11-20``, or the one day."""
    return f"{first} to {last}" if first and last and first != last else first or last


def needs_person(night: Night, waiting: Sequence[Escalation]) -> str:
    """What this run left in the inbox, and how much lies there besides."""
    own = [e for e in waiting if e.run == night.run.id]
    others = len(waiting) - len(own)
    if not others:
        return waiting_table(own)
    if not own:
        return f"Of this run nothing; {others:,} from other runs. To see and answer them: `ratchet inbox`."
    return f"{waiting_table(own)}\n\nAnd {others:,} from other runs."


def waiting_table(waiting: Sequence[Escalation], limit: int = 10) -> str:
    """What the inbox holds, the same things together."""
    times = Counter((e.kind, e.concern, e.owner, e.summary) for e in waiting)
    first = {(e.kind, e.concern, e.owner, e.summary): e.id for e in reversed(waiting)}
    rows = ["| what | why | times | whose | for example |", "|---|---|---:|---|---|"]
    for key, n in times.most_common(limit):
        kind, concern, owner, summary = key
        rows.append(f"| {kind}: {plain(summary, 120)} | {concern} | {n} | {plain(owner)} | {code(first[key])} |")
    if len(times) > limit:
        left = times.total() - sum(n for _, n in times.most_common(limit))
        rows.append(f"| and {len(times) - limit} more | | {left} | | |")
    return "\n".join(rows) + "\n\nTo see and answer them: `ratchet inbox`."


def spend(night: Night) -> str:
    u = night.usage
    cached = f", {u.cached_tokens / u.input_tokens:.0%} of them read from the cache" if u.cached_tokens else ""
    lines = [
        f"- {count(u.calls, 'model call')}: {u.input_tokens:,} tokens in{cached}, {u.output_tokens:,} out; {money(u)}.",
        f"- {count(night.trials, 'trial')} in {duration(night.seconds)} over {count(night.sessions, 'session')}.",
    ]
    if night.interrupted:
        were = (
            "was cut off by the end of a process; it is charged at its"
            if night.interrupted == 1
            else ("were cut off by the end of a process; they are charged at their")
        )
        lines.append(f"- {count(night.interrupted, 'call')} {were} estimate.")
    return "\n".join(lines)


def money(usage: Usage) -> str:
    return "dollars unknown" if usage.dollars is None else f"${usage.dollars:,.2f}"


def duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02} min" if hours else f"{m} min {s:02} s" if m else f"{s} s"


# ── what others wrote, as words and nothing else ───────────────────────────────────────────────────────────────────


def plain(text: str, limit: int | None = None) -> str:
    """*text* on one line, for a place in Markdown where words stand: all of it is shown, nothing of it is obeyed."""
    return ACTIVE.sub(escaped, short(text, len(text) + 1 if limit is None else limit))


def escaped(found: re.Match[str]) -> str:
    return f"{found['item']}\\" if found["item"] else f"\\{found[0]}"


def code(text: str) -> str:
    """*text* as code, in a table, too."""
    line = short(text, QUOTE).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", line)), default=0)
    room = " " if longest else ""
    return f"{'`' * (longest + 1)}{room}{line}{room}{'`' * (longest + 1)}"


def fenced(diff: str) -> str:
    """A diff as a block of code that nothing in it ends, with whatever cannot be seen in it made visible."""
    lines = diff.rstrip().split("\n")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", diff)), default=0))
    more = len(lines) - DIFF
    rest = f"\n\nAnd {count(more, 'line')} more, which `git diff` shows." if more > 0 else ""
    return f"{fence}diff\n" + "\n".join(map(visible, lines[:DIFF])) + f"\n{fence}{rest}"


def visible(line: str) -> str:
    """A text that hides, or turns its direction around, reads otherwise than it works."""
    return "".join(c if c.isprintable() or c == "\t" else f"<U+{ord(c):04X}>" for c in line)


def bare(markdown: str) -> str:
    """A line of the headline as a terminal shows it."""
    return MARKS.sub(r"\1", markdown)
