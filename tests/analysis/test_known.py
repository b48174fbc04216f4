from pathlib import Path

from analysis.known import found_before, memory_file, remembered, taught_by_hidden
from tests.traces.samples import EVERYTHING, FINDING, PROPOSAL, RUN
from traces.journal import Journal
from traces.places import spool
from traces.records import Finding, Task


def write(directory: Path, *findings: Finding) -> None:
    spool(directory).mkdir(parents=True, exist_ok=True)
    with Journal(spool(directory) / "night.jsonl") as journal:
        journal.append(RUN)
        for number, finding in enumerate(findings):
            journal.append(PROPOSAL.model_copy(update={"id": f"p{number}", "findings": (finding,)}))


def test_a_finding_comes_back_from_the_store_as_it_was_the_latest_of_each_id(tmp_path: Path):
    write(tmp_path, FINDING.model_copy(update={"id": "f2"}), FINDING.model_copy(update={"count": 1}), FINDING)

    found = {finding.id: finding for finding in found_before(RUN.experiment, tmp_path)}

    assert found == {"f1": FINDING, "f2": FINDING.model_copy(update={"id": "f2"})}


def test_another_experiment_s_findings_are_not_known_here(tmp_path: Path):
    write(tmp_path, FINDING)
    assert found_before("another", tmp_path) == []


def test_an_experiment_remembers_nothing_before_its_first_night(tmp_path: Path):
    assert found_before("example", tmp_path) == []
    assert remembered(tmp_path, "example") == ""
    memory_file(tmp_path, "example").parent.mkdir()
    memory_file(tmp_path, "example").write_text("## learned\n- be brief\n")
    assert "be brief" in remembered(tmp_path, "example")


def test_the_sample_has_every_field_of_a_finding():
    sample = next(record for record in EVERYTHING if isinstance(record, Finding))
    assert all(getattr(sample, name) not in (None, "", ()) for name in Finding.model_fields)


def test_what_a_run_learned_from_tasks_that_are_hidden_now_is_not_gone_on_with(tmp_path: Path):
    write(tmp_path, FINDING)
    with Journal(spool(tmp_path) / "night.jsonl") as journal:
        for split, id in (("train", "mouse"), ("validation", "goose")):
            journal.append(Task(id=id, input=id, split=split))

    assert taught_by_hidden(RUN.experiment, tmp_path, {"goose"}) == []
    assert taught_by_hidden(RUN.experiment, tmp_path, {"mouse", "goose"}) == [RUN.id]
    assert found_before(RUN.experiment, tmp_path, [RUN.id]) == []
