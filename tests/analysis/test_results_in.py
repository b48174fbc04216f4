"""autoresearch's ``results.tsv``, read in; and the memory that a night's ``results.tsv`` says its runs took."""

from hypothesis import given
from hypothesis import strategies as st

from analysis.export.results import memory
from analysis.results_in import notes_of, read_results
from harness.agent.memory import CAP, read_notes
from traces.records import Trial, now

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


def test_rows_are_read_with_or_without_a_header_and_what_is_none_is_named_by_its_line():
    begun = "a1\t0.99\t44.0\tkeep\tbaseline\r\n\r\nnonsense\n"
    text = f"{begun}b2\t0.0\t0.0\tCrash\tx\ty\nc3\tn/a\t0\tkeep\tz\nd4\t1.5\t?\tkeep"
    for whole, first in ((text, 1), (HEADER + text, 2)):
        rows, unreadable = read_results(whole)
        assert [row.commit for row in rows] == ["a1", "b2", "d4"]
        assert [row.value for row in rows] == [0.99, None, 1.5]
        assert [row.gigabytes for row in rows] == [44.0, None, None]
        assert rows[1].description == "x y"
        assert unreadable == [first + 2, first + 4]


def test_what_was_best_is_by_the_direction_and_never_a_crash():
    rows, _ = read_results("a\t1.0\t1\tkeep\tfirst\nb\t0.5\t1\tkeep\tsecond\nc\t0.0\t0\tcrash\tthird\n")
    assert "to 0.500000, the best, with: second" in notes_of(rows, "val_bpb", "lower").text
    assert "to 1.000000, the best, with: first" in notes_of(rows, "val_bpb", "higher").text
    assert "3 runs were made: 2 kept, 1 crashed" in notes_of(rows, "val_bpb", "lower").text


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(0, 9), st.text(max_size=500)), max_size=40))
def test_whatever_stands_there_the_notes_are_a_memory(found):
    text = "".join(f"{commit}\t{value}\t1.0\tkeep\t{description}\n" for commit, value, description in found)
    notes = notes_of(read_results(text)[0], "val_bpb", "lower")
    assert len(notes.text) <= CAP
    again = read_notes(notes.text)
    assert again.learned == notes.learned
    assert again.dropped == notes.dropped


def test_memory_is_that_of_the_gpu_and_else_that_of_the_process():
    def trial(version: str, output: str | None) -> Trial:
        return Trial(
            id=version, run="r", version=version, task="run", split="train", started=now(), seconds=1.0, output=output
        )

    line = '{"val_bpb": 1.0, "seconds": 3.1, "peak_memory_mb": 2048.0}'
    with_gpu = '{"val_bpb": 1.0, "peak_memory_mb": 9999.0, "peak_vram_mb": 1024.0}'
    found = memory([
        trial("cpu", f"log\n{line}"),
        trial("gpu", with_gpu),
        trial("printed", f"peak_vram_mb:     512.0\n{line}"),
        trial("none", "log"),
        trial("lost", None),
    ])  # fmt: skip
    assert found == {"cpu": 2.0, "gpu": 1.0, "printed": 0.5}
