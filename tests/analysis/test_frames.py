"""What notebooks ask of a night."""

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from analysis import frames
from analysis.costs import read_costs
from analysis.findings import path_of
from analysis.readable import heat, readable
from harness.gate.eprocess import decide
from harness.protocols import Trace
from tests.traces.samples import CERTIFICATION, FINDING, KEPT, NEW, NOON, OLD, PROPOSAL, ROUND, RUN, SPAN, TRIAL, write
from traces import otel
from traces.merge import merge
from traces.records import (
    Certification,
    Decision,
    Escalation,
    GateSpec,
    Grade,
    Guard,
    Removal,
    Round,
    Ruling,
    Span,
    Task,
    Trial,
    Usage,
    Verdict,
    now,
)

GUARDS = (
    Guard(kind="must-pass", name="mouse", verdict="pass", n=3, wins=3, losses=0),
    Guard(kind="slice", name="plural", verdict="block", n=9, wins=0, losses=5, p=0.03),
    Guard(kind="cost", name="tokens", verdict="pass", n=9, ratio=1.2, low=1.1),
)
BLOCKED = CERTIFICATION.model_copy(update={"verdict": "blocked", "guards": GUARDS, "measured": None})


def a_round(number: int, **facts: object) -> Round:
    bare = {"certification": None, "removals": (), "number": number}
    return ROUND.model_copy(update={**bare, **facts})


def a_night(directory: Path, *rounds: Round) -> Path:
    write(directory, RUN, *rounds)
    return directory


def test_a_promotion_test_says_which_guards_objected(tmp_path):
    directory = a_night(tmp_path, a_round(1, certification=BLOCKED))

    [row] = frames.certifications("night", directory=directory).to_dict("records")
    assert (row["checkpoint"], row["candidate"], row["verdict"]) == (1, NEW, "blocked")
    assert list(row["objections"]) == ["slice plural"]


def test_every_guard_has_a_row_with_its_numbers(tmp_path):
    directory = a_night(tmp_path, a_round(1, certification=BLOCKED))

    found = frames.guards("night", directory=directory).set_index("kind")
    assert set(found.index) == {"must-pass", "slice", "cost"}
    assert (found.losses["slice"], found.p["slice"], found.verdict["slice"]) == (5, 0.03, "block")
    assert (found.ratio["cost"], found.low["cost"]) == (1.2, 1.1)
    assert found.cap.isna().all()


def test_removals_tell_in_words_what_went_and_how_much_better_it_was_without(tmp_path):
    lost = Removal(rounds=(1, 2), verdict="drop", comparison=KEPT.model_copy(update={"gain": 0.2}))
    stuck = Removal(rounds=(3,), verdict="stuck", comparison=None)
    directory = a_night(tmp_path, a_round(1), a_round(2), a_round(3, removals=(lost, stuck)))

    found = frames.removals("night", directory=directory)
    assert [list(changes) for changes in found.changes] == [[1, 2], [3]]
    assert list(found.said[0]) == ["plurals fail", "plurals fail"]
    assert list(found.verdict) == ["drop", "stuck"]
    assert found.gain[0] == 0.2
    assert found.gain.isna()[1]

    taken_out = frames.rounds("night", directory=directory).taken_out
    assert list(taken_out[2]) == [1, 2]
    assert taken_out[:2].isna().all()


def test_a_round_is_one_row_however_often_its_comparison_and_its_removals_are_written_down(tmp_path):
    out = tuple(Removal(rounds=(n,), verdict="drop", comparison=KEPT) for n in (1, 2))
    directory = a_night(tmp_path, a_round(1), a_round(2), a_round(3, removals=out, certification=CERTIFICATION))
    write(directory, KEPT, CERTIFICATION)

    found = frames.rounds("night", directory=directory)
    assert list(found.number) == [1, 2, 3]
    assert list(found.taken_out[2]) == [1, 2]
    assert len(frames.certifications("night", directory=directory)) == 1


def test_a_metric_stands_in_its_own_unit(tmp_path):
    welch = Verdict(verdict="accept", e_value=20, threshold=20, n=5, gain_at_stop=0.02, conditional_power=None)
    facts = {"metric": "val_bpb", "sigma": 0.01, "gain": 0.02, "spec": None, "verdict": welch}
    better = KEPT.model_copy(update=facts)
    certified = Certification(
        id="night/1", run="night", checkpoint=1, live=OLD, candidate=NEW, verdict="accept", alpha=0.05,
        test_number=None, validation=better, measured=better,
    )  # fmt: skip
    kept = Decision(verdict="keep", because="improved", comparison=better)
    directory = a_night(tmp_path, a_round(1, decision=kept, score=0.98, certification=certified))
    write(directory, TRIAL.model_copy(update={"version": NEW, "grade": Grade(score=1.0, value=0.98)}))

    [row] = frames.rounds("night", directory=directory).to_dict("records")
    assert (row["metric"], row["sigma"], row["gain"], row["score"]) == ("val_bpb", 0.01, 0.02, 0.98)
    [test] = frames.certifications("night", directory=directory).to_dict("records")
    [made, *_] = frames.comparisons("night", directory=directory).to_dict("records")
    assert (test["metric"], made["metric"], made["verdict"]) == ("val_bpb", "val_bpb", "accept")
    assert (test["alpha"], made["alpha"]) == (0.05, 0.05)
    assert [pd.isna(found[name]) for found in (test, made) for name in ("e_value", "threshold")] == [True] * 4
    assert frames.score_by_kind("night", directory=directory).to_numpy() == pytest.approx(0.98)


def test_where_nothing_has_happened_every_frame_is_empty_and_has_its_columns(tmp_path):
    write(tmp_path, RUN)
    by_run = ("rounds", "certifications", "guards", "removals", "spend", "spend_by_role", "spend_over_time")
    found = [getattr(frames, name)("night", directory=tmp_path) for name in (*by_run, "comparisons")]
    by_comparison = ("differences", "e_values", "slices", "power")
    found += [getattr(frames, name)("", directory=tmp_path) for name in by_comparison]
    found.append(frames.runs("night", "", directory=tmp_path))
    seen = frames.failures("night", directory=tmp_path)
    found += [frames.findings(seen), frames.finding_rates(seen), frames.shrunk(frames.before_after(seen))]
    found += [frames.examples(seen, "", directory=tmp_path), frames.inbox("example", directory=tmp_path)]
    assert all(frame.empty and len(frame.columns) > 2 for frame in found)
    assert frames.score_by_kind("night", directory=tmp_path).empty
    assert frames.finding_tags(seen).empty
    assert frames.played("night", directory=tmp_path) == []
    assert all("Nothing here yet." in readable(frame).to_html() for frame in found)
    assert "Nothing here yet." in heat(frames.finding_tags(seen)).to_html()


def test_a_check_or_a_comparison_by_hand_is_no_night(tmp_path):
    write(tmp_path, RUN)
    for trigger in ("check", "compare", "redrive"):
        aside = RUN.model_copy(update={"id": f"example-{trigger}-1", "trigger": trigger})
        write(tmp_path, aside, writer=aside.id)
    assert frames.last_run("example", directory=tmp_path) == "night"
    with pytest.raises(LookupError, match="ratchet run"):
        frames.last_run("another", directory=tmp_path)


# ── spend ──────────────────────────────────────────────────────────────────────────────────────────────────────


def a_call(number: int, model: str, provider: str, **facts: object) -> Span:
    attributes = {otel.PROVIDER: provider, otel.REQUEST_MODEL: model}
    bare = {"id": f"c{number}", "name": f"{provider}:{model}", "attributes": attributes, "seconds": 1.0}
    return SPAN.model_copy(update={**bare, "started": NOON + timedelta(seconds=number), **facts})


def test_what_the_cache_saved_is_what_the_costs_say_call_by_call(tmp_path):
    haiku = Usage(calls=1, input_tokens=9_000, cached_tokens=8_000, output_tokens=100)
    price = 0.0023  # of claude-haiku-4-5: 1,000 new, 8,000 cached, 100 out
    calls = [
        a_call(n, "claude-haiku-4-5", "anthropic", role=role, usage=haiku.model_copy(update={"dollars": price}))
        for n, role in enumerate(["maker", "maker", "judge", ""])
    ]
    calls.append(
        a_call(9, "its-own", "nobody", trial=None, role="", usage=Usage(calls=1, input_tokens=5, dollars=None))
    )
    path = write(tmp_path, RUN, *calls)

    found = frames.spend_by_role("night", directory=tmp_path).set_index(["role", "model"])
    for spend in read_costs(path).by_role:
        row = found.loc[(spend.role, spend.model)]
        assert (row.calls, row.tokens) == (spend.usage.calls, spend.usage.tokens)
        assert row.cached == pytest.approx(spend.cached_share)
        if spend.usage.dollars is None:
            assert pd.isna(row.dollars)
            assert pd.isna(row.saved)
        else:
            assert spend.without_cache is not None
            assert row.dollars == pytest.approx(spend.usage.dollars)
            assert row.saved == pytest.approx(spend.without_cache - spend.usage.dollars)
            assert row.saved > 0
    assert list(found.index.get_level_values("role")) == ["maker", "judge", "proposer"]


def test_what_was_spent_adds_up_over_time_and_is_unknown_from_the_first_unknown_price(tmp_path):
    paid = [a_call(n, "m", "p", role="maker", usage=Usage(calls=1, input_tokens=10, dollars=1.0)) for n in range(300)]
    free = [a_call(n, "m", "p", role="judge", usage=Usage(calls=1, output_tokens=1, dollars=None)) for n in (5, 200)]
    write(tmp_path, RUN, *paid, *free)
    found = frames.spend_over_time("night", directory=tmp_path)
    maker = found[found.role == "maker"]
    assert (maker.calls.iloc[-1], maker.tokens.iloc[-1], maker.dollars.iloc[-1]) == (300, 3000, 300.0)
    assert maker.dollars.is_monotonic_increasing
    assert 100 <= len(maker) <= 102
    assert found[found.role == "judge"].dollars.isna().all()


def test_the_inbox_holds_what_can_still_be_answered(tmp_path):
    def raised(id: str, **facts: object) -> Escalation:
        bare = {"kind": "notice", "concern": "dead", "experiment": "example", "owner": "Ada", "raised": now()}
        return Escalation(**{**bare, "id": id, "summary": f"about {id}", **facts})  # type: ignore[arg-type]

    soon, gone = now() + timedelta(hours=1), now() - timedelta(hours=1)
    write(
        tmp_path,
        raised("noted"),
        raised("held", kind="approval", expires=soon),
        raised("expired", kind="approval", expires=gone),
        raised("answered", kind="approval", expires=soon),
        raised("another's", experiment="another"),
        Ruling(escalation="answered", verdict="rejected", who="ada", ruled=now()),
        writer="inbox",
    )
    assert set(frames.inbox("example", directory=tmp_path).id) == {"noted", "held"}


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────


def a_trial(number: int, version: str, wrong: str, **facts: object) -> Trial:
    grade = Grade(score=0.0 if wrong else 1.0, reason=wrong)
    bare = {"id": f"night/train/{version}/t{number}/0", "version": version, "task": f"t{number}", "cluster": ""}
    return TRIAL.model_copy(update={**bare, "grade": grade, "started": NOON + timedelta(seconds=number), **facts})


def a_failing_night(directory: Path) -> None:
    """Half of the trials of the live version fail the same way, and one in ten of the next."""
    before = [a_trial(n, OLD, "the plural is wrong" if n % 2 else "") for n in range(20)]
    after = [a_trial(n, NEW, "the plural is wrong" if n in (1, 3) else "") for n in range(20)]
    baseline = a_round(0, incumbent=OLD, working=OLD, proposal=None, decision=None, candidate=None)
    asked = [Task(id=f"t{n}", input=f"plural {n}?", split="train") for n in range(20)]
    write(directory, RUN, *asked, *before, baseline, *after, a_round(1))


def test_findings_are_told_with_their_rate_by_version(tmp_path):
    a_failing_night(tmp_path)
    seen = frames.failures("night", directory=tmp_path)
    [row] = frames.findings(seen).to_dict("records")
    assert (row["count"], row["share"], row["lost"], row["versions"]) == (12, 0.3, 12, 2)
    assert row["low"] < 0.3 < row["high"]
    rates = frames.finding_rates(seen)
    assert list(rates.version) == [OLD, NEW]
    assert list(rates["count"]) == [10, 2]
    assert list(rates.share) == [0.5, 0.1]
    assert (rates.low < rates.share).all()
    assert (rates.share < rates.high).all()
    [change] = frames.shrunk(frames.before_after(seen)).to_dict("records")
    assert (change["before"], change["after"], change["change"]) == (10, 2, pytest.approx(-0.4))
    assert change["high"] < 0
    assert list(frames.finding_tags(seen).loc[row["title"]]) == [0.3, 0.3]


def test_a_finding_keeps_the_id_and_the_state_that_were_recorded(tmp_path):
    a_failing_night(tmp_path)
    [mined] = frames.failures("night", directory=tmp_path).found
    known = mined.model_copy(update={"id": "known", "title": "plurals", "cause": "nobody said so"})
    write(tmp_path, RUN, PROPOSAL.model_copy(update={"findings": (known, FINDING)}), writer="later")
    seen = frames.failures("night", directory=tmp_path)
    [row] = frames.findings(seen).to_dict("records")
    assert (row["id"], row["title"], row["cause"], row["state"]) == ("known", "plurals", "nobody said so", "open")
    assert seen.states["f1"]


def test_examples_are_cut_and_hold_no_secrets_and_show_different_tasks_first(tmp_path):
    secret = "sk-" + "a1" * 20
    wrong = [
        a_trial(n, OLD, "wrong", id=f"{n}-{m}", task=f"t{n}", output=f"{secret} {'x' * 5000}", repeat=m)
        for n in range(3)
        for m in range(3)
    ]
    write(tmp_path, RUN, *wrong, a_round(0, working=OLD, incumbent=OLD))
    seen = frames.failures("night", directory=tmp_path)
    shown = frames.examples(seen, seen.found[0].id, directory=tmp_path)
    assert len(shown) == 5
    assert len(set(shown.task[:3])) == 3
    assert not shown.answered.str.contains(secret).any()
    assert shown.answered.str.len().max() < 700


def test_the_path_of_a_trial_is_that_of_its_whole_trace(tmp_path):
    def a_tool(n: int, name: str, status: str = "ok") -> Span:
        facts = {"id": f"c{n}", "trial": TRIAL.id, "operation": "execute_tool", "name": name, "status": status}
        return SPAN.model_copy(update={**facts, "started": NOON + timedelta(seconds=n)})

    spans = [
        a_tool(1, "search"),
        a_tool(2, "edit", "error"),
        a_tool(3, "search"),
        a_tool(4, "edit"),
        a_tool(5, "submit"),
    ]
    write(tmp_path, RUN, *reversed(spans), TRIAL, a_round(0, working=OLD, incumbent=OLD))
    seen = frames.failures("night", directory=tmp_path)
    assert (
        seen.paths
        == {TRIAL.id: path_of(Trace(TRIAL, tuple(spans), {}))}
        == {TRIAL.id: "search > edit! > edit > submit"}
    )


# ── one comparison ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_power_of_a_test_says_what_would_have_settled_it(tmp_path):
    spec = GateSpec(alpha=0.05, n_max=100, futility=0.0)
    seen = tuple([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0] * 10)
    verdict = decide(seen, spec)
    assert verdict.verdict == "undecided"
    tested = KEPT.model_copy(update={"spec": spec, "differences": seen, "verdict": verdict, "tasks": 100, "gain": 0.1})
    write(tmp_path, RUN, tested)
    [made] = frames.comparisons("night", directory=tmp_path).itertuples()
    assert made.what == "by hand"
    found = frames.power(made.id, directory=tmp_path)
    assert found.clusters.is_monotonic_increasing
    assert found.provable.is_monotonic_decreasing
    settled = found[found.what.str.startswith("would prove")].iloc[0]
    assert settled.clusters == 100 + made.tasks_to_settle
    assert settled.provable == pytest.approx(0.1, abs=0.001)
    assert settled.chance == pytest.approx(0.8, abs=0.01)


def test_slices_count_lost_trials_for_nothing_and_failures_as_declared(tmp_path):
    def tried(n: int, version: str, **facts: object) -> Trial:
        tags = ("odd", "all") if n % 2 else ("all",)
        return a_trial(n, version, "", tags=tags, id=f"night/certify/1/{version}/t{n}/0", split="validation", **facts)

    before = [tried(n, OLD, grade=Grade(score=0.5)) for n in range(4)]
    lost = tried(3, NEW, grade=None, error="gone", error_class="overloaded", boundary="model")
    after = [tried(0, NEW), tried(1, NEW), tried(2, NEW, grade=None, error="late", boundary="runner"), lost]
    aside = [tried(n, NEW, grade=Grade(score=0.0)) for n in range(4)]
    again = [t.model_copy(update={"id": t.id.replace("certify/1", "certify/1/again")}) for t in aside]
    run = RUN.model_copy(update={"gate": {"failure_score": 0.25}})
    tested = KEPT.model_copy(update={"split": "validation", "tasks": 3, "errors": 1})
    write(tmp_path, run, *before, *after, *again, tested)
    [made] = frames.comparisons("night", directory=tmp_path).id
    found = frames.slices(made, directory=tmp_path).set_index("tag")
    assert (found.clusters["all"], found.gain["all"]) == (3, pytest.approx((0.5 + 0.5 - 0.25) / 3))
    assert (found.wins["all"], found.losses["all"]) == (2, 1)
    assert (found.clusters["odd"], found.gain["odd"]) == (1, 0.5)


# ── as a table ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_model_says_is_text_in_a_table():
    said = "<script>alert(1)</script> $x$ " + "y" * 100
    frame = pd.DataFrame({"<b>": [said, None], "version": [OLD, NEW], "gain": [0.5, float("nan")], "n": [1, 2000]})
    shown = readable(frame).to_html()
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $x$" in shown
    assert "y" * 40 + "<wbr>" in shown
    assert "tex2jax_ignore mathjax_ignore" in shown
    assert OLD[:12] in shown
    assert OLD not in shown
    assert "2,000" in shown
    assert "nan" not in shown.lower()
    assert "<b>" not in heat(pd.DataFrame({"<b>": [0.5]}, index=["<b>"])).to_html()


def test_a_long_table_says_how_much_of_it_is_not_shown():
    shown = readable(pd.DataFrame({"n": range(1234)})).to_html()
    assert "1,034 more rows are not shown." in shown


def test_frames_are_the_same_before_and_after_a_merge(tmp_path):
    a_failing_night(tmp_path)
    before = frames.rounds("night", directory=tmp_path), frames.failures("night", directory=tmp_path)
    merge(tmp_path)
    after = frames.rounds("night", directory=tmp_path), frames.failures("night", directory=tmp_path)
    pd.testing.assert_frame_equal(before[0], after[0])
    assert before[1] == after[1]
