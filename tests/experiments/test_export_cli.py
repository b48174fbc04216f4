import contextlib
import json
from collections.abc import Generator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from analysis.export.drafts import writing
from experiments.export import export
from harness import models
from harness.agent.tools import function_tool
from harness.errors import UserError
from harness.ledger import journal_file
from harness.models import model
from tests.agent.world import agent, play
from tests.analysis.test_export import BAD, NIGHT, Writer, a_round
from tests.conftest import git
from tests.models.loopback import answers, provider, refuses
from traces.journal import Journal
from traces.places import data_directory

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(export)


@pytest.fixture
def checkout(tmp_path) -> Generator[Writer]:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "Begin")
    with contextlib.chdir(tmp_path), Journal(journal_file(data_directory(tmp_path), NIGHT)) as journal:
        yield Writer(journal)


def ratchet_export(*arguments: str, name: str = "example"):
    done = CliRunner().invoke(app, [name, *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def refusal(*arguments: str, name: str = "example") -> str:
    with pytest.raises(UserError) as e:
        ratchet_export(*arguments, name=name)
    return str(e.value)


def test_training_data_goes_to_stdout_and_how_much_of_it_to_stderr(checkout):
    checkout.journal.append(a_round(0, "a" * 40))
    checkout.trial("one", 1)
    checkout.trial("discarded", 1, version=BAD)
    checkout.trial("hidden", 1, "the hidden answer", task="v", split="validation")
    done = ratchet_export("--format", "sft")
    [line] = done.stdout.splitlines()
    assert json.loads(line)["trial"] == f"{NIGHT}/one"
    assert "wrote 1 line of sft (1 run) to stdout" in done.stderr
    assert "without 1 trial of versions that were not kept" in done.stderr
    assert "WARNING" not in done.stderr


def test_a_hidden_split_is_only_exported_where_it_is_named_and_then_it_says_what_that_costs(checkout):
    checkout.trial("hidden", 1, "the hidden answer", task="v", split="validation")
    for format in ("sft", "preference", "reward"):
        assert "nothing to export" in refusal("--format", format)
    done = ratchet_export("--format", "reward", "--split", "validation")
    assert "the hidden answer" in done.stdout
    assert "WARNING: this holds what hidden tasks ask (validation)" in done.stderr
    assert "burns that split" in done.stderr


def test_a_file_is_written_whole_and_never_over_another(checkout, tmp_path):
    out = tmp_path / "data" / "it.jsonl"
    assert "nothing to export" in refusal("--format", "reward", "--out", str(out))
    assert not out.parent.exists()  # nor the folder that would have been made for it
    checkout.trial("one", 1)
    ratchet_export("--format", "reward", "--out", str(out))
    assert len(out.read_text().splitlines()) == 1
    assert "exists already" in refusal("--format", "reward", "--out", str(out))
    assert [p.name for p in out.parent.iterdir()] == ["it.jsonl"]
    assert "exists already" in refusal("--format", "parquet", "--out", str(out.parent))


def test_it_says_why_there_is_nothing_and_what_to_type_next(checkout):
    assert "has not run here yet" in refusal("--format", "sft", name="other")
    assert f"It has: {NIGHT}" in refusal("--format", "sft", "--run", "nope")
    assert "no spans yet" in refusal("--format", "otlp")
    assert "measured nothing yet" in refusal("--format", "tsv")
    checkout.journal.append(a_round(0, "a" * 40, score=0.5))
    checkout.trial("poor", 0.5)
    why = refusal("--format", "sft")
    assert "1 trial that scored below 1" in why
    assert "--min-score" in why
    assert "--min-gap" in refusal("--format", "preference")
    assert ratchet_export("--format", "sft", "--min-score", "0.5").stdout


def test_where_it_cannot_write_it_says_what_is_wrong_with_out(checkout, tmp_path):
    checkout.trial("one", 1)
    file = tmp_path / "file"
    file.touch()
    for format in ("sft", "reward", "otlp", "parquet"):
        for out in (file / "x", file / "new" / "x"):
            why = refusal("--format", format, "--out", str(out))
            assert "x cannot be written: file is a file, and no folder" in why
            assert "--out" in why
    assert "/etc/passwd/x cannot be written: /etc/passwd is a file" in refusal(
        "--format", "reward", "--out", "/etc/passwd/x"
    )
    assert "File name too long" in refusal("--format", "reward", "--out", "n" * 300)
    full = tmp_path / "full"
    with pytest.raises(UserError, match=r"full cannot be written: No space left on device"), writing(full):
        Path("/dev/full").write_text("x" * 100_000)


def test_a_run_that_gave_nothing_is_not_counted_and_is_named(checkout, tmp_path):
    other = "example-20261102-120000-abcd"
    checkout.trial("one", 1)
    with Journal(journal_file(data_directory(tmp_path), other)):
        pass
    for arguments, said in (
        (["sft", "--min-score", "0.5"], "wrote 1 line of sft (1 run)"),
        (["reward"], "wrote 1 line of reward (1 run)"),
        (["otlp"], "wrote 3 spans of 1 run to"),
    ):
        checkout.round(0, "a" * 40)
        told = ratchet_export("--format", *arguments).stderr
        assert said in told
        assert f"with nothing from 1 run: {other}" in told


def test_lines_that_cannot_be_read_are_said_to_be_missing(checkout, tmp_path):
    checkout.round(0, "a" * 40)
    checkout.trial("one", 1)
    checkout.trial("two", 1, task="t2")
    journal = journal_file(data_directory(tmp_path), NIGHT)
    raw = journal.read_bytes()
    journal.write_bytes(raw.replace(b'"type":"Trial"', b'"type":"Trail"', 1))
    for format in ("reward", "otlp", "parquet"):
        told = ratchet_export("--format", format).stderr
        assert "WARNING: 1 line of 1 journal cannot be read (table dead_letter), and what it holds is missing" in told
        assert f"{NIGHT}.jsonl: 1 line, the first at byte " in told
        assert "unknown type, 'Trail'" in told
        assert "traces.duckdb" in told
    journal.write_bytes(raw)
    assert "WARNING" not in ratchet_export("--format", "reward").stderr


def test_a_journal_that_is_read_itself_and_is_damaged_is_named(checkout, tmp_path):
    checkout.round(0, "a" * 40, score=0.5)
    checkout.trial("one", 1)
    journal = journal_file(data_directory(tmp_path), NIGHT)
    raw = journal.read_bytes()
    for damaged in (raw.replace(b'"split":"train"', b'"split":"other"'), b"{" + raw):
        journal.write_bytes(damaged)
        why = refusal("--format", "tsv")
        assert why.startswith(f"traces/data/spool/{NIGHT}.jsonl: ")
        assert "put an edited line back" in why


def test_where_texts_were_not_kept_it_says_which_models_keep_them(checkout):
    trial = f"{NIGHT}/unkept"
    checkout.call(trial, [], "", is_kept=False)
    checkout.end(trial, 1)
    why = refusal("--format", "reward")
    assert "1 trial whose texts were not kept" in why
    assert "openai:…, anthropic:… or local:… keep it" in why


def test_where_model_calls_were_not_recorded_it_says_how_they_are(checkout):
    checkout.end(f"{NIGHT}/silent", 1)
    why = refusal("--format", "preference")
    assert "1 trial whose model calls were not recorded" in why
    assert "harness.models" in why


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "tsv", "--split", "train"],
        ["--format", "parquet", "--run", NIGHT],
        ["--format", "reward", "--min-score", "1"],
        ["--format", "sft", "--endpoint", "http://127.0.0.1:1"],
        ["--format", "parquet", "--out", "-"],
        ["--format", "otlp", "--out", "x", "--endpoint", "http://127.0.0.1:1"],
    ],
)
def test_an_option_that_says_nothing_about_the_format_is_refused(checkout, arguments):
    checkout.trial("one", 1)
    assert refusal(*arguments)


def test_tables_and_spans_go_where_git_does_not_look(checkout, tmp_path):
    checkout.journal.append(a_round(0, "a" * 40, score=0.5))
    checkout.trial("one", 1)
    assert "whole store" in ratchet_export("--format", "parquet").stderr
    assert "wrote 3 spans" in ratchet_export("--format", "otlp").stderr
    folder = data_directory(tmp_path) / "exports"
    assert {p.name.split("-", 3)[-1].partition(".")[2] or p.name.rpartition("-")[2] for p in folder.iterdir()} == {
        "parquet",
        "otlp.jsonl",
    }
    assert ratchet_export("--format", "tsv").stdout.splitlines()[1].endswith("\tkeep\tbaseline")


def test_spans_are_sent_to_a_collector_and_what_it_rejects_is_an_error(checkout):
    checkout.trial("one", 1)
    partial = {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}
    with provider(refuses(200, {})) as collector:
        assert "sent 3 spans" in ratchet_export("--format", "otlp", "--endpoint", collector.url).stderr
        assert collector.received[0].headers["content-type"] == "application/json"
    with provider(refuses(200, partial)) as collector:
        assert "rejected 1 span" in refusal("--format", "otlp", "--endpoint", collector.url)


def test_what_a_real_model_was_asked_and_called_is_told_as_it_was(tmp_path):
    def completion(message: dict, reason: str) -> dict:
        choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": reason}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return {
            "id": "r",
            "object": "chat.completion",
            "created": 1,
            "model": "m-1",
            "choices": [choice],
            "usage": usage,
        }

    def look(where: str) -> str:
        """Looks."""
        return f"a0 is {where}"

    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where": "here"}'}}
    plays = completion({"tool_calls": [call]}, "tool_calls"), completion({"content": "a0"}, "stop")
    git(tmp_path, "init", "-q")
    with provider(*map(answers, plays)) as server:
        runner = agent(model("openai:m", base_url=f"{server.url}/v1"), function_tool(look))
        split = play(runner, data_directory(tmp_path)).trial.split
        models.close()
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "Begin")
    with contextlib.chdir(tmp_path):
        [reward] = map(json.loads, ratchet_export("--format", "reward", "--split", split).stdout.splitlines())
    sent = server.received[1].body["messages"]
    assert reward["prompt"] + reward["completion"] == [
        *sent[:2],
        {**sent[2], "content": ""},
        sent[3],
        {"role": "assistant", "content": "a0"},
    ]
    assert reward["prompt"] == sent[:2]
    assert (reward["reward"], reward["reason"], reward["model"]) == (1.0, "right", "m-1")
