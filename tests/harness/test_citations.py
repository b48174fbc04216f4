"""What a proposal quotes, over a whole night: killed, measured under other conditions, and decided once more."""

import shutil
from dataclasses import dataclass, field

import pytest

from harness.errors import TrialError
from harness.experiment import Budget
from harness.ledger import journal_file, runs
from harness.verify import verify
from tests.world import KnowingRunner, ListProposer, an_experiment, outcome, play, some_tasks
from traces.journal import read
from traces.records import Citation


@dataclass
class Moving:
    """Its tool changes after so many runs."""

    until: int
    ran: int = field(default=0, repr=False)

    def conditions(self):
        return {"tool": "2" if self.ran >= self.until else "1"}

    def run(self, task, text, seed):
        self.ran += 1
        return KnowingRunner().run(task, text, seed)


@dataclass(frozen=True)
class Citing:
    """Quotes the output of a failure, or what nobody said."""

    lines: tuple[str, ...]
    invents: bool = False

    def propose(self, incumbent, text, history):
        proposal = ListProposer(self.lines).propose(incumbent, text, history)
        failed = next(t for t in history.trials if t.grade is not None and t.grade.score == 0)
        quote = "nobody ever said this" if self.invents else failed.output
        return proposal.model_copy(update={"citations": (Citation(trial=failed.id, quote=quote),)})


def test_a_proposal_whose_quotations_held_is_not_refused_because_the_baseline_is_another_by_now(checkout, tmp_path):
    tasks = some_tasks(60)
    until = sum(task.split == "train" for task in tasks)

    def night(ran: int = 0):
        proposer = Citing(("Mind the plural.",))
        return an_experiment(
            tasks=tasks, runner=Moving(until, ran), proposer=proposer, budget=Budget(rounds=1, hours=1)
        )

    whole = play(night(), checkout, tmp_path / "whole", workers=1)
    [run] = runs(tmp_path / "whole", "example")
    lines = journal_file(tmp_path / "whole", run).read_bytes().splitlines(keepends=True)
    refreshed = next(i for i, line in enumerate(read(journal_file(tmp_path / "whole", run))) if line.type == "Refresh")
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut, ignore=shutil.ignore_patterns("*.jsonl", "*.duckdb*"))
    journal = journal_file(cut, run)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.write_bytes(b"".join(lines[: refreshed + 1]))

    again = play(night(ran=until), checkout, cut, workers=1)

    assert whole[1].decision is not None
    assert whole[1].decision.because == "improved"
    assert outcome(again)[1][5] == outcome(whole)[1][5]
    assert verify(journal, cut).is_sound


@pytest.mark.parametrize("invents", [True, False])
def test_a_night_of_quotations_is_decided_once_more_the_same(checkout, tmp_path, invents):
    proposer = Citing(("Mind the plural.", "Be brief."), invents)
    rounds = play(an_experiment(proposer=proposer, budget=Budget(rounds=2, hours=1)), checkout, tmp_path)
    [run] = runs(tmp_path, "example")

    assert all((r.decision.because == "unfounded") is invents for r in rounds if r.decision is not None)
    assert verify(journal_file(tmp_path, run), tmp_path).is_sound


def test_a_refusal_of_quotations_that_hold_is_found_out(checkout, tmp_path):
    play(an_experiment(proposer=Citing(("Mind the plural.",), True)), checkout, tmp_path)
    [run] = runs(tmp_path, "example")
    journal = journal_file(tmp_path, run)
    said = next(
        line.record().output for line in read(journal) if line.type == "Trial" and line.record().grade.score == 0
    )
    journal.write_text(journal.read_text().replace('"quote":"nobody ever said this"', f'"quote":"{said}"'))

    found = verify(journal, tmp_path)

    assert any("that is there" in str(difference) for difference in found.differences)


def test_a_proposer_that_breaks_in_the_end_takes_nothing_from_what_was_kept(checkout, tmp_path):
    @dataclass(frozen=True)
    class Breaking:
        def propose(self, incumbent, text, history):
            if len(history.rounds) > 3:
                raise TrialError("proposer", "malformed", "no proposal that can be used")
            return ListProposer(("Mind the plural.", "Name the colour.", "Know the animal.", "One number.")).propose(
                incumbent, text, history
            )

    night = an_experiment(tasks=some_tasks(60), proposer=Breaking(), budget=Budget(rounds=20, hours=1))
    rounds = play(night, checkout, tmp_path)
    [run] = runs(tmp_path, "example")

    assert rounds[-1].stop == "failing"
    assert rounds[-1].certification is not None
    assert rounds[-1].certification.verdict == "accept"
    assert verify(journal_file(tmp_path, run), tmp_path).is_sound
