import multiprocessing
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import traces
from harness.errors import UserError
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.gate.metric import MetricGate
from harness.graders import MetricGrader
from harness.ledger import is_finished, journal_file, run_to_take_up, runs, stop_file
from harness.protocols import History
from harness.verify import verify
from harness.versions import Repo
from tests.conftest import git
from tests.world import PROMPT, AskingRunner, KnowingRunner, ListProposer, an_experiment, outcome, play, some_tasks
from traces.journal import read
from traces.merge import Merger, merge
from traces.records import Edit, Grade, Proposal, Round, Session, Span, Task, Trial


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_night_keeps_what_helps_discards_what_does_not_and_certifies_the_stack(checkout, directory):
    rounds = play(an_experiment(tasks=some_tasks(60)), checkout, directory)

    assert next(r.decision.verdict for r in rounds if r.decision) == "keep"
    assert rounds[2].decision.verdict != "keep"  # "Be brief." teaches no kind
    assert rounds[-1].stop == "rounds"
    assert rounds[-1].score > rounds[0].score + 0.3
    certification = rounds[-1].certification
    assert certification.verdict == "accept"
    assert certification.measured.split == "test"
    assert certification.measured.low > 0


def test_the_first_round_is_the_baseline_and_tries_nothing(checkout, directory):
    first = play(an_experiment(), checkout, directory)[0]

    assert (first.number, first.candidate, first.decision) == (0, None, None)
    assert first.working == first.incumbent == Repo.find(checkout).subject("subject").live().id


def test_the_users_branch_index_and_files_are_untouched_by_a_night(checkout, directory):
    (checkout / "other.txt").write_text("staged, not committed")
    git(checkout, "add", "other.txt")
    before = (git(checkout, "status", "--porcelain"), git(checkout, "rev-parse", "HEAD"), git(checkout, "branch"))

    play(an_experiment(), checkout, directory)

    assert (
        git(checkout, "status", "--porcelain"),
        git(checkout, "rev-parse", "HEAD"),
        git(checkout, "branch"),
    ) == before


def test_killed_at_any_record_it_resumes_without_repeating_a_step(checkout, tmp_path):
    whole = tmp_path / "whole"
    ran: list[Task] = []
    experiment = an_experiment(runner=KnowingRunner(on_run=ran.append))
    expected = outcome(play(experiment, checkout, whole, workers=1))
    [run] = runs(whole, "example")
    lines = journal_file(whole, run).read_bytes().splitlines(keepends=True)
    bought = len(ran)

    for cut in sorted({*range(1, 25, 4), *random.Random(0).sample(range(25, len(lines)), 6), len(lines) - 1}):
        directory = tmp_path / f"cut-{cut}"
        journal = journal_file(directory, run)
        journal.parent.mkdir(parents=True)
        journal.write_bytes(b"".join(lines[:cut]) + lines[cut][:7])  # torn in the middle of a line
        for split in whole.glob("spool/splits.jsonl"):
            (journal.parent / split.name).write_bytes(split.read_bytes())
        paid = sum(line.type == "Trial" for line in read(journal))
        ran.clear()

        assert outcome(play(experiment, checkout, directory, workers=1)) == expected
        assert paid + len(ran) == bought
        assert runs(directory, "example") == [run]


def test_a_finished_run_is_not_taken_up_again_the_next_one_starts_from_the_live_version(checkout, directory):
    first = play(an_experiment(), checkout, directory)
    second = play(an_experiment(), checkout, directory)

    assert len(runs(directory, "example")) == 2
    assert second[0].run != first[0].run


def test_the_next_run_does_not_try_again_what_the_last_one_tried(checkout, directory):
    tried = {
        r.candidate: f"{r.run} round {r.number}" for r in play(an_experiment(), checkout, directory) if r.candidate
    }

    second = play(an_experiment(), checkout, directory, tried=tried)

    assert second[1].decision.because == "already-tried"
    assert "round 1" in second[1].decision.detail
    assert second[1].trials == second[0].trials


@pytest.mark.parametrize(
    ("edits", "because"),
    [
        ((Edit(path="../outside.md", text="x"),), "invalid"),
        ((Edit(path="/etc/passwd", text="x"),), "invalid"),
        ((Edit(path="prompts/none.md", text=None),), "invalid"),
        ((Edit(path=PROMPT, text="# system\nAnswer.\n\n# user\n{{ task }}\n"),), "already-tried"),
    ],
)
def test_a_proposal_that_cannot_be_a_new_version_is_discarded_before_a_trial_is_bought(
    checkout, directory, edits, because
):
    class Fixed:
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            return Proposal(id="p", proposer="Fixed", edits=edits, rationale="try it")

    rounds = play(an_experiment(proposer=Fixed(), budget=Budget(rounds=1)), checkout, directory)

    assert rounds[1].decision.because == because
    assert rounds[1].trials == rounds[0].trials
    assert not (checkout.parent / "outside.md").exists()


def test_a_version_that_does_not_render_is_discarded_as_invalid_before_a_trial_is_bought(checkout, directory):
    @dataclass(frozen=True)
    class Strict(KnowingRunner):
        def check(self, text: Mapping[str, str]) -> None:
            from harness.text import validate

            validate(text)

    broken = ListProposer(("{{ nonsense }}",))
    rounds = play(an_experiment(runner=Strict(), proposer=broken), checkout, directory)

    assert rounds[1].decision.because == "invalid"
    assert "nonsense" in rounds[1].decision.detail
    assert rounds[-1].stop == "out-of-ideas"


def test_a_proposer_that_keeps_breaking_ends_the_run_as_failing(checkout, directory):
    class Broken:
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            raise RuntimeError("no answer from the analyst")

    rounds = play(an_experiment(proposer=Broken(), budget=Budget(rounds=50)), checkout, directory)

    assert rounds[-1].stop == "failing"
    assert [r.decision.because for r in rounds if r.decision] == ["no-proposal"] * 3
    assert "no answer from the analyst" in rounds[1].decision.detail


LINES = ("Mind the plural.", "Be brief.", "Name the colour.", "Know the animal.")


def test_a_proposer_sees_train_tasks_and_verdicts_and_nothing_of_the_hidden_splits(checkout, directory):
    seen: list[History] = []

    class Nosy(ListProposer):
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            seen.append(history)
            return super().propose(incumbent, text, history)

    experiment = an_experiment(tasks=some_tasks(60), proposer=Nosy(LINES))
    play(experiment, checkout, directory)

    hidden = [task for task in experiment.tasks if task.split != "train"]
    shown = "\n".join(f"{dict(h.tasks)} {h.trials} {h.rounds} {h.tried}" for h in seen)
    assert any(r.certification for h in seen for r in h.rounds)
    assert not [task.id for task in hidden if task.id in shown]
    assert all(r.certification is None or r.certification.validation is None for h in seen for r in h.rounds)


def test_a_wrong_answer_is_a_zero_and_a_broken_grader_is_not(checkout, directory):
    class Flaky:
        def __init__(self) -> None:
            self.calls = 0

        def grade(self, task: Task, output: str) -> Grade:
            self.calls += 1
            if self.calls % 50 == 0:
                raise RuntimeError("the grader's server is away")
            return Grade(score=float(output in task.targets), reason="")

    play(an_experiment(grader=Flaky()), checkout, directory, workers=1)

    [run] = runs(directory, "example")
    trials = [line.record() for line in read(journal_file(directory, run)) if line.type == "Trial"]
    broken = [t for t in trials if isinstance(t, Trial) and t.boundary == "grader"]
    assert broken
    assert all(t.grade is None for t in broken)


def test_a_grader_that_always_breaks_ends_the_night_before_it_began(checkout, directory):
    class Broken:
        def grade(self, task: Task, output: str) -> Grade:
            raise RuntimeError("out of range")

    with pytest.raises(UserError, match=r"baseline trials .* failed in the grader.*out of range"):
        play(an_experiment(grader=Broken()), checkout, directory)


def test_a_score_outside_zero_and_one_is_refused_not_clipped(checkout, directory):
    class Generous:
        def grade(self, task: Task, output: str) -> Grade:
            return Grade(score=1.2)

    with pytest.raises(UserError, match=r"less than or equal to 1"):
        play(an_experiment(grader=Generous()), checkout, directory)


def test_a_validation_split_too_small_to_prove_anything_is_refused_with_the_gain_it_could_prove(checkout, directory):
    with pytest.raises(UserError, match=r"has 34 clusters.*smallest gain.*PairedGate\(min_clusters=34\)"):
        play(an_experiment(gate=PairedGate()), checkout, directory)
    assert not any(
        line.type == "Trial" for run in runs(directory, "example") for line in read(journal_file(directory, run))
    )


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(rounds=2), "rounds"),
        (Budget(trials=200), "trials"),
        (Budget(rounds=9, patience=1), "no-progress"),
        (Budget(rounds=9), "out-of-ideas"),
    ],
)
def test_every_finished_run_has_one_stop_reason(checkout, directory, budget, reason):
    rounds = play(an_experiment(budget=budget), checkout, directory)

    assert [r.stop for r in rounds if r.stop] == [reason]
    assert rounds[-1].stop == reason


def test_a_budget_of_trials_is_never_passed_and_leaves_enough_to_certify(checkout, directory):
    rounds = play(an_experiment(tasks=some_tasks(60), budget=Budget(trials=600)), checkout, directory)

    assert rounds[-1].stop == "trials"
    assert rounds[-1].trials <= 600
    assert rounds[-1].certification is not None


def test_the_stop_button_pressed_in_another_process_ends_the_run_and_buys_nothing_more(checkout, directory):
    pressed: list[int] = []

    def press(task: Task) -> None:
        pressed.append(1)
        if len(pressed) == 60:
            [run] = runs(directory, "example")
            stop_file(directory, run).parent.mkdir(parents=True, exist_ok=True)
            stop_file(directory, run).touch()

    rounds = play(an_experiment(runner=KnowingRunner(on_run=press)), checkout, directory)

    assert rounds[-1].stop == "stopped"
    assert rounds[-1].certification is None
    assert len(pressed) < 70


class Killed(BaseException):
    pass


def a_night_killed_after(trials: int, checkout: Path, directory: Path) -> None:
    ran: list[Task] = []

    def die(task: Task) -> None:
        ran.append(task)
        if len(ran) > trials:
            raise Killed

    with pytest.raises(Killed):
        play(an_experiment(runner=KnowingRunner(on_run=die)), checkout, directory)


def test_a_changed_experiment_refuses_to_resume_and_says_what_changed(checkout, directory):
    a_night_killed_after(60, checkout, directory)

    with pytest.raises(UserError, match=r"these changed: gate\b.*ratchet stop example"):
        play(an_experiment(gate=PairedGate(repeats=2, min_clusters=20)), checkout, directory)


def test_a_run_that_came_to_nothing_gives_way_to_a_changed_experiment(checkout, directory):
    a_night_killed_after(10, checkout, directory)
    live = Repo.find(checkout).subject("subject").live().id
    changed = an_experiment(gate=PairedGate(repeats=2, min_clusters=20))
    assert run_to_take_up(directory, an_experiment(), live) == runs(directory, "example")[0]
    assert run_to_take_up(directory, changed, live) is None

    rounds = play(an_experiment(gate=PairedGate(repeats=2, min_clusters=20)), checkout, directory)

    assert rounds[-1].stop == "rounds"
    assert len(runs(directory, "example")) == 2


def test_the_loop_can_be_driven_from_python_with_ones_own_parts(checkout, directory):
    rounds = play(an_experiment(), checkout, directory)

    assert all(isinstance(r, Round) for r in rounds)


FORK = multiprocessing.get_context("fork")
"""Has imported already what it takes."""


def a_night(checkout: Path, directory: Path) -> None:
    with Merger(directory, every=0.05):
        play(an_experiment(tasks=some_tasks(40), runner=AskingRunner(directory / "calls")), checkout, directory)


@pytest.mark.timeout(300)
def test_killed_with_signal_9_at_random_moments_it_ends_as_if_it_never_was(checkout, tmp_path):
    whole, directory = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    directory.mkdir()
    experiment = an_experiment(tasks=some_tasks(40), runner=AskingRunner(whole / "calls"))
    expected = outcome(play(experiment, checkout, whole))
    moments = sorted(random.Random(7).sample(range(3, written(whole)), 6))
    for moment in [*moments, None]:
        process = FORK.Process(target=a_night, args=(checkout, directory))
        process.start()
        while moment is not None and process.is_alive() and written(directory) < moment:
            time.sleep(0.002)
        if moment is not None:
            process.kill()
        process.join(60)
        if any(is_finished(journal_file(directory, run)) for run in runs(directory, "example")):
            break
        assert process.exitcode == -signal.SIGKILL

    [run] = runs(directory, "example")
    records = [line.record() for line in read(journal_file(directory, run))]
    rounds = [r for r in records if isinstance(r, Round)]
    trials = [r.id for r in records if isinstance(r, Trial)]
    calls = [r.id for r in records if isinstance(r, Span) and r.usage.calls]
    kills = sum(isinstance(r, Session) for r in records) - 1
    counted = (directory / "calls").stat().st_size
    assert kills > 3
    assert [o[:-1] for o in outcome(rounds)] == [o[:-1] for o in expected]  # all but trials
    assert len(trials) == len(set(trials)) == rounds[-1].trials
    assert counted <= len(calls) <= counted + 4 * kills  # an intent without a call: it was killed in between
    assert rounds[-1].usage.calls == len(calls)
    merge(directory)
    for table, ids in (("trials", trials), ("spans", [r.id for r in records if isinstance(r, Span)])):
        rows = traces.sql(f"select count(*) as n, count(distinct id) as ids from {table}", directory=directory)
        assert (rows.n[0], rows.ids[0]) == (len(ids), len(ids))


def written(directory: Path) -> int:
    """Lines in the journal of the only run there is."""
    return sum(journal_file(directory, run).read_bytes().count(b"\n") for run in runs(directory, "example"))


def test_a_busy_loop_whose_score_stays_flat_is_stopped_although_it_goes_on_keeping(checkout, directory):
    lines = tuple(f"Say nothing, part {i}." for i in range(40))
    experiment = an_experiment(
        tasks=some_tasks(60), proposer=ListProposer(lines), budget=Budget(rounds=40, patience=12), gate=PairedGate()
    )
    rounds = play(experiment, checkout, directory)

    kept = [r for r in rounds[-10:] if r.decision and r.decision.verdict == "keep"]
    assert rounds[-1].stop == "no-progress"
    assert "no clear gain" in rounds[-1].detail
    assert len(rounds) - 2 < 40
    assert kept


# ── what is no candidate ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Refereed(KnowingRunner):
    """What case a prompt is written in means nothing, and a seed is no business of it."""

    def identity(self, text: Mapping[str, str]) -> str:
        return f"same:{text[PROMPT].casefold()}"

    def objection(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        return "prompts/solve.md line 2 sets the seed" if "seed" in after[PROMPT] else ""


def verified(directory: Path, run: str) -> object:
    return verify(journal_file(directory, run), directory).differences


def decided(rounds: list[Round]) -> list[tuple[str, str]]:
    return [(r.decision.because, r.decision.detail) for r in rounds if r.decision]


def test_a_change_of_what_is_measured_is_no_candidate_and_buys_no_trial(checkout, directory):
    proposer = ListProposer(("Use seed 3.", "Mind the plural."))
    rounds = play(an_experiment(runner=Refereed(), proposer=proposer, budget=Budget(rounds=2)), checkout, directory)

    assert decided(rounds)[0] == ("not-a-candidate", "prompts/solve.md line 2 sets the seed")
    assert rounds[1].trials == rounds[0].trials
    assert decided(rounds)[1][0] not in ("not-a-candidate", "already-tried")
    assert not verified(directory, rounds[0].run)


def test_what_does_the_same_as_a_version_that_was_tried_is_not_tried_again(checkout, directory):
    proposer = ListProposer(("Be brief.", "BE BRIEF.", "be Brief."))
    rounds = play(an_experiment(runner=Refereed(), proposer=proposer, budget=Budget(rounds=3)), checkout, directory)

    first, *others = decided(rounds)
    assert first[0] != "already-tried"
    assert others == [("already-tried", f"does the same as {rounds[0].run} round 1")] * 2
    assert len({r.candidate for r in rounds[1:4]}) == 3
    assert rounds[3].trials == rounds[1].trials
    assert not verified(directory, rounds[0].run)


def test_what_does_the_same_as_the_live_version_is_not_tried(checkout, directory):
    @dataclass(frozen=True)
    class Shouter:
        def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
            edit = Edit(path=PROMPT, text=text[PROMPT].replace("Answer.", "ANSWER."))
            return Proposal(id="p", proposer="Shouter", edits=(edit,), rationale="louder")

    rounds = play(an_experiment(runner=Refereed(), proposer=Shouter(), budget=Budget(rounds=1)), checkout, directory)

    assert decided(rounds) == [("already-tried", "does the same as the live version")]


# ── changes that do not run ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Crashing:
    """Runs as it is until *breaks*, counted in runs of the baseline's prompt, and crashes with any change."""

    runs: list[int]
    breaks: int = 10**9

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        if "Change" in text[PROMPT]:
            raise RuntimeError("no such layer")
        self.runs.append(seed)
        if len(self.runs) > self.breaks:
            raise RuntimeError("the disk is gone")
        return f"loss: {1 + seed / 1e12}"


def a_crashing_night(runner: Crashing, checkout: Path, directory: Path) -> list[Round]:
    experiment = an_experiment(
        tasks=[Task(id="run", input="", split="train")],
        runner=runner,
        grader=MetricGrader("loss"),
        gate=MetricGate("loss", better="lower", recheck=0),
        proposer=ListProposer([f"Change {i}." for i in range(60)]),
        budget=Budget(rounds=60),
    )
    return play(experiment, checkout, directory)


def test_after_six_changes_in_a_row_that_do_not_run_the_incumbent_is_run_again_and_after_24_the_run_ends(
    checkout, directory
):
    runner = Crashing([])
    rounds = a_crashing_night(runner, checkout, directory)

    assert [len(rounds), rounds[-1].stop] == [1 + 24 + 1, "failing"]
    assert rounds[-1].detail.startswith("the last 24 changes that were run gave no number, 24 of them")
    assert "no such layer" in rounds[-1].detail
    assert len(runner.runs) == 3 + 3 * 3  # the baseline, and again after 6, 12 and 18
    assert not verified(directory, rounds[0].run)


def test_a_machine_on_which_nothing_runs_any_more_ends_the_run_and_blames_no_change(checkout, directory):
    rounds = a_crashing_night(Crashing([], breaks=3), checkout, directory)

    assert rounds[-1].stop == "failing"
    assert [r.decision.because for r in rounds[1:-1]] == ["no-improvement"] * 6 + ["errors"] * 3
    assert "the disk is gone" in rounds[-1].detail
