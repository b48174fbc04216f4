"""The command line: the one place where everything meets."""

import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from datetime import time as clock_time
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markdown import Markdown

import traces
from analysis import control
from analysis import report as reporting
from analysis.findings import findings as mine
from analysis.findings import paths_of
from analysis.known import found_before, remembered, taught_by_hidden
from analysis.lessons import sentence
from analysis.memory import memory_of
from analysis.night import Night
from experiments import scaffold
from experiments.display import display, limits_line, round_line
from experiments.export import export
from experiments.inbox import inbox_app
from experiments.label import calibrate, label
from experiments.morning import (
    is_own_word,
    nights_of,
    seen_tests,
    standing,
    states_of,
    waiting_for_a_person,
    write_report,
)
from experiments.place import (
    Place,
    here,
    last_night,
    mending_journals,
    names,
    only_experiment,
    ran_last,
    read_journal,
    version_named,
)
from experiments.plan import plan
from experiments.show import lines, rows, trial_named
from experiments.terminal import AsJson, Name, err, out, say, say_json, table
from harness.contract import refuse_scheduled, refuse_unattended
from harness.errors import BudgetSpent, OutOfIdeas, UserError
from harness.evidence import Traces, known_findings
from harness.experiment import Budget, find_experiment, load_experiment, meaning
from harness.gate import PairedGate
from harness.graders.agreement import AgreementGrader
from harness.ledger import (
    Ledger,
    is_finished,
    is_held,
    journal_file,
    open_comparison,
    open_proposal,
    open_run,
    run_to_take_up,
    runs,
    stop_run,
)
from harness.loop import climb, history_for, patiently_asked
from harness.protocols import Parallel
from harness.text import InvalidText
from harness.trials import DurableTrials, TrialMeter
from harness.versions import Repo
from traces.chain import head
from traces.errors import BadLine, JournalLocked, TracesError
from traces.journal import Journal, read
from traces.merge import Merger, merge
from traces.places import data_directory, spool
from traces.records import Certification, Check, Decision, Promotion, Round, Run

if TYPE_CHECKING:
    from harness.gate.nights import NightSpec

WORKERS = 4
"""Trials under way at once, unless the runner says otherwise."""
NoSandboxWanted = Annotated[
    bool,
    typer.Option("--no-sandbox", help="Run commands as plain processes, which can read and change whatever you can"),
]
COPIED = re.compile(r"``(cp -R [^`]+)``")
"""How an experiment on a copy says what that is brought back by."""
ROOM = 10**9
"""Scores that nights may draw in one simulation: some minutes."""
STOPPED_BY_LIMIT = frozenset({"hours", "trials", "tokens", "dollars", "failing", "stopped"})
"""Ends that leave with exit code 3."""

app = typer.Typer(
    help="Ratchet: a self-improving hill-climbing research harness that keeps only what it can prove.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
traces_app = typer.Typer(help="The trace store.", no_args_is_help=True)
app.add_typer(traces_app, name="traces")
app.add_typer(inbox_app, name="inbox")


# ── the night ──────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def new(
    name: Name,
    command: Annotated[
        str | None, typer.Option(help="What to improve: a command that reports a number, such as 'python bench.py'")
    ] = None,
    edit: Annotated[
        list[Path] | None, typer.Option(help="A file or folder that proposals may change; may be given again")
    ] = None,
    fixed: Annotated[
        list[Path] | None,
        typer.Option(help="What the command needs and no proposal may change: what measures, data; may be given again"),
    ] = None,
    metric: Annotated[str, typer.Option(help="The number to improve, by the name that the command reports it by")] = "",
    better: Annotated[str | None, typer.Option(help="lower or higher", metavar="lower|higher")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long one trial may take")] = None,
    readable: Annotated[
        list[Path] | None,
        typer.Option(help="What else the command reads, outside of the repository; may be given again"),
    ] = None,
    autoresearch: Annotated[
        Path | None, typer.Option(help="A checkout of karpathy/autoresearch, to go on from", metavar="PATH")
    ] = None,
    no_sandbox: NoSandboxWanted = False,
) -> None:
    """Write experiments/NAME/, which runs as it is: for a command of your own, or from a template."""
    from experiments import adopt  # it takes a while to import, and this command alone needs it

    paths = (edit or [], fixed or [])
    given = adopt.Given(command, *paths, metric, better, seconds, readable or [], autoresearch, no_sandbox)
    if adopt.begin(Path.cwd(), name, given):
        return
    top = data_directory(Path.cwd()).parents[1]  # of the checkout: a subject is named from there
    for path in scaffold.write(top, name):
        say(f"wrote {os.path.relpath(path)}")
    folder = os.path.relpath(top / "experiments" / name)
    say(f"Next: git add {folder} && git commit -m 'Add {name}' && ratchet check {name} && ratchet run {name}")


@app.command()
def run(
    name: Name,
    rounds: Annotated[int | None, typer.Option(help="At most so many rounds")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="At most so long: 90s, 20m, 8h")] = None,
    until: Annotated[str | None, typer.Option(help="Until a time of day: 07:00")] = None,
    dollars: Annotated[float | None, typer.Option(help="At most so many dollars")] = None,
    unchecked: Annotated[
        bool,
        typer.Option(
            "--unchecked", help="Start without a check; the report will say so. A contract is wanted all the same"
        ),
    ] = False,
    trigger: Annotated[
        str, typer.Option(help="What starts it, where no person does: cron, a webhook's name")
    ] = "manual",
    no_sandbox: NoSandboxWanted = False,
) -> None:
    """Start a night, or take up the one that was interrupted. Options can tighten the budget, never widen it."""
    place = Place.of(name, no_sandbox=no_sandbox)
    limits = [hours for hours in (hours_in(for_), hours_until(until)) if hours is not None]
    budget = Budget(rounds=rounds, dollars=dollars) if rounds is not None or dollars is not None else None
    live = place.subject.live().id
    checked = latest_check(place)
    hours = min((h for h in (*limits, place.experiment.budget.hours) if h is not None), default=None)
    refuse_unattended(place.experiment, hours)
    refuse_scheduled(place.experiment, trigger, place.experiment.budget.tightened(budget))
    try:
        with mending_journals():
            if not unchecked and run_to_take_up(place.directory, place.experiment, live) is None:
                refuse_unchecked(name, checked, hours)
            ledger = open_run(
                place.directory,
                place.experiment,
                live,
                budget=budget,
                session_hours=min(limits, default=None),
                tried=tried_before(place),
                **learned_before(place),
                checked=checked.id if checked and not checked.problems else None,
                trigger=trigger,
            )
    except JournalLocked as e:
        pid = last_night(place.directory, name).pid
        raise UserError(
            f"{name} is running already (process {pid}), and a run has one process. To see it: ratchet status {name}. "
            f"To end it: ratchet stop {name}"
        ) from e
    with closing_run(place, ledger) as executor, display(place.experiment, ledger, err) as show:
        for round in climb(place.experiment, ledger, place.repo, executor):
            show(round)
    night = last_night(place.directory, name)
    path = write_report(place, night)
    for line in reporting.headline(night, standing(place, night)):
        say(reporting.bare(line))
    say(f"Report: {os.path.relpath(path)} and {path.with_suffix('.html').name}")
    if night.state in STOPPED_BY_LIMIT:
        raise typer.Exit(3)


def latest_check(place: Place) -> Check | None:
    """The last check of this very experiment; ``None`` where runner, grader, tasks or gate have changed since."""
    found: list[tuple[datetime, Check]] = []
    for path in spool(place.directory).glob(f"{place.name}-check-*.jsonl"):
        with suppress(BadLine):
            found += [(line.at, cast(Check, line.record())) for line in read(path) if line.type == "Check"]
    mine = meaning(place.experiment.fingerprint())
    return next((c for _, c in sorted(found, key=itemgetter(0), reverse=True) if c.fingerprint == mine), None)


def refuse_unchecked(name: str, checked: Check | None, hours: float | None) -> None:
    """Raise when a run that may take over an hour would start on sand."""
    if checked is not None and checked.problems:
        raise UserError(
            f"the last check of {name!r} found {checked.problems} problems that would make a night worthless. To see "
            f"them: ratchet check {name}. To start all the same, which the report will not hide: "
            f"ratchet run {name} --unchecked"
        )
    if checked is None and (hours is None or hours > 1):
        allowed = "without a limit of time" if hours is None else f"for up to {hours:g} h"
        raise UserError(
            f"{name!r} may run {allowed} and has not been checked as it is now: what a night can prove and cost, and "
            f"whether its grader can be cheated, is not known. It takes minutes: ratchet check {name}. To start all "
            f"the same: ratchet run {name} --unchecked"
        )


@app.command()
def check(
    name: Name,
    clusters: Annotated[int, typer.Option(help="Train clusters that are run twice to measure the noise")] = 100,
    no_sandbox: NoSandboxWanted = False,
    as_json: AsJson = False,
) -> None:
    """Load it, measure its noise, attack its grader; say what a night can prove and what it will cost."""
    from analysis import checking
    from experiments.calibration import about_the_judge
    from harness.check import check as examine
    from harness.check import gradings, open_check

    place = Place.of(name, no_sandbox=no_sandbox)
    live = place.subject.live().id
    try:
        ledger = open_check(place.directory, place.experiment, live)
    except JournalLocked as e:
        raise UserError(f"{name} is being checked already: {e}") from e
    answers = gradings(place.experiment)
    then = f"at least {answers:,} prepared answers to grade" if answers else "then what a hostile candidate would try"
    err.print(
        f"checking {name}: at most {clusters} clusters of train, run twice, and {then}", markup=False, highlight=False
    )
    earlier = [r.decision.comparison for r in rounds_so_far(place) if r.decision and r.decision.comparison]
    with closing_run(place, ledger) as executor, limited():
        found = examine(place.experiment, ledger, place.subject, executor, clusters=clusters, earlier=earlier)
    judge = [*about_the_judge(place)]
    if as_json:
        say_json({**found.model_dump(), "problems": found.problems, "judge": judge})
    elif out.is_terminal:
        out.print(Markdown(checking.render(found, judge)))
    else:
        sys.stdout.write(checking.render(found, judge))
    place.experiment.gate.check(place.experiment.tasks)  # what a run would refuse is refused here, too
    if found.problems:
        raise typer.Exit(1)


def rounds_so_far(place: Place) -> list[Round]:
    """Of the last run of this very experiment; none where it means something else by now."""
    known = runs(place.directory, place.name)
    night = read_journal(journal_file(place.directory, known[-1])) if known else None
    if night is None or meaning(night.run.fingerprint) != meaning(place.experiment.fingerprint()):
        return []
    return list(night.rounds)


@app.command()
def simulate(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Its sizes, its gate, and the noise that its check measured")
    ] = None,
    nights: Annotated[int, typer.Option(help="Simulated nights a row", min=10)] = 1000,
    proposals: Annotated[
        int | None, typer.Option(help="Proposals a night; default: its rounds, else 40", min=1)
    ] = None,
    better: Annotated[float, typer.Option(help="Share of the proposals that are better", min=0, max=1)] = 0.1,
    worse: Annotated[float, typer.Option(help="Share that are worse", min=0, max=1)] = 0.2,
    gain: Annotated[float, typer.Option(help="By how much, in mean score", min=0, max=1)] = 0.05,
    score: Annotated[float | None, typer.Option(help="Declared mean score of the live version", min=0, max=1)] = None,
    discordance: Annotated[
        float | None, typer.Option(help="Declared share of tasks on which two of its runs differ", min=0, max=1)
    ] = None,
    validation: Annotated[
        int | None, typer.Option(help="Validation clusters, to see what others would do", min=2)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Thousands of nights in seconds, on measured noise or on a declared one: false promotions, true gain, trials."""
    from analysis import calibration
    from harness.gate.nights import STANDARD, Mix, NightSpec

    spec = NightSpec(gate=PairedGate())
    if name is not None:
        place = Place.of(name)
        spec = night_spec(place, has_noise=score is not None and discordance is not None)
    noise = spec.noise if name is not None else STANDARD
    declared = {"score": score, "discordance": discordance, "variance": discordance}
    declared = {field: value for field, value in declared.items() if value is not None}
    if declared:
        noise = noise.model_copy(update={**declared, "clusters": 0})
    most = 2 * noise.score * (1 - noise.score)
    if noise.is_binary and noise.discordance > most + 1e-9:
        raise UserError(
            f"two runs cannot differ on {noise.discordance:.0%} of the tasks at a mean score of {noise.score:g}: "
            f"scores of 0 and 1 allow at most {most:.0%}. Give a smaller --discordance"
        )
    clusters = sum(spec.clusters(split) for split in ("train", "validation", "test"))
    if nights * ((proposals or spec.proposals) + 2) * max(clusters, 3 * (validation or 0)) > ROOM:
        raise UserError(
            f"{nights:,} nights of so many proposals on so many clusters would take far longer than seconds. Give "
            "fewer --nights, --proposals or --validation"
        )
    if better + worse > 1:
        raise UserError(f"{better:g} better and {worse:g} worse are more than all proposals. Give shares that sum to 1")
    spec = replace(
        spec,
        noise=noise,
        mix=Mix(better=better, worse=worse, gain=gain, loss=gain),
        proposals=proposals or spec.proposals,
        validation=validation or spec.validation,
    )
    found = calibration.outlooks(spec, nights)
    if as_json:
        say_json([{"night": kind, **calibration.fields(o)} for kind, o in found])
    else:
        sys.stdout.write(calibration.render(found))


def night_spec(place: Place, *, has_noise: bool) -> "NightSpec":
    """A night of this experiment as far as it can be simulated; its noise is what the last check measured."""
    from harness.check import night_of
    from harness.gate.nights import STANDARD

    gate = place.experiment.gate
    if not isinstance(gate, PairedGate):
        raise UserError(
            f"{place.name!r} has a {type(gate).__name__}, and only nights of a PairedGate can be simulated. What it "
            f"can resolve: ratchet check {place.name}"
        )
    checked = latest_check(place)
    if checked is None and not has_noise:
        raise UserError(
            f"{place.name!r} has not been checked as it is now, so its noise is not known. Measure it: "
            f"ratchet check {place.name}. Or declare it: --score 0.6 --discordance 0.17"
        )
    return night_of(place.experiment, gate, checked.noise if checked else STANDARD)


@contextmanager
def limited() -> Generator[None]:
    """Around work outside a run's loop: a limit of the budget ends the command."""
    try:
        yield
    except BudgetSpent as e:
        err.print(
            f"ratchet: stopped by a limit: {e}. What was bought is kept. Raise that limit in experiment.py, or ask for "
            "less (check --clusters)",
            markup=False,
            highlight=False,
        )
        raise typer.Exit(3) from e


@contextmanager
def closing_run(place: Place, ledger: Ledger) -> Generator[ThreadPoolExecutor]:
    """Around the work of a run: merge as it goes, and end without waiting for answers that nobody wants any more."""
    runner = place.experiment.runner
    workers = runner.workers if isinstance(runner, Parallel) else WORKERS
    executor = ThreadPoolExecutor(workers, thread_name_prefix="trial")
    with Merger(place.directory) as merger:
        try:
            yield executor
        except KeyboardInterrupt:
            err.print("\nInterrupted; everything is kept. To go on, type the same again.", highlight=False)
            raise
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            ledger.close()
    if merger.trouble is not None:
        trouble = str(merger.trouble)
        hint = "" if "ratchet traces merge" in trouble else ". Try: ratchet traces merge"
        err.print(f"The traces are not all merged yet: {trouble}{hint}", markup=False)


def tried_before(place: Place) -> dict[str, str]:
    """Versions that earlier runs of this very experiment have compared and not kept, what these do, and where."""
    fingerprint = meaning(place.experiment.fingerprint())
    try:
        found = traces.sql(
            "select rounds.candidate, rounds.identity, rounds.run, rounds.number, runs.fingerprint from rounds "
            "join runs on runs.id = rounds.run "
            "join decisions on decisions.run = rounds.run and decisions.round = rounds.number "
            "where runs.experiment = ? and decisions.verdict <> 'keep' and decisions.because <> 'errors' "
            "and decisions.comparison is not null",
            (place.name,),
            directory=place.directory,
        )
    except TracesError as e:
        err.print(f"What earlier nights tried is not known, and may be tried again: {e}", markup=False, highlight=False)
        return {}
    return {
        str(name): f"{row.run} round {row.number}"
        for row in found.itertuples()
        if meaning(json.loads(str(row.fingerprint))) == fingerprint
        for name in (row.candidate, row.identity)
        if name
    }


def learned_before(place: Place) -> dict[str, Any]:
    """What a run begins with, as ``open_run`` wants it: what earlier ones had found, so that the same failure keeps its
    name, and their memory, after the notes that people keep beside the experiment. Not of those that learned from tasks
    which are hidden now."""
    hidden = {task.id for task in place.experiment.tasks if task.split != "train"}
    try:
        spoiled = taught_by_hidden(place.name, place.directory, hidden)
        known = found_before(place.name, place.directory, spoiled)
    except TracesError as e:
        err.print(f"What earlier nights found is not known, and gets new names: {e}", markup=False, highlight=False)
        return {}
    memory = (
        memory_of([n for n in nights_of(place) if n.run.id not in spoiled])
        if spoiled
        else remembered(place.directory, place.name)
    )
    notes = scaffold.notes_of(place.repo.root, place.name)
    return {"known": known, "memory": "\n\n".join(text for text in (notes, memory) if text)}


def hours_in(text: str | None) -> float | None:
    """``90s``, ``20m``, ``8h`` or ``1h30m`` in hours."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if match is None or not any(match.groups()):
        raise UserError(f"--for {text!r} is no duration, so the run would have no end. Write it like 90s, 20m or 8h")
    h, m, s = (float(part or 0) for part in match.groups())
    return h + m / 60 + s / 3600


def hours_until(text: str | None) -> float | None:
    """Hours from now until the next time that the clock on the wall says *text*."""
    if text is None:
        return None
    try:
        at = clock_time.fromisoformat(text)
    except ValueError as e:
        raise UserError(f"--until {text!r} is no time of day, so the run would have no end. Write it like 07:00") from e
    here_and_now = datetime.now().astimezone()
    end = here_and_now.replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    end += timedelta(days=1) if end <= here_and_now else timedelta()
    return (end - here_and_now).total_seconds() / 3600


@app.command()
def stop(name: Name) -> None:
    """End the run from another process, within seconds. What it kept and measured stays."""
    _, directory = here()
    night = last_night(directory, name)
    if is_finished(journal_file(directory, night.run.id)):
        say(f"run {night.run.id} has ended already ({night.state}).")
        return
    pid = stop_run(directory, night.run.id)
    if pid is None:
        say(
            f"ended run {night.run.id} for good: no process had it open, and now nobody can take it up again. Kept: "
            f"{night.trials:,} trials, {len(night.kept)} of {len(night.tries)} changes, all traces. No promotion test "
            f"will be made of them. To see it: ratchet report {name}. To start anew: ratchet run {name}"
        )
        return
    deadline = time.monotonic() + 10
    while is_held(journal_file(directory, night.run.id)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if is_held(journal_file(directory, night.run.id)):
        raise UserError(
            f"run {night.run.id} was told to end, and process {pid} still has it open after 10 s. Try: kill {pid}"
        )
    say(f"ended run {night.run.id} (process {pid}).")


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Default: every experiment that ran here")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Live and working version, spend, last decisions, why it stopped."""
    _, directory = here()
    nights: list[Night] = []
    for known in [name] if name else names(directory):
        try:
            nights.append(last_night(directory, known))
        except UserError as e:
            if name:
                raise
            err.print(f"{known}: {e}", markup=False, highlight=False)
    if as_json:
        say_json([status_fields(directory, night) for night in nights])
        return
    if not nights:
        say("Nothing has run here yet. Start: ratchet run NAME")
    for night in nights:
        fields = status_fields(directory, night)
        say(f"{night.run.experiment}: run {night.run.id}, {fields['state']}")
        say(
            f"  live {fields['live'][:12]}, working {night.working[:12]}, "
            f"{len(night.kept)} of {len(night.tries)} changes kept"
        )
        say(
            f"  spent {night.trials:,} trials, {night.usage.calls:,} calls, {night.usage.tokens:,} tokens, "
            f"{reporting.money(night.usage)}, {reporting.duration(night.seconds)}; "
            f"limits {limits_line(night.limits) or 'none'}"
        )
        for round in night.rounds[-3:]:
            say("  " + round_line(round, reporting.metric_of(night)).replace("\n", "\n  "))
        say(
            "  runs so far ended by: "
            + (", ".join(f"{k} {v}" for k, v in (fields["ends"] or {}).items()) or "none did")
        )
        around = reporting.Standing(fields["live"], False, None, (), *seen_tests(directory, night))
        say("  " + reporting.bare(reporting.proven(night, around)))
        if night.kept and fields["own_word"]:
            say("  " + reporting.OWN_WORD)
        for line in control.lines(fields["facts"]) if fields["facts"] else ():
            say("  " + line)


def live_now(night: Night) -> str:
    """The version that is live by now, which need not be the one that the run began with."""
    try:
        return Repo.find(Path.cwd()).subject(night.run.subject).version("live").id
    except UserError:
        return night.run.live


def status_fields(directory: Path, night: Night) -> dict[str, Any]:
    """One object of ``ratchet status --json``; README lists the fields."""
    ends: dict[str, int] | None = None
    with suppress(TracesError):
        counted = traces.sql(
            "select reason, count(*) as n from stops join runs on runs.id = run where experiment = ? group by all",
            (night.run.experiment,),
            directory=directory,
        )
        ends = {str(row.reason): int(str(row.n)) for row in counted.itertuples()}
    held = night.ended is None and is_held(journal_file(directory, night.run.id))
    state = night.state if night.ended or night.stop else "running" if held else "interrupted"
    last = night.tries[-1] if night.tries else None
    return {
        "experiment": night.run.experiment,
        "run": night.run.id,
        "state": state,
        "pid": night.pid if held else None,
        "stop_reason": night.state if night.ended or state == "stopped" else None,
        "ends": ends,
        "live": live_now(night),
        "started_from": night.run.live,
        "working": night.working,
        "rounds": len(night.tries),
        "kept": len(night.kept),
        "score": night.rounds[-1].score if night.rounds else None,
        "score_low": night.rounds[-1].score_low if night.rounds else None,
        "score_high": night.rounds[-1].score_high if night.rounds else None,
        "last_decision": last.decision.model_dump(exclude={"comparison"}) if last and last.decision else None,
        "certified": night.certified.candidate if night.certified else None,
        "gain": night.certified.measured.gain if night.certified and night.certified.measured else None,
        "trials": night.trials,
        "usage": night.usage.model_dump(),
        "interrupted_calls": night.interrupted,
        "seconds": night.seconds,
        "budget": night.run.budget,
        "own_word": says_its_own_number(night),
        "facts": facts_of(directory, night) if state == "running" else None,
    }


def says_its_own_number(night: Night) -> bool | None:
    """Is its number what the candidate's own process said? ``None`` where its experiment does not load any more."""
    if not reporting.metric_of(night):
        return False
    try:
        return is_own_word(load_experiment(find_experiment(night.run.experiment, Path.cwd())))
    except UserError:
        return None


def facts_of(directory: Path, night: Night) -> dict[str, str] | None:
    """What a person wants to know of a live run; ``None`` where its experiment does not load any more."""
    name = night.run.experiment
    try:
        experiment = load_experiment(find_experiment(name, Path.cwd()))
    except UserError:
        return None
    waiting = [e for e in waiting_for_a_person(directory, name) if e.kind != "notice"]
    return control.facts(experiment, night, waiting)


@app.command()
def report(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Default: the experiment that ran last")] = None,
    as_json: AsJson = False,
) -> None:
    """The morning report: Markdown on stdout; with its pictures as files, one of them a page for a browser."""
    place = Place.of(name or ran_last())
    night = place.night()
    if as_json:
        say_json(
            {
                "run": night.run.model_dump(),
                "state": night.state,
                "rounds": [r.model_dump() for r in night.rounds],
                "usage": night.usage.model_dump(),
                "trials": night.trials,
                "seconds": night.seconds,
                "interrupted_calls": night.interrupted,
            }
        )
        return
    path = write_report(place, night)
    text = path.read_text(encoding="utf-8")
    if out.is_terminal:
        out.print(Markdown(text))
    else:
        sys.stdout.write(text)
    err.print(f"Written to {os.path.relpath(path)} and {path.with_suffix('.html').name}", highlight=False)


@app.command()
def show(
    trial: Annotated[str, typer.Argument(help="The trial's id, or the end of it")], as_json: AsJson = False
) -> None:
    """One trace, readable: what was asked, what came back, how it was reviewed and graded, and why it ended."""
    _, directory = here()
    found = trial_named(trial, directory)
    if as_json:
        last = found.trials[0] if found.trials else None
        say_json({"trial": last, "spans": found.spans, "reviews": found.reviews})
        return
    for line in lines(found):
        say(line)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="What DuckDB is asked; tables: traces/schema.sql")],
    as_json: AsJson = False,
) -> None:
    """Ask DuckDB, also while a night writes."""
    import duckdb

    _, directory = here()
    try:
        frame = traces.sql(query, directory=directory)
    except duckdb.Error as e:
        raise UserError(f"DuckDB does not take the query: {e}") from e
    if as_json:
        say_json(rows(frame))
    else:
        missing = frame.astype(object).where(frame.notna(), None)
        table([str(c) for c in frame.columns], list(missing.itertuples(index=False)))


@app.command()
def findings(
    name: Name,
    version: Annotated[
        str, typer.Option(help="A version that the last run measured; default: its working version")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Recurring failures of the last run, with evidence, and how it stands with those of all runs."""
    place = Place.of(name)
    night = place.night()
    measured = version_named(place, version) if version else night.working
    trials = place.train_trials(night, measured)
    if not trials:
        raise UserError(
            f"run {night.run.id} has measured no train task with version {measured[:12]}. Run: ratchet run {name}"
        )
    traces_of = Traces(journal_file(place.directory, night.run.id), trials)
    found = mine(trials, known_findings(night.run.known, night.rounds), paths_of(trials, traces_of))
    state = {s.id: s for s in states_of(place)}
    how = {
        s.id: s.state if s.answer_is_live is not False else f"{s.state}, its answer is not live" for s in state.values()
    }
    if as_json:
        say_json([{**f.model_dump(), "state": state[f.id].state if f.id in state else "open"} for f in found])
        return
    say(f"{reporting.count(len(found), 'finding')} in {len(trials):,} train trials of version {measured[:12]}")
    table(
        ["id", "failures", "share", "score lost", "state", "finding", "for example"],
        [
            (
                f.id,
                f.count,
                f"{f.share:.1%}",
                f"{f.lost:.1f}",
                how.get(f.id, "open"),
                f.title,
                f.examples[0].removeprefix(f"{night.run.id}/"),
            )
            for f in found
        ],
    )
    for f in found:
        if f.cause:
            say(f"{f.id}: {f.summary} Why, as a model supposes: {f.cause}")
    if found:
        say(f"To read one: ratchet show {found[0].examples[0].removeprefix(night.run.id + '/')}")
    for answered in dict.fromkeys(id for r in night.kept if r.proposal for id in r.proposal.answers):
        say(f"{answered} was {sentence(answered, night.rounds)}")
    gone = [s for s in state.values() if s.id not in {f.id for f in found} and s.state != "gone"]
    if gone:
        say(f"Of all runs, not shown by this version: {', '.join(f'{s.id} ({s.state})' for s in gone[:10])}")


@app.command()
def propose(name: Name, no_sandbox: NoSandboxWanted = False, as_json: AsJson = False) -> None:
    """One candidate from the proposer, on the evidence of the last run; run nothing."""
    place = Place.of(name, no_sandbox=no_sandbox)
    night = place.night()
    if not night.rounds:
        raise UserError(
            f"run {night.run.id} has measured nothing yet, so there is no evidence. Go on: ratchet run {name}"
        )
    text = place.subject.text(night.working)
    trials = place.train_trials(night, night.working)
    journal = journal_file(place.directory, night.run.id)
    history = history_for(place.experiment, place.subject, night.run, night.rounds, trials, journal)
    try:
        ledger = open_proposal(place.directory, place.experiment, night.run, len(night.rounds))
    except JournalLocked as e:
        raise UserError(f"another process is asking the proposer of {name} already: {e}") from e
    meter = TrialMeter(ledger, "proposal")
    with closing_run(place, ledger) as executor, limited():
        ask = partial(patiently_asked, place.experiment.proposer, meter, executor, night.working, text, history)
        try:
            proposal = ledger.step("proposal", ask, durable=True)
        except OutOfIdeas as e:
            raise UserError(f"the proposer has no idea left: {e}") from e
    spent = ledger.usage
    if spent.calls:
        said = f"spent {spent.calls:,} calls, {spent.tokens:,} tokens, {reporting.money(spent)}, in {ledger.run.id}"
        err.print(said, markup=False, highlight=False)
    if isinstance(proposal, Decision):
        raise UserError(
            f"the proposer gave nothing that can be used: {proposal.detail}. In a run such a round is recorded and the "
            f"next one asks again. To try once more: ratchet propose {name}"
        )
    candidate = place.subject.candidate(place.subject.version(night.working), proposal.edits)
    if as_json:
        say_json({"candidate": candidate.id, **proposal.model_dump()})
        return
    say(f"{reporting.short(proposal.rationale, len(proposal.rationale) + 1)}\ncandidate {candidate.id}\n")
    say(place.subject.diff(night.working, candidate.id))


@app.command()
def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or NAME: its last run")],
    anchor: Annotated[
        list[str] | None, typer.Option(help="A chain value kept elsewhere, such as the one in a report")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide everything in a run once more from its journal, without a model; say where it differs or was edited."""
    from harness.verify import verify as replay

    repo, directory = here()
    run = Path(run).name.removesuffix(".jsonl")
    if run == "splits" or run.startswith("promotions-"):
        raise UserError(f"{run} is no run; the ledger of hidden tasks is checked with each run. Name a run, or NAME")
    journal = journal_file(directory, run)
    if not journal.exists():
        journal = journal_file(directory, last_night(directory, run).run.id)
    found = replay(journal, directory, anchors=[*(anchor or []), *anchors_in_git(repo, journal)])
    if as_json:
        say_json({**asdict(found), "sound": found.is_sound})
    else:
        say(
            f"{found.run}: {found.lines:,} lines, {found.trials:,} trials; decided once more: {found.rounds} rounds, "
            f"{found.decisions} decisions, {found.comparisons} comparisons, {found.certifications} promotion tests, "
            f"{found.entries} entries of the ledger of hidden tasks"
        )
        for broken in found.breaks:
            say(f"edited: {broken}")
        for difference in found.differences:
            say(f"differs: {difference}")
        for lost in found.lost:
            say(f"lost: no line has the chain value {lost}, which was kept elsewhere; it was written again, or cut")
        if found.not_replayed:
            say(f"not replayed: {found.not_replayed}")
        faulty = found.differences or found.breaks or found.lost
        word = "sound" if found.is_sound else "NOT SOUND" if faulty else "NOT REPLAYED, though it is as it was written"
        say(f"{word}; the chain ends with {found.head or 'nothing: it has none'}")
    if not found.is_sound:
        raise typer.Exit(1)


def anchors_in_git(repo: Repo, journal: Path) -> list[str]:
    """Chain values of a run's *journal* that promotion commits have kept; none where it does not say what it ran."""
    with suppress(BadLine, UserError):
        for line in read(journal):
            if isinstance(run := line.record(), Run):
                trailers = [promoted.trailers for promoted in repo.subject(run.subject).history(run.experiment)]
                return [t["Journal"] for t in trailers if t.get("Run") == journal.stem and "Journal" in t]
    return []


# ── versions ───────────────────────────────────────────────────────────────────────────────────────────────────────


On = Annotated[str | None, typer.Option("--on", metavar="NAME", help="The experiment; needed where several have run")]
OnBranch = Annotated[str | None, typer.Option("--branch", help="Commit on this branch instead of the one checked out")]


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A version: id or its beginning, v3, live")],
    b: Annotated[str, typer.Argument(metavar="[B]", help="Another; default: A against the live version")] = "",
    on: On = None,
) -> None:
    """What differs between two versions."""
    place = Place.of(only_experiment(on))
    before, after = (version_named(place, name) for name in ((a, b) if b else ("live", a)))
    say(place.subject.diff(before, after) or f"no difference: both are {before[:12]}")


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A version: id or its beginning, v3, live")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another: is it better than A?")],
    on: On = None,
    no_sandbox: NoSandboxWanted = False,
    as_json: AsJson = False,
) -> None:
    """Is B better than A? Both run afresh on train. It certifies nothing: only a run may open hidden tasks."""
    place = Place.of(only_experiment(on), no_sandbox=no_sandbox)
    first, second = version_named(place, a), version_named(place, b)
    if first == second:
        raise UserError(f"{a} and {b} are the same version, {first[:12]}, so there is nothing to find out. Name two")
    ledger = open_comparison(place.directory, place.experiment, first, second)
    with closing_run(place, ledger) as executor, limited():
        trials = DurableTrials(place.experiment, ledger, place.subject.text, executor, "compare/train")
        found = ledger.step(
            "compare", lambda: place.experiment.gate.prove(first, second, trials, alpha=0.05, split="train")
        )
    if as_json:
        say_json(found.model_dump())
        return
    assert found.verdict is not None
    words = {"accept": "B is better", "reject": "B is not better", "undecided": "not settled"}
    how = (
        f"Welch's test, one-sided, at alpha {1 / found.verdict.threshold:.4g}; "
        f"{reporting.count(found.tasks, 'fresh run')} each"
        if found.metric
        else f"e-value {found.verdict.e_value:.3g} of {found.verdict.threshold:.3g} needed"
    )
    scores = [
        "none" if score is None else reporting.figure(score, found.metric)
        for score in (found.incumbent_score, found.candidate_score)
    ]
    say(
        f"{words.get(found.verdict.verdict, 'not settled')}: {reporting.gain(found)} on train, {how}; score "
        f"{' → '.join(scores)}"
    )


@app.command()
def promote(
    name: Name,
    branch: OnBranch = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Make the version that the last promotion test certified the live one: one commit and a tag."""
    place = Place.of(name)
    found = certified(place)
    if found is None:
        raise UserError(
            f"no run of {name!r} has certified a version against the live one, so nothing is proven. "
            f"Run: ratchet run {name}"
        )
    night, c = found
    again = place.subject.live().id == c.candidate  # or a promotion that a kill cut off, and that was finished just now
    where = "" if c.measured and c.measured.metric else " on test"
    measured = reporting.gain(c.measured) + where if c.measured else "no test measurement"
    say(f"{c.candidate[:12]} {'has replaced' if again else 'replaces'} {c.live[:12]}: {measured}\n")
    say(place.subject.diff(c.live, c.candidate))
    if isinstance(place.experiment.grader, AgreementGrader):
        say(
            "It is a rubric, so a new scale begins: whoever is graded by it is compared with no score from before. How "
            f"far it agrees with people: ratchet calibrate {name}\n"
        )
    if is_own_word(place.experiment):
        say(f"{reporting.OWN_WORD}\n")
    if not yes and not again:
        if not sys.stdin.isatty():
            raise UserError(
                "promoting changes your branch, and nobody is there to ask. To do it: "
                f"ratchet promote {name}{on_branch(branch)} --yes"
            )
        if not typer.confirm("Make it live?"):
            raise typer.Exit(1)
    answered = sorted({f for r in night.kept if r.proposal for f in r.proposal.answers})
    trailers = {
        "Run": night.run.id,
        "Candidate": c.candidate,
        **({"Findings": " ".join(answered)} if answered else {}),
        **({"Gain": reporting.gain(c.measured)} if c.measured else {}),
        "Certification": c.id,
        "Journal": head(journal_file(place.directory, night.run.id)),
    }
    with Journal(promotions_file(place)):
        pass  # what cannot be written down is not done
    done = place.subject.promote(
        place.subject.version(c.candidate),
        experiment=name,
        replaces=c.live,
        trailers=trailers,
        branch=branch_named(branch),
    )
    gained = c.measured.gain if c.measured else None
    keep_promotion(place, done.model_copy(update={"certification": c.id, "gain": gained}))
    where = f"{done.version[:12]}, v{done.number} of {name}, commit {done.commit[:12]} on {done.branch}"
    if place.subject.version("live").id == done.version:
        say(f"live: {where}\nTo put the old one back: ratchet rollback {name}")
        say_where_else(place, c.live, c.candidate)
    else:
        say(
            f"promoted: {where}\n{merging(done)}\n"
            f"To put the old one back there: ratchet rollback {name}{on_branch(done.branch)}"
        )


def branch_named(branch: str | None) -> str | None:
    """The name of a branch that may be given as git has it."""
    return branch.removeprefix("refs/heads/") if branch else None


def on_branch(branch: str | None) -> str:
    """The option that names it, as it is typed."""
    return f" --branch {shlex.quote(branch)}" if branch else ""


def merging(done: Promotion) -> str:
    return f"It becomes live here when you merge that: git merge {shlex.quote(done.branch)}"


def certified(place: Place) -> tuple[Night, Certification] | None:
    """The latest certification against the version that is live, and its night."""
    live = place.subject.live().id
    for run_id in reversed(runs(place.directory, place.name)):
        night = read_journal(journal_file(place.directory, run_id))
        c = night.certified if night else None
        if night is not None and c is not None and live in (c.live, c.candidate):
            return night, c
    return None


def promotions_file(place: Place) -> Path:
    return spool(place.directory) / f"promotions-{place.name}.jsonl"


def keep_promotion(place: Place, promotion: Promotion) -> None:
    """Write it to the experiment's own journal, once."""
    with Journal(promotions_file(place)) as journal:
        if all(line.key != promotion.id for line in journal.lines()):
            journal.append(promotion, key=promotion.id, durable=True)
    try:
        merge(place.directory)
    except TracesError as e:  # the version is live all the same
        err.print(f"The traces are not merged yet: {e}", markup=False, highlight=False)


@app.command()
def rollback(
    name: Name,
    to: Annotated[int | None, typer.Option(help="The N of v<N>; default: what was live before")] = None,
    branch: OnBranch = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Put an earlier version back: a commit that restores its files."""
    place = Place.of(name)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(
                "rolling back changes your branch, and nobody is there to ask. To do it: "
                f"ratchet rollback {name}{'' if to is None else f' --to {to}'}{on_branch(branch)} --yes"
            )
        if not typer.confirm(f"Put {'the version before' if to is None else f'v{to}'} back?"):
            raise typer.Exit(1)
    done = place.subject.rollback(experiment=name, to=to, branch=branch_named(branch))
    keep_promotion(place, done)
    where = f"{done.version[:12]}, v{done.number} of {name}, commit {done.commit[:12]} on {done.branch}"
    here = place.subject.version("live")
    if branch is None or here.commit == done.commit:
        say(f"live: {where}")
        say_where_else(place, done.replaces, done.version)
    else:
        say(f"put back: {where}" + ("" if here.id == done.version else f"\n{merging(done)}"))


def say_where_else(place: Place, before: str, after: str) -> None:
    """Where the subject is a copy, as ``ratchet new --command`` has noted: how to change what it is a copy of."""
    text = find_experiment(place.name, Path.cwd()).read_text(encoding="utf-8")
    noted = COPIED.search(text)
    if noted is None or before == after:
        return
    target = shlex.split(noted[1])[-1]
    where = "" if target == "." else f" --directory={shlex.quote(target)}"
    say(
        f"{place.experiment.subject} is a copy: what it was made from, and other copies, stay as they are. To "
        f"change these in the same way, at the top of the repository:\n"
        f"  git diff --binary {before[:12]} {after[:12]} | git apply{where}"
    )


@app.command()
def versions(name: Name, as_json: AsJson = False) -> None:
    """The versions that were live, and how each earned it."""
    place = Place.of(name)
    live = place.subject.live().id
    found = place.subject.history(name)
    current = max((p.number for p in found if p.version.id == live), default=None)
    fields = [
        {
            "number": p.number,
            "version": p.version.id,
            "kind": p.kind,
            "when": p.when.isoformat(),
            "commit": p.version.commit,
            "live": p.number == current,
            "gain": p.trailers.get("Gain"),
            "run": p.trailers.get("Run"),
        }
        for p in found
    ]
    if as_json:
        say_json(fields)
        return
    if not found:
        say(f"live: {live[:12]}; nothing was promoted yet. To find something better: ratchet run {name}")
        return
    table(
        ["", "version", "how", "when", "gain on test", "run"],
        [
            (
                f"v{f['number']}{' (live)' if f['live'] else ''}",
                str(f["version"])[:12],
                f["kind"],
                str(f["when"])[:16],
                f["gain"],
                f["run"],
            )
            for f in fields
        ],
    )


for verb in (label, calibrate, export, plan):
    app.command()(verb)


@traces_app.command("merge")
def merge_traces() -> None:
    """Bring what the journals hold into traces.duckdb."""
    _, directory = here()
    merged = merge(directory)
    say(
        f"{merged.rows:,} rows merged"
        + (f", {merged.dead} bad lines put aside (table dead_letter)" if merged.dead else "")
    )


def leave(code: int) -> None:
    """End now. Calls still under way have been charged; waiting for their answers would take as long as they do."""
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if any(thread.name.startswith("trial") for thread in threading.enumerate()):
        os._exit(code)
    raise SystemExit(code)


def main() -> None:
    """Run ``ratchet``. Exit codes: 0 done, 1 a user's error, 2 usage, 3 stopped by a limit, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except SystemExit as e:
        leave(e.code if isinstance(e.code, int) else 1)
    except (UserError, InvalidText, TracesError) as e:
        err.print(f"ratchet: {e}", style="red", highlight=False, markup=False, soft_wrap=True)
        leave(1)
    except OSError as e:  # a full disk, a directory that may not be written to, an output that nobody reads
        where = f" ({e.filename})" if e.filename else ""
        err.print(
            f"ratchet: {e.strerror or e}{where}. What was recorded is kept. Mend that and type the same again",
            style="red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        leave(1)


if __name__ == "__main__":
    main()
