"""How others decide what to keep: their own functions, from the installed packages, on the worlds of our nights.

Only the model is made up: a proposal is the next one of the world, a task run is a score of the world. A peer gets the
sizes that its documentation recommends; where these are smaller than what the world has, there is a second row that
gives it all. Its packages are imported when its rule is called, so that our own rows need none of them.

A rule *promotes* whenever the version changes that it would hand over if it were stopped there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.gate import nights
from harness.gate.nights import Nights, NightSpec, Version, World
from traces.records import Split


@dataclass(frozen=True)
class Night:
    """What a rule made of one world."""

    promoted: bool
    """Was anything?"""
    false: bool
    """Was anything promoted that is truly no better than what it replaced?"""
    gain: float
    """True gain of what is live in the end over what was live before."""
    claimed: float
    """The same as the rule itself would report it."""
    calls: int
    """Task runs that it decided from."""


class Promotions:
    """The versions that a rule makes live, one after the other."""

    def __init__(self, world: World) -> None:
        self.live = world.live
        self.gains: list[float] = []
        """True gain of each over the one before it."""
        self._world = world

    def promote(self, version: Version) -> None:
        self.gains.append(self._world.gain(version, self.live))
        self.live = version

    def night(self, claimed: float) -> Night:
        return Night(
            promoted=bool(self.gains),
            false=any(gain <= 0 for gain in self.gains),
            gain=self._world.gain(self.live),
            claimed=claimed,
            calls=self._world.calls,
        )


# ── ours, and the plain rules ──────────────────────────────────────────────────────────────────────────────────


def ratchet(spec: NightSpec, seed: int) -> Night:
    """Our gate with its defaults."""
    return only(nights.simulate(spec, 1, seed))


def keep_if_higher(spec: NightSpec, seed: int) -> Night:
    """Keep what scores higher on all of ``train`` than the version at hand scored when it was measured."""
    return only(nights.keep_if_higher(spec, 1, seed))


def one_standard_error(spec: NightSpec, seed: int) -> Night:
    """The same, but it must be higher by more than one standard error of the mean paired difference."""
    return only(nights.one_standard_error(spec, 1, seed))


def only(found: Nights) -> Night:
    """The one night of *found*."""
    return Night(
        promoted=bool(found.promoted[0]),
        false=bool(found.false[0]),
        gain=float(found.gain[0]),
        claimed=float(found.claimed[0]),
        calls=int(found.calls[0]),
    )


# ── GEPA ───────────────────────────────────────────────────────────────────────────────────────────────────────

Tasks = tuple[tuple[Split, int], ...]
"""By split and index in it."""

SEED = "live"
"""Text of the version that a run begins with."""


def gepa_as_recommended(spec: NightSpec, seed: int) -> Night:
    """``gepa.optimize`` on all of ``train`` and ``validation``, divided 80 to 20.

    Its guide recommends that division above 200 examples, and half and half below. All else is its default: minibatches
    of 3 examples, accepted into the pool when their sum is strictly higher than the parent's, the whole valset for what
    is accepted, parents drawn from the Pareto front, no merging. A minibatch that the parent solves completely is
    skipped: it costs 3 runs and uses up no proposal. Forty proposals come to about 14 times its valset in metric calls;
    its guide advises 15 to 30.
    """
    return gepa_run(World(spec, seed), seed, *recommended_split(spec)).night()


def gepa_on_our_splits(spec: NightSpec, seed: int) -> Night:
    """The same with ``train`` for its minibatches and all of ``validation`` for its valset."""
    trainset, valset = named("train", spec.train), named("validation", spec.validation)
    return gepa_run(World(spec, seed), seed, trainset, valset).night()


def gepa_pool(spec: NightSpec, seed: int) -> list[bool]:
    """Of each proposal of a night: did its minibatch take it into the pool of candidates?"""
    system = gepa_run(World(spec, seed), seed, *recommended_split(spec))
    return [True] * system.accepted + [False] * (system.proposed - system.accepted)


def recommended_split(spec: NightSpec) -> tuple[Tasks, Tasks]:
    """Trainset and valset."""
    tasks = named("train", spec.train) + named("validation", spec.validation)
    first = round((0.8 if len(tasks) > 200 else 0.5) * len(tasks))
    return tasks[:first], tasks[first:]


def named(split: Split, count: int) -> Tasks:
    return tuple((split, index) for index in range(count))


def gepa_run(world: World, seed: int, trainset: Tasks, valset: Tasks) -> "GepaSystem":
    """A whole run of its engine, which hands over the candidate with the highest mean on *valset*."""
    import gepa

    system = GepaSystem(world)
    result = gepa.optimize(
        seed_candidate={"text": SEED},
        trainset=list(trainset),
        valset=list(valset),
        adapter=system,
        stop_callbacks=lambda _: system.proposed >= world.spec.proposals,
        callbacks=[system],
        logger=system,
        seed=seed,
    )
    if system.versions[result.best_candidate["text"]] is not system.promotions.live:
        raise AssertionError("what GEPA returns is not what it last called the best")
    if result.total_metric_calls != world.calls:
        raise AssertionError(f"GEPA counts {result.total_metric_calls} metric calls, the world {world.calls}")
    return system


class GepaSystem:
    """What GEPA optimises, with a proposer that takes the next proposal of the world: its adapter, callback and logger
    in one. A candidate's text is the name of a version."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.versions: dict[str, Version] = {SEED: world.live}
        self.promotions = Promotions(world)
        self.proposed = 0
        self.accepted = 0
        """Into the pool, on a minibatch."""
        self.scores: list[float] = []
        """Means on the valset of what was ever the best."""

    def night(self) -> Night:
        return self.promotions.night(claimed=self.scores[-1] - self.scores[0])

    def evaluate(self, batch: Sequence[tuple[Split, int]], candidate: Mapping[str, str], capture_traces: bool = False):
        from gepa.core.adapter import EvaluationBatch

        version = self.versions[candidate["text"]]
        scores = np.empty(len(batch))
        for split in ("train", "validation"):
            rows = [row for row, (of, _) in enumerate(batch) if of == split]
            if rows:
                scores[rows] = self.world.scores(version, split, np.array([batch[row][1] for row in rows]))
        return EvaluationBatch(
            outputs=[None] * len(batch),
            scores=scores.tolist(),
            trajectories=[{}] * len(batch) if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], eval_batch: object, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, str]]]:
        return {name: [] for name in components_to_update}

    def propose_new_texts(
        self, candidate: Mapping[str, str], reflective_dataset: object, components_to_update: Sequence[str]
    ) -> dict[str, str]:
        name = f"{candidate['text']}, {self.proposed}"
        self.versions[name] = self.world.candidate(self.versions[candidate["text"]], self.proposed)
        self.proposed += 1
        return {"text": name}

    def on_candidate_accepted(self, event: object) -> None:
        self.accepted += 1

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        if event["is_best_program"]:
            self.scores.append(event["average_score"])
            if event["candidate_idx"] != 0:
                self.promotions.promote(self.versions[event["candidate"]["text"]])

    def log(self, message: str) -> None:
        pass


# ── SkillOpt ───────────────────────────────────────────────────────────────────────────────────────────────────


def skillopt(spec: NightSpec, seed: int) -> Night:
    """``skillopt.evaluation.gate.evaluate_gate`` as its trainer calls it, once for each proposal.

    The gate's metric is the default, "hard". The selection set is the whole split, as in all of its configurations
    (``sel_env_num: 0``): ``validation``. The first skill is measured once, a candidate once, and the score at which a
    skill was accepted stays its score. Rollouts on ``train`` feed its reflection and decide nothing: not counted (40 a
    step). Its slow update, which is accepted without a test, is left out.
    """
    from skillopt.evaluation.gate import evaluate_gate

    world = World(spec, seed)
    first = score = best_score = float(world.scores(world.live, "validation").mean())
    versions = {SEED: world.live}
    current = best = SEED
    best_step = 0
    promotions = Promotions(world)
    for number in range(spec.proposals):
        name = f"{current}, {number}"
        versions[name] = world.candidate(versions[current], number)
        result = evaluate_gate(
            candidate_skill=name,
            cand_hard=float(world.scores(versions[name], "validation").mean()),
            current_skill=current,
            current_score=score,
            best_skill=best,
            best_score=best_score,
            best_step=best_step,
            global_step=number + 1,
        )
        if result.best_skill != best:
            promotions.promote(versions[result.best_skill])
        current, score = result.current_skill, result.current_score
        best, best_score, best_step = result.best_skill, result.best_score, result.best_step
    return promotions.night(best_score - first)


# ── agent-self-edit ────────────────────────────────────────────────────────────────────────────────────────────

RECOMMENDED = 40
"""Tasks of an A/B test: its design notes recommend 20 to 40, and its own promotion corpus has 40."""

PROMPT = "\n".join(f"Rule {n}: do the right thing about subject {n}." for n in range(100))
"""So long that forty one-line edits stay within its limits on edit distance and drift, which are about the text."""


def agent_self_edit_as_recommended(spec: NightSpec, seed: int) -> Night:
    """``agent_self_edit``'s promotion gate on 40 tasks of ``validation``, both prompts run afresh for each proposal."""
    return agent_self_edit_night(World(spec, seed), min(RECOMMENDED, spec.validation))


def agent_self_edit_on_our_splits(spec: NightSpec, seed: int) -> Night:
    """The same on all of ``validation``."""
    return agent_self_edit_night(World(spec, seed), spec.validation)


def agent_self_edit_night(world: World, tasks: int) -> Night:
    """Its ``check_all`` with its default configuration, on an A/B result from its own statistics.

    The result is filled as ``run_ab_test`` does: its relative effect size (at least 5 %) and its permutation p-value
    (below .05, two-sided, 1,000 permutations, which ignore the pairing). The p-value is computed only where a p of 0
    would promote, because it takes nearly all of the time. The bootstrap interval of an A/B result is left out: the
    gate does not read it. The permutations draw their own randomness, so that this row is not the same twice.
    """
    from agent_self_edit.ab_test import ABResult, effect_size, permutation_test
    from agent_self_edit.config import Config
    from agent_self_edit.gate import check_all
    from agent_self_edit.types import EditProposal, materialize_candidate_prompt

    config = Config.defaults()
    chosen = slice(0, tasks)
    promotions = Promotions(world)
    prompt, claimed = PROMPT, 0.0

    def decision(a: list[float], b: list[float], p_value: float, edit: EditProposal) -> str:
        result = ABResult(
            winner="inconclusive",  # not read by the gate
            mean_delta=sum(b) / tasks - sum(a) / tasks,
            ci_low=0.0,
            ci_high=0.0,
            p_value=p_value,
            effect_size=effect_size(a, b),
            n_trials=tasks,
        )
        return check_all(edit, result, prompt, PROMPT, config).decision

    for number in range(world.spec.proposals):
        candidate = world.candidate(promotions.live, number)
        a: list[float] = world.scores(promotions.live, "validation", chosen).tolist()
        b: list[float] = world.scores(candidate, "validation", chosen).tolist()
        last = prompt.rsplit("\n", 1)[-1]
        edit = EditProposal("rules", last, f"{last}\nEdit {number}.", "it helps", "more tasks are solved")
        if decision(a, b, 0.0, edit) != "promote":
            continue
        p_value = permutation_test(a, b, n_permutations=config.ab_test.n_permutations)
        if decision(a, b, p_value, edit) == "promote":
            promotions.promote(candidate)
            prompt = materialize_candidate_prompt(prompt, edit)
            claimed += sum(b) / tasks - sum(a) / tasks
    return promotions.night(claimed)
