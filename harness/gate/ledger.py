"""The error budget of a validation split. It lives with the hidden tasks, not with a run, and survives kills."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness.experiment import tasks_digest
from harness.gate.lond import alpha_for
from traces.journal import Journal, read
from traces.places import spool
from traces.records import SplitResult, SplitTest, Task


class SplitLedger:
    """Which promotion tests were opened on a set of hidden tasks, and how they ended.

    A test that is opened is spent, also when the process dies before it ends. Opening the same certification again
    (a resumed run) finds it open and spends nothing more.
    """

    def __init__(self, directory: Path, hidden: Iterable[Task], alpha: float, horizon: int) -> None:
        self.split = tasks_digest(hidden)
        self.alpha = alpha
        self.horizon = horizon
        self._path = spool(directory) / f"split-{self.split}.jsonl"

    def open(self, certification: str) -> SplitTest | None:
        """What the test may spend; ``None`` when the budget of the split is spent."""
        with self._journal() as (journal, tests, results):
            for test in tests:
                if test.certification == certification:
                    return test
            number = len(tests) + 1
            if number > self.horizon:
                return None
            promotions = sum(result.verdict == "accept" for result in results)
            test = SplitTest(
                split=self.split,
                number=number,
                horizon=self.horizon,
                budget=self.alpha,
                alpha=alpha_for(self.alpha, self.horizon, number, promotions),
                certification=certification,
            )
            journal.append(test, durable=True)
            return test

    def close(self, certification: str, verdict: str) -> None:
        """Keep how it ended; once."""
        with self._journal() as (journal, _, results):
            if all(result.certification != certification for result in results):
                journal.append(
                    SplitResult(split=self.split, certification=certification, verdict=verdict), durable=True
                )

    def opened(self) -> int:
        """Tests spent so far."""
        return sum(isinstance(record, SplitTest) for record in self._records())

    def _records(self) -> Iterator[object]:
        if self._path.exists():
            for line in read(self._path):
                yield line.record()

    @contextmanager
    def _journal(self) -> Generator[tuple[Journal, list[SplitTest], list[SplitResult]]]:
        with closing(Journal(self._path)) as journal:
            records = list(self._records())
            tests = [r for r in records if isinstance(r, SplitTest)]
            results = [r for r in records if isinstance(r, SplitResult)]
            yield journal, tests, results
