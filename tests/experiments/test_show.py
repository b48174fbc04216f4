import contextlib
import json

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.show import lines, messages_in, trial_named
from harness.agent.tools import function_tool
from harness.ledger import journal_file
from harness.testing import ScriptedModel
from tests.agent.world import Played, agent, calls, play, turns_so_far
from tests.conftest import git
from traces.journal import Journal
from traces.places import data_directory
from traces.records import Mark, Review, Span, Text, now


def send(text: str) -> str:
    """Sends it."""
    return f"sent {text}\x1b[2J"


class Wants:
    """Is satisfied by one word."""

    attempts = 3

    def review(self, task, output, work, before):
        passed = output == "a0"
        because, excerpt = ("", "") if passed else ("not the word", output)
        mark = Mark(criterion="word", passed=passed, because=because, excerpt=excerpt)
        return Review(verdict="satisfied" if passed else "needs_revision", attempt=len(before) + 1, marks=(mark,))


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Played:
    def answer(messages):
        turn = turns_so_far(messages)
        return (calls(("send", {"text": "hello"}), ("nothing", {}), text="I send"), "wrong", "a0")[turn]

    directory = data_directory(tmp_path_factory.mktemp("shown"))
    runner = agent(ScriptedModel(answer), function_tool(send, effect="outside"), verifier=Wants())
    return play(runner, directory)


def shown(played: Played, name: str = "") -> str:
    return "\n".join(lines(trial_named(name or played.trial.id, played.directory)))


def test_a_trial_of_an_agent_is_read_from_its_first_turn_to_why_it_ended(played):
    text = shown(played)
    told = [
        "── turn 1 maker",
        "I send",
        "── execute_tool send",
        'asked: {"text": "hello"}',
        "result: sent hello",
        "── turn 2 maker",
        "answer: wrong",
        "── review of attempt 1: needs_revision",
        "FAILED: word: not the word",
        "excerpt: wrong",
        "── review of attempt 2: satisfied",
        "passed: word",
        "── grade ExactGrader",
        "because: right",
        "── end: done",
        "output: a0",
    ]
    places = [text.index(word) for word in told]
    assert places == sorted(places)
    assert "ok, effect outside" in text
    assert "error" in text[text.index("execute_tool nothing") :].splitlines()[0]
    assert "\x1b" not in text


def test_the_command_takes_the_end_of_an_id_and_its_json_has_reviews(played):
    root = played.directory.parents[1]
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "Begin")
    end = played.trial.id.partition("/")[2]
    assert shown(played, end) == shown(played)
    assert trial_named(end, played.directory).reviews[0]["because"] == "not the word"
    with contextlib.chdir(root):
        done = CliRunner().invoke(app, ["show", end, "--json"])
    assert set(json.loads(done.output)) == {"trial", "spans", "reviews"}


def test_all_attempts_at_a_trial_are_shown_and_one_under_way_too(tmp_path):
    directory = tmp_path / "data"
    played = play(agent(ScriptedModel("a0")), directory)
    with Journal(journal_file(directory, played.trial.run)) as journal:
        for trial, answer in ((f"{played.trial.id}#2", "once more"), ("r/other/0", "under way")):
            journal.append(a_call(trial, answer))
        journal.append(played.trial.model_copy(update={"id": f"{played.trial.id}#2", "attempt": 2, "output": "a1"}))
    text = shown(played)
    assert text.index("══ attempt 1") < text.index("output: a0") < text.index("══ attempt 2")
    assert text.index("once more") < text.index("output: a1")
    assert shown(played, f"{played.trial.id}#2") == text
    assert "under way" in shown(played, "r/other/0")
    assert "no end" in shown(played, "r/other/0")


def a_call(trial: str, answer: str) -> Span:
    said = Text.of(answer)
    return Span(
        id=trial, trial=trial, operation="chat", name="m", started=now(), seconds=0, output_preview=answer,
        output_hash=said.hash,
    )  # fmt: skip


def test_what_is_no_list_of_messages_has_none():
    for text in (None, "", "{", '{"a": 1}', "3", '["a"]', '[{"role": "user"}]'):
        assert messages_in(text) == []
    message = {"role": "user", "content": "hello"}
    assert messages_in(json.dumps([message])) == [message]


def test_a_long_conversation_is_not_repeated_at_each_turn(tmp_path):
    directory = tmp_path / "data"
    played = play(agent(ScriptedModel("a0")), directory)
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
    more = [{"role": "assistant", "content": "This."}, {"role": "user", "content": "Not this."}]
    with Journal(journal_file(directory, played.trial.run)) as journal:
        for n, messages in enumerate((first, first + more)):
            asked = Text.of(json.dumps(messages))
            journal.text(asked.text)
            span = a_call("r/long/0", f"answer {n}").model_copy(update={"id": f"s{n}", "input_hash": asked.hash})
            journal.append(span)
    text = shown(played, "r/long/0")
    assert [text.count(word) for word in ("Be brief.", "What?", "This.", "Not this.")] == [1, 1, 0, 1]
