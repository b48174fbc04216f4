"""The loop: propose, run, compare, keep or discard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import perf_counter

from harness.certify import Certifier, lost, proves
from harness.errors import BudgetSpent, OutOfIdeas, TrialError, UserError, boundary
from harness.evidence import Traces, known_findings, unfounded
from harness.experiment import Experiment
from harness.gate.ledger import SplitLedger
from harness.ledger import Ledger, journal_file
from harness.meter import metered
from harness.progress import crash_streak, progress
from harness.protocols import Checks, History, Proposer, Referee
from harness.text import InvalidText
from harness.trials import DurableTrials, TrialMeter, seed_of, wait_for
from harness.undo import length
from harness.versions import InvalidEdit, Repo, Subject
from traces.records import (
    Decision,
    Proposal,
    Round,
    Run,
    Stop,
    Trial,
    now,
)

PATIENCE_WITH_ERRORS = 3
"""Rounds in a row that may be lost to a broken proposer or infrastructure before the run ends as ``failing``."""

STALE = timedelta(hours=12)
"""Age at which the incumbent's scores at hand are measured again."""

CRASHES = 6
"""Changes in a row that gave no number, after which the incumbent is run again: perhaps nothing runs any more."""
PATIENCE_WITH_CRASHES = 24
"""Such changes until the run ends as ``failing``."""

PATIENCE_WITH_REPEATS = 20
"""Proposals in a row that may be invalid or tried before until the run ends as ``no-progress``."""


def climb(experiment: Experiment, ledger: Ledger, repo: Repo, executor: Executor) -> Iterator[Round]:
    """Propose, run, compare, keep or discard; until the budget is spent or the ideas run out.

    Yields the baseline as round 0, a round for each proposal, and a last one that says why it ended and holds the
    certification of what was kept. Safe to kill: started again on the same journal, it yields the recorded rounds
    again and carries on from there.
    """
    night = Night(experiment, ledger, repo.subject(experiment.subject), executor)
    rounds: list[Round] = []
    try:
        while True:
            with ledger.reserving(night.certifier.cost()):
                number = len(rounds)
                rounds.append(ledger.step(f"round/{number}", partial(night.play, number, rounds), durable=True))
            yield rounds[-1]
    except (BudgetSpent, OutOfIdeas) as end:
        stop = ledger.step("stop", partial(night.stop, end), durable=True)
    yield ledger.step("end", partial(night.close, rounds, stop), durable=True)


@dataclass(frozen=True)
class Night:
    """What a run's rounds have in common. It has no state: that is in the journal."""

    experiment: Experiment
    ledger: Ledger
    subject: Subject
    executor: Executor

    @property
    def certifier(self) -> Certifier:
        return Certifier(self.experiment, self.ledger, self.subject, self.executor)

    # ── a round ────────────────────────────────────────────────────────────────────────────────────────────────

    def play(self, number: int, rounds: Sequence[Round]) -> Round:
        """One turn. Everything in it that costs money or judgement is a step, so a kill repeats nothing."""
        is_begun = self.ledger.begun(f"round/{number}/proposal")
        self.may_go_on(rounds, is_begun=is_begun)
        started, clock = now(), perf_counter()
        incumbent = rounds[-1].working if rounds else self.ledger.run.live
        round = Round(
            run=self.ledger.run.id, number=number, incumbent=incumbent, working=incumbent, started=started, seconds=0
        )
        if number > 0:
            if not is_begun:
                self.refresh_what_is_doubtful(round, rounds)
            round = self.try_a_change(round, rounds)
        else:
            self.refuse_in_vain()
        score = self.score(round)
        certification = self.certifier.checkpoint([*rounds, round])
        if certification is not None and lost(certification):
            round = self.certifier.take_apart(round, rounds)
            score = self.score(round) if round.removals else score
        score, low, high = score or (None, None, None)
        return round.model_copy(
            update={
                "score": score,
                "score_low": low,
                "score_high": high,
                "certification": certification,
                "usage": self.ledger.usage,
                "trials": self.ledger.trials,
                "seconds": perf_counter() - clock,
            }
        )

    def refuse_in_vain(self) -> None:
        """Raise before anything is bought, if the night could come to nothing.

        Raises:
            UserError: the validation split is too small, or its error budget is spent or declared otherwise.
            InvalidText: the live version does not render.
        """
        gate = self.experiment.gate
        gate.check(self.experiment.tasks)
        split = SplitLedger.of(self.ledger.directory, self.experiment)
        if split and split.next_alpha() is None:
            raise UserError(
                f"the validation split has seen its {gate.horizon} promotion tests, so its error budget is spent and a "
                "night could promote nothing. Add validation tasks, at least as many as there are"
            )
        if isinstance(self.experiment.runner, Checks):
            self.experiment.runner.check(self.subject.text(self.ledger.run.live))

    def refresh_what_is_doubtful(self, round: Round, rounds: Sequence[Round]) -> None:
        """Measure the incumbent again when its scores at hand are older than half a day, or when so many changes in a
        row failed to run that it may be no fault of theirs."""
        trials = self.trials(round.number)
        base = [t for task in trials.baseline(round.incumbent, self.experiment.gate.repeats).values() for t in task]
        age = self.ledger.now() - min(trial.started for trial in base)
        if age > STALE:
            hours = age.total_seconds() / 3600
            trials.refresh(round.incumbent, "age", f"its scores were {hours:.0f} hours old")
            return
        crashes = crash_streak(rounds)
        is_due = crashes.count > 0 and crashes.count % CRASHES == 0
        if is_due and max(trial.round or 0 for trial in base) < crashes.rounds[-1]:
            trials.refresh(round.incumbent, "crashes", str(crashes))

    def score(self, round: Round) -> tuple[float, float, float] | None:
        """Mean train score of the version that *round* ends with; bought afresh if it is a new one."""
        try:
            base = self.trials(round.number).baseline(round.working, self.experiment.gate.repeats)
        except BudgetSpent:
            if round.working == round.incumbent:
                raise
            return None  # what was kept stays kept; the next round finds the budget spent
        if round.number == 0:
            check_baseline(self.experiment, base)
        return self.experiment.gate.score(base)

    def try_a_change(self, round: Round, rounds: Sequence[Round]) -> Round:
        """Ask for a proposal, make it a version, and let the gate decide."""
        key = f"round/{round.number}"
        answer = self.ledger.step(f"{key}/proposal", partial(self.ask, round, rounds))
        if isinstance(answer, Decision):
            return round.model_copy(update={"decision": answer})
        candidate, decision, identity = None, None, ""
        try:
            candidate = self.subject.candidate(self.subject.version(round.incumbent), answer.edits).id
            identity = self.identity(candidate)
            decision = self.refusal(candidate, identity, rounds) or self.doubt(key, answer, rounds)
        except (InvalidEdit, InvalidText) as e:
            decision = Decision(verdict="discard", because="invalid", detail=str(e))
        if decision is None:
            assert candidate is not None
            before, after = (self.subject.text(version) for version in (round.incumbent, candidate))
            gate = partial(
                self.experiment.gate.keep,
                round.incumbent,
                candidate,
                self.trials(round.number),
                is_shorter=length(after) < length(before),
                rounds=rounds,
            )
            decision = self.ledger.step(f"{key}/decision", gate)
            if decision.because == "drift":  # then both are measured afresh, should it come back
                for version in (round.incumbent, candidate):
                    self.trials(round.number).refresh(version, "drift", decision.detail)
        return round.model_copy(
            update={
                "candidate": candidate,
                "identity": identity,
                "proposal": answer,
                "decision": decision,
                "working": candidate if decision.verdict == "keep" else round.incumbent,
            }
        )

    def ask(self, round: Round, rounds: Sequence[Round]) -> Proposal | Decision:
        meter = TrialMeter(self.ledger, f"round/{round.number}/proposal")
        text = self.subject.text(round.incumbent)
        return patiently_asked(
            self.experiment.proposer, meter, self.executor, round.incumbent, text, self.history(rounds)
        )

    def doubt(self, key: str, proposal: Proposal, rounds: Sequence[Round]) -> Decision | None:
        """The decision against a *proposal* that quotes what is not there. Looked up before anything is measured: later
        the baseline may be another than the one that was quoted."""
        if not proposal.citations or self.ledger.begun(f"{key}/decision"):
            return None
        faults = unfounded(proposal.citations, self.history(rounds))
        if not faults:
            return None
        refused = Decision(verdict="discard", because="unfounded", detail="; ".join(faults))
        return self.ledger.step(f"{key}/decision", lambda: refused)

    def refusal(self, candidate: str, identity: str, rounds: Sequence[Round]) -> Decision | None:
        """Why no trial is bought for *candidate*, if none is.

        Raises:
            InvalidText: the version could not work.
        """
        runner, incumbent = self.experiment.runner, rounds[-1].working
        tried = tried_in(self.ledger.run, rounds)
        if candidate in tried:
            return Decision(verdict="discard", because="already-tried", detail=f"tried before: {tried[candidate]}")
        if isinstance(runner, Checks):
            runner.check(self.subject.text(candidate))
        if isinstance(runner, Referee):
            if objection := runner.objection(self.subject.text(incumbent), self.subject.text(candidate)):
                return Decision(verdict="discard", because="not-a-candidate", detail=objection)
            same = {self.identity(self.ledger.run.live): "the live version", **tried}.get(identity)
            if same is not None:
                return Decision(verdict="discard", because="already-tried", detail=f"does the same as {same}")
        return None

    def identity(self, version: str) -> str:
        """What *version* does, as a digest; empty: nobody can tell."""
        runner = self.experiment.runner
        return runner.identity(self.subject.text(version)) if isinstance(runner, Referee) else ""

    def history(self, rounds: Sequence[Round]) -> History:
        base = self.trials(len(rounds)).baseline(rounds[-1].working, self.experiment.gate.repeats)
        trials = [trial for task in base.values() for trial in task]
        journal = journal_file(self.ledger.directory, self.ledger.run.id)
        return history_for(self.experiment, self.subject, self.ledger.run, rounds, trials, journal)

    def trials(self, number: int) -> DurableTrials:
        scope = f"round/{number}"
        return DurableTrials(self.experiment, self.ledger, self.subject.text, self.executor, scope, number)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────

    def may_go_on(self, rounds: Sequence[Round], *, is_begun: bool) -> None:
        """Raise when the search is over; but a round that was begun is finished.

        Raises:
            BudgetSpent: with the reason.
        """
        if isinstance(stop := self.ledger.recall("stop"), Stop):
            raise BudgetSpent(stop.reason, stop.detail)
        if is_begun:
            return
        budget, tries = self.ledger.budget, list(rounds[1:])
        if budget.rounds is not None and len(tries) >= budget.rounds:
            raise BudgetSpent("rounds", f"{len(tries)} of {budget.rounds} rounds played")
        if streak(tries, lambda d: d.because in ("no-proposal", "errors")) >= PATIENCE_WITH_ERRORS:
            last = tries[-1].decision
            raise BudgetSpent("failing", f"{PATIENCE_WITH_ERRORS} rounds in a row came to nothing, last: {last}")
        crashes = crash_streak(tries)
        if crashes.count >= PATIENCE_WITH_CRASHES:
            raise BudgetSpent("failing", str(crashes))
        if streak(tries, lambda d: d.comparison is None) >= PATIENCE_WITH_REPEATS:
            raise BudgetSpent("no-progress", f"the last {PATIENCE_WITH_REPEATS} proposals were not worth a trial")
        idle = rounds_without_progress(rounds)
        if budget.patience is not None and idle >= budget.patience:
            found = progress(rounds[-idle:], self.subject.text)
            raise BudgetSpent(found.reason, str(found))

    def stop(self, end: BaseException) -> Stop:
        reason = end.reason if isinstance(end, BudgetSpent) else "out-of-ideas"
        return Stop(run=self.ledger.run.id, reason=reason, detail=str(end))

    def close(self, rounds: Sequence[Round], stop: Stop) -> Round:
        """The last round: certify what was kept, and add up."""
        started, clock = now(), perf_counter()
        working = rounds[-1].working if rounds else self.ledger.run.live
        certification, detail = None, stop.detail
        if may_certify(stop, rounds):
            needs = self.certifier.cost() // 2
            certification = self.certifier.certify(self.experiment.gate.checkpoints, working, rounds, needs=needs)
            tested = any(proves(r.certification) and r.certification.candidate == working for r in rounds)
            if working != self.ledger.run.live and certification is None and not tested:
                detail += f"; too little was left for the promotion test, which may take {2 * needs:,} trials"
        last = rounds[-1] if rounds else None
        return Round(
            run=self.ledger.run.id,
            number=len(rounds),
            incumbent=working,
            working=working,
            score=last.score if last else None,
            score_low=last.score_low if last else None,
            score_high=last.score_high if last else None,
            certification=certification,
            stop=stop.reason,
            detail=detail,
            usage=self.ledger.usage,
            trials=self.ledger.trials,
            started=started,
            seconds=perf_counter() - clock,
        )


def may_certify(stop: Stop, rounds: Sequence[Round]) -> bool:
    """Not where a person stopped it, nor where what trials run on is broken; a proposer that broke is no reason."""
    is_broken = any(r.decision is not None and r.decision.because == "errors" for r in rounds[-PATIENCE_WITH_ERRORS:])
    return stop.reason != "stopped" and not (stop.reason == "failing" and is_broken)


def streak(rounds: Sequence[Round], holds: Callable[[Decision], bool]) -> int:
    """How many of the last rounds in a row ended with a decision of which *holds* is true."""
    ended = (r.decision is not None and holds(r.decision) for r in reversed(rounds))
    return next((i for i, held in enumerate(ended) if not held), len(rounds))


def rounds_without_progress(rounds: Sequence[Round]) -> int:
    """Rounds since the score on ``train`` clearly rose: since its interval came to lie above the score of
    the last such round. One lucky keep after the other is no progress. A metric makes progress with each keep, which
    fresh runs have confirmed."""
    since, reached = 0, rounds[0].score if rounds else None
    for round in rounds[1:]:
        since += 1
        kept = round.decision is not None and round.decision.verdict == "keep"
        comparison = round.decision.comparison if round.decision else None
        has_metric = comparison is not None and bool(comparison.metric)
        rose = reached is not None and round.score_low is not None and round.score_low > reached
        is_back = any(removal.verdict == "drop" for removal in round.removals)
        if is_back or (kept if has_metric else rose):
            since, reached = 0, round.score
    return since


def history_for(
    experiment: Experiment,
    subject: Subject,
    run: Run,
    rounds: Sequence[Round],
    trials: Sequence[Trial],
    journal: Path,
) -> History:
    """What the proposer may know after *rounds*: nothing of the hidden splits. *trials*: train trials of the working
    version, the only ones of *journal* whose traces it may look at."""
    tries = [without_hidden(r) for r in rounds if r.number > 0 and r.stop is None]
    return History(
        run=run.id,
        tasks={task.id: task for task in experiment.split("train")},
        trials=trials,
        rounds=tries,
        tried=tried_in(run, rounds),
        seed=seed_of(run.experiment, run.seed, len(tries) + 1),
        version_of=partial(subject.version_id, rounds[-1].working),
        text_of=subject.text,
        trace_of=Traces(journal, trials),
        known=known_findings(run.known, tries),
        memory=run.memory,
    )


def tried_in(run: Run, rounds: Sequence[Round]) -> dict[str, str]:
    """Version → where it was tried, in this run or an earlier one under the same fingerprint; and so for what the
    version does, by ``Round.identity``."""
    return {run.live: "it is the live version", **run.tried, **tried_by(rounds)}


def tried_by(rounds: Sequence[Round]) -> dict[str, str]:
    """As ``tried_in``, of these *rounds* alone: those whose trials tell something about the version."""
    return {
        name: f"{round.run} round {round.number}"
        for round in reversed(rounds)  # of the same again, the first is told
        if round.candidate and not (round.decision and round.decision.because == "drift")
        for name in (round.candidate, round.identity)
        if name
    }


def patiently_asked(
    proposer: Proposer,
    meter: TrialMeter,
    executor: Executor,
    incumbent: str,
    text: Mapping[str, str],
    history: History,
) -> Proposal | Decision:
    """The answer of *proposer*, or the decision that there was none; *meter* takes what it spends.

    It thinks on another thread, so that the stop button works meanwhile.

    Raises:
        OutOfIdeas: it has none left.
    """

    def ask() -> Proposal | Decision:
        try:
            with metered(meter), boundary("proposer"):
                return proposal_of(proposer.propose(incumbent, text, history))
        except TrialError as e:
            if isinstance(e.__cause__, OutOfIdeas):
                raise e.__cause__ from None
            return Decision(verdict="discard", because="no-proposal", detail=str(e))

    asking = executor.submit(ask)
    wait_for([asking], meter.ledger)
    return asking.result()


def proposal_of(answer: object) -> Proposal:
    """*answer*, if it is a proposal."""
    if not isinstance(answer, Proposal):
        raise TypeError(f"propose() returned {type(answer).__name__}, and must return a Proposal")
    return answer


def without_hidden(round: Round) -> Round:
    """The round as a proposer may see it: of a certification the verdict only."""
    c = round.certification
    if c is None:
        return round
    bare = c.model_copy(update={"validation": None, "guards": (), "measured": None, "detail": ""})
    return round.model_copy(update={"certification": bare})


def check_baseline(experiment: Experiment, base: dict[str, list[Trial]]) -> None:
    """Refuse a night that could only measure its own failures.

    Raises:
        UserError: more than half of the baseline's trials failed; shows the first failure.
    """
    trials = [trial for task in base.values() for trial in task]
    failed = [trial for trial in trials if trial.error is not None]
    if len(failed) > len(trials) / 2:
        first = failed[0]
        raise UserError(
            f"{len(failed)} of {len(trials)} baseline trials of {experiment.name!r} failed in the {first.boundary}, so "
            f"nothing can be compared. First, task {first.task!r}: {first.error}. Mend it and type the same again"
        )
