"""Kill a night of code with signal 9 at random moments, again and again, and compare it with one that was left alone.

    uv run python -m tests.benchmarks.code_kills [ROUNDS]

200 rounds are about 300 trials: a script in the sandbox that makes a number of a file of constants and of its seed.
Both nights are ``ratchet run``; the killed one is started again with the same command until it ends. They must come to
the same version by the same decisions, with every trial's number once; and of the killed one nothing else may be left.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from analysis.proposers import Combining, Pruning
from analysis.proposers.examples import is_new, proposal_id
from harness.errors import OutOfIdeas
from harness.experiment import Budget, Experiment
from harness.gate import MetricGate
from harness.graders import MetricGrader
from harness.ledger import is_finished, journal_file, runs
from harness.protocols import History
from harness.runners import CommandRunner
from harness.runners.metrics import Printed
from tests.conftest import GIT, git
from tests.world import CONTRACT, outcome, play
from traces.journal import read
from traces.records import Edit, Proposal, Round, Task, Trial

ROOT = Path(__file__).parents[2]
NAME = "nine_lives"
CONSTANTS = "constants.txt"
BEST = (7, -4, 12, 0, 3)
EVALUATOR = f"""
import os, random
found = [int(line.split("=")[1]) for line in open("{CONSTANTS}")]
far = sum((x - best) ** 2 for x, best in zip(found, {BEST}))
print("loss:", 0.1 * far + random.Random(os.environ["RATCHET_SEED"]).gauss(0, 0.1))
"""
EXPERIMENT = """
from pathlib import Path
from tests.benchmarks.code_kills import an_experiment
experiment = an_experiment(Path(__file__).parents[2], {rounds}, {final})
"""


# ── what is played ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Steps:
    """Moves a constant a little; several, where that was tried."""

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        chance = random.Random(history.seed)
        for tries in range(200):
            lines, said = text[CONSTANTS].splitlines(), ""
            for _ in range(1 + tries // 50):
                at, by = chance.randrange(len(lines)), chance.choice((-2, -1, 1, 2))
                name, value = lines[at].split("=")
                lines[at] = f"{name}={int(value) + by}"
                said = f"{said} {name} {by:+}".strip()
            edits = (Edit(path=CONSTANTS, text="\n".join(lines) + "\n"),)
            if is_new(edits, history):
                return Proposal(id=proposal_id(incumbent, edits), proposer="Steps", edits=edits, rationale=said)
        raise OutOfIdeas("no step is new")


def an_experiment(root: Path, rounds: int, final: int) -> Experiment:
    return Experiment(
        name=NAME,
        subject="subject",
        tasks=[Task(id="run", input="", split="train")],
        runner=CommandRunner(
            [sys.executable, "-S", "-E", "evaluate.py", marker(root)],
            metric=Printed("loss"),
            fixed={"evaluate.py": root / "fixed" / "evaluate.py"},
            seconds=60,
        ),
        grader=MetricGrader("loss"),
        proposer=Combining(Pruning(Steps())),
        gate=MetricGate("loss", better="lower", final=final),
        budget=Budget(rounds=rounds),
        contract=CONTRACT,
    )


def marker(root: Path) -> str:
    """By which the night's commands are found among all processes."""
    return f"marker:{root}:"


@dataclass
class Place:
    """A repository with the experiment, and what a night leaves in it."""

    root: Path
    rounds: int
    final: int = 5
    kills: int = 0
    orphans: list[str] = field(default_factory=list[str])
    sizes: list[dict[str, int]] = field(default_factory=list[dict[str, int]])

    def make(self) -> "Place":
        files = {
            f"subject/{CONSTANTS}": "a=0\nb=0\nc=0\nd=0\ne=0\n",
            "fixed/evaluate.py": EVALUATOR,
            f"experiments/{NAME}/experiment.py": EXPERIMENT.format(rounds=self.rounds, final=self.final),
            ".gitignore": "traces/\n__pycache__/\n",
        }
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.temporary.mkdir()
        git(self.root, "init", "-q", "-b", "main")
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", "Begin")
        return self

    @property
    def temporary(self) -> Path:
        return self.root.with_name(f"{self.root.name} tmp")

    @property
    def data(self) -> Path:
        return self.root / "traces" / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **GIT, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}

    @property
    def journal(self) -> Path | None:
        found = runs(self.data, NAME)
        return journal_file(self.data, found[-1]) if found else None

    @property
    def is_over(self) -> bool:
        return self.journal is not None and is_finished(self.journal)

    @property
    def decisions(self) -> list[tuple[object, ...]]:
        assert self.journal is not None
        found = [line.record() for line in read(self.journal) if line.type == "Round"]
        return outcome([round for round in found if isinstance(round, Round)])

    @property
    def trials(self) -> list[tuple[str, float | None]]:
        """Key and number of each, as often as it is there."""
        assert self.journal is not None
        found = [(line.key or "", line.record()) for line in read(self.journal) if line.type == "Trial"]
        return sorted((key, t.grade.value if t.grade else None) for key, t in found if isinstance(t, Trial))

    @property
    def left(self) -> list[str]:
        """What should not be there once it has ended."""
        found = [*self.temporary.iterdir(), *(self.data / "work").glob("*"), *(self.root / ".git").rglob("*.lock")]
        names = [str(path.relative_to(self.root.parent)) for path in found]
        worktrees = git(self.root, "worktree", "list").splitlines()[1:]
        return [*names, *worktrees, *git(self.root, "status", "--porcelain").splitlines(), *self.processes()]

    def processes(self) -> list[str]:
        """The command lines of those that run the night's command."""
        found: list[str] = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes()
            except OSError:
                continue
            if marker(self.root).encode() in line:
                found.append(f"{entry.parent.name} {line.decode(errors='replace')[-200:]}")
        return found

    def note(self) -> None:
        """What the disk holds besides the journal."""
        self.sizes.append(
            {
                "trials' folders": size(self.data / "work"),
                "TMPDIR": size(self.temporary),
                ".git": size(self.root / ".git"),
            }
        )


def size(folder: Path) -> int:
    """On disk, in bytes."""
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.lstat().st_blocks * 512
        except OSError:
            continue
    return found


# ── kill -9 ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Life:
    """A process that plays a night, or the rest of one."""

    ended: Callable[[], int | None]
    """How; ``None`` as long as it lives."""
    kill: Callable[[], None]


def killed_until_it_ends(
    place: Place, begin: Callable[[], Life], chance: random.Random, longest: float, kills: int
) -> None:
    """Begin it, kill it at most *longest* seconds after it has its journal open, and so on, *kills* times at most."""
    while not place.is_over:
        sessions = count_sessions(place)
        life = begin()
        if place.kills < kills:
            while count_sessions(place) == sessions and life.ended() is None:
                time.sleep(0.01)
            until = time.monotonic() + longest * chance.random()
            while time.monotonic() < until and life.ended() is None:
                time.sleep(0.005)
            place.kills += life.ended() is None
            life.kill()
        while (ended := life.ended()) is None:
            time.sleep(0.01)
        place.orphans += [] if wait_until(lambda: not place.processes(), 5) else place.processes()
        place.note()
        assert place.is_over or ended == -signal.SIGKILL, f"it ended with {ended}, and is not over"


def count_sessions(place: Place) -> int:
    try:
        return place.journal.read_bytes().count(b'"type":"Session"') if place.journal else 0
    except OSError:
        return 0


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def ratchet(place: Place) -> Life:
    """By the command that a person types."""
    command = [sys.executable, "-m", "experiments.cli", "run", NAME, "--unchecked"]
    with (place.root.parent / f"{place.root.name}.log").open("ab") as said:
        process = subprocess.Popen(command, cwd=place.root, env=place.environment, stdout=said, stderr=said)
    return Life(process.poll, process.kill)


def forked(place: Place) -> Life:
    """The night alone, in a process forked from one that has imported everything already."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=night, args=(place.root, place.rounds, place.final, place.environment))
    process.start()
    return Life(lambda: process.exitcode, process.kill)


def night(root: Path, rounds: int, final: int, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    tempfile.tempdir = None
    play(an_experiment(root, rounds, final), root, root / "traces" / "data", workers=2)


def differences(killed: Place, whole: Place) -> dict[str, object]:
    """What must be empty."""
    mine, theirs = dict(killed.trials), dict(whole.trials)
    pairs = list(zip(killed.decisions, whole.decisions, strict=False))
    return {
        "rounds decided otherwise": [a[0] for a, b in pairs if a != b][:5],
        "rounds more or less": len(killed.decisions) - len(whole.decisions),
        "trials lost": sorted(theirs.keys() - mine.keys()),
        "trials besides": sorted(mine.keys() - theirs.keys()),
        "trials twice": len(killed.trials) - len(mine),
        "other numbers": [key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]],
        "another version": [] if killed.decisions[-1][3] == whole.decisions[-1][3] else [killed.decisions[-1][3]],
        "orphans": killed.orphans,
        "left behind": killed.left,
    }


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (Place(Path(folder) / name, rounds).make() for name in ("whole", "killed"))
        begun = time.monotonic()
        killed_until_it_ends(whole, lambda: ratchet(whole), random.Random(0), 0.0, kills=0)
        alone = time.monotonic() - begun
        killed_until_it_ends(killed, lambda: ratchet(killed), random.Random(1), 4.0, kills=10_000)
        print(f"{len(whole.trials)} trials in {len(whole.decisions)} rounds; alone {alone:.0f} s")
        print(f"killed {killed.kills} times; took {time.monotonic() - begun - alone:.0f} s")
        for what, found in differences(killed, whole).items():
            print(f"  {what}: {found or 'none'}")
        for what in killed.sizes[0]:
            kib = [sizes[what] >> 10 for sizes in killed.sizes]
            alone = whole.sizes[-1][what] >> 10
            print(f"  {what}, KiB: first {kib[0]}, most {max(kib)}, at the end {kib[-1]}; the other night's {alone}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
