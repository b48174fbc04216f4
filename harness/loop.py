"""The loop: propose, run, compare, keep or discard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import TypeGuard

from harness.errors import BudgetSpent, OutOfIdeas, TrialError, UserError, boundary
from harness.experiment import Experiment
from harness.gate.ledger import SplitLedger
from harness.ledger import Ledger
from harness.meter import metered
from harness.protocols import Checks, History
from harness.text import InvalidText
from harness.trials import DurableTrials, TrialMeter, seed_of, wait_for
from harness.undo import edits_between, length, undo
from harness.versions import InvalidEdit, Repo, Subject
from traces.records import (
    Certification,
    Comparison,
    Decision,
    Guards,
    Proposal,
    Removal,
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
            with ledger.reserving(night.cost_of_certifying()):
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
                self.refresh_what_is_old(round)
            round = self.try_a_change(round, rounds)
        else:
            self.refuse_in_vain()
        score = self.score(round)
        certification = self.checkpoint([*rounds, round])
        if certification is not None and lost(certification):
            round = self.take_apart(round.model_copy(update={"certification": certification}), rounds)
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
        gate, hidden = self.experiment.gate, self.experiment.split("validation")
        gate.check(self.experiment.tasks)
        if hidden and SplitLedger(self.ledger.directory, hidden, gate.alpha, gate.horizon).next_alpha() is None:
            raise UserError(
                f"the validation split has seen its {gate.horizon} promotion tests, so its error budget is spent and a "
                "night could promote nothing. Add validation tasks, at least as many as there are"
            )
        if isinstance(self.experiment.runner, Checks):
            self.experiment.runner.check(self.subject.text(self.ledger.run.live))

    def refresh_what_is_old(self, round: Round) -> None:
        """Measure the incumbent again when its scores at hand are older than half a day."""
        base = self.trials(round.number).baseline(round.incumbent, self.experiment.gate.repeats)
        age = self.ledger.now() - min(trial.started for task in base.values() for trial in task)
        if age > STALE:
            hours = age.total_seconds() / 3600
            self.trials(round.number).refresh(round.incumbent, "age", f"its scores were {hours:.0f} hours old")

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
        answer = self.ledger.step(f"{key}/proposal", partial(self.patiently_ask, round, rounds))
        if isinstance(answer, Decision):
            return round.model_copy(update={"decision": answer})
        candidate, decision = None, None
        try:
            candidate = self.subject.candidate(self.subject.version(round.incumbent), answer.edits).id
            decision = self.refusal(round, candidate, rounds)
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
                "proposal": answer,
                "decision": decision,
                "working": candidate if decision.verdict == "keep" else round.incumbent,
            }
        )

    def patiently_ask(self, round: Round, rounds: Sequence[Round]) -> Proposal | Decision:
        """Ask on another thread, so that the stop button works while a proposer thinks."""
        asking = self.executor.submit(self.ask, round, self.history(rounds))
        wait_for([asking], self.ledger)
        return asking.result()

    def ask(self, round: Round, history: History) -> Proposal | Decision:
        """The proposer's answer, or the decision that there was none."""
        text = self.subject.text(round.incumbent)
        meter = TrialMeter(self.ledger, None, [])
        try:
            with metered(meter), boundary("proposer"):
                return proposal_of(self.experiment.proposer.propose(round.incumbent, text, history))
        except TrialError as e:
            if isinstance(e.__cause__, OutOfIdeas):
                raise e.__cause__ from None
            return Decision(verdict="discard", because="no-proposal", detail=str(e))

    def refusal(self, round: Round, candidate: str, rounds: Sequence[Round]) -> Decision | None:
        """Why no trial is bought for *candidate*, if none is.

        Raises:
            InvalidText: the version could not work.
        """
        tried = tried_in(self.ledger.run, rounds)
        if candidate in tried:
            return Decision(verdict="discard", because="already-tried", detail=f"tried before: {tried[candidate]}")
        if isinstance(self.experiment.runner, Checks):
            self.experiment.runner.check(self.subject.text(candidate))
        return None

    def history(self, rounds: Sequence[Round]) -> History:
        base = self.trials(len(rounds)).baseline(rounds[-1].working, self.experiment.gate.repeats)
        trials = [trial for task in base.values() for trial in task]
        return history_for(self.experiment, self.subject, self.ledger.run, rounds, trials)

    def trials(self, number: int | None, scope: str = "") -> DurableTrials:
        scope = scope or f"round/{number}"
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
        if streak(tries, lambda d: d.comparison is None) >= PATIENCE_WITH_REPEATS:
            raise BudgetSpent("no-progress", f"the last {PATIENCE_WITH_REPEATS} proposals were not worth a trial")
        idle = rounds_without_progress(rounds)
        if budget.patience is not None and idle >= budget.patience:
            raise BudgetSpent("no-progress", f"no clear gain in the score on train in the last {idle} rounds")

    def stop(self, end: BaseException) -> Stop:
        reason = end.reason if isinstance(end, BudgetSpent) else "out-of-ideas"
        return Stop(run=self.ledger.run.id, reason=reason, detail=str(end))

    def close(self, rounds: Sequence[Round], stop: Stop) -> Round:
        """The last round: certify what was kept, and add up."""
        started, clock = now(), perf_counter()
        working = rounds[-1].working if rounds else self.ledger.run.live
        certification, detail = None, stop.detail
        if stop.reason not in ("stopped", "failing"):
            needs = self.cost_of_certifying() // 2
            certification = self.certify(self.experiment.gate.checkpoints, working, rounds, needs=needs)
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

    # ── promotion tests ────────────────────────────────────────────────────────────────────────────────────────

    def cost_of_certifying(self) -> int:
        """Trials that the last certification may need, with its measurement on ``test``."""
        return self.experiment.gate.cost(self.experiment.sizes())

    def checkpoint(self, rounds: Sequence[Round]) -> Certification | None:
        """The certification that falls due after these rounds, if at least two changes were kept since the last."""
        gate = self.experiment.gate
        tested = [i for i, r in enumerate(rounds) if r.certification]
        kept = sum(r.working != r.incumbent for r in rounds[tested[-1] + 1 if tested else 0 :])
        working = rounds[-1].working
        begun = self.begun_certification(working)
        due = begun or int(share_used(self.ledger.budget.limits(), rounds) * gate.checkpoints)
        done = max((r.certification.checkpoint for r in rounds if r.certification), default=0)
        if kept < 2 or not done < due < gate.checkpoints:
            return None
        return self.certify(due, working, rounds, needs=2 * self.cost_of_certifying())

    def certify(self, checkpoint: int, candidate: str, rounds: Sequence[Round], *, needs: int) -> Certification | None:
        """Test *candidate* against the live version on hidden tasks.

        ``None`` if there is nothing new to test, or if the budget does not leave *needs* trials: half of the most that
        the last certification can take; for an earlier one its whole cost, and that of the last.
        """
        live = self.ledger.run.live
        pairs = {(r.certification.live, r.certification.candidate) for r in rounds if proves(r.certification)}
        if candidate == live or (live, candidate) in pairs:
            return None
        checkpoint = self.begun_certification(candidate) or checkpoint
        key = certification_key(checkpoint, candidate)
        with self.ledger.reserving(0):
            if not self.ledger.begun(key) and not self.ledger.affords(needs):
                return None
            test = partial(self.test, key, checkpoint, live, candidate)
            return self.ledger.step(key, test, durable=True)

    def begun_certification(self, candidate: str) -> int | None:
        """The checkpoint whose test of *candidate* was begun, if one was: what a kill cut off is taken up again."""
        numbers = range(1, self.experiment.gate.checkpoints + 1)
        return next((n for n in numbers if self.ledger.begun(certification_key(n, candidate))), None)

    def test(self, key: str, checkpoint: int, live: str, candidate: str) -> Certification:
        gate = self.experiment.gate
        certification = Certification(
            id=f"{self.ledger.run.id}/{key}",
            run=self.ledger.run.id,
            checkpoint=checkpoint,
            live=live,
            candidate=candidate,
            verdict="undecided",
            alpha=None,
            test_number=None,
            validation=None,
        )
        hidden = self.experiment.split("validation")
        split = SplitLedger(self.ledger.directory, hidden, gate.alpha, gate.horizon) if hidden else None
        opened = split.open(certification.id) if split else None
        if split and opened is None:
            detail = f"the validation split has seen its {gate.horizon} promotion tests; it needs new tasks"
            return certification.model_copy(update={"verdict": "blocked", "detail": detail})
        alpha = opened.alpha if opened else gate.alpha
        trials = self.trials(None, key)
        validation: Comparison | None = None
        guards: Guards | None = None
        measured: Comparison | None = None
        verdict, detail = "undecided", ""
        try:
            validation = self.ledger.step(f"{key}/validation", partial(gate.prove, live, candidate, trials, alpha))
            verdict, detail = read_verdict(validation)
            if verdict == "accept":
                verdict = "hold"  # until the guards have been looked at
                again = self.trials(None, f"{key}/again")
                guard = partial(gate.guard, live, candidate, trials, again, validation)
                guards = self.ledger.step(f"{key}/guards", guard)
                verdict, detail = read_guards(guards)
            if verdict == "accept":
                verdict = "hold"  # until its gain is measured
                measured = self.ledger.step(f"{key}/test", partial(gate.measure, live, candidate, trials))
                verdict = "accept"
        except BudgetSpent as e:
            detail = f"the budget ended it: {e}"
        if split:
            split.close(certification.id, verdict)
        return certification.model_copy(
            update={
                "verdict": verdict,
                "alpha": alpha,
                "test_number": opened.number if opened else None,
                "validation": validation,
                "guards": guards.found if guards else (),
                "measured": measured,
                "detail": detail,
            }
        )

    # ── a stack that failed ────────────────────────────────────────────────────────────────────────────────────

    def take_apart(self, round: Round, rounds: Sequence[Round]) -> Round:
        """Find, by halves, which kept changes do harm on ``train``, and go on from the version without them.

        The stack as a whole lost, so its halves are tested, and of a half that does harm its halves, down to single
        changes. Each test is of the working version against that without the half. A budget that ends it leaves the
        working version as it is.
        """
        working = self.subject.text(round.working)
        stack = [c for c in kept_changes([*rounds, round]) if self.text_without(working, [c]) != working]
        found: list[Removal] = []
        try:
            for half in halves(stack):
                found += self.search(round, half)
        except BudgetSpent:
            return round
        harmful = {number for removal in found if removal.verdict == "drop" for number in removal.rounds}
        rest = self.without(round.working, [change for change in stack if change.number in harmful])
        if rest is None:
            found = [r.model_copy(update={"verdict": "stuck"}) if r.verdict == "drop" else r for r in found]
        return round.model_copy(update={"removals": tuple(found), "working": rest or round.working})

    def search(self, round: Round, changes: Sequence[Round]) -> list[Removal]:
        """What there is to say of *changes*: they stay, they go, or their halves are searched."""
        numbers = tuple(change.number for change in changes)
        without = self.without(round.working, changes)
        comparison: Comparison | None = None
        if without is not None:
            key = f"round/{round.number}/apart/{numbers[0]}-{numbers[-1]}"
            test = partial(self.experiment.gate.harm, round.working, without, self.trials(round.number, key))
            comparison = self.ledger.step(f"{key}/harm", test)
            if not does_harm(comparison):
                return [Removal(rounds=numbers, verdict="stay", comparison=comparison)]
        if len(changes) > 1:
            return [removal for half in halves(changes) for removal in self.search(round, half)]
        return [Removal(rounds=numbers, verdict="drop" if without else "stuck", comparison=comparison)]

    def without(self, version: str, changes: Sequence[Round]) -> str | None:
        """*version* without *changes*, the latest taken out first; ``None`` if that is no version that could work."""
        now = self.subject.text(version)
        text = self.text_without(now, changes)
        if text is None or text == now:
            return None
        try:
            if isinstance(self.experiment.runner, Checks):
                self.experiment.runner.check(text)
            return self.subject.candidate(self.subject.version(version), edits_between(now, text)).id
        except (InvalidEdit, InvalidText):
            return None

    def text_without(self, text: Mapping[str, str], changes: Sequence[Round]) -> Mapping[str, str] | None:
        """*text* without *changes*; ``None`` where later ones rest on them."""
        for change in reversed(changes):
            assert change.candidate is not None
            rest = undo(self.subject.text(change.incumbent), self.subject.text(change.candidate), text)
            if rest is None:
                return None
            text = rest
        return text


def lost(certification: Certification) -> bool:
    """Did the stack come out worse than the live version?"""
    v = certification.validation
    failed = certification.verdict in ("reject", "undecided")
    return failed and v is not None and v.is_valid and v.gain is not None and v.gain < 0


def does_harm(without: Comparison) -> bool:
    """Is the version *without* proven better, or left ahead when the deadline passed without proof?"""
    if not without.is_valid or without.verdict is None or without.gain is None:
        return False
    verdict = without.verdict.verdict
    return verdict == "accept" or (verdict == "undecided" and without.gain > 0)


def kept_changes(rounds: Sequence[Round]) -> list[Round]:
    """The rounds whose changes the working version consists of, oldest first."""
    gone = {
        number
        for round in rounds
        for removal in round.removals
        if removal.verdict == "drop"
        for number in removal.rounds
    }
    return [r for r in rounds if r.decision is not None and r.decision.verdict == "keep" and r.number not in gone]


def halves(changes: Sequence[Round]) -> list[Sequence[Round]]:
    middle = (len(changes) + 1) // 2
    return [half for half in (changes[:middle], changes[middle:]) if half]


def certification_key(checkpoint: int, candidate: str) -> str:
    return f"certify/{checkpoint}-{candidate[:12]}"


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


def proves(certification: Certification | None) -> TypeGuard[Certification]:
    """Did it come to an end of its own, so that testing the pair again would only be a second try?"""
    return certification is not None and certification.validation is not None


def share_used(budget: Mapping[str, float | int | None], rounds: Sequence[Round]) -> float:
    """The largest share of any limit that was used up when the last but one of *rounds* ended; of the rounds, by now.

    It goes by records alone, so that a resumed run finds its checkpoints where they were.
    """
    before = rounds[-2] if len(rounds) > 1 else rounds[-1]
    spent = {
        "rounds": len(rounds) - 1,
        "hours": sum(r.seconds for r in rounds[:-1]) / 3600,
        "trials": before.trials,
        "tokens": before.usage.tokens,
        "dollars": before.usage.dollars or 0.0,
    }
    return max((spent[name] / limit for name, limit in budget.items() if limit and name in spent), default=0.0)


def history_for(
    experiment: Experiment, subject: Subject, run: Run, rounds: Sequence[Round], trials: Sequence[Trial]
) -> History:
    """What the proposer may know after *rounds*: nothing of the hidden splits. *trials*: train trials of the working
    version."""
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
    )


def tried_in(run: Run, rounds: Sequence[Round]) -> dict[str, str]:
    """Version → where it was tried, in this run or an earlier one under the same fingerprint."""
    here = {
        r.candidate: f"{r.run} round {r.number}"
        for r in rounds
        if r.candidate and not (r.decision and r.decision.because == "drift")
    }
    return {run.live: "it is the live version", **run.tried, **here}


def read_verdict(validation: Comparison) -> tuple[str, str]:
    """What a comparison on ``validation`` means for promotion, and why where that needs saying."""
    if validation.metric and not validation.tasks:
        return (
            "undecided",
            f"unconfirmed: runs cannot be repeated, so nothing is known of the noise of {validation.metric}",
        )
    if validation.drift:
        return "invalid", f"the conditions changed during the test: {validation.drift}"
    if not validation.is_valid:
        return "invalid", f"{validation.errors} pairs lost to infrastructure errors"
    assert validation.verdict is not None
    verdict = validation.verdict.verdict
    return ("accept", "") if verdict == "accept" else ("reject", "") if verdict == "reject" else ("undecided", "")


def read_guards(guards: Guards) -> tuple[str, str]:
    """What the guards leave of a proof, and which of them object."""
    for verdict, word in (("block", "blocked"), ("hold", "hold")):
        objecting = [f"{guard.kind} {guard.name}".strip() for guard in guards.found if guard.verdict == verdict]
        if objecting:
            return word, f"the mean score is proven better, but: {', '.join(objecting)}"
    return "accept", ""


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
