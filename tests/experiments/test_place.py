"""Where an experiment stands is told from its journals, also when one of them is empty or damaged."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.proposers import ClaudeCode, CodingAgentProposer, Combining, Paced, Pruning
from experiments.place import last_night, mending_journals, without_sandbox
from harness.errors import UserError
from harness.ledger import is_finished, journal_file
from harness.runners.command import CommandRunner
from harness.runners.metrics import Printed
from harness.sandboxes import NoSandbox
from tests.world import an_experiment
from traces.journal import Journal
from traces.records import Run

FIRST, SECOND = "example-20260101-000000-aaaa", "example-20260102-000000-bbbb"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with Journal(journal_file(tmp_path, FIRST)) as journal:
        run = Run(id=FIRST, experiment="example", subject="s", live="v" * 8, fingerprint={}, budget={}, tasks={})
        journal.append(run)
    return tmp_path


def test_an_emptied_newest_journal_is_named_and_the_night_before_it_is_shown(directory, capsys):
    journal_file(directory, SECOND).touch()

    with contextlib.chdir(directory):
        assert last_night(directory, "example").run.id == FIRST
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"spool/{SECOND}.jsonl: no run is in there")
    assert f"this is about the one before, {FIRST}" in said.err
    assert said.err.strip().endswith("ratchet run example")


def test_where_no_journal_holds_a_run_there_was_none_yet(tmp_path):
    journal_file(tmp_path, FIRST).parent.mkdir()
    journal_file(tmp_path, FIRST).touch()

    with pytest.raises(UserError, match="has not run here yet"):
        last_night(tmp_path, "example")


@pytest.mark.parametrize(
    "damage", [b"{torn\n", b'{"writer":"w","seq":1,"at":"2026-01-01","type":"Run","key":null,"data":{}}\n']
)
def test_a_damaged_newest_journal_is_named_with_what_to_do(directory, damage):
    path = journal_file(directory, SECOND)
    path.write_bytes(damage)

    with contextlib.chdir(directory), pytest.raises(UserError) as refused:
        last_night(directory, "example")
    assert str(refused.value).startswith(f"spool/{SECOND}.jsonl: the line at byte 0 is ")
    assert "put an edited line back, or move the file away" in str(refused.value)


def test_what_looks_into_journals_by_itself_can_say_so_too(directory):
    path = journal_file(directory, SECOND)
    path.write_bytes(b"{torn\n")

    with pytest.raises(UserError, match="move the file away") as refused, mending_journals():
        is_finished(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_without_a_sandbox_neither_the_commands_nor_a_coding_agent_has_one_however_deep_it_is_asked():
    asked = Paced(Combining(Pruning(CodingAgentProposer(ClaudeCode()))))
    experiment = replace(an_experiment(proposer=asked), runner=CommandRunner("true", metric=Printed("loss")))

    bare = without_sandbox(experiment)

    assert isinstance(bare.runner, CommandRunner)
    assert bare.runner.sandbox is NoSandbox
    assert bare.proposer.proposer.proposer.proposer.sandbox is NoSandbox


def test_what_runs_no_command_has_no_sandbox_to_leave_out():
    with pytest.raises(UserError, match=r"KnowingRunner.*Type the same without --no-sandbox"):
        without_sandbox(an_experiment())
