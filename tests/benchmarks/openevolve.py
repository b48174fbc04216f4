"""Ratchet beside openevolve: same evaluator, same proposer, same number of evaluations. As a Markdown table.

    uv run --group peers python -m tests.benchmarks.openevolve [REPETITIONS] [WORLD …] [--evaluations N] [--forgetful]

5 repetitions of both made-up worlds, which is the default, take about ten minutes on two busy cores; ``circles`` are
packed only when asked for, since a run takes seconds: a search of 60 about five minutes, or more. Without the group
Ratchet plays alone. All is seeded. Ratchet's searches come out the same each time; openevolve's do not, since it draws
parents from sets of names that are new in each run. The seconds are the machine's, measured in turns.

**The worlds.** A file has eight constants. In ``climbable`` each costs, by weights from 1 to 1/128, the square of how
far, in doublings, it is from a best value drawn at random; in ``best already`` all are best as they are, so each change
is a loss. A run adds noise of one sigma and takes a process of its own. So the true score of a version is known
exactly. ``circles`` is the shipped experiment; there the truth is the mean of ``FRESH`` fresh seeds of each side.

**The proposer** is ``MutationProposer`` on both sides, with a seed for each proposal. openevolve asks a model, so a
loopback server reads the current program from its prompt and answers with the edit, in its diff format. *The same*
is the rule, not the list: openevolve draws the program to change from its population. The server gives the proposer the
same memory as a night does: each earlier edit, what its program scored in openevolve's own evaluations, and sigma.
``--forgetful`` takes what was learned away from both; no version is proposed twice all the same.

**Evaluations** are runs of the program: the baseline, repeats, the promotion test and the measurement after it count.
So do all runs of an evaluation that averages. Both run one at a time.

**Claimed.** openevolve: the score of its best program, less the *true* score of the start, which it does not know; that
favours it. Ratchet: the gain that its certification measured on fresh seeds; where nothing is certified it claims
nothing and hands over the start. **Overhead**: the wall seconds of the search, less those of the proposer, less
evaluations times what a run takes bare, by evaluation. A bare run beside each ``BARE``-th proposal says that.
"""

import argparse
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, cast

from scipy.special import stdtrit

from analysis.proposers.mutation import MutationProposer
from experiments.circle_packing.checker import SumOfRadii
from experiments.circle_packing.experiment import FIXED
from harness.candidacy import GUARDED, identity
from harness.errors import OutOfIdeas
from harness.experiment import Budget, Experiment
from harness.gate import MetricGate
from harness.graders import MetricGrader
from harness.protocols import History
from harness.runners import CommandRunner
from harness.runners.metrics import Computed, Printed
from harness.trials import seed_of
from harness.versions import Repo, applied
from tests.benchmarks.openevolve_peer import CIRCLES, NOISELESS, Order, World, digest, drawn, evaluations
from tests.conftest import git
from tests.world import CONTRACT, play
from traces.records import Comparison, Decision, Proposal, Round, Task, now

ROOT = Path(__file__).parents[2]
PACKING = ROOT / "experiments" / "circle_packing"
FRESH = 5
"""Seeds of each side where the truth is not known."""
BARE = 4
"""After how many proposals there is a bare run."""
EVALUATIONS = {"climbable": 100, "best already": 100, "circles": 60}

TOP, SIGMA = 100.0, 1.0
START: Mapping[str, float] = {
    "LEARNING_RATE": 0.01,
    "HIDDEN": 32,
    "DECAY": 0.1,
    "BATCH": 64,
    "CLIP": 1.0,
    "WARMUP": 10,
    "DEPTH": 6,
    "SCALE": 0.5,
}
MEASURE = """
import math, os, random
import tuned
best, weights = {best!r}, {weights!r}
loss = sum(w * math.log2(getattr(tuned, name) / best[name]) ** 2 for name, w in weights.items())
seed = os.environ["RATCHET_SEED"]
print("score:", {top} - loss + (0 if seed == {noiseless!r} else random.Random(seed).gauss(0, {sigma})))
"""


# ── worlds ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def constants(name: str, repetition: int) -> World:
    rng = random.Random(f"{name}/{repetition}")
    names = rng.sample(sorted(START), len(START))
    far = 3 if name == "climbable" else 0
    best = {one: START[one] * 2 ** rng.uniform(-far, far) for one in names}
    weights = {one: 2.0**-i for i, one in enumerate(names)}
    measure = MEASURE.format(best=best, weights=weights, top=TOP, noiseless=NOISELESS, sigma=SIGMA)
    return World(
        name=name,
        file="tuned.py",
        start="".join(f"{one} = {value}\n" for one, value in START.items()),
        fixed={"measure.py": measure},
        command=[sys.executable, "-S", "-E", "-B", "measure.py"],
        metric="score",
        sigma=SIGMA,
    )


def packing() -> World:
    return World(
        name="circles",
        file="pack.py",
        start=(PACKING / "code" / "pack.py").read_text("utf-8"),
        fixed={"prepare.py": (PACKING / "prepare.py").read_text("utf-8")},
        command=[sys.executable, "pack.py"],
        metric=CIRCLES,
        sigma=0.016,
        limit=120.0,
    )


def world_of(name: str, repetition: int) -> World:
    return packing() if name == "circles" else constants(name, repetition)


def true_gain(world: World, program: str, repetition: int) -> tuple[float, float]:
    """Of *program* over the start, and its standard error."""
    if program == world.start:
        return 0.0, 0.0
    if world.metric != CIRCLES:
        before, after = world.value(world.start, NOISELESS), world.value(program, NOISELESS)
        return value_or_failed(after) - value_or_failed(before), 0.0
    seeds = [drawn("fresh", repetition, number) for number in range(2 * FRESH)]
    sides = [
        [value_or_failed(world.value(text, seed)) for seed in part]
        for text, part in ((world.start, seeds[::2]), (program, seeds[1::2]))
    ]
    return fmean(sides[1]) - fmean(sides[0]), math.sqrt(sum(stdev(side) ** 2 / FRESH for side in sides))


def true_start(world: World, repetition: int) -> float:
    if world.metric != CIRCLES:
        return value_or_failed(world.value(world.start, NOISELESS))
    return fmean(value_or_failed(world.value(world.start, drawn("start", repetition, n))) for n in range(FRESH))


def value_or_failed(value: float | None) -> float:
    return 0.0 if value is None else value


# ── the proposer, on both sides ────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Gauge:
    """What the proposals of one search took, and what a run takes while it goes on."""

    world: World
    seconds: float = 0.0
    """Of proposals, and of the bare runs: they are no overhead."""
    bare: list[float] = field(default_factory=list[float])
    calls: int = 0

    @contextmanager
    def proposing(self) -> Generator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            if self.calls % BARE == 0:
                bare = time.perf_counter()
                self.world.value(self.world.start, self.calls)
                self.bare.append(time.perf_counter() - bare)
            self.calls += 1
            self.seconds += time.perf_counter() - began


def guarded(world: World) -> Sequence[str]:
    return FIXED if world.metric == CIRCLES else GUARDED


@dataclass(frozen=True)
class Measured:
    """The proposer of a night of Ratchet, on a gauge."""

    inner: MutationProposer
    is_forgetful: bool
    gauge: Gauge = field(repr=False, compare=False)

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        with self.gauge.proposing():
            known = replace(history, rounds=(), text_of=None) if self.is_forgetful else history
            return self.inner.propose(incumbent, text, known)


@dataclass
class Standin:
    """What answers openevolve in a model's place, with the memory of a night."""

    world: World
    folder: Path
    night: str
    """The name of Ratchet's experiment: its proposals draw their seeds from it, and so do these."""
    runs: int
    is_forgetful: bool
    gauge: Gauge
    asked: list[tuple[str, str, Proposal]] = field(default_factory=list[tuple[str, str, Proposal]])
    """Program, what was made of it, and how."""

    def answer(self, prompt: str) -> str:
        """The edit to the program in *prompt*, as openevolve wants it; in words that no ideas are left, which costs it
        the iteration."""
        program = program_in(prompt)
        with self.gauge.proposing():
            known, texts = self.known(), {digest(text): {self.world.file: text} for text in self.texts(program)}
            history = History(
                run="openevolve",
                tasks={},
                trials=(),
                rounds=() if self.is_forgetful else tuple(known),
                tried={identity({self.world.file: text}): "before" for text in self.texts(program)},
                seed=seed_of(self.night, 0, len(self.asked) + 1),
                text_of=None if self.is_forgetful else texts.__getitem__,
            )
            files = {self.world.file: program}
            try:
                proposal = MutationProposer(guarded=guarded(self.world)).propose(digest(program), files, history)
            except OutOfIdeas as e:
                return str(e)
            after = applied(files, proposal.edits)[self.world.file]
            self.asked.append((program, after, proposal))
        return diff(program, after)

    def texts(self, program: str) -> list[str]:
        return [self.world.start, program, *(text for before, after, _ in self.asked for text in (before, after))]

    def known(self) -> list[Round]:
        """The edits so far, with what their programs scored, as rounds."""
        runs: dict[str, list[float | None]] = {}
        for one in evaluations(self.folder):
            runs.setdefault(one.program, []).append(one.value)
        scores = {name: None if None in found else fmean(map(value_or_failed, found)) for name, found in runs.items()}
        return [
            self.round(number, before, after, proposal, scores)
            for number, (before, after, proposal) in enumerate(self.asked, 1)
        ]

    def round(
        self, number: int, before: str, after: str, proposal: Proposal, scores: Mapping[str, float | None]
    ) -> Round:
        incumbent, candidate = digest(before), digest(after)
        decision = self.decision(incumbent, candidate, scores) if candidate in scores else None
        is_kept = decision is not None and decision.verdict == "keep"
        return Round(
            run="openevolve",
            number=number,
            incumbent=incumbent,
            candidate=candidate,
            identity=identity({self.world.file: after}),
            proposal=proposal,
            decision=decision,
            working=candidate if is_kept else incumbent,
            started=now(),
            seconds=0.0,
        )

    def decision(self, incumbent: str, candidate: str, scores: Mapping[str, float | None]) -> Decision:
        before, after = scores.get(incumbent), scores[candidate]
        if before is None or after is None:
            return Decision(verdict="discard", because="no-improvement", detail="it gave no number")
        gain = after - before
        comparison = Comparison(
            incumbent=incumbent,
            candidate=candidate,
            split="train",
            tasks=1,
            incumbent_score=before,
            candidate_score=after,
            gain=gain,
            low=None,
            high=None,
            confidence=0.9,
            differences=(gain,),
            metric=self.world.metric,
            sigma=self.world.sigma / math.sqrt(self.runs),
        )
        if gain > 0:
            return Decision(verdict="keep", because="improved", comparison=comparison)
        return Decision(verdict="discard", because="no-improvement", comparison=comparison)


def program_in(prompt: str) -> str:
    [found] = re.findall(r"^# Current Program\n```python\n(.*)\n```\n\n# Task$", prompt, re.DOTALL | re.MULTILINE)
    return found


def diff(before: str, after: str) -> str:
    """One block, of the changed lines and as many above them as it takes: to be found in one place only, and not to
    leave a blank line where a line was taken out."""
    old, new = before.split("\n"), after.split("\n")
    first = next(i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1])
    most = min(len(old), len(new)) - first
    last = next((i for i in range(most) if old[-1 - i] != new[-1 - i]), most)

    def block(lines: list[str], start: int) -> str:
        return "".join(f"{line}\n" for line in lines[start : len(lines) - last])

    while first and ("" in (block(old, first), block(new, first)) or before.count(block(old, first)) > 1):
        first -= 1
    return f"<<<<<<< SEARCH\n{block(old, first)}=======\n{block(new, first)}>>>>>>> REPLACE"


@contextmanager
def served(standin: Standin) -> Generator[str]:
    """Within, *standin* answers chat completions at the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body in one go: else each answer waits for the acknowledgement of its headers

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = standin.answer(asked["messages"][-1]["content"])
            body = json.dumps(completion(said)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def completion(said: str) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "mutation",
        "choices": [choice],
        "usage": usage,
    }


# ── searches ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Found:
    """What one search came to. Gains are over the start."""

    gain: float
    """The true one, of the version that it hands over."""
    error: float
    """Standard error of that."""
    claimed: float | None
    """``None``: it claims nothing."""
    evaluations: int
    proposals: int
    overhead: float
    """Seconds for each evaluation."""
    bare: float
    """Seconds of a run."""
    kept: float | None = None
    """Of Ratchet: the true gain of its working version, whether it was certified or not."""


@dataclass(frozen=True)
class Rule:
    name: str
    runs: int = 1
    """Of openevolve: for each evaluation."""
    database: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of openevolve: what is not as its defaults are."""
    is_ours: bool = False


RULES = (
    Rule("openevolve, its defaults"),
    Rule("openevolve, evaluator averages 3 seeds", runs=3),
    Rule("openevolve, one island", database={"num_islands": 1}),
    Rule("openevolve, one island, averages 3", runs=3, database={"num_islands": 1}),
    Rule("**Ratchet**", is_ours=True),
)


def by_ratchet(world: World, repetition: int, most: int, folder: Path, *, is_forgetful: bool) -> Found:
    root, gauge = folder / "repository", Gauge(world)
    for name, text in {f"subject/{world.file}": world.start, **in_fixed(world.fixed)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
        git(root, *arguments)
    metric = Computed(world.metric, SumOfRadii()) if world.metric == CIRCLES else Printed(world.metric)
    experiment = Experiment(
        name=night_of(world, repetition),
        subject="subject",
        tasks=[Task(id="run", input="", split="train")],
        runner=CommandRunner(
            world.command,
            metric=metric,
            fixed={name: root / "fixed" / name for name in world.fixed},
            seconds=world.limit,
            guarded=guarded(world),
        ),
        grader=MetricGrader(world.metric),
        proposer=Measured(MutationProposer(guarded=guarded(world)), is_forgetful, gauge),
        gate=MetricGate(world.metric, better="higher"),
        budget=Budget(trials=most),
        contract=CONTRACT,
    )
    began = time.perf_counter()
    rounds = play(experiment, root, folder / "data", workers=1)
    seconds = time.perf_counter() - began
    last = rounds[-1]
    done = last.certification
    subject = Repo.find(root).subject("subject")
    final, claimed = world.start, None
    if done is not None and done.verdict == "accept":
        final = subject.text(done.candidate)[world.file]
        claimed = done.measured.gain if done.measured is not None else None
    gain, error = true_gain(world, final, repetition)
    kept = gain if final != world.start else true_gain(world, subject.text(last.working)[world.file], repetition)[0]
    return Found(gain, error, claimed, last.trials, gauge.calls, *overhead(seconds, gauge, last.trials), kept)


def night_of(world: World, repetition: int) -> str:
    return f"{world.name.replace(' ', '-')}-{repetition}"


def in_fixed(files: Mapping[str, str]) -> dict[str, str]:
    return {f"fixed/{name}": text for name, text in files.items()}


def by_openevolve(rule: Rule, world: World, repetition: int, most: int, folder: Path, *, is_forgetful: bool) -> Found:
    folder.mkdir()
    world.write(folder / "world.json")
    seed, gauge = drawn(world.name, repetition), Gauge(world)
    standin = Standin(world, folder, night_of(world, repetition), rule.runs, is_forgetful, gauge)
    with served(standin) as address, (folder / "log").open("w") as log:
        order = Order(address, seed, rule.runs, most // rule.runs - 1, rule.database)
        (folder / "order.json").write_text(json.dumps(asdict(order)), "utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.openevolve_peer", str(folder)]
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode or not (folder / "found.json").exists():
        raise SystemExit(f"openevolve ended with {done.returncode}:\n{(folder / 'log').read_text()[-3000:]}")
    faults = [line for line in (folder / "log").read_text("utf-8").splitlines() if " error: " in line]
    if faults:
        print(f"{rule.name}: {len(faults)} iterations came to nothing, first: {faults[0]}", file=sys.stderr)
    found = json.loads((folder / "found.json").read_text("utf-8"))
    ran = len(list(evaluations(folder)))
    gain, error = true_gain(world, found["program"], repetition)
    claimed = found["score"] - true_start(world, repetition)
    return Found(gain, error, claimed, ran, gauge.calls, *overhead(found["seconds"], gauge, ran))


def overhead(seconds: float, gauge: Gauge, ran: int) -> tuple[float, float]:
    """Seconds by evaluation, and those of a bare run."""
    bare = fmean(gauge.bare)
    return (seconds - gauge.seconds - ran * bare) / ran, bare


# ── the table ──────────────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="openevolve")
    parser.add_argument("repetitions", type=int, nargs="?", default=5)
    parser.add_argument("worlds", nargs="*", help=f"of {', '.join(EVALUATIONS)}")
    parser.add_argument("--evaluations", type=int, help="of each search")
    parser.add_argument("--forgetful", action="store_true", help="the proposer learns nothing, on either side")
    parser.add_argument("--first", type=int, default=0, help="number of the first repetition")
    parser.add_argument("--out", type=Path, help="a line of JSON for each search")
    given = parser.parse_args(arguments)
    if unknown := set(given.worlds) - set(EVALUATIONS):
        parser.error(f"there is no world {sorted(unknown)[0]!r}: choose of {', '.join(EVALUATIONS)}")
    there = [rule for rule in RULES if rule.is_ours or find_spec("openevolve") is not None]
    if len(there) < len(RULES):
        print("openevolve is not installed, so Ratchet plays alone: uv run --group peers …\n")
    for name in given.worlds or ["climbable", "best already"]:
        most = given.evaluations or EVALUATIONS[name]
        rules = [rule for rule in there if name != "circles" or not rule.database]
        found: dict[str, list[Found]] = {rule.name: [] for rule in rules}
        for repetition in range(given.first, given.first + given.repetitions):
            for rule in rules:
                one = searched(rule, name, repetition, most, is_forgetful=given.forgetful)
                found[rule.name].append(one)
                print(f"{name} {repetition} {rule.name}: {one}", file=sys.stderr, flush=True)
                if given.out is not None:
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"world": name, "rule": rule.name, **asdict(one)}) + "\n")
        table(name, most, found, range(given.first, given.first + given.repetitions))


def searched(rule: Rule, name: str, repetition: int, most: int, *, is_forgetful: bool) -> Found:
    world = world_of(name, repetition)
    with tempfile.TemporaryDirectory(prefix="openevolve-", ignore_cleanup_errors=True) as folder:
        place = Path(folder) / "search"
        if rule.is_ours:
            return by_ratchet(world, repetition, most, place, is_forgetful=is_forgetful)
        return by_openevolve(rule, world, repetition, most, place, is_forgetful=is_forgetful)


def table(name: str, most: int, found: Mapping[str, Sequence[Found]], repetitions: Sequence[int]) -> None:
    sigma = world_of(name, 0).sigma
    possible = ""
    if name != "circles":
        could = fmean(TOP - true_start(world_of(name, number), number) for number in repetitions) / sigma
        possible = f"; {could:.2f} could be gained"
    print(
        f"\n**{name}**: {len(repetitions)} searches a row, at most {most} evaluations each; gains in sigmas of a run "
        f"({sigma}), with 90 % intervals{possible}\n"
    )
    print(
        "| | true gain | less Ratchet's | claims one | claimed gain, where it does | claimed less true "
        "| claims 1 sigma too much | ends worse than the start | evaluations | proposals "
        "| overhead, s an evaluation | a bare run, s |"
    )
    print("|" + "---|" * 12)
    [ours] = [found[rule.name] for rule in RULES if rule.is_ours]
    for rule, searches in found.items():
        claims = [(one.claimed / sigma, one.gain / sigma) for one in searches if one.claimed is not None]
        columns = (
            rule,
            mean([one.gain / sigma for one in searches]),
            against(searches, ours, sigma),
            f"{len(claims)} of {len(searches)}",
            mean([claimed for claimed, _ in claims]),
            mean([claimed - gain for claimed, gain in claims]),
            share([claimed > gain + 1 for claimed, gain in claims], len(searches)),
            share([is_worse(one) for one in searches], len(searches)),
            f"{fmean(one.evaluations for one in searches):.0f}",
            f"{fmean(one.proposals for one in searches):.0f}",
            mean([one.overhead for one in searches], 3),
            mean([one.bare for one in searches], 3),
        )
        print("| " + " | ".join(columns) + " |", flush=True)
        kept = [one.kept / sigma for one in searches if one.kept is not None]
        if kept:
            print(f"| its working version, certified or not | {mean(kept)} |" + " |" * 10, flush=True)


def against(searches: Sequence[Found], ours: Sequence[Found], sigma: float) -> str:
    """Search by search: they have the same worlds."""
    if searches is ours:
        return ""
    return mean([(one.gain - other.gain) / sigma for one, other in zip(searches, ours, strict=True)])


def is_worse(one: Found) -> bool:
    """Beyond two standard errors, where the truth has one."""
    return one.gain < -2 * one.error - 1e-9


def mean(values: Sequence[float], digits: int = 2) -> str:
    """With Student's 90 % interval."""
    if not values:
        return "–"
    middle = f"{fmean(values):.{digits}f}"
    if len(values) < 2:
        return middle
    half = float(cast(float, stdtrit(len(values) - 1, 0.95))) * stdev(values) / math.sqrt(len(values))
    return f"{middle} ± {half:.{digits}f}"


def share(found: Sequence[bool], of: int) -> str:
    """With the standard error of the add-one estimate, so that none is 0."""
    p = (sum(found) + 1) / (of + 2)
    return f"{sum(found) / of:.2f} ± {math.sqrt(p * (1 - p) / of):.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
