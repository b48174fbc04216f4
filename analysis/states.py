"""What became of each finding over all runs of an experiment, asked of the traces."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import traces


@dataclass(frozen=True)
class FindingState:
    """A finding, and how it stands with it. The view ``finding_states`` says what the words mean exactly."""

    id: str
    title: str
    state: Literal["open", "answered", "back", "refuted", "gone"]
    """``answered``: a kept change answers it, and in versions with that change it is gone or at under half its share
    since. ``back``: it was, and is not any more. ``refuted``: two changes or more that answer it were measured and none
    was kept, so what they took for its cause is not borne out. ``gone``: it went without an answer. Shares are of
    samples: one that lies about half may change from one mining to the next."""
    count: int
    """Failed trials that show it in the latest mining."""
    share: float
    """The same over all trials looked at, between 0 and 1."""
    first_seen: datetime
    last_seen: datetime
    versions: tuple[str, ...]
    """That show it."""
    answered_by: str | None
    """The run that kept the latest change which answers it and was not taken out again."""
    answered_round: int | None
    """And the round of it."""
    tries: int
    """Changes that answer it and were compared to the end, kept or not."""
    answer_is_live: bool | None = None
    """Does the version that was mined last have that change? ``False``: it was kept in another run, from whose version
    the last one did not go on, since nobody promoted it or it was rolled back; then it answers nothing here.
    ``None``: nothing answers it."""


def states(experiment: str, directory: Path | None = None) -> list[FindingState]:
    """The findings of *experiment*, those that need something first: open, back, refuted; then by share."""
    rows = traces.sql(
        "select id, title, state, count, share, first_seen, last_seen, versions, answered_by, answered_round, tries, "
        "answer_is_live from finding_states where experiment = ? "
        "order by list_position(['open', 'back', 'refuted'], state) nulls last, share desc, last_seen desc, id",
        (experiment,),
        directory=directory,
    )
    return [state_of(cast(dict[str, Any], row)) for row in rows.astype(object).to_dict("records")]


def state_of(row: dict[str, Any]) -> FindingState:
    missing = row["answered_by"] is None or row["answered_by"] != row["answered_by"]  # pandas says NaN
    return FindingState(
        id=row["id"],
        title=row["title"],
        state=row["state"],
        count=int(row["count"]),
        share=float(row["share"]),
        first_seen=row["first_seen"].to_pydatetime().replace(tzinfo=UTC),
        last_seen=row["last_seen"].to_pydatetime().replace(tzinfo=UTC),
        versions=tuple(row["versions"]),
        answered_by=None if missing else row["answered_by"],
        answered_round=None if missing else int(row["answered_round"]),
        tries=int(row["tries"]),
        answer_is_live=None if missing else bool(row["answer_is_live"]),
    )
