"""Records of every type, and what the tests of the traces share."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from traces.journal import Journal
from traces.records import (
    Agreement,
    Bias,
    Calibration,
    Certification,
    Check,
    Citation,
    Comparison,
    Completion,
    Decision,
    Edit,
    Escalation,
    Estimate,
    Finding,
    GateSpec,
    Grade,
    Guard,
    Hole,
    Intent,
    Label,
    Leak,
    Mark,
    Noise,
    Prediction,
    Promotion,
    Proposal,
    Record,
    Refresh,
    Removal,
    Review,
    Round,
    Ruling,
    Run,
    Session,
    Span,
    SplitResult,
    SplitTest,
    State,
    Stop,
    Summary,
    Symptom,
    Task,
    Text,
    ToolCall,
    ToolResult,
    Trial,
    Turn,
    Twin,
    Usage,
    Verdict,
    Version,
)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
USAGE = Usage(calls=2, input_tokens=30, cached_tokens=10, cache_write_tokens=5, output_tokens=7, dollars=0.25)
OLD, NEW = "a" * 40, "b" * 40

RUN = Run(
    id="night",
    experiment="example",
    subject="subject",
    live=OLD,
    fingerprint={"tasks": "1234"},
    budget={"rounds": 3, "dollars": None},
    tasks={"train": 8, "validation": 4},
    tried={NEW: "earlier round 2"},
)
FINDING = Finding(
    id="f1",
    title="plural: wrong",
    tags=("plural",),
    kind="wrong",
    count=3,
    share=0.5,
    versions=(OLD,),
    examples=("t1",),
    symptom=Symptom(kind="wrong", tags=("plural",), messages=("not the plural",)),
    lost=3.0,
    first_seen=NOON,
    last_seen=NOON,
    summary="irregular plurals are taken for regular ones",
    cause="the prompt names the regular rule alone",
)
PROPOSAL = Proposal(
    id="p1",
    proposer="Example",
    edits=(Edit(path="prompts/solve.md", text="Mind the plural."), Edit(path="prompts/old.md", text=None)),
    rationale="plurals fail",
    answers=("f1",),
    evidence=("t1",),
    predicted=0.1,
    predictions=(Prediction(tags=("plural",), gain=0.4),),
    citations=(Citation(trial="t1", quote="three mouses"), Citation(trial="t1", span="s1", quote="three mouses")),
    findings=(FINDING,),
)
KEPT = Comparison(
    incumbent=OLD,
    candidate=NEW,
    split="train",
    tasks=8,
    incumbent_score=0.25,
    candidate_score=0.5,
    gain=0.25,
    low=0.1,
    high=0.4,
    confidence=0.9,
    verdict=Verdict(verdict="accept", e_value=12.5, threshold=10, n=8, gain_at_stop=0.25, conditional_power=None),
    spec=GateSpec(alpha=0.1, n_max=8, seed=7),
    differences=(0.0, 1.0, 0.5),
    errors=1,
)
TESTED = KEPT.model_copy(update={"split": "validation"})
MEASURED = KEPT.model_copy(update={"split": "test", "verdict": None, "spec": None, "gain": 0.3})
CERTIFICATION = Certification(
    id="night/certify/1",
    run="night",
    checkpoint=1,
    live=OLD,
    candidate=NEW,
    verdict="accept",
    alpha=0.05,
    test_number=1,
    validation=TESTED,
    guards=(Guard(kind="slice", name="plural", verdict="pass", n=5, wins=2, losses=1, p=0.5),),
    measured=MEASURED,
)
REMOVAL = Removal(rounds=(1,), verdict="stay", comparison=KEPT.model_copy(update={"gain": -0.1}))
ROUND = Round(
    run="night",
    number=1,
    incumbent=OLD,
    candidate=NEW,
    working=NEW,
    proposal=PROPOSAL,
    decision=Decision(verdict="keep", because="improved", comparison=KEPT),
    score=0.5,
    score_low=0.4,
    score_high=0.6,
    certification=CERTIFICATION,
    removals=(REMOVAL,),
    usage=USAGE,
    trials=16,
    started=NOON,
    seconds=9.5,
)
SPAN = Span(
    id="s1",
    run="night",
    trial="t1",
    operation="chat",
    name="local:model",
    started=NOON,
    seconds=0.5,
    usage=USAGE,
    input_hash="c" * 64,
    input_preview="three mice",
    attributes={"gen_ai.request.model": "model", "retries": 0},
)
TRIAL = Trial(
    id="t1",
    run="night",
    round=1,
    version=OLD,
    task="mouse",
    split="train",
    tags=("plural", "animal"),
    cluster="mouse",
    seed=11,
    output="mouses",
    grade=Grade(score=0.0, reason="not the plural"),
    started=NOON,
    seconds=0.75,
    usage=USAGE,
)
BROKEN = TRIAL.model_copy(update={"id": "t2", "grade": None, "error": "no answer", "boundary": "model"})
CHECK = Check(
    id="check-1",
    experiment="example",
    live=OLD,
    fingerprint={"tasks": "1234"},
    noise=Noise(score=0.5, variance=0.2, discordance=0.2, clusters=8),
    a_a=KEPT.model_copy(update={"candidate": OLD}),
    regraded=8,
    regraded_differently=1,
    runs=16,
    runs_ungraded=1,
    ungraded="task 'mouse': ValueError: no score",
    right_answers=8,
    right_refused=0,
    right_ungraded=1,
    wrong_answers=8,
    wrong_accepted=1,
    holes=(Hole(cheat="empty", score=0.5, floor=0.1, tasks=8, example="", task="mouse"),),
    twins=(Twin(task="mouse", split="train", other="mice", other_split="validation", similarity=0.9),),
    leaks=(Leak(task="ox", split="test", path="prompts/solve.md"),),
    warnings=("few tasks",),
    alpha=0.0025,
    validation=216,
    provable=0.2,
    clusters_for_half=400,
    round=Estimate(trials=8, calls=8, tokens=900, dollars=None, hours=0.1),
    night=Estimate(trials=80, calls=80, tokens=9000, dollars=None, hours=1),
    usage=USAGE,
    trials=24,
    seconds=60,
)

CALIBRATION = Calibration(
    id="ca1",
    experiment="example",
    rubric="f" * 16,
    judge="scripted:judge",
    outputs=2,
    unjudged=0,
    agreements=(
        Agreement(
            criterion="true",
            n=2,
            agreed=1.0,
            kappa=1.0,
            low=0.2,
            high=1.0,
            false_passes=0.0,
            false_failures=0.0,
        ),
    ),
    biases=(Bias(kind="length", effect=0.1, low=-0.1, high=0.3, n=2),),
    usage=USAGE,
    judged=NOON,
)
EVERYTHING: tuple[Record, ...] = (
    RUN,
    Session(run="night", pid=42, budget={"rounds": 3}),
    Task(id="mouse", input="plural of mouse", targets=("mice",), tags=("plural",), split="train"),
    Version(id=OLD, commit="c" * 40),
    Intent(step="round/1/t1", kind="step"),
    Intent(step="s1", kind="call", attempt=2, trial="t1", name="local:model", estimate=USAGE),
    SPAN,
    Text(hash="c" * 64, text="three mice"),
    TRIAL,
    BROKEN,
    PROPOSAL,
    FINDING,
    Decision(verdict="keep", because="improved", comparison=KEPT),
    KEPT,
    CERTIFICATION,
    ROUND,
    Promotion(
        id="pr1",
        experiment="example",
        kind="promote",
        number=1,
        version=NEW,
        replaces=OLD,
        commit="d" * 40,
        branch="main",
        certification=CERTIFICATION.id,
        gain=0.3,
    ),
    SplitTest(split="e" * 8, number=1, horizon=20, budget=0.1, alpha=0.05, certification=CERTIFICATION.id),
    SplitResult(split="e" * 8, certification=CERTIFICATION.id, verdict="accept"),
    Usage(),
    Stop(run="night", reason="rounds", detail="3 of 3"),
    Refresh(version=OLD, because="age", detail="13 hours old"),
    ToolCall(id="c1", name="read", arguments={"path": "a.md"}),
    ToolResult(call="c1", tool="read", text="# A"),
    Turn(text="I read it.", calls=(ToolCall(id="c1", name="read"),)),
    State(digest="abcdef12"),
    Summary(text="It read a.md.", messages=3, tokens_before=900, tokens_after=40),
    Mark(criterion="true", passed=False, because="the default is wrong", fingerprint="f", first_seen=1, times_seen=1),
    Review(trial="t1", verdict="needs_revision", marks=(Mark(criterion="true", passed=True, evidence="sep=','"),)),
    Escalation(
        id="e1",
        kind="approval",
        concern="destructive",
        experiment="word_tasks",
        owner="docs team",
        run="r1",
        trial="t1",
        summary="rm -rf /",
        action="a1",
        tool="run",
        arguments={"command": ["rm"]},
        raised=NOON,
        expires=NOON,
    ),
    Completion(session="t1/maker", trial="t1", ended="done", output="…", turns=2, calls=1),
    Ruling(escalation="e1", verdict="rejected", who="ada", ruled=NOON),
    CHECK,
    CALIBRATION,
    Label(id="l1", asked="What is it?", output="A mouse.", marks={"true": True}, who="ada", labelled=NOON),
)


def write(directory: Path, *records: Record, writer: str = "night") -> Path:
    """Append *records* to the journal of *writer*; return its file."""
    path = directory / "spool" / f"{writer}.jsonl"
    with Journal(path) as journal:
        for record in records:
            journal.append(record)
    return path


def span(number: int) -> Span:
    return SPAN.model_copy(update={"id": f"s{number}"})


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs *script*; talk to it through its pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    """The next line that *process* prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str], *, kill: bool = False) -> int:
    """End *process*: by closing its input, or by kill -9."""
    if kill:
        process.kill()
    process.communicate(timeout=60)
    return process.returncode
