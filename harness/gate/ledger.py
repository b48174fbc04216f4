"""The error budget of a validation split. It lives with the hidden tasks, not with a run, and survives kills."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.experiment import Experiment, digest
from harness.gate.lond import alpha_for
from traces.errors import JournalLocked
from traces.journal import Journal, read
from traces.places import spool
from traces.records import SplitResult, SplitTest, Task

PATIENCE = 10.0
"""Seconds to wait for another night that opens or closes a test at the same moment."""


class SplitLedger:
    """Which promotion tests were opened on a set of hidden tasks, and how they ended.

    A test that is opened is spent, also when the process dies before it ends. Opening the same certification again
    (a resumed run) finds it open and spends nothing more. A split counts as the same as long as at least half of its
    tasks (input and targets) were in the tests before: renaming, retagging or adding a few buys no new budget.
    """

    @classmethod
    def of(cls, directory: Path, experiment: Experiment) -> "SplitLedger | None":
        """That of the experiment's validation split; ``None`` without hidden tasks, where there is nothing to spend."""
        hidden, gate = experiment.split("validation"), experiment.gate
        return cls(directory, hidden, gate.alpha, gate.horizon) if hidden else None

    def __init__(self, directory: Path, hidden: Iterable[Task], alpha: float, horizon: int) -> None:
        self.hidden = tuple(sorted(digest([task.input, task.targets]) for task in hidden))
        self.split = digest(self.hidden)
        self.alpha = alpha
        self.horizon = horizon
        self._path = spool(directory) / "splits.jsonl"

    def open(self, certification: str) -> SplitTest | None:
        """What the test may spend; ``None`` when the budget of the split is spent.

        Raises:
            UserError: the split's budget was declared otherwise.
        """
        with self._journal() as journal:
            tests = self.tests()
            for test in tests:
                if test.certification == certification:
                    return test
            alpha = self._alpha_after(tests)
            if alpha is None:
                return None
            test = SplitTest(
                split=self.split,
                hidden=self.hidden,
                number=len(tests) + 1,
                horizon=self.horizon,
                budget=self.alpha,
                alpha=alpha,
                certification=certification,
            )
            journal.append(test, durable=True)
            return test

    def next_alpha(self) -> float | None:
        """What the next test may spend; ``None`` when the budget of the split is spent. It opens none.

        Raises:
            UserError: the split's budget was declared otherwise.
        """
        return self._alpha_after(self.tests())

    def close(self, certification: str, verdict: str) -> None:
        """Keep how it ended; once."""
        with self._journal() as journal:
            if all(not isinstance(r, SplitResult) or r.certification != certification for r in self._records()):
                journal.append(
                    SplitResult(split=self.split, certification=certification, verdict=verdict), durable=True
                )

    def tests(self) -> list[SplitTest]:
        """The tests that were spent on this split so far."""
        mine = set(self.hidden)
        tests = (record for record in self._records() if isinstance(record, SplitTest))
        return [test for test in tests if 2 * len(mine.intersection(test.hidden)) >= len(mine)]

    def _alpha_after(self, tests: Sequence[SplitTest]) -> float | None:
        declared = tests[0] if tests else None
        if declared is not None and (declared.budget, declared.horizon) != (self.alpha, self.horizon):
            raise UserError(
                f"the gate declares alpha={self.alpha:g} over {self.horizon} promotion tests, and this validation "
                f"split was begun with alpha={declared.budget:g} over {declared.horizon}. A budget that can be "
                "edited bounds nothing: put the old values back, or make a validation split of new tasks"
            )
        if len(tests) >= self.horizon:
            return None
        certifications = {test.certification for test in tests}
        results = [r for r in self._records() if isinstance(r, SplitResult) and r.certification in certifications]
        promotions = sum(r.verdict == "accept" for r in results)
        return alpha_for(self.alpha, self.horizon, len(tests) + 1, promotions)

    def _records(self) -> Iterator[object]:
        if self._path.exists():
            for line in read(self._path):
                yield line.record()

    @contextmanager
    def _journal(self) -> Generator[Journal]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                journal = Journal(self._path)
                break
            except JournalLocked:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        with closing(journal):
            yield journal
