import contextlib
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from analysis.report import OWN_WORD
from experiments.cli import app
from experiments.display import round_line
from experiments.morning import png
from harness.experiment import load_experiment
from harness.ledger import open_run, runs
from harness.versions import Repo
from tests.conftest import git
from tests.experiments.command import command, environment, ratchet, typed
from traces.places import data_directory
from traces.records import Decision, Edit, Proposal, Round, Usage, now

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
from dataclasses import replace
from tests.world import an_experiment, some_tasks
experiment = replace(an_experiment(tasks=some_tasks(60)), name="example")
"""
SMALL = EXPERIMENT.replace("tasks=some_tasks(60)", "")
HANGING = """
import time
from dataclasses import replace
from tests.world import KnowingRunner, an_experiment
seen = []
def hang(task):
    seen.append(task)
    time.sleep(0.01 if len(seen) < 40 else 60)
experiment = replace(an_experiment(runner=KnowingRunner(on_run=hang)), name="example")
"""
AGENT = """
from dataclasses import replace
from harness.runners import AgentRunner
from harness.testing import ScriptedModel
from tests.world import an_experiment
experiment = replace(an_experiment(runner=AgentRunner(ScriptedModel("x"))), name="example")
"""
SLOW = """
import time
from dataclasses import replace
from tests.world import KnowingRunner, an_experiment
experiment = replace(an_experiment(runner=KnowingRunner(on_run=lambda task: time.sleep(0.05))), name="example")
"""


def write_experiment(checkout: Path, source: str = EXPERIMENT, name: str = "example") -> None:
    path = checkout / "experiments" / name / "experiment.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "Write the experiment")


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory) -> Path:
    from tests.conftest import a_checkout

    root = a_checkout(tmp_path_factory.mktemp("night") / "repository")
    write_experiment(root)
    ratchet(root, "run", "example")
    return root


def test_a_night_leaves_git_status_clean_and_says_what_is_proven_and_what_to_type_next(after_a_night):
    assert git(after_a_night, "status", "--porcelain") == ""
    status = ratchet(after_a_night, "status")
    assert "Proven better" in status
    assert "rounds: 4 of 4 rounds played" in status


def test_the_json_of_every_reading_verb_parses_and_has_the_documented_fields(after_a_night):
    [status] = json.loads(ratchet(after_a_night, "status", "--json"))
    assert set(status) == {
        *(
            "experiment",
            "run",
            "state",
            "pid",
            "stop_reason",
            "ends",
            "started_from",
            "live",
            "working",
            "rounds",
            "kept",
            "score",
            "score_low",
        ),
        *(
            "score_high",
            "last_decision",
            "certified",
            "gain",
            "trials",
            "usage",
            "interrupted_calls",
            "seconds",
            "budget",
            "own_word",
            "facts",
        ),
    }
    report = json.loads(ratchet(after_a_night, "report", "example", "--json"))
    assert report["rounds"][-1]["stop"] == "rounds"
    findings = json.loads(ratchet(after_a_night, "findings", "example", "--json"))
    assert findings[0]["tags"] == ["number"]  # the kind that no proposal taught
    assert findings[0]["state"] == "open"
    assert (
        json.loads(ratchet(after_a_night, "sql", "select count(*) as n from trials", "--json"))[0]["n"]
        == status["trials"]
    )
    shown = json.loads(ratchet(after_a_night, "show", findings[0]["examples"][0], "--json"))
    assert shown["trial"]["score"] == 0
    assert shown["spans"][0]["operation"] == "grade"
    assert json.loads(ratchet(after_a_night, "versions", "example", "--json")) == []


def test_the_report_is_markdown_with_a_picture_of_the_progress(after_a_night):
    text = ratchet(after_a_night, "report")  # of the experiment that ran last
    assert text.startswith("# example: the night of ")
    assert "| 1 | Mind the plural. | keep (improved) |" in text
    [picture] = (after_a_night / "traces" / "data" / "reports").glob("*/progress.png")
    page = picture.with_name("report.html").read_text()
    assert page.count("data:image/png;base64,") == len([*picture.parent.glob("*.png")])
    assert "Mind the plural." in page
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_drawn_without_a_word_of_letters_that_its_font_lacks():
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, "精度")
    assert png(figure).startswith(b"\x89PNG")


def test_two_versions_can_be_diffed_and_compared_by_hand(after_a_night):
    [status] = json.loads(ratchet(after_a_night, "status", "--json"))
    assert "+Answer. Know the animal." in ratchet(after_a_night, "diff", status["working"][:10])
    assert "B is better" in ratchet(after_a_night, "compare", "live", status["working"][:10])
    assert "B is better" in ratchet(after_a_night, "compare", "live", status["working"][:10])  # from the journal


ASKING = """
import os
from dataclasses import replace
from pathlib import Path
from harness.meter import spending
from harness.protocols import Message
from harness.testing import ScriptedModel
from traces.records import Edit, Proposal

def killed(messages):
    if not Path("killed").exists():
        Path("killed").touch()
        os._exit(9)
    return "think harder"

class Asking:
    def propose(self, incumbent, text, history):
        with spending("thinker"):
            for answer in ("think", killed):
                ScriptedModel(answer, dollars=0.5).complete([Message("user", "What now?")], seed=0)
        if not Path("failed").exists():
            Path("failed").touch()
            raise ValueError("it said nothing that could be read")
        edit = Edit(path="prompts/solve.md", text=text["prompts/solve.md"] + " Think.")
        return Proposal(id="p", proposer="mine", rationale="think", edits=(edit,))

experiment = replace(experiment, proposer=Asking())
"""


def test_what_a_proposal_by_hand_spends_is_counted_also_where_it_is_killed_or_fails(after_a_night, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(after_a_night, copy)
    (copy / "experiments" / "example" / "experiment.py").write_text(EXPERIMENT + ASKING)
    [before] = json.loads(ratchet(copy, "status", "--json"))

    assert typed(copy, "propose", "example").code == 9
    assert "said nothing that could be read" in ratchet(copy, "propose", "example", expect=1)
    assert "Think." in ratchet(copy, "propose", "example")

    query = "select run, calls::int as calls, dollars from spend_by_role where role = 'thinker' or role = '' order by 1"
    spent = json.loads(ratchet(copy, "sql", query, "--json"))
    first, second = sorted({row["run"] for row in spent})
    assert (first[-2:], second[-2:]) == ("-1", "-2")
    assert sum(row["calls"] for row in spent if row["run"] == first) == 4  # one cut off, and charged as estimated
    assert sum(row["dollars"] for row in spent if row["run"] == first) == 2
    assert sum(row["calls"] for row in spent if row["run"] == second) == 2
    assert json.loads(ratchet(copy, "status", "--json")) == [before]
    assert "\nsound; " in ratchet(copy, "verify", first)


def test_a_version_is_promoted_by_one_commit_rolled_back_and_its_history_told(after_a_night):
    [status] = json.loads(ratchet(after_a_night, "status", "--json"))
    (after_a_night / "staged.txt").write_text("mine")
    git(after_a_night, "add", "staged.txt")
    before = git(after_a_night, "rev-parse", "HEAD").strip()

    assert "ratchet promote example --yes" in ratchet(after_a_night, "promote", "example", expect=1)
    ratchet(after_a_night, "promote", "example", "--yes")

    assert git(after_a_night, "rev-parse", "HEAD~1").strip() == before
    assert git(after_a_night, "diff", "--name-only", "HEAD~1", "HEAD").split() == ["subject/prompts/solve.md"]
    assert git(after_a_night, "status", "--porcelain").split() == ["A", "staged.txt"]
    assert "Know the animal" in (after_a_night / "subject" / "prompts" / "solve.md").read_text()
    message = git(after_a_night, "log", "-1", "--format=%B")
    assert f"Candidate: {status['certified']}" in message
    assert "Gain: +" in message
    assert "v1" in ratchet(after_a_night, "promote", "example", "--yes")  # again: the same one
    assert ratchet(after_a_night, "sql", "select count(*) from promotions").split() == ["count_star()", "1"]

    ratchet(after_a_night, "rollback", "example", "--yes")
    history = json.loads(ratchet(after_a_night, "versions", "example", "--json"))
    assert [(p["number"], p["kind"], p["live"]) for p in history] == [
        (0, "found", False),
        (1, "promote", False),
        (2, "rollback", True),
    ]
    assert history[2]["version"] == history[0]["version"] == status["live"]
    git(after_a_night, "reset", "-q", "--", "staged.txt")
    (after_a_night / "staged.txt").unlink()


def test_a_promotion_on_another_branch_is_taken_back_there_by_what_it_says_to_type(after_a_night, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(after_a_night, copy)
    head = git(copy, "rev-parse", "HEAD")

    refused = ratchet(copy, "promote", "example", "--branch", "review", expect=1)
    assert "To do it: ratchet promote example --branch review --yes" in refused
    said = ratchet(copy, "promote", "example", "--branch", "review", "--yes")
    assert "To put the old one back there: ratchet rollback example --branch review" in said
    refused = ratchet(copy, "rollback", "example", "--to", "0", "--branch", "review", expect=1)
    assert "To do it: ratchet rollback example --to 0 --branch review --yes" in refused
    assert "put back: " in ratchet(copy, "rollback", "example", "--branch", "review", "--yes")

    assert git(copy, "rev-parse", "HEAD") == head
    assert git(copy, "rev-parse", "review:subject") == git(copy, "rev-parse", "main:subject")
    assert len(git(copy, "rev-list", "main..review").split()) == 2


def test_the_next_night_starts_from_the_promoted_version(after_a_night, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(after_a_night, root)
    ratchet(root, "promote", "example", "--yes")
    ratchet(root, "run", "example", "--rounds", "1")
    [status] = json.loads(ratchet(root, "status", "--json"))
    live = git(root, "rev-parse", "HEAD:subject").strip()
    assert status["live"] == live
    assert status["budget"]["rounds"] == 1


def test_a_second_process_is_refused_while_a_run_is_open_and_the_stop_button_ends_it_even_if_a_trial_hangs(checkout):
    write_experiment(checkout, HANGING)
    process = subprocess.Popen(
        command("run", "example"), cwd=checkout, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_trials(checkout, 20)
        assert "process" in ratchet(checkout, "run", "example", expect=1)
        begun = time.monotonic()
        assert str(process.pid) in ratchet(checkout, "stop", "example")
        assert process.wait(timeout=10) == 3
        assert time.monotonic() - begun < 8
    finally:
        process.kill()
        process.communicate()
    [status] = json.loads(ratchet(checkout, "status", "--json"))
    assert status["stop_reason"] == "stopped"
    assert "has ended already" in ratchet(checkout, "stop", "example")


def test_an_interrupt_keeps_everything_exits_130_and_the_same_command_goes_on(checkout):
    write_experiment(checkout, SLOW)
    process = subprocess.Popen(
        command("run", "example"), cwd=checkout, env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for_trials(checkout, 20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "everything is kept" in said
    [status] = json.loads(ratchet(checkout, "status", "--json"))
    assert status["state"] == "interrupted"

    ratchet(checkout, "run", "example", "--for", "2s", expect=3)
    [after] = json.loads(ratchet(checkout, "status", "--json"))
    assert after["run"] == status["run"]
    assert after["trials"] > status["trials"]
    assert after["stop_reason"] == "hours"


def test_stopping_an_interrupted_run_says_that_it_is_over_for_good_and_what_was_kept(checkout):
    write_experiment(checkout)
    experiment = load_experiment(checkout / "experiments" / "example" / "experiment.py")
    live = Repo.find(checkout).subject("subject").live().id
    with open_run(data_directory(checkout), experiment, live) as ledger:
        run = ledger.run.id
    with contextlib.chdir(checkout):
        said = CliRunner().invoke(app, ["stop", "example"]).output
        again = CliRunner().invoke(app, ["stop", "example"]).output
    for word in (f"ended run {run} for good", "no process had it open", "Kept: 0 trials, 0 of 0 changes"):
        assert word in said
    assert "has ended already" in again


def wait_for_trials(checkout: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = list((checkout / "traces" / "data" / "spool").glob("example-*.jsonl"))
        if found and found[0].read_text().count('"type":"Trial"') >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the run did not get going")


def no_git(root: Path) -> None:
    import shutil

    shutil.rmtree(root / ".git")


def dirty_subject(root: Path) -> None:
    (root / "subject" / "prompts" / "solve.md").write_text("edited")


def subject_elsewhere(root: Path) -> None:
    write_experiment(root, EXPERIMENT.replace('name="example"', 'name="example", subject="../elsewhere"'))


def subject_missing(root: Path) -> None:
    write_experiment(root, EXPERIMENT.replace('name="example"', 'name="example", subject="nowhere"'))


def invalid_prompt(root: Path) -> None:
    (root / "subject" / "prompts" / "solve.md").write_text("# user\n{{ tsak }}\n")
    write_experiment(root, AGENT)


def invalid_skill(root: Path) -> None:
    (root / "subject" / "skills" / "count").mkdir(parents=True)
    (root / "subject" / "skills" / "count" / "SKILL.md").write_text("---\nname: other\n---\n")
    write_experiment(root, AGENT)


def invalid_rubric(root: Path) -> None:
    (root / "subject" / "rubrics").mkdir()
    (root / "subject" / "rubrics" / "good.toml").write_text("criteria = []")
    write_experiment(root, AGENT)


def unknown_model(root: Path) -> None:
    write_experiment(root, AGENT.replace('ScriptedModel("x")', '"local:gpt-9"'))


def missing_key(root: Path) -> None:
    write_experiment(root, AGENT.replace('ScriptedModel("x")', '"anthropic:claude"'))


def one_task(root: Path) -> None:
    write_experiment(
        root, EXPERIMENT.replace("some_tasks(60)", "[t for t in some_tasks(9) if t.split != 'validation']")
    )


def other_name(root: Path) -> None:
    write_experiment(root, EXPERIMENT.replace('name="example"', 'name="other"'))


def leaving(root: Path) -> None:
    write_experiment(root, "raise SystemExit(3)")


def zero_budget(root: Path) -> None:
    write_experiment(root, EXPERIMENT + "\nfrom harness.experiment import Budget\nBudget(rounds=0)\n")


def broken_file(root: Path) -> None:
    write_experiment(root, "experiment = nonsense")


@pytest.mark.parametrize(
    ("damage", "arguments", "says"),
    [
        (no_git, ("run", "example"), "git init"),
        (dirty_subject, ("run", "example"), "Commit or stash"),
        (subject_elsewhere, ("run", "example"), "outside the repository"),
        (subject_missing, ("run", "example"), "no directory 'nowhere'"),
        (zero_budget, ("run", "example"), "allows 0 rounds"),
        (invalid_prompt, ("run", "example"), "tsak"),
        (invalid_skill, ("run", "example"), "skills/count/SKILL.md"),
        (invalid_rubric, ("run", "example"), "rubrics/good.toml"),
        (unknown_model, ("run", "example"), "'local:gpt-9' does not exist"),
        (missing_key, ("run", "example"), "ANTHROPIC_API_KEY"),
        (one_task, ("run", "example"), "has 0 validation tasks"),
        (broken_file, ("run", "example"), "does not load: NameError"),
        (None, ("run", "nothing"), "There are: example"),
        (None, ("run", "example", "--for", "soon"), "is no duration"),
        (None, ("run", "example", "--until", "noon"), "is no time of day"),
        (None, ("run", "example", "--rounds", "0"), "allows 0 rounds"),
        (None, ("report", "example"), "has not run"),
        (None, ("promote", "example"), "nothing is proven"),
        (None, ("rollback", "example", "--yes"), "nothing to put back"),
        (None, ("rollback", "example"), "nobody is there to ask"),
        (other_name, ("run", "example"), "named 'other'"),
        (leaving, ("run", "example"), "does not load: SystemExit"),
        (None, ("sql", "selec 1"), "DuckDB does not take"),
        (None, ("show", "nothing"), "no trial is called"),
    ],
)
def test_bad_input_is_a_clear_error_and_exit_code_1(checkout, damage, arguments, says):
    write_experiment(checkout)
    if damage:
        damage(checkout)
    said = ratchet(checkout, *arguments, expect=1)
    assert says in said
    assert "Traceback" not in said


def test_a_runner_that_never_worked_is_mended_and_the_same_command_starts_anew(checkout):
    broken = SMALL.replace("an_experiment(", "an_experiment(runner=object(), ")
    write_experiment(checkout, broken)
    assert "failed in the runner" in ratchet(checkout, "run", "example", expect=1)
    write_experiment(checkout, SMALL)
    assert "1 change tried" in ratchet(checkout, "run", "example", "--rounds", "1")


def test_progress_that_nobody_reads_does_not_end_the_night(checkout):
    write_experiment(checkout, SMALL)
    shell = " ".join(command("run", "example", "--rounds", "1")) + " 2>&1 >/dev/null | head -1; exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", shell], cwd=checkout, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    [status] = json.loads(ratchet(checkout, "status", "--json"))
    assert status["stop_reason"] == "rounds"


def test_versions_go_by_their_numbers_too(after_a_night):
    history = json.loads(ratchet(after_a_night, "versions", "example", "--json"))
    if history:  # the test above has promoted
        assert "Know the animal" in ratchet(after_a_night, "diff", "v0", "v1")
    assert "no difference" in ratchet(after_a_night, "diff", "live")


@pytest.mark.parametrize(
    ("rationale", "label"),
    [
        ('train.py:3 MARK "a: b" → "a: c"', 'train.py:3 MARK "a: b" → "a: c"'),
        ("train.py:3 MARK 'it\\'s: b' → r'c: d'", "train.py:3 MARK 'it\\'s: b' → r'c: d'"),
        ('train.py:3 MARK "so long: that it… → "c"', 'train.py:3 MARK "so long: that it… → "c"'),
        ("add “a: b” to `c: d`, to cure 16%: wrong answer: x", "add “a: b” to `c: d`, to cure 16%"),
        ("don't stop at 5\" or it's over: the users' loss falls", "don't stop at 5\" or it's over"),
        ('rounds 1 and 2 together: "a: b"', "rounds 1 and 2 together"),
    ],
)
def test_a_round_is_told_by_what_was_changed_up_to_a_colon_that_it_does_not_quote(rationale, label):
    proposal = Proposal(id="p", proposer="mine", rationale=rationale, edits=(Edit(path="a", text=""),))
    decision = Decision(verdict="discard", because="no-improvement", detail="equal")
    round = Round(run="r", number=1, incumbent="a", working="a", proposal=proposal, decision=decision, **TOLD)
    assert round_line(round).startswith(f"round 1   discard       {label}: equal; ")


TOLD = {"usage": Usage(), "trials": 1, "started": now(), "seconds": 0.0}


def test_wrong_usage_is_exit_code_2(checkout):
    ratchet(checkout, "run", expect=2)
    ratchet(checkout, "fly", expect=2)


LONG = """
from dataclasses import replace
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.runners import AgentRunner
from harness.testing import ScriptedModel
from tests.world import an_experiment, some_tasks
experiment = replace(
    an_experiment(tasks=some_tasks(30), runner=AgentRunner(ScriptedModel("a7")), gate=PairedGate(min_clusters=20)),
    name="example",
    budget=Budget(rounds=1, hours=8),
)
"""


def test_a_run_of_more_than_an_hour_wants_a_check_first_and_the_report_says_so_if_there_was_none(checkout):
    write_experiment(checkout, LONG)

    refused = ratchet(checkout, "run", "example", expect=1)
    assert "for up to 8 h and has not been checked as it is now" in refused
    assert "ratchet check example" in refused
    ratchet(checkout, "run", "example", "--unchecked")
    [unchecked] = reports(checkout)
    assert "started unchecked" in unchecked
    checked = ratchet(checkout, "check", "example")
    assert "No problem found" in checked
    ratchet(checkout, "run", "example")
    [of_checked] = reports(checkout) - {unchecked}
    assert of_checked.startswith("# example: the night of ")
    assert "started unchecked" not in of_checked


def reports(checkout: Path) -> set[str]:
    """What each run has left to be read."""
    return {path.read_text() for path in (checkout / "traces" / "data" / "reports").glob("*/report.md")}


def test_without_a_contract_nothing_starts_or_goes_on_for_hours_or_by_a_schedule_checked_or_not(checkout):
    write_experiment(checkout, LONG.replace("budget=", "contract=None, budget="))
    path = checkout / "experiments" / "example" / "experiment.py"
    experiment = load_experiment(path)

    def refused(*more: str) -> str:
        with contextlib.chdir(checkout):
            return str(CliRunner().invoke(app, ["run", "example", *more]).exception)

    def all_are_refused() -> None:
        for more in ((), ("--unchecked",), ("--for", "2h", "--unchecked")):
            assert "it has no contract" in refused(*more)
        assert "is started by 'cron'" in refused("--unchecked", "--for", "30m", "--trigger", "cron")

    all_are_refused()
    directory = data_directory(checkout)
    with open_run(directory, experiment, Repo.find(checkout).subject("subject").live().id) as ledger:
        assert ledger.trials == 0
    all_are_refused()
    assert runs(directory, "example") == [ledger.run.id]


def test_a_check_that_finds_a_hole_names_it_leaves_with_1_and_the_night_is_refused(checkout):
    grader = (
        "class AnythingGoes:\n    def grade(self, task, output):\n        return Grade(score=float(bool(output)))\n"
    )
    source = LONG.replace('name="example",', 'name="example", grader=AnythingGoes(),')
    write_experiment(checkout, f"from traces.records import Grade\n{grader}\n{source}")

    found = ratchet_fails(checkout, "check", "example")
    assert "problems to mend before a night" in found
    assert "refus" in found
    refused = ratchet(checkout, "run", "example", expect=1)
    assert "problems that would make a night worthless" in refused
    ratchet(checkout, "run", "example", "--unchecked")
    [report] = reports(checkout)
    assert "started unchecked" in report


def ratchet_fails(checkout: Path, *arguments: str) -> str:
    """What a command that leaves with 1 prints on stdout."""
    done = typed(checkout, *arguments)
    assert done.code == 1, done.err + done.out
    return done.out


def test_a_night_verifies_and_an_edited_line_of_its_journal_is_named(after_a_night, tmp_path):
    assert "\nsound; the chain ends with " in ratchet(after_a_night, "verify", "example")
    report = json.loads(ratchet(after_a_night, "verify", "example", "--json"))
    assert report["sound"] is True

    copy = tmp_path / "copy"
    shutil.copytree(after_a_night, copy)
    journal = next((copy / "traces" / "data" / "spool").glob("example-2*.jsonl"))
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"type":"Trial"' in line and b'"score":0.0' in line)
    lines[at] = lines[at].replace(b'"score":0.0', b'"score":1.0', 1)
    journal.write_bytes(b"".join(lines))
    found = ratchet_fails(copy, "verify", "example")

    assert f"edited: {journal.name} line {at + 1} " in found
    assert "(round/0): score is " in found
    assert "NOT SOUND" in found


def test_a_promotion_keeps_the_end_of_the_chain_in_its_commit(after_a_night, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(after_a_night, copy)
    head = json.loads(ratchet(copy, "verify", "example", "--json"))["head"]
    ratchet(copy, "promote", "example", "--yes")

    assert f"Journal: {head}" in git(copy, "log", "-1", "--format=%B")
    journal = next((copy / "traces" / "data" / "spool").glob("example-2*.jsonl"))
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    assert f"lost: no line has the chain value {head}" in ratchet_fails(copy, "verify", "example")


def test_nights_are_simulated_on_measured_or_declared_noise(checkout):
    write_experiment(checkout, LONG)

    assert "has not been checked" in ratchet(checkout, "simulate", "example", expect=1)
    declared = json.loads(
        ratchet(checkout, "simulate", "example", "--score", "0.5", "--discordance", "0.1", "--nights", "50", "--json")
    )
    assert declared[0]["night"] == "as declared"
    assert declared[-1]["night"] == "no proposal changes anything"
    assert declared[-1]["gain"] == 0
    printed = ratchet(checkout, "simulate", "--nights", "20", "--proposals", "4")
    assert "| no proposal changes anything |" in printed
    assert "sum to 1" in ratchet(checkout, "simulate", "--better", "0.8", "--worse", "0.8", expect=1)


METRIC = """
import random
from harness.experiment import Budget, Experiment
from harness.gate import MetricGate
from harness.graders import MetricGrader
from traces.records import Edit, Proposal, Task

class Training:
    def run(self, task, text, seed):
        rate = float(text["rate.txt"])
        return f"step 1\\nval_bpb: {1 + abs(rate - 0.3) + random.Random(seed).gauss(0, 0.01):.5f}"

class Halving:
    def propose(self, incumbent, text, history):
        rate = float(text["rate.txt"]) * (0.5 if len(history.rounds) % 2 == 0 else 1.25)
        edit = Edit(path="rate.txt", text=f"{rate:g}\\n")
        return Proposal(id=f"{rate:g}", proposer="mine", rationale=f"rate {rate:g}", edits=(edit,))

experiment = Experiment(
    name="example", subject="experiments/example/code", tasks=[Task(id="train", input="go", split="train")],
    runner=Training(), grader=MetricGrader("val_bpb"), proposer=Halving(),
    gate=MetricGate("val_bpb", better="lower"), budget=Budget(rounds=4, hours=1),
)
"""


def test_one_number_per_run_climbs_is_promoted_in_its_own_unit_and_verifies(checkout):
    code = checkout / "experiments" / "example" / "code"
    code.mkdir(parents=True)
    (code / "rate.txt").write_text("1.0\n")
    write_experiment(checkout, METRIC)

    printed = ratchet(checkout, "run", "example")
    assert "Proven better" in printed
    assert "val_bpb better by 0." in printed
    assert "points" not in printed
    assert "in fresh runs" in printed
    report = ratchet(checkout, "report", "example")
    assert "runs each" in report
    status = ratchet(checkout, "status", "example")
    assert "; limits 4 rounds, 1 h 00 min\n" in status
    assert "val_bpb better by 0." in status
    assert OWN_WORD not in status
    assert "sound" in ratchet(checkout, "verify", "example")
    assert "live: " in ratchet(checkout, "promote", "example", "--yes")
