"""Candidates: written past the working tree, the same for the same edits, and nothing else changes."""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.git import STORE, RunGit, run_git
from harness.versions import CANDIDATES, TIDY, InvalidEdit, Repo, Subject, applied
from tests.versions.conftest import FILES, SUBJECT, UserGit, write
from traces.records import Edit

BETTER = [Edit(path="prompts/solve.md", text="# system\nAnswer with one word, in lower case.\n")]


def store(root: Path) -> Path:
    """The repository that holds the candidates."""
    return root / ".git" / STORE


def are_whole(root: Path, user_git: UserGit) -> bool:
    """Is all there that candidates have and their bases do not?"""
    new = user_git(store(root), "rev-list", "--objects", "--glob=refs/candidates", "--not", "--glob=refs/bases")
    return len(new.splitlines()) > 3


def snapshot(root: Path, user_git: UserGit) -> tuple[object, ...]:
    """All that is the user's: files, index, branches, tags, configuration."""
    files = {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".git" not in p.parts}
    own = {name: (root / ".git" / name).read_bytes() for name in ("index", "HEAD", "config")}
    kept = user_git(root, "for-each-ref"), user_git(root, "count-objects", "-v")
    return files, own, *kept, user_git(root, "stash", "list")


def test_a_candidate_is_a_version_with_the_edits_and_the_user_notices_nothing(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    write(root / "src/app.py", "print(2)\n")
    user_git(root, "add", "src/app.py")
    write(root / "src/app.py", "print(3)\n")
    before = snapshot(root, user_git)

    edits = [*BETTER, Edit(path="skills/größe/SKILL.md", text=None), Edit(path="rubrics/neu »1«.toml", text="x = 1\n")]
    candidate = subject.candidate(subject.live(), edits)

    assert subject.text(candidate.id) == applied(FILES, edits)
    assert Repo(root, run).subject(SUBJECT).text(candidate.id) == applied(FILES, edits)
    assert user_git(store(root), "rev-parse", f"{candidate.commit}:{SUBJECT}").strip() == candidate.id
    assert user_git(store(root), "rev-parse", f"candidates/{candidate.id}").strip() == candidate.commit
    assert snapshot(root, user_git) == before


def test_its_commit_is_the_whole_repository_with_only_the_edits_changed(
    root: Path, subject: Subject, user_git: UserGit
):
    candidate = subject.candidate(subject.live(), BETTER)

    live = subject.live().commit
    changed = user_git(store(root), "-c", "core.quotePath=false", "diff", "--name-only", live, candidate.commit)
    assert changed.splitlines() == [f"{SUBJECT}/prompts/solve.md"]
    user_git(root, "fetch", "-q", ".git/ratchet", f"candidates/{candidate.id}")
    user_git(root, "worktree", "add", "-q", str(root.parent / "tried"), candidate.commit)
    assert (root.parent / "tried/src/app.py").exists()
    assert user_git(root, "fsck", "--strict") == ""


def test_the_same_edits_give_the_same_commit_again_also_after_it_was_deleted(root: Path, repo: Repo, run: RunGit):
    live = repo.subject(SUBJECT).live()
    first = repo.subject(SUBJECT).candidate(live, BETTER)
    again = repo.subject(SUBJECT).candidate(live, BETTER)
    shutil.rmtree(store(root))
    assert Repo(root, run).candidates() == []
    afresh = Repo(root, run).subject(SUBJECT).candidate(live, BETTER)

    assert first == again == afresh
    assert repo.candidates() == [first]


def test_a_version_that_is_reached_by_another_way_stays_the_candidate_that_it_was(subject: Subject):
    other = [Edit(path="prompts/plan.md", text="Plan well.\n")]
    live = subject.live()

    ab = subject.candidate(subject.candidate(live, BETTER), other)
    ba = subject.candidate(subject.candidate(live, other), BETTER)

    assert ab == ba


@pytest.mark.parametrize("edits", [[], [Edit(path="prompts/plan.md", text=FILES["prompts/plan.md"])]])
def test_edits_that_change_nothing_give_the_parent(repo: Repo, subject: Subject, edits: list[Edit]):
    live = subject.live()

    assert subject.candidate(live, edits) == live
    assert repo.candidates() == []


def test_an_invalid_edit_writes_nothing(repo: Repo, subject: Subject):
    with pytest.raises(InvalidEdit):
        subject.candidate(subject.live(), [*BETTER, Edit(path="../grader.py", text="cheat")])

    assert repo.candidates() == []


def test_files_keep_their_modes_and_new_ones_are_not_executable(root: Path, subject: Subject, user_git: UserGit):
    edits = [Edit(path="run me.sh", text="#!/bin/sh\nexit 1\n"), Edit(path="new.sh", text="#!/bin/sh\n")]
    candidate = subject.candidate(subject.live(), edits)

    listing = user_git(store(root), "ls-tree", candidate.id).splitlines()
    assert {line.split("\t")[1]: line[:6] for line in listing if "sh" in line} == {
        "run me.sh": "100755",
        "new.sh": "100644",
    }


def test_line_endings_and_filters_of_the_user_do_not_reach_a_version(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    user_git(root, "config", "core.autocrlf", "true")
    user_git(root, "config", "filter.shout.clean", "tr a-z A-Z")
    write(root / ".gitattributes", "*.loud filter=shout\n*.txt text eol=crlf\n")
    text = {
        "a.loud": "quiet\r\nlines\n",
        "b.txt": "one\r\ntwo\n",
        "c": "\r\n",
        "d": "no newline",
        "e": "\ufeff\0é\u2028",
    }

    candidate = subject.candidate(subject.live(), [Edit(path=path, text=t) for path, t in text.items()])

    assert Repo(root, run).subject(SUBJECT).text(candidate.id) == {**FILES, **text}


def test_an_id_can_be_asked_for_without_writing_anything(repo: Repo, subject: Subject):
    live = subject.live()
    id = subject.version_id(live.id, BETTER)

    assert repo.candidates() == []
    assert subject.candidate(live, BETTER).id == id
    with pytest.raises(InvalidEdit):
        subject.version_id(live.id, [Edit(path="none", text=None)])


def test_a_parent_whose_commit_is_gone_is_an_error_for_the_user(repo: Repo, subject: Subject):
    live = subject.live().model_copy(update={"commit": "1234" * 10})

    with pytest.raises(UserError, match=r"is not in .* any more"):
        subject.candidate(live, BETTER)


def test_threads_may_share_a_subject(root: Path, subject: Subject):
    live = subject.live()

    def attempt(n: int) -> tuple[str, str]:
        candidate = subject.candidate(live, [Edit(path="prompts/plan.md", text=f"Plan {n % 4}.\n")])
        return candidate.id, subject.text(candidate.id)["prompts/plan.md"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(attempt, range(24)))

    assert len({id for id, _ in found}) == 4
    assert [text for _, text in found] == [f"Plan {n % 4}.\n" for n in range(24)]
    assert list((root / ".git").glob("fast_import_crash*")) == []


def test_a_linked_checkout_sees_the_candidates_of_the_others(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    candidate = subject.candidate(subject.live(), BETTER)
    user_git(root, "worktree", "add", "-q", "-b", "side", str(root.parent / "linked"))

    linked = Repo.find(root.parent / "linked", run).subject(SUBJECT)

    assert linked.candidate(linked.live(), BETTER) == candidate


def test_two_subjects_with_the_same_files_each_keep_their_candidate(
    root: Path, repo: Repo, subject: Subject, twin: Subject, run: RunGit, user_git: UserGit
):
    first = subject.candidate(subject.live(), BETTER)
    second = twin.candidate(twin.live(), BETTER)

    assert first.id == second.id
    assert user_git(store(root), "rev-parse", f"candidates/{first.id}").strip() == first.commit
    for own, version in ((subject, first), (twin, second)):
        changed = user_git(
            store(root), "-c", "core.quotePath=false", "diff", "--name-only", own.live().commit, version.commit
        )
        assert changed.splitlines() == [f"{own.path}/prompts/solve.md"]
        afresh = Repo(root, run).subject(own.path)
        assert afresh.version(version.id) == afresh.version(version.id[:10]) == version
        assert afresh.candidate(afresh.live(), BETTER) == version
        assert afresh.text(version.id) == applied(FILES, BETTER)
        assert "+Answer with one word, in lower case." in afresh.diff(afresh.live().id, version.id)
    assert repo.candidates() == [first, second]


def test_the_second_of_two_subjects_builds_on_its_own_candidates(subject: Subject, twin: Subject):
    other = [Edit(path="prompts/plan.md", text="Plan well.\n")]
    subject.candidate(subject.candidate(subject.live(), BETTER), other)

    start = twin.live()
    version = twin.candidate(twin.version(twin.candidate(start, BETTER).id), other)

    assert twin.version(version.id) == version
    assert twin.text(version.id) == applied(applied(FILES, BETTER), other)


def test_a_candidate_from_before_its_directory_was_moved_is_made_again_where_that_is_now(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    before = subject.candidate(subject.live(), BETTER)
    user_git(root, "mv", SUBJECT, "moved")
    user_git(root, "commit", "-q", "-m", "Move")
    moved = Repo(root, run).subject("moved")

    after = moved.candidate(moved.live(), BETTER)

    assert after.id == before.id
    assert moved.version(after.id) == after


def test_subjects_with_the_same_files_may_make_the_same_candidates_at_once(root: Path, subject: Subject, twin: Subject):
    both = [(own, own.live()) for own in (subject, twin)]

    def attempt(n: int) -> bool:
        own, live = both[n % 2]
        candidate = own.candidate(live, [Edit(path="prompts/plan.md", text=f"Plan {n // 4}.\n")])
        return own.version(candidate.id) == candidate

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(attempt, range(24)))
    assert list((root / ".git").glob("fast_import_crash*")) == []


def test_a_repository_that_hashes_with_sha256_works_too(tmp_path: Path, run: RunGit, user_git: UserGit):
    user_git(tmp_path, "init", "-q", "--object-format=sha256")
    write(tmp_path / "harness/prompts/solve.md", "Solve.\n")
    user_git(tmp_path, "add", "-A")
    user_git(tmp_path, "commit", "-q", "-m", "Start")
    subject = Repo.find(tmp_path, run).subject("harness")

    candidate = subject.candidate(subject.live(), BETTER)

    assert len(candidate.id) == 64
    assert (
        subject.promote(candidate, experiment="x", replaces=subject.live().id, trailers={}).commit
        == user_git(tmp_path, "rev-parse", "HEAD").strip()
    )


NAMES = st.sampled_from(["a", "a.b", "a-b", "a0", "ä", "z z", "A", '"q"', "prompts"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join) | st.sampled_from(sorted(FILES))
EDITS = st.lists(st.builds(Edit, path=PATHS, text=st.none() | st.text(max_size=8)), max_size=4)


@settings(max_examples=25, deadline=None)
@given(sequence=st.lists(EDITS, max_size=5))
def test_after_any_sequence_of_edits_git_holds_what_a_dictionary_would(
    template: Path, environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, sequence: list[list[Edit]]
):
    root = tmp_path_factory.getbasetemp() / "any sequence"
    if not root.exists():
        shutil.copytree(template, root)
    repo = Repo(root, partial(run_git, environ=environ))
    subject = repo.subject(SUBJECT)
    version, model = subject.live(), dict(FILES)

    for edits in sequence:
        try:
            changed = applied(model, edits)
        except InvalidEdit:
            with pytest.raises(InvalidEdit):
                subject.candidate(version, edits)
            continue
        candidate = subject.candidate(version, edits)
        assert (candidate.id == version.id) == (changed == model)
        version, model = candidate, changed

    assert repo.subject(SUBJECT).text(version.id) == model  # a new one, which remembers nothing


# ── a repository of their own ──────────────────────────────────────────────────────────────────────────────────────


def test_a_person_can_look_at_a_candidate_and_bring_it_over(root: Path, subject: Subject, user_git: UserGit):
    candidate = subject.candidate(subject.live(), BETTER)

    assert "+Answer with one word, in lower case." in user_git(root, "--git-dir=.git/ratchet", "show", candidate.commit)
    user_git(root, "fetch", "-q", ".git/ratchet", f"candidates/{candidate.id}")
    user_git(root, "cherry-pick", "FETCH_HEAD")
    assert subject.live().id == candidate.id


def test_no_housekeeping_of_the_user_takes_anything_away_from_a_candidate(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    write(root / SUBJECT / "prompts/solve.md", str(BETTER[0].text))  # a person has tried the same by hand
    user_git(root, "add", "-A")
    user_git(root, "reset", "-q", "--hard")
    base = subject.live()
    candidate = subject.candidate(base, BETTER)
    user_git(root, "fetch", "-q", ".git/ratchet", f"candidates/{candidate.id}:refs/heads/looked-at")
    user_git(root, "gc", "-q")
    subject.candidate(base, an_edit_packed_after(subject))
    write(root / SUBJECT / "prompts/plan.md", "Plan anew.\n")
    user_git(root, "commit", "-q", "-a", "--amend", "-m", "Another beginning")
    user_git(root, "branch", "-q", "-D", "looked-at")
    user_git(root, "reflog", "expire", "--expire=now", "--all")
    (root / ".git" / "FETCH_HEAD").unlink()
    user_git(root, "gc", "-q", "--prune=now")

    afresh = Repo(root, run).subject(SUBJECT)
    assert afresh.text(candidate.id) == applied(FILES, BETTER)
    assert "+Answer with one word, in lower case." in afresh.diff(base.id, candidate.id)
    assert "-Plan anew." in afresh.diff(afresh.live().id, candidate.id)
    other = [Edit(path="new.md", text="New.\n")]
    assert afresh.text(afresh.candidate(candidate, other).id) == applied(applied(FILES, BETTER), other)
    assert are_whole(root, user_git)
    assert user_git(root, "cat-file", "--batch-check", "--batch-all-objects").count(candidate.commit) == 0


def test_in_a_clone_without_its_old_files_candidates_are_made_and_old_versions_are_read(
    root: Path, run: RunGit, user_git: UserGit
):
    write(root / SUBJECT / "prompts/plan.md", "Plan anew.\n")
    user_git(root, "commit", "-q", "-a", "-m", "Another plan")
    user_git(root, "config", "uploadpack.allowFilter", "true")
    user_git(root, "config", "uploadpack.allowAnySHA1InWant", "true")
    partial = root.parent / "partial"
    user_git(root, "clone", "-q", "--filter=blob:none", f"file://{root}", str(partial))
    subject = Repo(partial, run).subject(SUBJECT)

    candidate = subject.candidate(subject.live(), BETTER)

    before = subject.version("HEAD~1").id
    assert subject.text(before) == FILES
    assert "-Plan." in subject.diff(before, candidate.id)
    assert subject.text(candidate.id)["prompts/plan.md"] == "Plan anew.\n"


def test_a_store_that_was_half_made_when_its_maker_was_killed_is_completed(
    root: Path, subject: Subject, repo: Repo, user_git: UserGit
):
    store(root).mkdir()
    user_git(root, "init", "-q", "--bare", "--template=", str(store(root)))
    assert subject.text(subject.live().id) == FILES
    assert repo.candidates() == []

    candidate = subject.candidate(subject.live(), BETTER)

    assert repo.candidates() == [candidate]
    assert are_whole(root, user_git)


# ── many of them ───────────────────────────────────────────────────────────────────────────────────────────────


def an_edit_packed_after(subject: Subject) -> list[Edit]:
    """One after whose candidate what lies loose is packed."""
    live = subject.live().id
    edits = ([Edit(path="prompts/solve.md", text=f"Answer {n}.\n")] for n in range(10_000))
    return next(edit for edit in edits if subject.version_id(live, edit).startswith(TIDY))


def test_now_and_then_candidates_are_packed_and_none_is_lost(
    root: Path, repo: Repo, subject: Subject, run: RunGit, user_git: UserGit
):
    live = subject.live()
    refs = user_git(root, "for-each-ref", "refs/heads", "refs/tags")
    first = subject.candidate(live, BETTER)

    last = subject.candidate(live, an_edit_packed_after(subject))

    assert not [path for path in (store(root) / CANDIDATES).glob("*") if path.is_file()]
    assert {version.id for version in repo.candidates()} == {first.id, last.id}
    afresh = Repo(root, run).subject(SUBJECT)
    assert afresh.text(first.id) == applied(FILES, BETTER)
    assert afresh.candidate(live, BETTER) == afresh.version(first.id[:8]) == first
    assert user_git(root, "for-each-ref", "refs/heads", "refs/tags") == refs
    assert user_git(root, "status", "--porcelain") == ""
    assert user_git(root, "fsck", "--connectivity-only") == ""


def test_where_nothing_can_be_packed_the_candidate_is_made_all_the_same(
    root: Path, subject: Subject, user_git: UserGit
):
    subject.candidate(subject.live(), BETTER)
    (store(root) / "objects" / "maintenance.lock").touch()

    made = subject.candidate(subject.live(), an_edit_packed_after(subject))

    assert user_git(store(root), "rev-parse", f"{CANDIDATES}{made.id}").strip() == made.commit


def test_many_threads_that_pack_at_once_lose_nothing(root: Path, subject: Subject, run: RunGit, user_git: UserGit):
    live = subject.live()
    texts = (f"Answer {n}.\n" for n in range(10_000))
    wanted = [[Edit(path="prompts/solve.md", text=text)] for text in texts]
    packing = [edits for edits in wanted if subject.version_id(live.id, edits).startswith(TIDY)][:2]

    with ThreadPoolExecutor(4) as executor:
        made = list(executor.map(lambda edits: subject.candidate(live, edits), [*packing, *wanted[:4]]))

    afresh = Repo(root, run).subject(SUBJECT)
    assert [afresh.version(version.id) for version in made] == made
    assert user_git(root, "fsck", "--connectivity-only") == ""


def test_of_a_version_like_the_last_one_read_only_what_differs_is_read(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    made = subject.candidate(subject.live(), BETTER)
    asked: list[bytes] = []

    def counting(arguments: Sequence[str], stdin: bytes) -> CompletedProcess[bytes]:
        if "cat-file" in arguments and "--batch" in arguments:
            asked.append(stdin)
        return run(arguments, stdin)

    afresh = Repo(root, counting).subject(SUBJECT)

    assert afresh.text(subject.live().id) == FILES
    assert afresh.text(made.id) == applied(FILES, BETTER)
    assert [oids.count(b"\n") for oids in asked] == [len(FILES), 1]
