import json
import resource
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from analysis.export import otlp, training
from analysis.export.answers import partial_success
from analysis.export.collector import deliver
from analysis.export.results import results, values
from analysis.export.store import copied, damage
from analysis.export.tables import parquet, write
from analysis.night import read_night
from harness.errors import UserError
from harness.ledger import journal_file
from harness.redact import redacted
from tests.models.loopback import drips, hangs_up, provider, refuses, stalls
from tests.traces.samples import NOON, RUN
from traces import otel
from traces.journal import Journal
from traces.merge import Merger, merge
from traces.records import (
    Comparison,
    Decision,
    Grade,
    Mark,
    Proposal,
    Review,
    Round,
    Span,
    Task,
    Trial,
    Usage,
)

NIGHT = "example-20261101-120000-abcd"
OLD, NEW, BAD = "a" * 40, "b" * 40, "c" * 40
SECRET = "sk-proj-0123456789abcdefghij"


class Writer:
    """Writes trials with their model calls, as a run does."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.calls = 0
        journal.append(RUN.model_copy(update={"id": NIGHT, "live": OLD}))

    def round(self, number: int, working: str, **more) -> None:
        self.journal.append(a_round(number, working, **more))

    def call(self, trial: str, messages, answer: str, **more) -> None:
        self.calls += 1
        kept = {}
        if more.pop("is_kept", True):
            kept = {
                "input_hash": self.journal.text(json.dumps(messages)),
                "output_hash": self.journal.text(answer),
            }
        fields = {"id": f"call-{self.calls}", "operation": "chat", "name": "openai:m", "seconds": 0.5, **kept, **more}
        usage = Usage(calls=1, input_tokens=5, output_tokens=2, dollars=0.25)
        started = NOON + timedelta(seconds=self.calls)
        self.journal.append(Span(run=NIGHT, trial=trial, started=started, usage=usage, **fields))

    def tool(self, trial: str, name: str, arguments: str, result: str, call: str) -> None:
        self.calls += 1
        self.journal.append(
            Span(
                id=f"call-{self.calls}",
                run=NIGHT,
                trial=trial,
                operation="execute_tool",
                name=name,
                started=NOON + timedelta(seconds=self.calls),
                seconds=0.1,
                input_hash=self.journal.text(arguments),
                output_hash=self.journal.text(result),
                attributes={otel.TOOL_NAME: name, otel.TOOL_CALL_ID: call},
            )
        )

    def end(self, trial: str, score: float | None, **more) -> None:
        self.calls += 1
        started = NOON + timedelta(seconds=self.calls)
        if score is not None:
            grade = {otel.SCORE: score, otel.EXPLANATION: "as it is"}
            self.journal.append(
                Span(
                    id=f"{trial}/grade/1",
                    run=NIGHT,
                    trial=trial,
                    operation="grade",
                    name="ExactGrader",
                    started=started,
                    seconds=0,
                    attributes=grade,
                )
            )
        fields = {"version": OLD, "task": "t1", "split": "train", "conditions": ("grader=g1", "model m=m-1"), **more}
        grade = None if score is None else Grade(score=score, reason="as it is")
        self.journal.append(
            Trial(id=trial, run=NIGHT, started=started, seconds=1, grade=grade, output="out", ended="done", **fields),
            key=trial.removeprefix(f"{NIGHT}/"),
        )

    def trial(self, name: str, score: float | None, answer: str = "yes", prompt: str = "What?", **more) -> None:
        id = f"{NIGHT}/{name}"
        self.call(id, asking(prompt), answer)
        self.end(id, score, **more)


def a_round(number: int, working: str, **more) -> Round:
    return Round(run=NIGHT, number=number, incumbent=OLD, working=working, started=NOON, seconds=1, **more)


def asking(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Answer."}, {"role": "user", "content": prompt}]


@pytest.fixture
def night(tmp_path):
    with Journal(journal_file(tmp_path, NIGHT)) as journal:
        writer = Writer(journal)
        writer.round(0, OLD)
        yield writer


def split_up(found):
    """Examples, and the trials left out by reason."""
    items = list(found)
    left_out = {item.because: item.trials for item in items if isinstance(item, training.LeftOut)}
    return [item for item in items if isinstance(item, dict)], left_out


def sft(tmp_path, *arguments, splits=("train",), runs=(NIGHT,)):
    with training.conversations(tmp_path, runs, splits) as said:
        return split_up(training.sft(said, *arguments))


def preferences(tmp_path, *arguments):
    with training.conversations(tmp_path, [NIGHT]) as said:
        return split_up(training.preferences(said, *arguments))


def rewards(tmp_path):
    with training.conversations(tmp_path, [NIGHT]) as said:
        return split_up(training.rewards(said))


# ── training data ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_worth_imitating_is_what_kept_versions_said_in_train_trials_that_scored_enough(night, tmp_path):
    night.trial("one", 1)
    night.trial("again", 1)
    night.trial("poor", 0.4, "no")
    night.trial("discarded", 1, version=BAD)
    night.trial("hidden", 1, task="v1", split="validation")
    night.trial("ungraded", None)
    night.end(f"{NIGHT}/silent", 1)
    night.call(f"{NIGHT}/unkept", [], "", is_kept=False)
    night.end(f"{NIGHT}/unkept", 1)

    [example], left_out = sft(tmp_path)

    assert example == {
        "messages": [*asking("What?"), {"role": "assistant", "content": "yes"}],
        "run": NIGHT,
        "task": "t1",
        "split": "train",
        "scale": "g1",
        "conditions": ["grader=g1", "model m=m-1"],
        "trial": f"{NIGHT}/one",
        "version": OLD,
        "score": 1.0,
        "model": "openai:m",
    }
    assert left_out == {
        "with the same words as another": 1,
        "that scored below 1": 1,
        "of versions that were not kept": 1,
        "without a grade": 1,
        "whose model calls were not recorded": 1,
        "whose texts were not kept": 1,
    }
    assert len(sft(tmp_path, 0.4)[0]) == 2
    [hidden], _ = sft(tmp_path, splits=("validation",))
    assert hidden["split"] == "validation"


def test_the_conversation_of_an_agent_is_told_with_its_tool_calls_and_without_its_judges_and_children(night, tmp_path):
    trial = f"{NIGHT}/agent"
    prompt = asking("Look it up.")
    called = {"id": "c1", "name": "search", "arguments": {"for": "it"}}
    turn = {"role": "assistant", "content": "", "calls": [called], "opaque": [{"signed": "thinking"}]}
    answered = {"role": "tool", "content": "it is 3", "answers": "c1"}
    night.call(trial, prompt, 'search({"for": "it"})', role="maker")
    night.call(trial, asking("You are a child."), "I am", role="researcher")
    night.tool(trial, "search", '{"for": "it"}', "it is 3", "c1")
    night.call(trial, [*prompt, turn, answered], 'Done.\nsubmit({"answer": 3})', role="maker")
    night.tool(trial, "submit", '{"answer": 3}', "handed in", "c2")
    night.call(trial, asking("Judge it."), "fine", role="judge")
    night.end(trial, 1)

    [example], _ = sft(tmp_path)

    assert example["messages"] == [
        *prompt,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"for": "it"}'}}
            ],
        },
        {"role": "tool", "content": "it is 3", "tool_call_id": "c1"},
        {
            "role": "assistant",
            "content": "Done.",
            "tool_calls": [
                {"id": "c2", "type": "function", "function": {"name": "submit", "arguments": '{"answer": 3}'}}
            ],
        },
    ]
    [reward], _ = rewards(tmp_path)
    assert reward["prompt"] == prompt
    assert [m["role"] for m in reward["completion"]] == ["assistant", "tool", "assistant"]


def test_what_a_grader_asks_without_saying_that_it_judges_is_not_what_the_maker_said(night, tmp_path):
    trial = f"{NIGHT}/judged"
    night.call(trial, asking("What?"), "the maker's")
    night.end(trial, 1)
    night.journal.append(
        Span(
            id="late", run=NIGHT, trial=trial, operation="chat", name="judge", started=NOON + timedelta(seconds=60),
            seconds=1, input_hash=night.journal.text("[]"), output_hash=night.journal.text("a verdict"),
        )
    )  # fmt: skip
    [example], _ = sft(tmp_path)
    assert example["messages"][-1]["content"] == "the maker's"


def test_a_trial_that_another_process_took_up_has_the_calls_of_both(night, tmp_path):
    first, second = f"{NIGHT}/taken", f"{NIGHT}/taken#2"
    night.call(first, asking("What?"), "part", role="maker")
    told = [*asking("What?"), {"role": "assistant", "content": "part"}, {"role": "user", "content": "Go on."}]
    night.call(second, told, "whole", role="maker")
    night.end(second, 1, attempt=2)
    [example], _ = rewards(tmp_path)
    assert [m["content"] for m in example["prompt"] + example["completion"]] == [
        "Answer.", "What?", "part", "Go on.", "whole",
    ]  # fmt: skip


def test_a_conversation_whose_older_part_was_summarised_counts_by_its_last_answer(night, tmp_path):
    trial = f"{NIGHT}/long"
    night.call(trial, asking("What?"), "part", role="maker")
    night.call(trial, asking("In short: part. Go on."), "whole", role="maker")
    night.end(trial, 1)
    [example], _ = rewards(tmp_path)
    assert example["prompt"] == asking("In short: part. Go on.")
    assert example["completion"] == [{"role": "assistant", "content": "whole"}]


def test_a_model_call_that_is_no_list_of_messages_is_counted_and_not_written(night, tmp_path):
    for number, asked in enumerate(("a plain prompt", ["words"], {"role": "user"}, [], None)):
        night.call(f"{NIGHT}/{number}", asked, "yes")
        night.end(f"{NIGHT}/{number}", 1, task=f"t{number}")
    with training.conversations(tmp_path, [NIGHT]) as said:
        for found in (training.sft(said), training.rewards(said)):
            assert [*found] == [training.UNREADABLE] * 5


def test_no_secret_is_in_an_export_also_where_the_letter_of_an_escape_stands_before_it(night, tmp_path):
    night.trial("one", 1, f"It is\n{SECRET}", f"Use\n{SECRET}")
    night.tool(f"{NIGHT}/one", "send", json.dumps({"text": f"so\n{SECRET}"}), "sent", "c1")
    parquet(tmp_path, tmp_path / "all")
    tables = b"".join(p.read_bytes() for p in (tmp_path / "all").iterdir()).decode(errors="replace")
    for found in (json.dumps([rewards(tmp_path), sft(tmp_path)]), json.dumps(spans_of(tmp_path)), tables):
        assert SECRET not in found
        assert "[key]" in found


def test_a_secret_of_several_short_lines_is_found_in_json_too():
    value = "short\nlines\nonly"
    text = json.dumps([value, "C:\\new", "tab\t"])
    assert redacted(text, {"A_KEY": value}) == json.dumps(["[key]", "C:\\new", "tab\t"])
    assert redacted(text, {}) == text


def test_a_pair_is_of_one_task_one_prompt_and_one_grader_and_no_trial_is_in_two(night, tmp_path):
    for n, score in enumerate((1, 0.75, 0.5, 0)):
        night.trial(f"same/{n}", score, f"answer {n}")
    night.trial("other-task", 0, task="t2")
    night.trial("other-grader", 0, "answer x", conditions=("grader=g2", "model m=m-1"))
    night.trial("other-model", 0, "answer y", conditions=("grader=g1", "model m=m-2"))

    pairs, left_out = preferences(tmp_path)

    [pair] = pairs
    assert (pair["chosen_trial"], pair["rejected_trial"]) == (f"{NIGHT}/same/0", f"{NIGHT}/same/3")
    assert (pair["chosen_score"], pair["rejected_score"], pair["same_prompt"]) == (1.0, 0.0, True)
    assert pair["prompt"] == asking("What?")
    assert pair["chosen"] == [{"role": "assistant", "content": "answer 0"}]
    assert pair["rejected"] == [{"role": "assistant", "content": "answer 3"}]
    assert sum(left_out.values()) == 5
    pairs, _ = preferences(tmp_path, 0.25)
    assert [(p["chosen_score"], p["rejected_score"]) for p in pairs] == [(1.0, 0.0), (0.75, 0.5)]


def test_what_is_left_of_a_task_is_paired_across_prompts_and_says_so(night, tmp_path):
    night.trial("old", 0, "no", "Tell.")
    night.trial("new", 1, "yes", "Tell me.", version=NEW)
    [pair], _ = preferences(tmp_path)
    assert not pair["same_prompt"]
    assert (pair["chosen_version"], pair["rejected_version"]) == (NEW, OLD)
    assert pair["prompt"] == asking("Tell me.")


def test_the_same_answer_with_two_scores_is_no_pair(night, tmp_path):
    night.trial("high", 1)
    night.trial("low", 0)
    assert preferences(tmp_path)[0] == []


def test_a_reward_is_the_score_with_its_reason_of_every_version(night, tmp_path):
    night.trial("kept", 1)
    night.trial("discarded", 0, "no", version=BAD)
    found, _ = rewards(tmp_path)
    assert [(e["reward"], e["version"], e["reason"]) for e in found] == [(1.0, OLD, "as it is"), (0.0, BAD, "as it is")]


def test_merged_and_unmerged_lines_are_exported_alike_and_a_merge_goes_on_while_the_export_is_read(night, tmp_path):
    night.trial("merged", 1, task="m")
    merge(tmp_path)
    night.trial("unmerged", 1, task="u")
    with training.conversations(tmp_path, [NIGHT]) as said:
        found = training.sft(said)
        night.trial("later", 1, task="l")
        assert merge(tmp_path, wait=0).lines  # nothing holds the database meanwhile
        assert {e["task"] for e in found if isinstance(e, dict)} == {"m", "u"}


def test_it_reads_a_store_that_another_thread_merges_into_all_the_time(night, tmp_path):
    with Merger(tmp_path, every=0.01):
        for number in range(2):
            night.trial(f"n{number}", 1, task=f"t{number}")
            assert len(sft(tmp_path)[0]) == number + 1


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_table_is_a_parquet_file_with_all_rows_the_unmerged_ones_too(night, tmp_path):
    night.trial("one", 1, tags=("plural",))
    merge(tmp_path)
    night.trial("two", 0)
    to = tmp_path / "exports" / "all"

    written = parquet(tmp_path, to)

    assert written["trials"] == 2
    assert {p.stem for p in to.iterdir()} == set(written)
    with duckdb.connect() as connection:
        for table, rows in written.items():
            query = f"SELECT count(*) FROM '{to / table}.parquet'"
            assert connection.execute(query).fetchall() == [(rows,)]
        query = f"SELECT tags, score, attempt FROM '{to}/trials.parquet' ORDER BY seq"
        assert connection.execute(query).fetchall() == [(["plural"], 1.0, 1), ([], 0.0, 1)]
        query = f"SELECT attributes->>'{otel.EXPLANATION}' FROM '{to}/spans.parquet' WHERE operation = 'grade'"
        assert connection.execute(query).fetchall() == [("as it is",), ("as it is",)]
    with pytest.raises(UserError, match="exists already"):
        parquet(tmp_path, to)
    assert [p.name for p in to.parent.iterdir()] == ["all"]  # no draft is left behind


def test_an_export_takes_a_path_with_a_quotation_mark_and_leaves_no_copy_behind(tmp_path):
    directory = tmp_path / "it's"
    with Journal(journal_file(directory, NIGHT)) as journal:
        Writer(journal).trial("one", 1)
    merge(directory)
    with copied(directory, {"few": "SELECT * FROM trials WHERE task = $task"}, {"task": "t1"}) as connection:
        assert connection.execute("SELECT count(*) FROM few").fetchall() == [(1,)]
        [(kept,)] = connection.execute(
            "SELECT path FROM duckdb_databases() WHERE path LIKE '%copied.duckdb'"
        ).fetchall()
        assert Path(kept).exists()
    assert not Path(kept).parent.exists()
    assert parquet(directory, tmp_path / "b's")["trials"] == 1


def test_a_full_disk_is_said_with_the_path_and_leaves_nothing_behind(night, tmp_path):
    night.trial("one", 1, "x" * 200_000)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most))  # of any file, of this process
    try:
        with pytest.raises(UserError, match=r"cannot be copied to .*: file too large.*TMPDIR"):
            parquet(tmp_path, tmp_path / "new" / "all")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert not (tmp_path / "new").exists()
    (tmp_path / "t.parquet").symlink_to("/dev/full")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        with pytest.raises(UserError, match=r"all cannot be written: t: no space left on device.*--out"):
            write(connection, "t", tmp_path / "t.parquet", tmp_path / "all")


@pytest.mark.parametrize("is_merged", [False, True])
def test_lines_that_cannot_be_read_are_counted_by_journal(night, tmp_path, is_merged):
    night.trial("one", 1)
    night.trial("two", 1, task="t2")
    journal = journal_file(tmp_path, NIGHT)
    assert damage(tmp_path) == []
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[0] = b"x" * (len(lines[0]) - 1) + b"\n"  # which says what run it is
    lines[-1] = b"{" + lines[-1][2:-1] + b"\n"
    copy = tmp_path / "damaged"
    journal_file(copy, NIGHT).parent.mkdir(parents=True)
    journal_file(copy, NIGHT).write_bytes(b"".join(lines))
    if is_merged:
        merge(copy)
    [found] = damage(copy, [NIGHT])
    assert (found.writer, found.lines, found.byte_offset) == (NIGHT, 2, 0)
    assert "damaged" in found.reason
    assert damage(copy, ["other"]) == []
    assert len(spans_of(copy)) == len(spans_of(tmp_path)) - 1  # of all other lines nothing is missing


# ── spans ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def spans_of(tmp_path, **more):
    found = [request.body for request in otlp.requests(tmp_path, [NIGHT], **more)]
    return [span for request in found for part in request["resourceSpans"] for span in part["scopeSpans"][0]["spans"]]


def value(span, name):
    found = [attribute["value"] for attribute in span["attributes"] if attribute["key"] == name]
    return next(iter(found[0].values())) if found else None


def test_a_trial_is_a_trace_with_hexadecimal_ids_nanoseconds_and_parents(night, tmp_path):
    trial = f"{NIGHT}/one"
    night.call(trial, asking("What?"), "yes", parent="turn-1", attributes={otel.RESPONSE_MODEL: "m-1", "n": 2**40})
    night.journal.append(
        Span(id="turn-1", run=NIGHT, trial=trial, operation="turn", name="maker", started=NOON, seconds=1)
    )
    mark = Mark(criterion="short", choice="too long", passed=False, because="it goes on")
    night.journal.append(Review(trial=trial, verdict="needs_revision", marks=(mark,)))
    night.end(trial, 1)
    night.call(None, asking("Propose."), "an edit")

    [root, call, turn, grade, proposer] = spans_of(tmp_path)

    assert len({span["traceId"] for span in (root, call, turn, grade)}) == 1 != proposer["traceId"]
    assert all(len(bytes.fromhex(s["traceId"])) == 16 and len(bytes.fromhex(s["spanId"])) == 8 for s in (root, call))
    assert "parentSpanId" not in root
    assert "parentSpanId" not in proposer
    assert call["parentSpanId"] == turn["spanId"]
    assert turn["parentSpanId"] == grade["parentSpanId"] == root["spanId"]
    assert turn["startTimeUnixNano"] == "1793534400000000000"
    assert turn["endTimeUnixNano"] == "1793534401000000000"
    assert (call["name"], call["kind"], turn["kind"]) == ("chat openai:m", 3, 1)
    assert value(call, otel.INPUT_TOKENS) == "5"
    assert value(call, otel.RESPONSE_MODEL) == "m-1"
    assert value(call, "n") == str(2**40)
    assert value(call, "ratchet.dollars") == 0.25
    assert json.loads(value(call, otel.INPUT_MESSAGES))[1] == {
        "role": "user", "parts": [{"type": "text", "content": "What?"}],
    }  # fmt: skip
    [graded], [reviewed] = grade["events"], root["events"]
    assert graded["name"] == reviewed["name"] == otel.EVALUATION
    assert (value(graded, otel.SCORE), value(graded, otel.EVALUATION_NAME)) == (1.0, "ExactGrader")
    assert (value(reviewed, otel.SCORE_LABEL), value(reviewed, otel.EXPLANATION)) == ("too long", "it goes on")
    assert spans_of(tmp_path) == [root, call, turn, grade, proposer]  # the same ids, whenever it is exported


def test_of_hidden_trials_and_of_those_under_way_a_collector_is_told_no_text_and_no_score(night, tmp_path):
    trial = f"{NIGHT}/hidden"
    night.call(trial, asking("the hidden question"), "the hidden answer", error="the hidden error", status="error",
               error_class="timeout", attributes={"note": "the hidden note", otel.RESPONSE_MODEL: "m-1"})  # fmt: skip
    night.tool(trial, "search", "the hidden call", "the hidden result", "c1")
    night.end(trial, 0.125, task="v1", split="validation", error="the hidden end")
    night.call(f"{NIGHT}/under-way", asking("the hidden question"), "the hidden answer")
    told = json.dumps(spans_of(tmp_path))
    assert "hidden" not in told.replace(f"{NIGHT}/hidden", "")
    assert "as it is" not in told
    assert "0.125" not in told
    assert "m-1" in told
    assert "timeout" in told
    named = json.dumps(spans_of(tmp_path, splits=("train", "validation")))
    assert "the hidden question" in named
    assert "0.125" in named


def test_requests_stay_small_and_every_span_is_in_one(night, tmp_path):
    for number in range(4):
        night.trial(f"n{number}", 1, "x" * 900_000, task=f"t{number}")
    found = list(otlp.requests(tmp_path, [NIGHT]))
    assert sum(request.spans for request in found) == 12
    assert all(len(json.dumps(request.body)) < 2 * otlp.MOST_BYTES for request in found)
    assert len(found) == 2


def requests_of(*sizes: int):
    return [otlp.Request(NIGHT, size, {"resourceSpans": [size]}) for size in sizes]


def test_a_collector_that_is_busy_is_asked_again_after_as_long_as_it_says():
    waited: list[float] = []
    away = refuses(503, {}, {"retry-after": "7"})
    with provider(away, hangs_up, refuses(200, {})) as collector:
        told: list[str] = []
        done = deliver(
            requests_of(3, 2), collector.url, told.append,
            environment={"OTEL_EXPORTER_OTLP_HEADERS": "X-Key=a%20b"}, sleep=waited.append,
        )  # fmt: skip
    assert (done.spans, done.rejected) == (5, 0)
    assert "waiting for the collector, try 2 of 5 in 7 s: " in told[0]
    assert "answers 503" in told[0]
    assert "waiting for the collector, try 3 of 5 in 2 s: " in told[1]
    assert waited == [7.0, 2.0]
    assert [r.body["resourceSpans"] for r in collector.received] == [[3], [3], [3], [2]]
    assert collector.received[0].path == "/v1/traces"
    assert collector.received[0].headers["x-key"] == "a b"


def test_a_collector_that_refuses_is_not_asked_again_and_one_that_is_away_not_for_ever():
    waited: list[float] = []
    with provider(refuses(200, {}), refuses(401, {"error": f"who? {SECRET}"})) as collector:
        with pytest.raises(UserError, match=r"401.*\[key\].*OTEL_EXPORTER_OTLP_HEADERS.*taken 3 spans before") as e:
            deliver(requests_of(3, 2), f"{collector.url}/v1/traces", print, sleep=waited.append)
        assert SECRET not in str(e.value)
        gone = collector.url
    assert waited == []
    with pytest.raises(UserError, match=r"cannot be reached.*tried 5 times\. It has taken 0 spans"):
        deliver(requests_of(1), gone, print, sleep=waited.append)
    assert waited == [1.0, 2.0, 4.0, 8.0]


def test_a_collector_that_takes_a_request_and_is_silent_or_drips_is_given_up():
    told: list[str] = []
    body = {"partialSuccess": {}, "more": "x" * 40}
    with provider(stalls, drips(body, 0.02)) as collector, pytest.raises(UserError, match="gave no answer within"):
        deliver(requests_of(1), collector.url, told.append, timeout=0.1, sleep=lambda _: None)
    assert [line.partition(" in ")[0] for line in told] == [
        f"waiting for the collector, try {n} of 5" for n in (2, 3, 4, 5)
    ]


def test_the_pauses_that_a_collector_asks_for_are_bounded_together():
    with provider(refuses(503, {}, {"retry-after": "nan"}), refuses(503, {}, {"retry-after": "1e9"})) as collector:
        waited: list[float] = []
        with pytest.raises(UserError, match="503"):
            deliver(requests_of(1), collector.url, print, sleep=waited.append)
    assert waited == [1.0, 30.0, 30.0, 30.0]


def test_what_a_collector_rejects_is_counted_with_its_reason():
    partial = {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old\x1b[2J"}}
    with provider(refuses(200, partial), refuses(200, b"")) as collector:
        done = deliver(requests_of(3, 4), collector.url, print)
    assert (done.spans, done.rejected, done.because) == (5, 2, "too old [2J")


def test_who_answers_a_collectors_address_with_something_else_has_not_taken_the_spans():
    page = refuses(200, b"<html>ok</html>", {"content-type": "text/html"})
    with provider(page) as other, pytest.raises(UserError, match=r"no collector.*text/html.*taken 0 spans") as e:
        deliver(requests_of(3), other.url, print)
    assert "<html>ok</html>" in str(e.value)


REJECTED_3 = b"\x0a\x09\x08\x03\x12\x05older"


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        ("application/json", b"{}", (0, "")),
        ("application/json; charset=utf-8", b"", (0, "")),
        ("Application/JSON", b'{"partialSuccess": {"rejectedSpans": 3, "errorMessage": "older"}}', (3, "older")),
        ("application/json", b'{"partialSuccess": null, "new": 1}', (0, "")),
        ("application/x-protobuf", b"", (0, "")),
        ("application/x-protobuf", REJECTED_3, (3, "older")),
        ("application/x-protobuf", b"\x10\x01\x1d1234\x21" + b"12345678" + REJECTED_3, (3, "older")),
    ],
)
def test_an_answer_is_read_in_json_and_in_protobuf(content_type, body, found):
    assert partial_success(content_type, body) == found


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"{}"),
        ("", b""),
        ("application/json", b"fine"),
        ("application/json", b"[" * 100_000),
        ("application/json", b"[]"),
        ("application/json", b'{"partialSuccess": 1}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": "many"}}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": -1}}'),
        ("application/x-protobuf", b"<html>ok</html>"),
        ("application/x-protobuf", REJECTED_3[:-1]),
        ("application/x-protobuf", b"\xff" * 20),
        ("application/x-protobuf", b"\x08\x01"),
    ],
)
def test_what_is_no_answer_of_a_collector_is_none(content_type, body):
    with pytest.raises(ValueError, match=r"."):
        partial_success(content_type, body)


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://host/v1/traces", "http://u:p@host/v1/traces", ""])
def test_an_address_that_is_none_or_carries_a_password_is_refused(endpoint):
    with pytest.raises(UserError, match="OTEL_EXPORTER_OTLP_HEADERS" if "@" in endpoint else "no address"):
        deliver([], endpoint, print)


# ── results.tsv ────────────────────────────────────────────────────────────────────────────────────────────────────


def compared(score: float, incumbent: float, **more) -> Comparison:
    return Comparison(
        incumbent=OLD, candidate=NEW, split="train", tasks=9, incumbent_score=incumbent, candidate_score=score,
        gain=abs(score - incumbent), low=0.0, high=0.2, confidence=0.9, **more,
    )  # fmt: skip


def tried(number: int, verdict: str, because: str, comparison: Comparison | None, rationale: str, **more) -> Round:
    return a_round(
        number,
        NEW if verdict == "keep" else OLD,
        candidate=NEW if comparison else None,
        proposal=Proposal(id=f"p{number}", proposer="p", edits=(), rationale=rationale),
        decision=Decision(verdict=verdict, because=because, comparison=comparison),
        **more,
    )


def test_a_night_is_a_results_tsv_of_a_line_a_round(tmp_path):
    path = journal_file(tmp_path, NIGHT)
    with Journal(path) as journal:
        journal.append(RUN.model_copy(update={"id": NIGHT, "gate": {"name": "MetricGate", "metric": "val_bpb"}}))
        journal.append(a_round(0, OLD, score=0.9979))
        journal.append(
            tried(1, "keep", "improved", compared(0.9932, 0.9979, metric="val_bpb"), 'increase\tLR\n to "0.04"')
        )
        journal.append(
            tried(
                2, "inconclusive", "undecided", compared(1.005, 0.9932, metric="val_bpb"), f"GeLU\u2028\x1b[2J {SECRET}"
            )
        )
        journal.append(tried(3, "discard", "invalid", None, "double the width"))
        journal.append(a_round(4, NEW, stop="rounds"))
    night = read_night(path)
    assert night is not None
    text = "".join(results(night, {OLD: 44.0, NEW: 44.25}))
    assert text.split("\n") == [
        "commit\tval_bpb\tmemory_gb\tstatus\tdescription",
        "aaaaaaa\t0.997900\t44.0\tkeep\tbaseline",
        "bbbbbbb\t0.993200\t44.2\tkeep\tincrease LR to '0.04'",
        "bbbbbbb\t1.005000\t44.2\tdiscard\tGeLU [2J [key]",
        "0000000\t0.000000\t0.0\tcrash\tinvalid: double the width",
        "",
    ]


def test_scores_without_a_metric_are_called_so_and_tasks_are_not_read_for_it(tmp_path):
    path = journal_file(tmp_path, NIGHT)
    with Journal(path) as journal:
        journal.append(RUN.model_copy(update={"id": NIGHT}))
        journal.append(Task(id="t", input="x", split="train"))
        journal.append(a_round(0, OLD, score=0.5))
    night = read_night(path)
    assert night is not None
    assert [*results(night, {})] == [
        "commit\tscore\tmemory_gb\tstatus\tdescription\n",
        "aaaaaaa\t0.500000\t0.0\tkeep\tbaseline\n",
    ]


def test_all_scores_are_on_the_scale_of_the_whole_train_split_whatever_tasks_a_test_saw():
    rounds = [
        a_round(0, OLD, score=0.665),
        tried(1, "keep", "improved", compared(0.7, 0.6), "kept", score=0.855),
        tried(2, "discard", "no-improvement", compared(0.80, 0.86), "lost", score=0.85).model_copy(
            update={"incumbent": NEW, "working": NEW}
        ),
        tried(3, "inconclusive", "undecided", compared(1.0, 0.75), "almost", score=0.9).model_copy(
            update={"incumbent": NEW, "working": NEW}
        ),
        tried(4, "discard", "invalid", None, "broken", score=0.9),
        tried(5, "keep", "improved", compared(0.7, 0.72), "taken out again", score=0.8).model_copy(
            update={"incumbent": NEW, "working": OLD}
        ),
    ]
    found = values(rounds)
    assert found[0] == 0.665
    assert found[1] == 0.855  # as `ratchet status` and the report have it
    assert found[2] == pytest.approx(0.85 - 0.06)
    assert found[3] == 1.0  # no score is more
    assert found[4] is None
    assert found[5] == pytest.approx(0.9 - 0.02)  # of the candidate, not of what was made of it


def test_a_score_that_no_round_has_is_that_of_the_comparison():
    assert values([tried(1, "keep", "improved", compared(0.7, 0.6), "kept")]) == {1: 0.7}
    cut_short = [a_round(0, OLD, score=0.5), tried(1, "keep", "improved", compared(0.7, 0.6), "kept")]
    assert values(cut_short)[1] == pytest.approx(0.6)
