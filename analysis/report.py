"""The morning report: what was tried, what is proven and how strongly, what to do now."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.findings import score_by_tag
from analysis.night import Night
from harness.gate.confidence import mean_interval
from traces.records import Certification, Comparison, Escalation, Finding, Guard, Round, Trial, Usage

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


def report(
    night: Night,
    standing: Standing,
    *,
    diff: str,
    before: Sequence[Trial],
    after: Sequence[Trial],
    now: Sequence[Finding],
    plot: str | None,
    costs: str = "",
    waiting: Sequence[Escalation] = (),
) -> str:
    """The report as Markdown.

    *diff*: live against working version. *before*, *after*: train trials of the two. *now*: what still fails. *plot*:
    where the picture of the progress lies, relative to the report. *costs*: Markdown, by role. *waiting*: what needs a
    person.
    """
    parts = [
        f"# {night.run.experiment}: the night of {night.began:%Y-%m-%d}",
        "\n".join(f"- {line}" for line in headline(night, standing)),
        f"![Progress by round]({plot})" if plot else "",
        "## What was tried\n\n" + rounds_table(night),
        "## Promotion tests\n\n"
        + "\n\n".join(certification(c, quote=c == night.certified) for c in night.certifications)
        if night.certifications
        else "",
        "## Taken apart\n\n" + removals_table(night) if any(r.removals for r in night.rounds) else "",
        "## Score on train by kind of task\n\n" + tags_table(before, after, touched(night)) if before and after else "",
        "## What needs a person\n\n" + needs_person(night, waiting) if waiting else "",
        "## What still fails\n\n" + findings_table(now) if now else "",
        "## Spend\n\n" + spend(night),
        "## Costs by role\n\n" + costs if costs else "",
        f"## The change\n\n```diff\n{diff.rstrip()}\n```" if diff.strip() else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline(night: Night, standing: Standing) -> list[str]:
    """What a person wants to know first."""
    lines = [proven(night), what_next(night, standing)]
    if night.certified is not None and night.certified.alpha is not None:
        lines.insert(1, how_sure(night, night.certified))
    if disagreement := divergence(night):
        lines.append(disagreement)
    lines += [f"**Doubtful**: {doubt}." for doubt in standing.doubts]
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
        lines.append(f"It ended because {ENDINGS[night.ended.stop]} ({night.ended.detail}).")
    lines.append(
        f"{count(len(night.tries), 'change')} tried, {len(night.kept)} kept; {night.trials:,} trials, "
        f"{night.usage.calls:,} model calls, {money(night.usage)}, {duration(night.seconds)} at work."
    )
    return lines


def proven(night: Night) -> str:
    """The one sentence to trust."""
    best = night.certified
    if best is not None:
        sentence = f"**Proven better**: version `{best.candidate[:12]}` against live `{best.live[:12]}`"
        if best.measured is None or best.measured.gain is None:
            return f"{sentence}; its gain has not been measured."
        where = "in fresh runs" if best.measured.metric else "on tasks that nothing had seen"
        return f"{sentence}, {gain(best.measured)} {where}."
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


def not_proven(c: Certification) -> str:
    """Why a promotion test ended without a promotion, with its numbers."""
    v = c.validation
    if v is None:
        return f"the promotion test was not carried through: {c.detail}"
    if c.verdict == "invalid":
        return f"the promotion test means nothing after {v.tasks + v.errors} clusters: {c.detail}"
    if c.verdict in ("blocked", "hold"):
        objections = "; ".join(guard_line(guard) for guard in c.guards if guard.verdict != "pass")
        why = f"{c.detail}" + (f" ({objections})" if objections else "")
        return f"the kept changes as one stack are better on average, {gain(v)}{tested_at(c)}, but {why}"
    if v.metric and not v.tasks:
        return c.detail
    seen = f"the kept changes as one stack stood at {gain(v)}{tested_at(c)}"
    if c.detail:
        return f"{c.detail}; {seen}"
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
    odds = f"a stack that is no better passes such a test at most once in {1 / c.alpha:,.0f}"
    horizon = night.run.gate.get("horizon")
    if c.test_number is not None:
        whole = f", test {c.test_number} of the {horizon} declared for these hidden tasks" if horizon else ""
        odds += f" (alpha {c.alpha:.4g}{whole})"
    return f"How sure: {odds}. Not known: what each change contributes alone, and what holds on other kinds of task."


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
    """``+41.7 points (90 % interval +33.1 to +50.2, n = 96)``; of a metric, in its unit."""
    if c.gain is None:
        return "no gain measured"
    if c.metric:
        known = "unconfirmed" if c.sigma is None else f"no interval, n = {c.tasks}"
        if c.low is not None and c.high is not None:
            known = f"{c.confidence:.0%} interval {c.low:+.4g} to {c.high:+.4g}, n = {c.tasks} runs each"
        return f"{c.metric} {'better' if c.gain >= 0 else 'worse'} by {abs(c.gain):.4g} ({known})"
    points = f"{100 * c.gain:+.1f} points"
    if c.low is None or c.high is None:
        return f"{points} (no interval, n = {c.tasks})"
    return f"{points} ({c.confidence:.0%} interval {100 * c.low:+.1f} to {100 * c.high:+.1f}, n = {c.tasks})"


def certification(c: Certification, *, quote: bool) -> str:
    """One promotion test in full: what was tested, at what level, what came out, what is not known."""
    lines = [f"**Checkpoint {c.checkpoint}: {c.verdict}.** `{c.candidate[:12]}` against live `{c.live[:12]}`."]
    if c.validation is not None and c.validation.metric:
        if c.validation.tasks:
            lines.append(f"Both were run afresh: {gain(c.validation)}, at alpha = {c.alpha:.4g} (Welch, one-sided).")
        if c.measured is not None:
            lines.append(
                f"Measured once more: {gain(c.measured)}." + (" This is the number to quote." if quote else "")
            )
        return " ".join([*lines, f"({c.detail})"] if c.detail else lines)
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
        lines.append(
            f"On test, opened for this pair after the verdict: {gain(m)}; score {m.incumbent_score or 0:.3f} → "
            f"{m.candidate_score or 0:.3f}." + (" This is the number to quote." if quote else "")
        )
    if c.detail:
        lines.append(f"({c.detail})")
    return " ".join(lines) + (f"\n\n{guards_table(c)}" if c.guards else "")


def guards_table(c: Certification) -> str:
    """What else the promotion test looked at; so an improvement that ruins something is seen."""
    rows = ["| guard | verdict | found |", "|---|---|---|"]
    rows += [f"| {cell(f'{g.kind} {g.name}'.strip())} | {g.verdict} | {cell(guard_line(g))} |" for g in c.guards]
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
            rows.append(f"| {r.number} | {cell(what)} | {removal.verdict} | {found} |")
    return "\n".join(rows)


def rounds_table(night: Night) -> str:
    rows = [
        "| round | change | decision | gain on train | n | score | interval |",
        "|---:|---|---|---|---:|---:|---|",
    ]
    for r in night.rounds:
        if r.stop is not None:
            continue
        c = r.decision.comparison if r.decision else None
        rows.append(
            f"| {r.number} | {cell(change(r))} | {cell(decision(r))} | {bare_gain(c)} | {c.tasks if c else ''} | "
            f"{'' if r.score is None else f'{r.score:.4g}' if c and c.metric else f'{r.score:.3f}'} | {interval(r)} |"
        )
    return "\n".join(rows) + "\n\nGains on train decide what the run builds on; they are not claims."


def bare_gain(c: Comparison | None) -> str:
    """In points, or in the unit of the metric."""
    if c is None or c.gain is None:
        return ""
    return f"{c.gain:+.4g}" if c.metric else f"{100 * c.gain:+.1f}"


def change(r: Round) -> str:
    if r.number == 0:
        return "baseline"
    return short(r.proposal.rationale) if r.proposal else "no proposal"


def short(text: str, limit: int = 200) -> str:
    """*text* on one line that a terminal can show, cut where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def decision(r: Round) -> str:
    if r.decision is None:
        return ""
    detail = f": {short(r.decision.detail)}" if r.decision.detail else ""
    return f"{r.decision.verdict} ({r.decision.because}{detail})"


def interval(r: Round) -> str:
    return "" if r.score_low is None or r.score_high is None else f"{r.score_low:.3f} to {r.score_high:.3f}"


def touched(night: Night) -> frozenset[tuple[str, ...]] | None:
    """The tags of the findings that kept changes answer. ``None``: of one of them nobody said what it was about."""
    out = {n for r in night.rounds for removal in r.removals if removal.verdict == "drop" for n in removal.rounds}
    found: set[tuple[str, ...]] = set()
    for r in night.kept:
        if r.number in out or r.proposal is None:
            continue
        about = {f.tags for f in r.proposal.findings if f.id in r.proposal.answers}
        if not about:
            return None
        found |= about
    return frozenset(found)


def tags_table(
    before: Sequence[Trial], after: Sequence[Trial], about: frozenset[tuple[str, ...]] | None = frozenset()
) -> str:
    """Scores by tags. *about*: what the kept changes were about; on the rest, a fall is their side effect."""
    was, is_now = score_by_tag(before), score_by_tag(after)
    rows = ["| kind | live | working | kept changes |", "|---|---:|---:|---|"]
    for tags in sorted(was.keys() | is_now.keys()):
        side = "" if about is None else "about it" if tags in about else "untouched"
        rows.append(
            f"| {cell(' '.join(tags) or 'untagged')} | {score_cell(was.get(tags))} | "
            f"{score_cell(is_now.get(tags))} | {side} |"
        )
    table = "\n".join(rows)
    if about is None:
        return f"{table}\n\nOf a kept change nobody said which findings it answers, so what is untouched is not known."
    rest = [[t for t in trials if t.tags not in about] for trials in (before, after)]
    if not about or not all(rest):
        return table
    old, new = (mean_score(trials) for trials in rest)
    return f"{table}\n\nOn the untouched kinds together: {score_cell(old)} → {score_cell(new)}."


def mean_score(trials: Sequence[Trial]) -> float | None:
    """As ``score_by_tag``, of all *trials* together."""
    bare = score_by_tag(trial.model_copy(update={"tags": ()}) for trial in trials)
    return bare.get(())


def score_cell(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"


def findings_table(found: Sequence[Finding], limit: int = 10) -> str:
    rows = ["| finding | failures | share of trials | id |", "|---|---:|---:|---|"]
    rows += [f"| {cell(f.title)} | {f.count} | {f.share:.1%} | `{f.id}` |" for f in found[:limit]]
    if len(found) > limit:
        rows.append(f"| and {len(found) - limit} more | {sum(f.count for f in found[limit:])} | | |")
    return "\n".join(rows)


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
        rows.append(f"| {kind}: {cell(short(summary, 120))} | {concern} | {n} | {cell(owner)} | `{first[key]}` |")
    if len(times) > limit:
        left = times.total() - sum(n for _, n in times.most_common(limit))
        rows.append(f"| and {len(times) - limit} more | | {left} | | |")
    return "\n".join(rows) + "\n\nTo see and answer them: `ratchet inbox`."


def spend(night: Night) -> str:
    u = night.usage
    cached = f", {u.cached_tokens / u.input_tokens:.0%} of them read from the cache" if u.cached_tokens else ""
    lines = [
        f"- {u.calls:,} model calls: {u.input_tokens:,} tokens in{cached}, {u.output_tokens:,} out; {money(u)}.",
        f"- {night.trials:,} trials in {duration(night.seconds)} over {night.sessions} "
        f"session{'s' if night.sessions != 1 else ''}.",
    ]
    if night.interrupted:
        lines.append(
            f"- {night.interrupted} calls were cut off by the end of a process; they are charged at their estimate."
        )
    return "\n".join(lines)


def money(usage: Usage) -> str:
    return "dollars unknown" if usage.dollars is None else f"${usage.dollars:,.2f}"


def duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02} min" if hours else f"{m} min {s:02} s" if m else f"{s} s"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
