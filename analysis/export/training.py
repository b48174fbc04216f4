"""Training data from the traces: what models said in graded trials, a JSON object each.

``sft``: conversations worth imitating. ``preferences``: a better and a worse one about the same task. ``rewards``: all
of them, with their scores. Messages are in the shape that OpenAI's and TRL's trainers read. Nothing of a hidden split
is in them unless it is named: a model that was trained on hidden tasks makes whatever they prove later mean nothing.
"""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import duckdb

from analysis.export.store import Row, copied, rows, with_texts
from harness.redact import redacted
from traces.records import Split

Example = dict[str, Any]
"""A line of the export."""
Message = dict[str, Any]
"""As OpenAI's chat completions have it."""


@dataclass(frozen=True)
class LeftOut:
    """Trials that make no example."""

    because: str
    """What they are: goes on after "12 trials "."""
    trials: int = 1


BASE = r"regexp_replace({}, '#\d+$', '')"
"""What the ids of all attempts at a trial have in common: a process that died may have left the first of its spans."""

TABLES: Mapping[str, str] = {
    "trials": f"SELECT *, {BASE.format('id')} AS base FROM trials "
    "WHERE list_contains($runs, run) AND list_contains($splits, split)",
    "spans": f"SELECT *, {BASE.format('trial')} AS base FROM spans WHERE list_contains($runs, run) "
    "AND operation IN ('chat', 'execute_tool', 'grade') "
    f"AND {BASE.format('trial')} IN (SELECT base FROM copied.trials)",
    "texts": "SELECT hash, text FROM texts WHERE hash IN "
    "(SELECT input_hash FROM copied.spans UNION ALL SELECT output_hash FROM copied.spans)",
    "kept": "SELECT DISTINCT run, working AS version FROM rounds WHERE list_contains($runs, run)",
}


@contextmanager
def conversations(
    directory: Path, runs: Sequence[str], splits: Sequence[Split] = ("train",)
) -> Generator[duckdb.DuckDBPyConnection]:
    """A copy of what models said in the trials of *runs* on *splits*, for the functions below.

    Raises:
        TracesBusy: the database was held by another process for too long.
    """
    with copied(directory, TABLES, {"runs": [*runs], "splits": [*splits]}) as connection:
        connection.execute(files("analysis.export").joinpath("training.sql").read_text(encoding="utf-8"))
        yield connection


def sft(connection: duckdb.DuckDBPyConnection, min_score: float = 1.0) -> Iterator[Example | LeftOut]:
    """Conversations of versions that were kept, in trials that scored at least *min_score*; each once.

    What is told more than once in the same words about the same task is the same.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE wanted AS SELECT id, CASE WHEN left_out IS NOT NULL THEN left_out "
        "WHEN NOT is_kept THEN 'of versions that were not kept' "
        f"WHEN score < $score THEN 'that scored below {min_score:g}' "
        "WHEN row_number() OVER (PARTITION BY is_kept, score >= $score, task, prompt, asked, answered "
        "ORDER BY run, seq) > 1 THEN 'with the same words as another' END AS left_out FROM conversations",
        {"score": min_score},
    )
    yield from reasons(connection)
    query = "SELECT told.* FROM told JOIN wanted ON wanted.id = told.id WHERE wanted.left_out IS NULL ORDER BY run, seq"
    for row, texts in with_texts(connection, rows(connection, query), hashes_of):
        said = conversation(row, texts)
        yield {"messages": [*said.prompt, *said.completion], **about(row)} if said else UNREADABLE


def rewards(connection: duckdb.DuckDBPyConnection) -> Iterator[Example | LeftOut]:
    """Every graded conversation, of all versions: the prompt, the completion, the score, and why it got that."""
    connection.execute("CREATE OR REPLACE TABLE wanted AS SELECT id, left_out FROM conversations")
    yield from reasons(connection)
    query = "SELECT * FROM told ORDER BY run, seq"
    for row, texts in with_texts(connection, rows(connection, query), hashes_of):
        said = conversation(row, texts)
        if said is None:
            yield UNREADABLE
            continue
        measured = {} if row["value"] is None else {"value": row["value"]}
        yield {
            "prompt": said.prompt,
            "completion": said.completion,
            "reward": row["score"],
            "reason": redacted(row["reason"] or ""),
            **measured,
            **about(row),
        }


def preferences(connection: duckdb.DuckDBPyConnection, min_gap: float = 0.5) -> Iterator[Example | LeftOut]:
    """Pairs of conversations about the same task in the same run, under the same conditions (the grader and the models
    as their providers report them), whose scores differ by at least *min_gap*.

    Within each task and prompt the best is paired with the worst, the second best with the second worst and so on; then
    what is left of the task, whatever its prompt: there ``same_prompt`` is false, and the prompt is that of the chosen
    one. No trial is in two pairs.
    """
    connection.execute("CREATE OR REPLACE TABLE pairs (chosen VARCHAR, rejected VARCHAR, same_prompt BOOLEAN)")
    for same_prompt, group in ((True, "run, task, conditions, prompt"), (False, "run, task, conditions")):
        connection.execute(
            "INSERT INTO pairs WITH ranked AS (SELECT id, score, asked, answered, row_number() OVER best AS best, "
            f"row_number() OVER worst AS worst, dense_rank() OVER (ORDER BY {group}) AS alike FROM conversations "
            "WHERE left_out IS NULL AND id NOT IN (SELECT chosen FROM pairs UNION ALL SELECT rejected FROM pairs) "
            f"WINDOW best AS (PARTITION BY {group} ORDER BY score DESC, seq), "
            f"worst AS (PARTITION BY {group} ORDER BY score, seq)) "
            "SELECT c.id, r.id, ? FROM ranked AS c JOIN ranked AS r ON r.alike = c.alike AND r.worst = c.best "
            "WHERE c.score - r.score >= ? AND (c.asked <> r.asked OR c.answered <> r.answered)",
            [same_prompt, min_gap],
        )
    connection.execute(
        "CREATE OR REPLACE TABLE wanted AS SELECT id, coalesce(left_out, CASE WHEN id NOT IN "
        "(SELECT chosen FROM pairs UNION ALL SELECT rejected FROM pairs) "
        f"THEN 'without another of the same task and grader that scored {min_gap:g} more or less' END) AS left_out "
        "FROM conversations"
    )
    yield from reasons(connection)
    query = (
        "SELECT c AS chosen, r AS rejected, same_prompt FROM pairs JOIN told AS c ON c.id = pairs.chosen "
        "JOIN told AS r ON r.id = pairs.rejected ORDER BY c.run, c.seq"
    )

    def both(row: Row) -> Iterator[str | None]:
        yield from hashes_of(row["chosen"])
        yield from hashes_of(row["rejected"])

    for row, texts in with_texts(connection, rows(connection, query), both):
        better, worse = conversation(row["chosen"], texts), conversation(row["rejected"], texts)
        if better is None or worse is None:
            yield LeftOut(UNREADABLE.because, 2)
        else:
            yield {
                "prompt": better.prompt,
                "chosen": better.completion,
                "rejected": worse.completion,
                "same_prompt": row["same_prompt"],
                **about(row["chosen"], "chosen_"),
                **{f"rejected_{name}": row["rejected"][column] for name, column in OWN.items()},
            }


def reasons(connection: duckdb.DuckDBPyConnection) -> Iterator[LeftOut]:
    query = "SELECT left_out, count(*) FROM wanted WHERE left_out IS NOT NULL GROUP BY ALL ORDER BY 2 DESC, 1"
    for because, trials in connection.execute(query).fetchall():
        yield LeftOut(because, trials)


# ── a line ─────────────────────────────────────────────────────────────────────────────────────────────────────────

UNREADABLE = LeftOut("whose model calls are no messages")
OWN: Mapping[str, str] = {"trial": "id", "version": "version", "score": "score", "model": "model"}
"""What each side of a pair has of its own, and the column it is in."""


def about(row: Row, side: str = "") -> Example:
    """Where an example comes from. ``scale``: the grader's digest: scores of another one are not comparable."""
    conditions: Sequence[str] = row["conditions"] or ()
    scale = next((c.removeprefix("grader=") for c in conditions if c.startswith("grader=")), "")
    return {
        "run": row["run"],
        "task": row["task"],
        "split": row["split"],
        "scale": scale,
        "conditions": conditions,
        **{f"{side}{name}": row[column] for name, column in OWN.items()},
    }


@dataclass(frozen=True)
class Conversation:
    prompt: list[Message]
    """As it was sent before anything was answered."""
    completion: list[Message]
    """All that followed; it ends with the last answer."""


def hashes_of(row: Row) -> Iterator[str | None]:
    yield from (row["prompt"], row["asked"], row["answered"])
    yield from (call["arguments"] for call in row["called"] or ())


def conversation(row: Row, texts: Mapping[str, str]) -> Conversation | None:
    """The conversation of one row of ``told``; ``None`` where its model was sent no messages.

    Where the prompt is no beginning of what was sent last (an older part was summarised, or each call asks something of
    its own), only the last answer counts, and all that it was sent is its prompt.
    """
    asked, first = sent(texts.get(row["asked"])), sent(texts.get(row["prompt"]))
    if asked is None:
        return None
    head = len(first) if first is not None and asked[: len(first)] == first else len(asked)
    calls = [
        {**call, "arguments": texts[call["arguments"]]} for call in row["called"] or () if call["arguments"] in texts
    ]
    return Conversation(asked[:head], [*asked[head:], answer(texts[row["answered"]], calls)])


def sent(text: str | None) -> list[Message] | None:
    """The messages in the input of a model call."""
    try:
        found: object = json.loads(text or "")
    except ValueError:
        return None
    if not isinstance(found, list) or not found:
        return None
    messages = cast("list[object]", found)
    return [wire(m) for m in messages] if all(is_message(m) for m in messages) else None  # type: ignore[arg-type]


def is_message(value: object) -> bool:
    return isinstance(value, dict) and {"role", "content"} <= set(cast("dict[str, object]", value))


def wire(message: Mapping[str, Any]) -> Message:
    """*message*, as a span keeps it, in the shape of OpenAI's API; what only its own provider reads is left out."""
    said: Message = {"role": message["role"], "content": redacted(str(message["content"]))}
    if message["role"] == "tool":
        said["tool_call_id"] = message.get("answers", "")
    if calls := message.get("calls"):
        said["tool_calls"] = [
            called(c["id"], c["name"], c.get("malformed") or json.dumps(c.get("arguments", {}), ensure_ascii=False))
            for c in calls
        ]
    return said


def called(id: str, name: str, arguments: str) -> Message:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": redacted(arguments)}}


def answer(text: str, calls: Sequence[Mapping[str, str]]) -> Message:
    """The last answer. A span keeps its text and a line for each of the *calls* that it ended with; these are taken
    apart again."""
    left = [*calls]
    made: list[Message] = []
    while left:
        before, _, last = text.rpartition("\n")
        call = next((c for c in left if f"{c['name']}({c['arguments']})" == last), None)
        if call is None:
            break
        left.remove(call)
        made.insert(0, called(call["id"], call["name"], call["arguments"]))
        text = before
    return {"role": "assistant", "content": redacted(text), **({"tool_calls": made} if made else {})}
