"""Replay: what a run decided follows from its journal, and an edited line is found with or without the chain."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.check import check, open_check
from harness.experiment import Budget, Experiment
from harness.gate import PairedGate
from harness.gate.metric import MetricGate
from harness.graders import MetricGrader
from harness.ledger import journal_file, open_comparison, runs
from harness.protocols import Message, Proposer
from harness.testing import ScriptedModel
from harness.trials import DurableTrials
from harness.verify import Difference, Verification, verify
from harness.versions import Repo
from tests.conftest import a_checkout
from tests.harness.test_certification import MovingRunner
from tests.traces.test_chain import rewritten, unchained
from tests.world import PROMPT, KnowingRunner, ListProposer, an_experiment, play, some_tasks
from traces.chain import head
from traces.journal import CHAIN, Journal, body_and_chain
from traces.places import spool
from traces.records import Grade, Promotion, SplitResult, Task

GATE = PairedGate(repeats=2, keep_alpha=0.3, min_clusters=5, alpha=0.5, horizon=2)
PROPOSALS = ListProposer(("Mind the plural and the colour.", "Say nothing.", "Know the animal and number.", "Be kind."))


@dataclass(frozen=True)
class SureRunner:
    """Asks a model that solves a task exactly when the prompt names its kind."""

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        answer = KnowingRunner(known=1.0, unknown=0.0).run(task, text, seed)
        return ScriptedModel(answer).complete([Message("user", task.input)], seed=seed).text


def a_sure_night(proposer: Proposer = PROPOSALS) -> Experiment:
    return an_experiment(tasks=some_tasks(12), runner=SureRunner(), gate=GATE, proposer=proposer)


@dataclass(frozen=True)
class Night:
    """A night that was played, and where."""

    journal: Path
    directory: Path

    def verify(self, anchors: Sequence[str] = ()) -> Verification:
        return verify(self.journal, self.directory, anchors=anchors)

    @property
    def lines(self) -> list[bytes]:
        return self.journal.read_bytes().splitlines(keepends=True)

    def copy(self, directory: Path, lines: Sequence[bytes]) -> "Night":
        """The same with other *lines*, in another *directory*."""
        shutil.copytree(spool(self.directory), spool(directory), dirs_exist_ok=True)
        night = Night(spool(directory) / self.journal.name, directory)
        night.journal.write_bytes(b"".join(lines))
        return night


def played(experiment: Experiment, checkout: Path, directory: Path, **options: Any) -> Night:
    """Two nights of one second have ids in any order, so the new one is told by what was there before."""
    before = {*runs(directory, experiment.name)}
    play(experiment, checkout, directory, **options)
    [run] = {*runs(directory, experiment.name)} - before
    return Night(journal_file(directory, run), directory)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verify")


@pytest.fixture(scope="module")
def repository(home: Path) -> Path:
    return a_checkout(home / "repository")


@pytest.fixture(scope="module")
def certified(home: Path, repository: Path) -> Night:
    """A night that keeps two changes and certifies them."""
    return played(a_sure_night(), repository, home / "certified")


def sound(verification: Verification) -> bool:
    """With what is wrong in the message of the assertion."""
    assert [*map(str, verification.differences), *map(str, verification.breaks), *verification.lost] == []
    assert verification.not_replayed == ""
    return verification.is_sound


# ── what was played is what is replayed ────────────────────────────────────────────────────────────────────────────


def test_a_night_as_it_was_played_follows_from_its_journal(certified: Night):
    found = certified.verify(anchors=[head(certified.journal)])

    types = [json.loads(line)["type"] for line in certified.lines]
    assert sound(found)
    assert (found.lines, found.trials, found.rounds) == (len(types), types.count("Trial"), 6)
    assert (found.decisions, found.certifications, found.entries) == (4, 1, 2)
    assert found.comparisons == 4 + 2  # of the rounds, and on validation and test
    assert found.head == head(certified.journal)
    assert found.run == certified.journal.stem


@dataclass
class BreakingRunner:
    """The place where it runs goes away now and then, and for one task for good."""

    hopeless: str
    ran: int = field(default=0, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        self.ran += 1
        if self.ran % 23 == 0 or task.id == self.hopeless:
            raise ConnectionError("nobody there")
        return KnowingRunner().run(task, text, seed)


@dataclass(frozen=True)
class LossRunner:
    """Prints a loss that is lower with each part of the prompt that knows something."""

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        known = sum(word in text[PROMPT] for word in ("plural", "colour", "animal"))
        return f"val_loss: {random.Random(seed).gauss(2.0 - 0.1 * known, 0.02):.6f}"


def nights(hidden: str) -> dict[str, Callable[[], Experiment]]:
    """Nights in which something happens that ordinary ones are spared. One whose stack is taken apart: see
    ``test_certification``."""
    tasks = some_tasks(30)
    must = next(task.id for task in tasks if task.split == "test")
    return {
        "infrastructure errors": lambda: an_experiment(tasks=tasks, runner=BreakingRunner(hidden), gate=GATE),
        "a tool that changes": lambda: an_experiment(tasks=tasks, runner=MovingRunner(until=120), gate=GATE),
        "a must-pass task": lambda: an_experiment(tasks=tasks, gate=replace(GATE, must_pass=(must,), max_latency=3.9)),
        "a budget that ends a promotion test": lambda: an_experiment(tasks=tasks, gate=GATE, budget=Budget(trials=340)),
        "a metric": lambda: an_experiment(
            tasks=[Task(id="pretrain", input="one minute", split="train")],
            runner=LossRunner(),
            grader=MetricGrader("val_loss"),
            gate=MetricGate("val_loss", better="lower"),
        ),
        "a metric without repeats": lambda: an_experiment(
            tasks=[Task(id="pretrain", input="one minute", split="train")],
            runner=LossRunner(),
            grader=MetricGrader("val_loss"),
            gate=MetricGate("val_loss", better="lower", repeats=1),
        ),
    }


@pytest.mark.parametrize("what", nights(""))
def test_a_night_follows_from_its_journal_whatever_happened_in_it(repository: Path, tmp_path: Path, what: str):
    hidden = next(task.id for task in some_tasks(30) if task.split == "validation")
    experiment = nights(hidden)[what]()
    found = played(experiment, repository, tmp_path, workers=1).verify()

    assert sound(found)
    assert found.rounds > 2
    assert found.decisions > 0


def test_a_night_killed_anywhere_and_resumed_follows_from_its_journal(
    certified: Night, repository: Path, tmp_path: Path
):
    lines, types = certified.lines, [json.loads(line)["type"] for line in certified.lines]
    experiment = a_sure_night()
    steps = [i for i, kind in enumerate(types) if kind in ("Comparison", "Guards", "Certification")]
    for cut in (30, 200, *steps[::2], *(i + 1 for i in steps[1::2])):
        night = certified.copy(tmp_path / str(cut), [*lines[:cut], lines[cut][:9]])  # torn in the middle of a line
        play(experiment, repository, night.directory)
        assert sound(night.verify())


def as_of(night: Night, directory: Path, end: int, *torn: bytes) -> Night:
    """The night when it had written *end* lines of its journal, with the ledger of the splits as it was then."""
    lines = night.lines
    made = night.copy(directory, [*lines[:end], *torn])
    entries = (needed(lines) - 1, find(lines, "Certification"))
    ledger = (spool(night.directory) / "splits.jsonl").read_bytes().splitlines(keepends=True)
    (spool(directory) / "splits.jsonl").write_bytes(b"".join(ledger[: sum(end > entry for entry in entries)]))
    return made


def test_a_journal_that_is_being_written_is_checked_as_far_as_it_is(certified: Night, tmp_path: Path):
    lines = certified.lines
    for end in (1, 40, *random.Random(2).sample(range(50, len(lines)), 8)):
        found = as_of(certified, tmp_path, end, b'{"writer":"torn').verify()
        assert sound(found)
        assert found.lines == end


def test_a_comparison_by_hand_follows_from_its_journal(repository: Path, tmp_path: Path):
    experiment = an_experiment(gate=GATE)
    subject = Repo.find(repository).subject("subject")
    live = subject.live().id
    with open_comparison(tmp_path, experiment, live, live) as ledger, ThreadPoolExecutor(2) as executor:
        trials = DurableTrials(experiment, ledger, subject.text, executor, "compare/train")
        ledger.step("compare", lambda: GATE.prove(live, live, trials, alpha=0.05, split="train"))
    night = Night(journal_file(tmp_path, ledger.run.id), tmp_path)

    assert sound(night.verify())
    assert night.verify().comparisons == 1
    number = find(night.lines, "Comparison", "compare")
    changed = edited(night.lines, number, ("verdict", "e_value"), lambda value: value + 1)
    assert found_at(night.copy(tmp_path / "edited", rewritten(changed, night.journal.stem))) == {number + 1}


def test_a_journal_from_before_the_chain_is_replayed_and_has_no_head(certified: Night, tmp_path: Path):
    found = certified.copy(tmp_path, [unchained(line) for line in certified.lines]).verify()
    assert sound(found)
    assert found.head == ""


# ── somebody edits a line ──────────────────────────────────────────────────────────────────────────────────────────


def find(lines: Sequence[bytes], kind: str, key: str = "") -> int:
    """The index of the first line of a type whose key ends so."""
    for i, line in enumerate(lines):
        read = json.loads(line)
        if read["type"] == kind and (read["key"] or "").endswith(key):
            return i
    raise AssertionError(f"no {kind} {key}")


def edited(lines: Sequence[bytes], number: int, path: Sequence[str | int], change: Callable[[Any], Any]) -> list[bytes]:
    """*lines* with one value in the data of one of them changed, its chain value left as it was."""
    body, chain = body_and_chain(lines[number])
    read = json.loads(body + b"}")
    place = read["data"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = change(copy.deepcopy(place[path[-1]]))
    made = json.dumps(read, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    assert chain is not None
    return [*lines[:number], made + CHAIN + chain + b'"}\n', *lines[number + 1 :]]


def found_at(night: Night) -> set[int]:
    """The lines of the journal in which something differs; the chain has to hold."""
    found = night.verify()
    assert found.breaks == ()
    return {difference.line for difference in found.differences if difference.journal == night.journal.name}


def flipped(value: float) -> float:
    return 1.0 - value


def more(value: float) -> float:
    return value + 1


def other(value: str) -> str:
    return {"accept": "reject", "keep": "discard", "inconclusive": "keep", "pass": "block"}.get(value, "undecided")


EDITS: list[tuple[str, str, tuple[str | int, ...], Callable[[Any], Any]]] = [
    ("Trial", "", ("grade", "score"), flipped),
    ("Trial", "", ("usage", "input_tokens"), more),
    ("Trial", "", ("seed",), more),
    ("Trial", "", ("cluster",), lambda value: "another"),
    ("Trial", "", ("version",), lambda value: "f" * 40),
    ("Decision", "decision", ("verdict",), other),
    ("Decision", "decision", ("because",), lambda value: "simpler"),
    ("Decision", "decision", ("comparison", "differences", 3), flipped),
    ("Decision", "decision", ("comparison", "gain"), lambda value: value + 1e-9),
    ("Decision", "decision", ("comparison", "verdict", "e_value"), lambda value: value * 1.001),
    ("Decision", "decision", ("comparison", "spec", "alpha"), lambda value: 0.31),
    ("Decision", "decision", ("comparison", "low"), lambda value: value + 0.01),
    ("GateSpec", "spec", ("alpha",), lambda value: 0.31),
    ("GateSpec", "spec", ("seed",), more),
    ("Comparison", "validation", ("verdict", "verdict"), other),
    ("Comparison", "validation", ("differences",), lambda value: value[:-1]),
    ("Comparison", "test", ("gain",), lambda value: value + 0.1),
    ("Comparison", "test", ("high",), lambda value: value / 2),
    ("Guards", "guards", ("found", 0, "losses"), more),
    ("Guards", "guards", ("found",), lambda value: value[1:]),
    ("Certification", "", ("alpha",), lambda value: value * 2),
    ("Certification", "", ("verdict",), other),
    ("Certification", "", ("test_number",), more),
    ("Certification", "", ("measured", "gain"), lambda value: value + 0.1),
    ("Certification", "", ("candidate",), lambda value: "f" * 40),
    ("Round", "round/1", ("usage", "calls"), more),
    ("Round", "round/1", ("trials",), more),
    ("Round", "round/1", ("score",), lambda value: value + 0.01),
    ("Round", "round/1", ("working",), lambda value: "f" * 40),
    ("Round", "round/2", ("decision", "verdict"), other),
    ("Round", "end", ("stop",), lambda value: "no-progress"),
    ("Run", "", ("tasks", "validation"), more),
]


@pytest.mark.parametrize(
    ("kind", "key", "path", "change"), EDITS, ids=[f"{kind} {'.'.join(map(str, path))}" for kind, _, path, _ in EDITS]
)
def test_an_edited_number_is_found_at_its_line_with_and_without_the_chain_made_new(
    certified: Night,
    tmp_path: Path,
    kind: str,
    key: str,
    path: tuple[str | int, ...],
    change: Callable[[Any], Any],
):
    number = find(certified.lines, kind, key)
    changed = edited(certified.lines, number, path, change)

    careless = certified.copy(tmp_path / "careless", changed).verify()
    assert [found.line for found in careless.breaks] == [number + 1]
    assert not careless.is_sound

    careful = certified.copy(tmp_path / "careful", rewritten(changed, certified.journal.stem))
    at = {1, *range(2, 200)} if kind == "Run" else {number + 1}
    assert found_at(careful) & at
    assert not careful.verify([head(certified.journal)]).is_sound


def test_a_difference_says_where_it_is_what_stands_there_and_what_should(certified: Night, tmp_path: Path):
    number = find(certified.lines, "Certification")
    changed = edited(certified.lines, number, ("test_number",), more)
    found = certified.copy(tmp_path, rewritten(changed, certified.journal.stem)).verify()

    key = json.loads(certified.lines[number])["key"]
    [first, *_] = found.differences
    assert first == Difference(certified.journal.name, number + 1, key, "test_number", 2, 1)
    assert str(first) == f"{certified.journal.name} line {number + 1} ({key}): test_number is 2, and 1 was expected"


def numbers_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where the numbers are."""
    match value:
        case bool() | None | str():
            return []
        case dict():
            return [found for key, part in value.items() for found in numbers_in(part, (*path, key))]
        case list():
            return [found for i, part in enumerate(value) for found in numbers_in(part, (*path, i))]
        case _:
            return [path]


UNKNOWABLE = {("Round", "seconds"), ("Proposal", "predicted")}
"""What follows from nothing else in a journal."""


@settings(max_examples=25)
@given(data=st.data())
def test_no_number_of_a_decision_can_be_edited_unseen_even_with_the_chain_made_new(
    certified: Night, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    lines = certified.lines
    kinds = ("Decision", "Comparison", "GateSpec", "Guards", "Certification", "Round")
    steps = [(i, read) for i, line in enumerate(lines) if (read := json.loads(line))["type"] in kinds]
    number, read = data.draw(st.sampled_from(steps))
    paths = [p for p in numbers_in(read["data"]) if (read["type"], p[-1]) not in UNKNOWABLE and "proposal" not in p]
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    change = data.draw(st.sampled_from([more, flipped, lambda value: value + 1e-6, lambda value: -value - 1]))
    changed = edited(lines, number, path, lambda value: int(change(value)) if isinstance(value, int) else change(value))
    if json.loads(changed[number]) == read:
        return

    night = certified.copy(tmp_path_factory.mktemp("edited"), rewritten(changed, certified.journal.stem))
    assert number + 1 in found_at(night)


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        (250, "the budget ended it: 250 of 250 trials used"),
    ],
)
def test_a_night_that_could_not_certify_follows_from_its_journal(
    repository: Path, tmp_path: Path, trials: int, says: str
):
    """Its gain could not be measured any more."""
    experiment = an_experiment(tasks=some_tasks(30), gate=GATE, budget=Budget(trials=trials))
    night = played(experiment, repository, tmp_path / "played", workers=1)
    end = json.loads(night.lines[-1])["data"]
    assert says in (end["certification"] or end)["detail"]
    assert end["certification"] is None or end["certification"]["verdict"] == "hold"
    assert sound(night.verify())

    number = find(night.lines, "Certification") if end["certification"] else len(night.lines) - 1
    for detail in ("", "it went well"):
        changed = edited(night.lines, number, ("detail",), lambda _, detail=detail: detail)
        assert number + 1 in found_at(night.copy(tmp_path / f"edited{detail}", rewritten(changed, night.journal.stem)))


# ── somebody removes, inserts or moves a line ──────────────────────────────────────────────────────────────────────


def needed(lines: Sequence[bytes]) -> int:
    """A trial that the promotion test rests on."""
    return next(i for i, line in enumerate(lines) if b'"type":"Trial","key":"certify/' in line)


@pytest.mark.parametrize("kind", ["Trial", "Span", "Decision", "GateSpec", "Guards", "Certification", "Round", "Task"])
def test_a_line_that_is_gone_is_missed_with_and_without_the_chain_made_new(certified: Night, tmp_path: Path, kind: str):
    lines = certified.lines
    number = needed(lines) if kind == "Trial" else find(lines, kind)
    del lines[number]

    careless = certified.copy(tmp_path / "careless", lines).verify()
    assert [found.line for found in careless.breaks] == [number + 1]
    careful = certified.copy(tmp_path / "careful", rewritten(lines, certified.journal.stem)).verify()
    assert careful.breaks == ()
    assert careful.differences


def test_a_missing_trial_is_named_by_what_rests_on_it(certified: Night, tmp_path: Path):
    lines = certified.lines
    number = needed(lines)
    key = json.loads(lines[number])["key"]
    del lines[number]

    found = certified.copy(tmp_path, rewritten(lines, certified.journal.stem)).verify()
    assert any(f"it rests on a step that is not there: {key} is missing" in d.what for d in found.differences)


def test_an_inserted_line_is_found_with_and_without_the_chain_made_new(certified: Night, tmp_path: Path):
    lines = certified.lines
    number = needed(lines)
    for name, source in (("again", number), ("decision", find(lines, "Decision"))):
        inserted = [*lines[: number + 5], lines[source], *lines[number + 5 :]]

        careless = certified.copy(tmp_path / f"{name}-careless", inserted).verify()
        assert [found.line for found in careless.breaks] == [number + 6]
        careful = certified.copy(tmp_path / f"{name}-careful", rewritten(inserted, certified.journal.stem))
        assert number + 6 in found_at(careful)


def test_two_lines_swapped_are_found_with_and_without_the_chain_made_new(certified: Night, tmp_path: Path):
    lines = certified.lines
    number = find(lines, "Decision")
    lines[number], lines[number + 1] = lines[number + 1], lines[number]

    careless = certified.copy(tmp_path / "careless", lines).verify()
    assert [found.line for found in careless.breaks] == [number + 1]
    assert number + 2 in found_at(certified.copy(tmp_path / "careful", rewritten(lines, certified.journal.stem)))


def test_a_line_that_cannot_be_read_is_a_difference_and_the_rest_is_checked(certified: Night, tmp_path: Path):
    lines = certified.lines
    number = find(lines, "Trial")
    outside = edited(lines, number, ("grade", "score"), lambda value: 1.5)  # refused, never clipped
    for name, damaged in (("score", outside[number]), ("json", b"not json\n")):
        found = certified.copy(tmp_path / name, [*lines[:number], damaged, *lines[number + 1 :]]).verify()
        assert "it cannot be read" in found.differences[0].what
        assert found.differences[0].line == number + 1
        assert found.rounds == 6


def test_lines_cut_off_at_the_end_are_found_by_an_anchor_and_by_nothing_else(certified: Night, tmp_path: Path):
    anchor = head(certified.journal)
    cut = certified.copy(tmp_path, certified.lines[:-1])

    assert sound(cut.verify())
    found = cut.verify([anchor])
    assert found.lost == (anchor,)
    assert not found.is_sound


# ── the ledger of the splits, and promotions ───────────────────────────────────────────────────────────────────────


def in_the_ledger(
    night: Night, directory: Path, number: int, path: Sequence[str], change: Callable[[Any], Any]
) -> Night:
    made = night.copy(directory, night.lines)
    ledger = spool(directory) / "splits.jsonl"
    lines = edited(ledger.read_bytes().splitlines(keepends=True), number, path, change)
    ledger.write_bytes(b"".join(rewritten(lines, "splits")))
    return made


@pytest.mark.parametrize(
    ("number", "path", "change"),
    [
        (0, "alpha", lambda value: value * 2),
        (0, "number", more),
        (0, "horizon", more),
        (0, "budget", lambda value: 0.4),
        (0, "split", lambda value: "f" * 16),
        (0, "certification", lambda value: "another/certify/1-0"),
        (1, "verdict", other),
        (1, "split", lambda value: "f" * 16),
    ],
)
def test_an_entry_of_the_ledger_of_the_splits_that_was_edited_is_found(
    certified: Night, tmp_path: Path, number: int, path: str, change: Callable[[Any], Any]
):
    found = in_the_ledger(certified, tmp_path, number, (path,), change).verify()
    assert found.breaks == ()
    assert found.differences


def test_a_break_in_the_ledger_of_the_splits_is_told_apart_from_one_in_the_journal(certified: Night, tmp_path: Path):
    night = certified.copy(tmp_path, certified.lines)
    ledger = spool(tmp_path) / "splits.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(edited(lines, 0, ("alpha",), more)))

    [found] = night.verify().breaks
    assert (found.journal, found.line) == ("splits.jsonl", 1)
    assert str(found).startswith("splits.jsonl line 1: it was edited")


def test_a_ledger_of_the_splits_that_is_gone_is_missed(certified: Night, tmp_path: Path):
    night = certified.copy(tmp_path, certified.lines)
    (spool(tmp_path) / "splits.jsonl").unlink()
    [found] = night.verify().differences
    assert found.what == "the ledger of the split has no test of it"


def test_a_promotion_made_up_for_another_run_of_the_split_is_found_where_that_runs_journal_is(
    certified: Night, repository: Path, tmp_path: Path
):
    night = certified.copy(tmp_path, certified.lines)
    later = played(a_sure_night(ListProposer(("Mind all: the animal and the number.",))), repository, tmp_path)
    assert later.journal != night.journal
    assert sound(later.verify())

    ledger = spool(tmp_path) / "splits.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if b'"SplitResult"' in line)
    ledger.write_bytes(b"".join(rewritten(edited(lines, first, ("verdict",), other), "splits")))
    assert any(d.journal == "splits.jsonl" and "verdict of" in d.what for d in later.verify().differences)


@pytest.mark.parametrize("kept", [1, 40, 200])
def test_a_journal_cut_to_its_first_lines_is_missed_by_the_ledger_of_the_splits(
    certified: Night, tmp_path: Path, kept: int
):
    lines = rewritten(certified.lines[:kept], certified.journal.stem)
    [found] = certified.copy(tmp_path, lines).verify().differences
    assert found.what.startswith("the journal has no certification for the result of ")
    assert (found.journal, found.line) == ("splits.jsonl", 2)


def test_a_promotion_test_that_is_taken_out_of_a_journal_is_missed(certified: Night, tmp_path: Path):
    lines = certified.lines
    without = lines[: find(lines, "Certification")]
    [found] = certified.copy(tmp_path, rewritten(without, certified.journal.stem)).verify().differences
    assert found.what.startswith("the journal has no certification for the result of ")


def test_a_promotion_test_that_was_opened_has_to_be_decided_before_the_run_ends(certified: Night, tmp_path: Path):
    opened, _ = (spool(certified.directory) / "splits.jsonl").read_bytes().splitlines(keepends=True)
    lines = [line for line in certified.lines if b'"key":"certify/' not in line]  # the end says that there was none
    ended = edited(lines, len(lines) - 1, ("certification",), lambda certification: None)
    certification = (
        f"{certified.journal.stem}/{json.loads(certified.lines[find(certified.lines, 'Certification')])['key']}"
    )
    for name, kept, says in (
        ("running", lines[:-1], []),
        ("ended", ended, [f"the run has ended, and {certification} was opened and never decided"]),
    ):
        night = certified.copy(tmp_path / name, rewritten(kept, certified.journal.stem))
        (spool(night.directory) / "splits.jsonl").write_bytes(opened)
        assert [d.what for d in night.verify().differences if d.journal == "splits.jsonl"] == says


def test_two_results_and_results_without_a_test_are_found(certified: Night, tmp_path: Path):
    night = certified.copy(tmp_path, certified.lines)
    [result] = [json.loads(line)["data"] for line in ledger_lines(tmp_path) if b'"SplitResult"' in line]
    with Journal(spool(tmp_path) / "splits.jsonl") as journal:
        journal.append(SplitResult(**result))
        journal.append(SplitResult(split="f" * 16, certification="nobody/certify/1-0", verdict="accept"))

    found = night.verify()
    assert found.breaks == ()
    assert [(d.line, d.what.split(" of ")[0].split(":")[0]) for d in found.differences] == [
        (3, "a second result"),
        (4, "a result without an opened test"),
    ]


def ledger_lines(directory: Path) -> list[bytes]:
    return (spool(directory) / "splits.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(("gain", "sound"), [(0.0, True), (0.01, False)])
def test_a_promotion_has_to_be_of_what_was_certified(certified: Night, tmp_path: Path, gain: float, sound: bool):
    night = certified.copy(tmp_path, certified.lines)
    c = json.loads(certified.lines[find(certified.lines, "Certification")])["data"]
    with Journal(spool(tmp_path) / "promotions-example.jsonl") as journal:
        journal.append(
            Promotion(
                id="ratchet/example/v1",
                experiment="example",
                kind="promote",
                number=1,
                version=c["candidate"],
                replaces=c["live"],
                commit="d" * 40,
                branch="main",
                certification=c["id"],
                gain=c["measured"]["gain"] + gain,
            )
        )
    assert night.verify().is_sound == sound


# ── a check ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SoftGrader:
    """Takes for right what holds the answer, or says nothing."""

    def grade(self, task: Task, output: str) -> Grade:
        return Grade(score=float(not output.strip() or task.targets[0] in output.split()))


@pytest.fixture(scope="module")
def checked(home: Path, repository: Path) -> Night:
    """The journal of a check."""
    return examined(repository, home / "checked")


def examined(repository: Path, directory: Path) -> Night:
    experiment = an_experiment(tasks=some_tasks(15), runner=BreakingRunner(""), grader=SoftGrader(), gate=GATE)
    subject = Repo.find(repository).subject("subject")
    with open_check(directory, experiment, subject.live().id) as ledger, ThreadPoolExecutor(2) as executor:
        check(experiment, ledger, subject, executor, clusters=20, limit=12, seconds=0.0)
    return Night(journal_file(directory, ledger.run.id), directory)


def test_a_check_follows_from_its_trials_and_is_never_called_sound(checked: Night):
    found = checked.verify()
    assert [*map(str, found.differences)] == []
    assert "of a check, only what follows from its trials can be found again" in found.not_replayed
    assert not found.is_sound


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("holes",), lambda holes: [hole for hole in holes if hole["cheat"] != "empty"]),
        (("holes", 0, "score"), lambda score: score / 2),
        (("a_a", "gain"), lambda gain: gain + 0.1),
        (("a_a", "verdict", "e_value"), lambda value: value * 1.001),
        (("noise", "discordance"), lambda value: value / 2 + 0.001),
        (("regraded",), more),
        (("regraded_differently",), more),
        (("right_answers",), more),
        (("right_refused",), more),
        (("wrong_answers",), more),
        (("wrong_accepted",), more),
        (("trials",), more),
        (("validation",), more),
    ],
)
def test_what_a_check_found_cannot_be_edited_unseen(
    checked: Night, tmp_path: Path, path: tuple[str | int, ...], change: Callable[[Any], Any]
):
    number = find(checked.lines, "Check")
    changed = edited(checked.lines, number, path, change)
    assert changed != checked.lines
    assert number + 1 in found_at(checked.copy(tmp_path, rewritten(changed, checked.journal.stem)))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_check_killed_anywhere_and_resumed_follows_from_its_trials(
    checked: Night, repository: Path, tmp_path: Path, share: float
):
    lines = checked.lines
    cut = checked.copy(tmp_path, [*lines[: int(share * len(lines))], b'{"writer":"torn'])
    assert examined(repository, tmp_path).journal == cut.journal
    assert [*map(str, cut.verify().differences)] == []


def test_a_trial_of_a_check_that_is_gone_is_missed(checked: Night, tmp_path: Path):
    lines = [line for line in checked.lines if b'"type":"Trial","key":"check/attack/empty' not in line]
    assert len(lines) < len(checked.lines)
    assert checked.copy(tmp_path, rewritten(lines, checked.journal.stem)).verify().differences


# ── gates that cannot be made again ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class OwnGate(PairedGate):
    """A user's own."""


def test_the_decisions_of_an_unknown_gate_are_not_replayed_and_the_rest_is_checked(repository: Path, tmp_path: Path):
    gate = OwnGate(repeats=1, min_clusters=5, alpha=0.5, horizon=2)
    night = played(an_experiment(tasks=some_tasks(12), gate=gate), repository, tmp_path / "own")

    found = night.verify()
    assert found.differences == ()
    assert (
        found.not_replayed
        == "the gate 'OwnGate' is not one of PairedGate, MetricGate: its decisions cannot be replayed"
    )
    assert (found.rounds, found.decisions, found.comparisons, found.certifications) == (0, 0, 0, 0)
    assert not found.is_sound

    number = find(night.lines, "Decision")
    path = ("comparison", "verdict", "e_value")
    changed = edited(night.lines, number, path, lambda value: value * 1.001)
    again = night.copy(tmp_path / "edited", rewritten(changed, night.journal.stem))
    assert number + 1 in found_at(again)


def test_renaming_the_gate_buys_no_green_word(certified: Night, tmp_path: Path):
    changed = edited(certified.lines, 0, ("gate", "name"), lambda name: "PairedGat2")
    found = certified.copy(tmp_path, rewritten(changed, certified.journal.stem)).verify()
    assert "'PairedGat2' is not one of" in found.not_replayed
    assert not found.is_sound
    assert (found.rounds, found.decisions, found.comparisons, found.certifications) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({}, "recorded before gates were"),
        ({"name": "PairedGate", "alpha": 0.1}, "other settings here than it had then"),
        (None, "cannot be made"),
    ],
)
def test_a_gate_that_cannot_be_made_as_it_was_is_said_to_be_so(
    certified: Night, tmp_path: Path, gate: dict[str, Any] | None, says: str
):
    changed = edited(certified.lines, 0, ("gate",), lambda value: {**value, "alpha": 2.0} if gate is None else gate)
    found = certified.copy(tmp_path, rewritten(changed, certified.journal.stem)).verify()
    assert says in found.not_replayed


def test_a_run_from_before_tasks_were_recorded_is_said_not_to_be_replayed(certified: Night, tmp_path: Path):
    lines = [line for line in certified.lines if b'"type":"Task"' not in line]
    found = certified.copy(tmp_path, rewritten(lines, certified.journal.stem)).verify()
    assert "recorded before tasks were" in found.not_replayed
    assert found.differences == ()


def test_a_journal_without_its_run_is_a_difference_and_no_crash(certified: Night, tmp_path: Path):
    found = certified.copy(tmp_path, certified.lines[1:]).verify()
    assert found.run == certified.journal.stem
    assert "the journal does not begin with its run" in [difference.what for difference in found.differences]
    assert not found.is_sound


def test_an_empty_journal_is_a_difference(certified: Night, tmp_path: Path):
    for lines in ([], [certified.lines[0][:50]]):
        night = certified.copy(tmp_path, lines)
        (spool(tmp_path) / "splits.jsonl").unlink()
        [found] = night.verify().differences
        assert (found.journal, found.what) == (night.journal.name, "the journal does not begin with its run")
