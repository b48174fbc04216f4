import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.checking import CHEATS, OF_THE_PLACE, part, problems, render
from harness import attack
from traces.records import Attack, Check, Comparison, Estimate, Hole, Leak, Noise, Twin, Usage, Verdict

HOLE = Hole(cheat="refusal", score=1.0, floor=0.2, tasks=30, example="I can't | help", task="sum-3")
LEAK = Leak(task="sum-4", split="validation", path="prompts/solve.md")
TWIN = Twin(task="sum-5", split="train", other="sum-6", other_split="test", similarity=1.0)
NEAR = Twin(task="sum-7", split="train", other="sum-8", other_split="test", similarity=0.93)


def a_check(**facts: object) -> Check:
    verdict = Verdict(verdict="undecided", e_value=0.4, threshold=20, n=100, gain_at_stop=-0.01, conditional_power=None)
    a_a = Comparison(
        incumbent="v" * 40, candidate="v" * 40 + "'", split="train", tasks=100, incumbent_score=0.41,
        candidate_score=0.40, gain=-0.01, low=-0.12, high=0.10, confidence=0.9, verdict=verdict,
    )  # fmt: skip
    usual = {
        "id": "sums-check/check/1",
        "experiment": "sums",
        "validation": 216,
        "live": "v" * 40,
        "fingerprint": {},
        "noise": Noise(score=0.405, variance=0.17, discordance=0.17, clusters=100),
        "a_a": a_a,
        "regraded": 30,
        "regraded_differently": 3,
        "runs": 200,
        "right_answers": 29,
        "right_refused": 1,
        "wrong_answers": 28,
        "wrong_accepted": 2,
        "holes": (),
        "twins": (),
        "leaks": (),
        "warnings": (),
        "alpha": 0.0025,
        "provable": 0.097,
        "clusters_for_half": 640,
        "round": Estimate(trials=232.4, calls=232.4, tokens=9001.2, dollars=0.125, hours=0.017),
        "night": Estimate(trials=2423, calls=2423, tokens=93978, dollars=None, hours=1.5),
        "usage": Usage(calls=212, input_tokens=6582, output_tokens=1640),
        "trials": 1142,
        "seconds": 68.1,
    }
    return Check(**(usual | facts))  # type: ignore[arg-type]


def test_it_says_first_what_to_mend_then_what_can_be_proven_then_noise_cost_and_warnings():
    text = render(a_check(holes=(HOLE,), warnings=("The judge is deaf.",)))
    order = ["1 problem to mend", "What a night can prove", "Noise", "Cost", "Warnings", "The judge is deaf."]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_it_names_the_smallest_provable_gain_and_the_size_that_would_prove_half_of_it():
    assert "proves a gain of 9.7 points or more with 80 % power; about 640 validation clusters" in render(a_check())
    assert "more than a million clusters" in render(a_check(clusters_for_half=None))


def test_every_share_comes_with_its_number_and_interval():
    text = render(a_check())
    assert "17 of 100 clusters (90% interval 11 to 24 %)" in text
    assert "3 of 30 outputs (90% interval 3 to 24 %) got another score" in text
    assert "refused 1 of 29 right answers" in text
    assert "accepted 2 of 28 wrong ones" in text
    assert "undecided, -1.0 points (90% interval -12.0 to +10.0, n = 100)" in text


def test_the_cost_of_a_round_of_a_night_and_of_the_check_are_rows():
    text = render(a_check())
    assert "| a round | 232 | 232 | 9,001 | 0.12 | 1 min 01 s |" in text
    assert "| a night | 2,423 | 2,423 | 93,978 | unknown | 1 h 30 min |" in text
    assert "| this check | 1,142 | 212 | 8,222 | 0.00 | 1 min 08 s |" in text


def test_a_problem_shows_what_was_seen_and_what_to_change():
    found = problems(a_check(holes=(HOLE,), leaks=(LEAK,), twins=(TWIN, NEAR)))
    refusal, leak, twin = found
    assert "A refusal scores 1.00 on average (n = 30 tasks), e.g. on task `sum-3`: `I can't | help`" in refusal
    assert "0.20 is the most" in refusal
    assert "Give 0 to a refusal" in refusal
    assert "Hidden task `sum-4` (validation) stands word for word in `prompts/solve.md`" in leak
    assert "`sum-5` (train) asks the same as `sum-6` (test)" in twin


def spoilt(by: str) -> Comparison:
    return a_check().a_a.model_copy(update={"drift": "the model changed"} if by == "drift" else {"errors": 30})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"right_ungraded": 2}, "no score to 2 of 31 known right answers. First, task 'sum-1': ValueError: 100"),
        ({"runs_ungraded": 11}, "no score to 11 of 200 runs of the live version. First, task 'sum-1'"),
        ({"a_a": spoilt("errors")}, "30 of 130 clusters were lost to infrastructure errors"),
        ({"a_a": spoilt("drift")}, "conditions changed during the check: the model changed"),
        ({"alpha": None, "provable": None}, "Add new validation tasks"),
    ],
)
def test_what_keeps_a_night_from_proving_anything_is_the_first_problem(facts, words):
    check = a_check(holes=(HOLE,), ungraded="task 'sum-1': ValueError: 100", **facts)
    first, second = problems(check)
    assert words in first
    assert "A refusal" in second
    assert render(check).index(first) < render(check).index("What a night can prove")


def test_a_grader_that_breaks_on_one_answer_in_twenty_is_no_problem():
    assert problems(a_check(right_answers=19, right_ungraded=1, runs_ungraded=10, ungraded="task 'a': no")) == []


@given(
    st.lists(st.sampled_from(sorted(CHEATS)), max_size=4),
    st.lists(st.sampled_from([TWIN, NEAR]), max_size=4),
    st.integers(0, 3),
    st.fixed_dictionaries(
        {},
        optional={
            "alpha": st.none(),
            "right_ungraded": st.integers(0, 30),
            "runs_ungraded": st.integers(0, 200),
            "a_a": st.sampled_from(["errors", "drift"]).map(spoilt),
        },
    ),
)
def test_there_are_as_many_problems_as_the_record_counts(cheats, twins, leaks, broken):
    holes = tuple(HOLE.model_copy(update={"cheat": cheat}) for cheat in cheats)
    check = a_check(holes=holes, twins=tuple(twins), leaks=(LEAK,) * leaks, **broken)
    assert len(problems(check)) == check.problems


def test_every_cheat_that_is_tried_is_explained():
    assert set(CHEATS) == set(attack.CHEATS)
    assert set(OF_THE_PLACE) < set(CHEATS)


def test_where_versions_run_is_a_problem_of_the_place_and_no_floor_mends_it():
    [found] = problems(a_check(holes=(HOLE.model_copy(update={"cheat": "disk", "example": "12 of 80 in /srv/tasks"}),)))
    assert "12 of 80 in /srv/tasks" in found
    assert "floor" not in found


def test_of_many_problems_only_the_first_are_listed_and_the_rest_are_counted():
    leaks = tuple(LEAK.model_copy(update={"task": f"sum-{i}"}) for i in range(300))
    text = render(a_check(leaks=leaks))
    assert "300 problems" in text
    assert "And 290 more." in text
    assert "sum-299" not in text


def test_tasks_that_nearly_ask_the_same_are_told_but_are_no_problem():
    check = a_check(twins=(NEAR,))
    assert problems(check) == []
    assert "No problem found" in render(check)
    assert "`sum-7` (train) and `sum-8` (test), similarity 0.93" in render(check)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"alpha": None, "provable": None}, "the error budget of the validation split is spent"),
        ({"provable": None}, "not even a version that solves every task"),
    ],
)
def test_where_nothing_can_be_proven_it_says_so(facts, words):
    assert f"Nothing: {words}" in render(a_check(**facts)).replace("at alpha = 0.0025 ", "")


def test_a_metric_is_told_in_its_own_unit():
    a_a = a_check().a_a.model_copy(update={"metric": "val_bpb", "sigma": 0.0123, "tasks": 3})
    text = render(a_check(a_a=a_a, provable=0.0211, clusters_for_half=17, right_answers=0, wrong_answers=0))
    assert "scatters by sigma = 0.0123 (3 against 3 runs)" in text
    assert "a gain of 0.0211 in val_bpb (1.7 sigma) or more with 80 % power; 17 runs of each side" in text
    assert "points" not in text
    assert "key" not in text


def of_a_metric(gain: float, low: float, high: float, sigma: float, word: str) -> Comparison:
    a_a = a_check().a_a
    assert a_a.verdict is not None
    verdict = a_a.verdict.model_copy(update={"verdict": word})
    facts = {"metric": "rmse", "gain": gain, "low": low, "high": high, "sigma": sigma, "tasks": 3, "verdict": verdict}
    return a_a.model_copy(update=facts)


def test_a_metric_against_itself_says_its_direction_once_and_what_a_reject_means():
    text = render(a_check(a_a=of_a_metric(-46.79, -83.9, -9.69, 20.0, "reject")))
    assert "reject, a gain of -46.79 in rmse (90% interval -83.9 to -9.69, n = 3 runs each). Both sides" in text
    assert "no fault: it says that the second runs were not better, as happens to one in two." in text
    assert "leaves 0 out happens to 10% of sound checks" in text
    assert "worse by" not in text


def test_a_metric_that_is_deterministic_is_called_so_and_no_gain_of_0_is_promised():
    text = render(a_check(a_a=of_a_metric(0.0, 0.0, 0.0, 0.0, "reject"), provable=0.0, clusters_for_half=5, final=5))
    assert "rmse is deterministic: each of 6 runs of the live version gave the same number." in text
    assert "both gave the same." in text
    assert "Runs of rmse do not scatter" in text
    assert "proves a gain of" not in text


def test_attacks_that_are_believed_are_counted_in_the_first_line():
    outcomes = {"honest": "contained", "home": "contained", "hang": "caught", "printed": "believed", "links": "untried"}
    attacks = tuple(Attack(name=name, tried="", outcome=outcome) for name, outcome in outcomes.items())  # type: ignore[arg-type]
    check = a_check(a_a=of_a_metric(0.1, -0.1, 0.3, 0.1, "undecided"), attacks=attacks)
    title, _, first = render(check).partition("\n\n")
    assert title.startswith("# ")
    assert first.startswith(
        "2 of 3 attacks failed; 1 gave a number of its own: rmse is what the candidate's own process says. "
        "No other problem found, no hidden task leaks."
    )


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_the_share_that_was_seen(counts):
    k, n = counts
    low, high = (float(x) for x in part(k, n, "tasks").split("interval ")[1].removesuffix(" %)").split(" to "))
    assert 0 <= low <= 100 * k / n + 0.5
    assert 100 * k / n - 0.5 <= high <= 100


def test_what_is_known_of_the_judge_has_a_part_of_its_own_and_is_no_warning():
    text = render(a_check(warnings=("The judge is deaf.",)), judge=["It differs on 3.", "And on 4."])
    assert "\n\n## The judge\n\n- It differs on 3.\n- And on 4.\n\n## Cost" in text
    assert "## The judge" not in render(a_check())
