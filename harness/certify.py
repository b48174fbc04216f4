"""Promotion tests: the stack of kept changes against the live version, on tasks that no proposer has seen."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeGuard

from harness.errors import BudgetSpent
from harness.experiment import Experiment
from harness.gate.ledger import SplitLedger
from harness.ledger import Ledger
from harness.protocols import Checks
from harness.text import InvalidText
from harness.trials import DurableTrials
from harness.undo import edits_between, undo
from harness.versions import InvalidEdit, Subject
from traces.records import Certification, Comparison, Guards, Removal, Round


@dataclass(frozen=True)
class Certifier:
    """Certifies what a night has kept, and takes apart what does not hold. It has no state: that is in the journal."""

    experiment: Experiment
    ledger: Ledger
    subject: Subject
    executor: Executor

    def cost(self) -> int:
        """Trials that the last certification may need, with its measurement on ``test``."""
        return self.experiment.gate.cost(self.experiment.sizes())

    def checkpoint(self, rounds: Sequence[Round]) -> Certification | None:
        """The certification that falls due after these rounds, if at least two changes were kept since the last."""
        gate = self.experiment.gate
        tested = [i for i, r in enumerate(rounds) if r.certification]
        kept = sum(r.working != r.incumbent for r in rounds[tested[-1] + 1 if tested else 0 :])
        working = rounds[-1].working
        begun = self.begun(working, rounds)
        due = begun or int(share_used(self.ledger.budget.limits(), rounds) * gate.checkpoints)
        done = max((r.certification.checkpoint for r in rounds if r.certification), default=0)
        if kept < 2 or not done < due < gate.checkpoints:
            return None
        return self.certify(due, working, rounds, needs=2 * self.cost())

    def certify(self, checkpoint: int, candidate: str, rounds: Sequence[Round], *, needs: int) -> Certification | None:
        """Test *candidate* against the live version on hidden tasks.

        ``None`` if there is nothing new to test, or if the budget does not leave *needs* trials: half of the most that
        the last certification can take; for an earlier one its whole cost, and that of the last.
        """
        live = self.ledger.run.live
        pairs = {(r.certification.live, r.certification.candidate) for r in rounds if proves(r.certification)}
        if candidate == live or (live, candidate) in pairs:
            return None
        checkpoint = self.begun(candidate, rounds) or checkpoint
        key = key_of(checkpoint, candidate)
        with self.ledger.reserving(0):
            if not self.ledger.begun(key) and not self.ledger.affords(needs):
                return None
            test = partial(self.test, key, checkpoint, live, candidate)
            return self.ledger.step(key, test, durable=True)

    def begun(self, candidate: str, rounds: Sequence[Round]) -> int | None:
        """The checkpoint whose test of *candidate* was begun, and stands in none of *rounds*: a kill cut it off, and it
        is taken up again."""
        known = {(r.certification.checkpoint, r.certification.candidate) for r in rounds if r.certification}
        numbers = range(1, self.experiment.gate.checkpoints + 1)
        open_ = (n for n in numbers if (n, candidate) not in known and self.ledger.begun(key_of(n, candidate)))
        return next(open_, None)

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
        split = SplitLedger.of(self.ledger.directory, self.experiment)
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

    def trials(self, number: int | None, scope: str) -> DurableTrials:
        return DurableTrials(self.experiment, self.ledger, self.subject.text, self.executor, scope, number)


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


def key_of(checkpoint: int, candidate: str) -> str:
    return f"certify/{checkpoint}-{candidate[:12]}"


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
    return verdict if verdict in ("accept", "reject") else "undecided", ""


def read_guards(guards: Guards) -> tuple[str, str]:
    """What the guards leave of a proof, and which of them object."""
    for verdict, word in (("block", "blocked"), ("hold", "hold")):
        objecting = [f"{guard.kind} {guard.name}".strip() for guard in guards.found if guard.verdict == verdict]
        if objecting:
            return word, f"the mean score is proven better, but: {', '.join(objecting)}"
    return "accept", ""
