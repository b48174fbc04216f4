"""The vocabulary: every type that Ratchet persists, and no other.

A record is frozen, refuses unknown fields, and is written to the journal as one JSON line. What did not
happen is ``None``, never ``0.0``: an unmeasured trial has no grade, an unpriced call has no dollars.
"""

import hashlib
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Split = Literal["train", "validation", "test"]
"""``train`` teaches the proposer, ``validation`` decides promotions, ``test`` is the number that is reported."""

Boundary = Literal["runner", "grader", "proposer", "model", "sandbox", "experiment"]
"""Whose code failed: each failure belongs to exactly one."""

StopReason = Literal[
    "out-of-ideas",
    "rounds",
    "hours",
    "trials",
    "tokens",
    "dollars",
    "no-progress",
    "thrashing",
    "stopped",
    "failing",
]
"""Why a run ended, one a run: the proposer has nothing left; a limit of the budget (its name); ``patience`` rounds
without a clear gain, and with much changed in them (``thrashing``) or not; a person (``ratchet stop``); or the runner,
grader or model kept breaking."""

EndReason = Literal[
    "done",
    "unsatisfied",
    "refused",
    "step_cap",
    "time_cap",
    "token_cap",
    "dollar_cap",
    "tool_budget",
    "repeated_action",
    "no_progress",
    "thrashing",
    "escalated",
    "failed",
]
"""Why a trial ended, one a trial. ``done``: the maker ended by itself, and its verifier, if it has one, is satisfied.
``unsatisfied``: the verifier was not, after the last attempt; the output is graded all the same. ``refused``: the
model declined. A limit that it reached. What it did that shows that it gets nowhere. ``escalated``: only a person can
let it go on. ``failed``: something broke, see ``error_class``."""

Effect = Literal["none", "worktree", "outside"]
"""What calling a tool changes: nothing, so that it is safe to repeat; files of the trial's own worktree; or anything
else, which must not happen twice."""

Concern = Literal[
    "destructive",
    "out_of_scope",
    "network",
    "money",
    "users",
    "production",
    "security",
    "missing_permission",
    "repeated_failure",
    "same_error",
    "verification_failed",
    "cannot_verify",
    "bad_rubric",
    "grade",
    "dead",
]
"""Why a person is needed. ``same_error``: the same failed again with nothing changed. ``cannot_verify``: the verifier
broke. ``bad_rubric``: it says of itself that it cannot be met. ``grade``: a criterion asks for a person's judgement.
``dead``: a trial failed in all its attempts, for reasons that say nothing about its version."""

INFRASTRUCTURE = frozenset({"rate_limit", "overloaded", "server_error", "unavailable", "connection"})
"""Classes of error that say nothing about the version that met them."""

Hash = Annotated[str, StringConstraints(min_length=8)]


def now() -> datetime:
    return datetime.now(UTC)


class Record(BaseModel):
    """A frozen fact."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ── what is attempted ──────────────────────────────────────────────────────────────────────────────────────────


class Task(Record):
    """One thing to attempt."""

    id: str
    """Unique within the experiment."""
    input: str
    """What the runner is given."""
    targets: tuple[str, ...] = ()
    """The accepted answers, for graders that compare. The runner is given the task without them."""
    tags: tuple[str, ...] = ()
    """What kind of task it is; findings and guards are broken down by tag."""
    cluster: str = ""
    """Tasks that share a cluster share a split and count as one observation. Default: the task itself."""
    split: Split | None = None
    """``None`` until it is assigned."""


class Usage(Record):
    """What some work cost; adds up with ``+``."""

    calls: int = 0
    """Requests that reached for a model, retries and interrupted ones included."""
    input_tokens: int = 0
    """All prompt tokens, cached ones included."""
    cached_tokens: int = 0
    """The part of ``input_tokens`` that was read from the provider's cache."""
    cache_write_tokens: int = 0
    """The part of ``input_tokens`` that was written to the provider's cache."""
    output_tokens: int = 0
    dollars: float | None = 0.0
    """``None``: the price is unknown. A sum with an unknown part is unknown."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            dollars=None if self.dollars is None or other.dollars is None else self.dollars + other.dollars,
        )

    @classmethod
    def sum(cls, parts: Iterable["Usage"]) -> "Usage":
        return reduce(lambda total, part: total + part, parts, Usage())


class Grade(Record):
    """How good an output is."""

    score: float = Field(ge=0, le=1)
    """Between 0 (worst) and 1 (best); anything else is refused, never clipped."""
    reason: str = ""
    """Fit to learn from: what was wrong, never the answer."""
    value: float | None = None
    """The number that was measured, in its own unit, where the score is not it (``MetricGate``)."""


class Text(Record):
    """A long text, stored once however often spans refer to it."""

    hash: Hash
    """Hexadecimal SHA-256 of the UTF-8 bytes."""
    text: str

    @classmethod
    def of(cls, text: str) -> "Text":
        """*text* must be clean: no half of a surrogate pair."""
        return cls(hash=hashlib.sha256(text.encode()).hexdigest(), text=text)


class Span(Record):
    """One timed step of a trial or of a proposal: a model call, a tool call, a grade."""

    id: str
    run: str | None = None
    trial: str | None = None
    """The trial it belongs to; ``None`` for a proposer's calls."""
    parent: str | None = None
    operation: Literal["chat", "execute_tool", "grade", "run", "invoke_agent", "turn", "hook", "compact"]
    """``invoke_agent`` is a whole session of an agent, ``turn`` one model call in it with the tools that it asked
    for; ``compact`` makes a long session shorter."""
    name: str
    """What was called: the model, the tool, the grader, the hook."""
    role: str = ""
    """Who spent it: ``maker``, ``judge``, ``summariser``, the name of a sub-agent; empty: nobody said."""
    started: datetime
    seconds: float
    status: Literal["ok", "error", "interrupted"] = "ok"
    """``interrupted``: it was started, and the process died before the answer was written down."""
    error: str | None = None
    error_class: str | None = None
    """One word to count by: ``rate_limit``, ``overloaded``, ``timeout``, ``malformed``, ``auth`` and so on."""
    attempt: int = 1
    """Counts retries of the same call, from 1."""
    effect: Effect | None = None
    """Of a tool call: what it could change."""
    safe_to_repeat: bool | None = None
    """Of a failure: may the same be tried again? ``None``: it did not fail, or nobody can tell."""
    idempotency_key: str | None = None
    """Of a tool call that changes something: the same key never has two effects."""
    usage: Usage = Usage()
    input_hash: Hash | None = None
    """Key into ``texts``: the messages sent, as JSON."""
    input_preview: str | None = None
    """The last 200 characters of it."""
    output_hash: Hash | None = None
    output_preview: str | None = None
    """The first 200 characters of it."""
    attributes: dict[str, Any] = Field(default_factory=dict)
    """By OpenTelemetry GenAI name, see ``traces/otel.py``."""


class Trial(Record):
    """One attempt at one task by one version."""

    id: str
    """Deterministic: the run and the step's key."""
    run: str
    round: int | None = None
    """``None`` outside a round: a baseline, a certification, a comparison by hand."""
    version: str
    task: str
    split: Split
    tags: tuple[str, ...] = ()
    cluster: str = ""
    repeat: int = 0
    attempt: int = 1
    """2 or more: an earlier attempt was interrupted by the death of the process, or met an infrastructure error."""
    seed: int = 0
    conditions: tuple[str, ...] = ()
    """What it was measured with, sorted ``part=value`` pairs: models as their providers report them, the grader, the
    tools. Scores under other conditions are not comparable."""
    output: str | None = None
    ended: EndReason | None = None
    """``None`` in what is no attempt at a task, such as a prepared answer that is graded."""
    grade: Grade | None = None
    """``None`` when it could not be scored; then ``boundary`` says whose fault that was."""
    error: str | None = None
    error_class: str | None = None
    boundary: Boundary | None = None
    started: datetime
    seconds: float
    usage: Usage = Usage()

    @property
    def is_lost(self) -> bool:
        """Did it fail for a reason that says nothing about its version? Then it has no score, and is not a zero.

        A time-out and a malformed answer are the version's own: what it asks for decides how long a model talks.
        """
        return self.boundary in ("grader", "sandbox") or self.error_class in INFRASTRUCTURE


# ── what an agent does ─────────────────────────────────────────────────────────────────────────────────────────


class ToolCall(Record):
    """A tool that a model wants called."""

    id: str
    """The provider's, unique within the session."""
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    malformed: str = ""
    """What the model wrote, where that is no JSON object; ``arguments`` are empty then."""


class ToolResult(Record):
    """What the model is told about a call. Exactly one for each call."""

    call: str
    """``ToolCall.id``."""
    tool: str
    text: str
    status: Literal["ok", "error", "denied", "interrupted", "deduplicated"] = "ok"
    """``denied``: policy, a hook or a person said no, and nothing was done. ``interrupted``: it was begun, and its end
    was never seen; it is not begun again. ``deduplicated``: it had been done before, and this is what came of it."""
    error_class: str | None = None
    safe_to_repeat: bool | None = None
    """Of a failure: ``True`` when nothing was changed; ``None``: nobody can tell."""


class Turn(Record):
    """What a model answered in a session."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    opaque: tuple[dict[str, Any], ...] = ()
    """Blocks that the provider wants back as they were, such as signed thinking."""
    appended: tuple[str, ...] = ()
    """What hooks had added to the prompt before it."""
    usage: Usage = Usage()


class State(Record):
    """How the worktree of a session stood after a turn's calls."""

    digest: str


class Summary(Record):
    """What stands for the older part of a session that outgrew its budget. Written once, not paid for each turn."""

    text: str
    messages: int
    """How many, from the first, it stands for."""
    tokens_before: int
    tokens_after: int


class Completion(Record):
    """A session of an agent ended. Subscribers get it at least once; its ``session`` tells repeats apart."""

    session: str
    """Unique: the trial's key and the agent's place in it."""
    trial: str | None
    ended: EndReason
    detail: str = ""
    output: str
    turns: int
    calls: int
    """Tool calls."""


class Mark(Record):
    """What a verifier says about one criterion."""

    criterion: str
    choice: str = ""
    """Of the criterion's choices, the one that holds."""
    passed: bool
    evidence: str = ""
    """Quoted from the output: what shows that it passed."""
    because: str = ""
    """What is wrong; never the answer."""
    excerpt: str = ""
    """The part of the output that caused it."""
    fingerprint: str = ""
    """The same for the same fault, whatever numbers and names are in it."""
    first_seen: int | None = None
    """The attempt that first showed it; ``None`` where it passed."""
    times_seen: int = 0


class Review(Record):
    """What a verifier says about one attempt."""

    trial: str | None = None
    verdict: Literal["satisfied", "needs_revision", "failed", "grader_error"]
    """``failed``: the rubric itself is bad. ``grader_error``: the verifier broke, which says nothing about the output.
    Neither is the maker's fault."""
    attempt: int = 1
    marks: tuple[Mark, ...] = ()
    detail: str = ""


class Escalation(Record):
    """Something needs a person. Written to the inbox before whatever it is about is held."""

    id: str
    """Deterministic: the same on a resumed run."""
    kind: Literal["approval", "notice", "dead"]
    """``approval``: a call or a grade is held until somebody answers, or until it expires. ``notice``: it has ended.
    ``dead``: a trial that can be tried again (``redrive``) or be forgotten (``discard``)."""
    concern: Concern
    experiment: str
    owner: str
    """Whose experiment it is."""
    run: str | None = None
    trial: str | None = None
    span: str | None = None
    summary: str
    """One line: what happened, and to what."""
    evidence: tuple[str, ...] = ()
    """Excerpts: what was to be done, what failed, how often."""
    action: str = ""
    """Digest of the tool and its arguments, which an approval is bound to; empty where nothing is held."""
    tool: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Redacted."""
    raised: datetime
    expires: datetime | None = None
    """After that it counts as refused; ``None``: nothing waits for it."""


class Ruling(Record):
    """What became of an escalation."""

    escalation: str
    verdict: Literal["approved", "rejected", "expired", "used", "redriven", "discarded"]
    """``used``: the approved action was begun; an approval serves once."""
    who: str
    """The person, or ``ratchet`` for what the clock decides."""
    ruled: datetime
    note: str = ""
    token: str | None = None
    """Of an approval: what the runtime must present to carry the action out."""
    expires: datetime | None = None
    """Of an approval: until when it may be used."""


# ── what is changed ────────────────────────────────────────────────────────────────────────────────────────────


class Version(Record):
    """One immutable state of a subject."""

    id: Hash
    """The git tree hash of the subject directory."""
    commit: str
    """A commit that holds it."""


class Edit(Record):
    """New text for one file; ``None`` deletes it."""

    path: str
    """Relative to the subject, with forward slashes."""
    text: str | None


class Symptom(Record):
    """What a failed trial has to look like to belong to a finding; told from the trial and its path alone."""

    kind: str
    """The kind of wrong answer, or the class of error."""
    path: str = ""
    """How its execution went, in a few words; empty: however it went."""
    tags: tuple[str, ...] | None = None
    """Of its task; ``None``: whatever they are."""
    messages: tuple[str, ...] = ()
    """Messages in general form, the most frequent first. It is near enough to one of them."""


class Finding(Record):
    """A recurring failure with its evidence."""

    id: str
    """Stable across runs: a failure that an earlier finding's symptom fits belongs to it."""
    title: str
    """Readable: tags or execution path, then the kind of failure, then the message."""
    tags: tuple[str, ...] = ()
    kind: str
    """The kind of wrong answer, or the class of error."""
    count: int
    """Failed trials that show it."""
    share: float
    """``count`` over all trials looked at, between 0 and 1."""
    versions: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    """Trial ids, at most five."""
    symptom: Symptom | None = None
    """What attaches a new trial to it."""
    lost: float = 0.0
    """Score that its trials left on the table, added up."""
    dollars: float | None = 0.0
    """What its trials cost, added up; ``None``: not known."""
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    """When the first and the last trial that shows it began."""
    summary: str = ""
    """What happens, in a sentence or two; a model wrote it."""
    cause: str = ""
    """Why, as a model supposes: a hypothesis, until a change that rests on it made the failure rarer."""


class Citation(Record):
    """A passage of a trace that a proposal rests on. A machine looks it up."""

    trial: str
    span: str | None = None
    """Where in the trial it stands; ``None``: in its output, its error or the reason of its grade."""
    quote: str
    """Word for word, blanks apart."""


class Prediction(Record):
    """What a proposal expects for one kind of task."""

    tags: tuple[str, ...]
    """Empty: for all."""
    gain: float = Field(ge=-1, le=1)
    """In mean train score."""


class Proposal(Record):
    """One change to try."""

    id: str
    proposer: str
    edits: tuple[Edit, ...]
    rationale: str
    answers: tuple[str, ...] = ()
    """Ids of the findings it answers."""
    evidence: tuple[str, ...] = ()
    """Ids of the trials it rests on."""
    predicted: float | None = None
    """The gain in mean train score that it expects."""
    predictions: tuple[Prediction, ...] = ()
    """The same by kind of task, where it says so."""
    citations: tuple[Citation, ...] = ()
    """The passages that it quotes; a quotation that is not there refuses it."""
    findings: tuple[Finding, ...] = ()
    """What the proposer had mined when it wrote this."""


# ── what is decided ────────────────────────────────────────────────────────────────────────────────────────────


class GateSpec(Record):
    """Everything about a sequential test: declared before its first difference is seen, and never changed after."""

    alpha: float = Field(ge=1e-12, lt=1)
    """The chance of accepting a candidate that is no better."""
    n_max: int = Field(ge=1)
    """The deadline, in clusters."""
    min_gain: float = Field(default=0.03, ge=0, le=1)
    """The smallest gain worth waiting for."""
    futility: float = Field(default=0.10, ge=0, lt=1)
    """Reject when the chance of ever proving the gain still thinkable falls below this; 0 never gives up."""
    n_min: int = Field(default=10, ge=1)
    """No look before this many clusters, unless the deadline comes first."""
    batch: int = Field(default=10, ge=1)
    """Clusters between two looks."""
    v0: float = Field(default=0.2, ge=1e-9, le=1)
    """The variance expected of the differences; a wrong guess costs power, never validity."""
    margin: float = Field(default=0.0, ge=0, lt=1)
    """What is to be proven is a gain above minus this: 0 for better, above 0 for not worse by more than so much."""
    seed: int = 0
    """Of the shuffle of the clusters, the same for both arms."""


class Verdict(Record):
    """What the deadline e-process says at one look. ``../harness/gate`` makes it, from paired differences alone."""

    verdict: Literal["accept", "reject", "undecided", "continue"]
    """``undecided``: the deadline passed without proof, which is not evidence of no effect."""
    e_value: float
    """Final wealth W; ``accept`` when it is at least ``threshold``."""
    threshold: float
    """1/alpha."""
    n: int
    """Clusters observed, ties included."""
    gain_at_stop: float | None
    """Mean paired difference of those; biased upwards when the verdict is ``accept``. ``None`` at n = 0."""
    conditional_power: float | None
    """Chance of ending with ``accept`` for the effect still thought possible; ``None`` at the deadline."""
    tasks_to_settle: int | None = None
    """For ``undecided``: about how many more tasks would settle it at the observed gain; ``None``: no number would."""


class Comparison(Record):
    """Candidate against incumbent, paired."""

    incumbent: str
    candidate: str
    split: Split
    tasks: int
    """Clusters compared."""
    incumbent_score: float | None
    candidate_score: float | None
    """Mean scores over the same clusters."""
    gain: float | None
    """Mean paired difference. At the stop of a sequential test it is biased; on ``test`` it is not."""
    low: float | None
    high: float | None
    """Interval for the gain, both ends, at ``confidence``."""
    confidence: float
    verdict: Verdict | None = None
    """``None`` for a fixed-size measurement, where nothing is decided."""
    spec: GateSpec | None = None
    """What the test had declared; ``None`` where there was no sequential test."""
    differences: tuple[float, ...] = ()
    """Per cluster, in the order observed: the evidence from which the verdict replays."""
    errors: int = 0
    """Pairs lost to infrastructure errors after the retries."""
    incumbent_errors: int = 0
    """Those lost on the incumbent's side alone."""
    candidate_errors: int = 0
    """Those lost on the candidate's side alone."""
    drift: str = ""
    """What changed in the conditions while it was measured; empty when nothing did."""
    metric: str = ""
    """What the scores measure where they are not in [0, 1], such as ``val_bpb``; gains are then in its unit, and
    positive when better."""
    sigma: float | None = None
    """For a metric: the standard deviation of a single run, pooled over what was measured so far."""

    @property
    def is_valid(self) -> bool:
        """Did the conditions stay as they were, and were at most 5 % of the pairs lost, by neither side more than by
        the other? Else it means nothing.

        The sides are compared by an exact McNemar test at .05.
        """
        if self.drift:
            return False
        few = self.errors <= 0.05 * (self.tasks + self.errors)
        one_sided, n = max(self.incumbent_errors, self.candidate_errors), self.incumbent_errors + self.candidate_errors
        chance = 2 * sum(math.comb(n, k) for k in range(one_sided, n + 1)) / 2**n
        return few and chance >= 0.05


class Decision(Record):
    """What became of a proposal."""

    verdict: Literal["keep", "discard", "inconclusive"]
    because: Literal[
        "improved",
        "simpler",
        "unconfirmed",
        "no-improvement",
        "undecided",
        "already-tried",
        "invalid",
        "not-a-candidate",
        "unfounded",
        "no-proposal",
        "errors",
        "drift",
    ]
    """``simpler``: less text, and not worse. ``unconfirmed``: it measured better once, and runs cannot be repeated.
    ``already-tried``: it is, or does the same as, a version that was tried. ``invalid``: it does not render, validate
    or apply. ``not-a-candidate``: it changes the seed, the evaluation, the data order or the timing, and so what is
    measured. ``unfounded``: what it quotes as evidence is not there. ``no-proposal``: the proposer broke. ``errors``:
    the infrastructure did, too often to compare. ``drift``: the conditions changed during the comparison."""
    detail: str = ""
    comparison: Comparison | None = None

    def __str__(self) -> str:
        text = f"{self.verdict} ({self.because})"
        c = self.comparison
        if c is not None and c.gain is not None and c.low is not None and c.high is not None:
            return f"{text}: {c.gain:+.3f} [{c.low:+.3f}, {c.high:+.3f}] over {c.tasks} tasks"
        if c is not None and c.gain is not None and c.metric:
            return f"{text}: {c.metric} better by {c.gain:+.4g} over {c.tasks} runs"
        return f"{text}: {self.detail}" if self.detail else text


class Guard(Record):
    """One thing besides the mean score that a promotion must not spoil, looked at before it."""

    kind: Literal["must-pass", "slice", "cost", "latency", "failures", "transfer"]
    """``transfer``: a task that a metric's gain has to carry over to."""
    name: str = ""
    """The task, or the tag of the slice; what cost is measured in (``dollars`` or ``tokens``)."""
    verdict: Literal["pass", "hold", "block"]
    """``hold``: a slice looked worse, and has not been run again yet."""
    n: int
    """Clusters compared, or runs made."""
    wins: int | None = None
    losses: int | None = None
    """Clusters on which the candidate was better and worse; fresh runs passed and failed; failures mended and new."""
    p: float | None = None
    """Exact binomial chance of so many losses among them if neither side were worse; of a transfer, Welch's chance of
    so large a gain if there were none."""
    gain: float | None = None
    """Of a transfer, in the unit of its metric, positive when better."""
    ratio: float | None = None
    """Candidate over incumbent, geometric mean of the ratios per task."""
    low: float | None = None
    """One-sided 90 % lower limit of the ratio."""
    cap: float | None = None
    """The ratio allowed; ``None``: it is measured and blocks nothing."""


class Guards(Record):
    """All that a promotion test looked at besides the mean score."""

    found: tuple[Guard, ...]


class Certification(Record):
    """The stack of kept changes against the live version, on hidden tasks. A certificate is for this exact pair."""

    id: str
    run: str
    checkpoint: int
    live: str
    candidate: str
    verdict: Literal["accept", "reject", "undecided", "hold", "blocked", "invalid"]
    """``hold``: proven better, but a slice looked worse and the run again that would tell was not bought.
    ``blocked``: a guard says no, or the error budget of the validation split is spent."""
    alpha: float | None
    """What this test was allowed to spend; ``None`` when the budget was spent."""
    test_number: int | None
    """The how-manieth test of this validation split it is, from 1; ``None`` without hidden tasks."""
    validation: Comparison | None
    guards: tuple[Guard, ...] = ()
    """What was looked at after the mean score had passed."""
    measured: Comparison | None = None
    """The gain on ``test``, opened once and only after ``accept``: the number to quote."""
    detail: str = ""


class Removal(Record):
    """Some kept changes, tested again because the stack failed its promotion test; what hurts is taken out."""

    rounds: tuple[int, ...]
    """In which they were kept, in order."""
    verdict: Literal["drop", "stay", "stuck"]
    """``stuck``: later changes rest on it, so that it cannot be taken out by itself."""
    comparison: Comparison | None
    """The version with them (``incumbent``) against the one without (``candidate``), on ``train``; ``None`` where there
    could be no version without."""


class Refresh(Record):
    """The incumbent was measured again, because its scores at hand had gone stale."""

    version: str
    round: int | None = None
    because: Literal["age", "drift", "crashes"]
    """``crashes``: so many changes in a row failed to run that it may be no fault of theirs."""
    detail: str = ""


class Round(Record):
    """One turn of the loop. Round 0 is the baseline: the live version, measured. The last says why the run ended."""

    run: str
    number: int
    incumbent: str
    """The working version that the round started from."""
    candidate: str | None = None
    """``None`` when no version came of it."""
    identity: str = ""
    """A digest of what the candidate does, where the runner can tell: the same for versions that differ in comments
    and the like alone."""
    proposal: Proposal | None = None
    decision: Decision | None = None
    """``None`` in round 0 and in the last."""
    working: str
    """The version that the next round starts from."""
    score: float | None = None
    """Mean train score of ``working``. The trials that a change was kept for count, which flatters it a little."""
    score_low: float | None = None
    score_high: float | None = None
    """Its 90 % interval, by cluster."""
    certification: Certification | None = None
    """Where a checkpoint fell on this round."""
    removals: tuple[Removal, ...] = ()
    """Where that failed with a loss: what the bisection found. ``working`` is the version without what hurts."""
    stop: StopReason | None = None
    """In the last round only."""
    detail: str = ""
    """In the last round: what ended it, in words."""
    usage: Usage = Usage()
    """What the whole run had spent when the round ended."""
    trials: int = 0
    """Trials that the whole run had bought by then."""
    started: datetime
    seconds: float


class Promotion(Record):
    """The live version changed."""

    id: str
    experiment: str
    kind: Literal["promote", "rollback"]
    number: int
    """The N of the tag ``ratchet/<experiment>/v<N>``."""
    version: str
    replaces: str
    commit: str
    branch: str
    certification: str | None = None
    """Id of the certification that earned it; ``None`` for a roll back."""
    gain: float | None = None
    """On ``test``."""


class SplitTest(Record):
    """One promotion test that was opened on a validation split. Opened is spent, also when the process dies."""

    split: str
    """Digest of the hidden tasks: the error budget belongs to them, not to a run."""
    hidden: tuple[str, ...] = ()
    """A digest of each of them, to recognise a split that was changed a little."""
    number: int
    """t, from 1."""
    horizon: int
    """T: how many tests were declared."""
    budget: float
    """alpha over the lifetime of the split."""
    alpha: float
    """alpha_t, what this one may spend."""
    certification: str


class SplitResult(Record):
    """How an opened promotion test ended."""

    split: str
    certification: str
    verdict: str


# ── what the run does ──────────────────────────────────────────────────────────────────────────────────────────


class Run(Record):
    """One night of an experiment: the first record of its journal."""

    id: str
    experiment: str
    subject: str
    live: str
    """The version it started from."""
    fingerprint: dict[str, str]
    """Part of the experiment → digest of what would change the meaning of the records."""
    budget: dict[str, float | int | None]
    tasks: dict[str, int]
    """Split → number of tasks."""
    tried: dict[str, str] = Field(default_factory=dict)
    """Version, or ``Round.identity`` → the run and round that tried it before, under the same fingerprint."""
    known: tuple[Finding, ...] = ()
    """What earlier runs had found, so that the same failure keeps its id."""
    memory: str = ""
    """What earlier runs tried and learned, on train, as the experiment's memory said when this one began."""
    seed: int = 0
    """Number of runs of the experiment before it: what is drawn afresh from night to night."""
    gate: dict[str, Any] = Field(default_factory=dict)
    """Name and settings of the gate, so that its decisions can be replayed from the journal alone."""
    checked: str | None = None
    """Id of the ``Check`` that it rests on; ``None``: it was started without one."""
    trigger: str = "manual"
    owner: str = ""
    """Whose experiment it is, as its contract says."""
    ratchet: str = ""
    """Ratchet's own version."""


class Session(Record):
    """A process took up a run."""

    run: str
    pid: int
    budget: dict[str, float | int | None]
    """The limits of this session, after the command line tightened them."""


class Intent(Record):
    """Something paid for is about to happen. Written first, so that a kill never pays silently twice."""

    step: str
    """Key of the step, or id of the call's span."""
    kind: Literal["step", "call"]
    attempt: int = 1
    trial: str | None = None
    name: str = ""
    estimate: Usage = Usage()
    """What it is charged if its end is never seen."""


class Stop(Record):
    """The search ended; what follows is the last certification. Its reason is the run's."""

    run: str
    reason: StopReason
    detail: str = ""


# ── how far a rubric can be believed ────────────────────────────────────────────────────────────────────────────


class Label(Record):
    """What a person says about one output: the measure of whatever else judges it."""

    id: str
    """A digest of ``asked`` and ``output``."""
    asked: str
    output: str
    marks: dict[str, bool]
    """Criterion → does it pass?"""
    who: str
    labelled: datetime
    trial: str | None = None
    """Where the output came from, if it is known."""
    maker: str = ""
    """The model that made the output, if it is known."""


class Agreement(Record):
    """How far a rubric agrees with people on one criterion."""

    criterion: str
    n: int
    """Outputs that both judged."""
    agreed: float = Field(ge=0, le=1)
    """Share on which both said the same; high by chance alone where nearly all pass."""
    kappa: float | None
    """Cohen's: 1 agrees always, 0 as often as chance would. ``None``: where both say the same of everything, there is
    nothing to agree on."""
    low: float | None
    high: float | None
    """Its 90 % interval."""
    false_passes: float | None
    """Share of what people refuse that it lets pass; ``None``: they refuse nothing."""
    false_failures: float | None
    """Share of what people let pass that it refuses; ``None``: they let nothing pass."""


class Bias(Record):
    """What sways a judge besides the work."""

    kind: Literal["length", "position", "own-model"]
    """``length``: that an output is long. ``position``: in which order criteria and choices are listed.
    ``own-model``: that the judge's own model made it."""
    effect: float | None
    """``length`` and ``own-model``: how much more often it wrongly passes, and less often wrongly refuses, such an
    output; between -1 and 1. ``position``: share of verdicts that change with the order. ``None``: not measured."""
    low: float | None
    high: float | None
    """Its 90 % interval."""
    n: int


class Calibration(Record):
    """A rubric, in the hands of one judge, against people's labels."""

    id: str
    experiment: str
    rubric: str
    """Digest of the rubric and of what the judge is told around it: another one is another scale."""
    judge: str
    """The judge's model."""
    outputs: int
    """Labelled outputs that were judged."""
    unjudged: int
    """Those to which the judge gave no verdict."""
    agreements: tuple[Agreement, ...]
    biases: tuple[Bias, ...]
    usage: Usage
    judged: datetime


# ── what is known before the night ─────────────────────────────────────────────────────────────────────────────


class Noise(Record):
    """How scores scatter when nothing has changed: measured by ``ratchet check``, or declared."""

    score: float = Field(ge=0, le=1)
    """Mean score of the version measured."""
    variance: float = Field(ge=0, le=1)
    """Mean square of the differences between two runs of the same version, by cluster."""
    discordance: float = Field(ge=0, le=1)
    """Share of clusters on which two runs of the same version score differently. For scores of 0 and 1 it is the
    variance."""
    churn: float = Field(default=0.06, ge=0, le=1)
    """Share of clusters that a change breaks besides what it mends: measured in earlier comparisons, else assumed."""
    is_binary: bool = True
    """Are all scores 0 or 1?"""
    clusters: int = 0
    """On how many it was measured; 0: declared."""


class Hole(Record):
    """A cheat that the grader rewards, or that the place where versions run allows."""

    cheat: str
    """One of ``harness.attack.CHEATS`` or ``harness.hostile.ATTACKS``."""
    score: float
    """Mean score that it earned."""
    floor: float
    """What it may earn at most, as declared."""
    tasks: int
    """On how many tasks it was tried."""
    example: str
    """An output that was rewarded, or what could be read, at most 200 characters."""
    task: str | None = None
    """The task of the example."""


class Attack(Record):
    """A cheat of code, tried where candidates run."""

    name: str
    """One of ``harness.hostile.ATTACKS``, or ``honest``: the trial beside them, which has to give its number."""
    tried: str
    outcome: Literal["contained", "caught", "believed", "hole", "untried"]
    """``contained``: it came to nothing. ``caught``: its trial ended without a number. ``believed``: it gave a number
    of its own, and the metric is one that takes the candidate's word. ``hole``: it got what it wanted."""
    got: str = ""
    """What it got, what caught it, or why it was not tried."""


class Contention(Record):
    """What the trials that run at once do to each other."""

    workers: int
    alone: float
    """Seconds of a trial that ran alone, on average."""
    alone_runs: int
    together: float
    """Seconds of one beside others, on average."""
    runs: int
    """That ran beside others."""
    shift: float | None
    """Their mean metric, less that of runs alone; ``None``: not known."""
    error: float | None
    """Standard error of the shift."""


class Twin(Record):
    """Two tasks of different splits that ask the same."""

    task: str
    split: Split
    other: str
    other_split: Split
    similarity: float = Field(ge=0, le=1)
    """1: the same words. Below: cosine of their rare words' weights."""


class Leak(Record):
    """A hidden task whose text stands in the subject."""

    task: str
    split: Split
    path: str


class Estimate(Record):
    """What something will take: the expected amounts."""

    trials: float
    calls: float
    tokens: float
    dollars: float | None
    hours: float


class Check(Record):
    """What an experiment can resolve and what a night will cost, found out before it."""

    id: str
    experiment: str
    live: str
    fingerprint: dict[str, str]
    """Of the experiment when it was checked: a change of runner, grader, tasks or gate asks for a new check."""
    noise: Noise
    a_a: Comparison
    """The live version against itself, through the whole path, on ``train``: ``accept`` would be false."""
    regraded: int
    """Outputs that were graded a second time."""
    regraded_differently: int
    """Those of them that got another score: the grader disagrees with itself."""
    runs: int = 0
    """Of the live version on ``train``, to measure its noise."""
    runs_ungraded: int = 0
    """Those of them that had an output, to which the grader gave no score."""
    ungraded: str = ""
    """The first error of a grader that gave no score, with the task."""
    right_answers: int
    """Known right answers (the targets) that were graded."""
    right_refused: int
    """Those that scored below 0.5."""
    right_ungraded: int = 0
    """Known right answers besides, to which the grader gave no score: it broke."""
    wrong_answers: int
    """Known wrong answers (another task's target) that were graded."""
    wrong_accepted: int
    """Those that scored 0.5 or more, and no nearer to the gate's floor than to what the right answer scored."""
    holes: tuple[Hole, ...]
    attacks: tuple[Attack, ...] = ()
    """Of a code experiment: all that was tried, whatever came of it."""
    contention: Contention | None = None
    """Of a code experiment whose trials run side by side."""
    run_seconds: float | None = None
    """Of a code experiment: a run of the live version, on average."""
    final: int | None = None
    """Runs of each side in the promotion test of a metric."""
    twins: tuple[Twin, ...]
    leaks: tuple[Leak, ...]
    warnings: tuple[str, ...]
    """What may make a night less than it seems, in words."""
    alpha: float | None
    """What the next promotion test may spend; ``None``: nothing is left."""
    validation: int
    """Clusters of the validation split."""
    provable: float | None
    """Smallest gain that a promotion test proves with 80 % power on this validation split; ``None``: not even 1 is."""
    clusters_for_half: int | None
    """Validation clusters that would prove half of it; ``None``: more than a million."""
    round: Estimate
    night: Estimate
    usage: Usage
    """What the check itself took."""
    trials: int
    seconds: float

    @property
    def problems(self) -> int:
        """Errors that make a night worthless: each has to be mended, or declared to be meant."""
        broken = (self.loses_right_answers, self.loses_runs, not self.a_a.is_valid, self.alpha is None)
        return sum(broken) + len(self.holes) + len(self.leaks) + sum(twin.similarity == 1 for twin in self.twins)

    @property
    def loses_right_answers(self) -> bool:
        """Did the grader give no score to more than 5 % of the known right answers?"""
        return self.right_ungraded > 0.05 * (self.right_answers + self.right_ungraded)

    @property
    def loses_runs(self) -> bool:
        """Or to more than 5 % of the live version's own outputs?"""
        return self.runs_ungraded > 0.05 * self.runs
