"""Finding the repository and the subject, and reading versions."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.git import RunGit, run_git
from harness.versions import Repo, Subject
from tests.versions.conftest import FILES, SUBJECT, UserGit, write


def test_the_checkout_is_found_from_any_directory_inside_it(root: Path, run: RunGit):
    assert Repo.find(root / SUBJECT / "prompts", run).root == root


def test_no_repository_an_empty_one_and_no_git_each_say_what_to_type(tmp_path: Path, run: RunGit, user_git: UserGit):
    with pytest.raises(UserError, match=r"not in a git repository.*git init"):
        Repo.find(tmp_path, run)
    user_git(tmp_path, "init", "-q", "--template=")
    with pytest.raises(UserError, match=r"no commit yet.*git commit"):
        Repo.find(tmp_path, run)
    with pytest.raises(UserError, match=r"git was not found.*Install"):
        Repo.find(tmp_path, partial(run_git, environ={"PATH": str(tmp_path)}))


def test_other_trouble_with_the_repository_is_told_in_gits_words(root: Path, tmp_path: Path, run: RunGit):
    with pytest.raises(UserError, match="must be run in a work tree"):
        Repo.find(root / ".git", run)
    with pytest.raises(UserError, match="cannot change to"):
        Repo.find(tmp_path / "nowhere", run)


def test_a_repository_of_another_owner_is_told_in_gits_words(root: Path, environ: Mapping[str, str]):
    elsewhere = root / "bin"  # a git that believes so, by its own switch for tests
    write(elsewhere / "git", '#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 PATH="$REAL" exec git "$@"\n')
    (elsewhere / "git").chmod(0o755)

    with pytest.raises(UserError, match=r"safe.directory"):
        Repo.find(root, partial(run_git, environ={**environ, "PATH": str(elsewhere), "REAL": environ["PATH"]}))


def test_variables_that_a_git_hook_sets_are_not_followed(root: Path, tmp_path: Path, environ: Mapping[str, str]):
    hook = {
        "GIT_DIR": str(tmp_path / "x"),
        "GIT_INDEX_FILE": str(tmp_path / "i"),
        "GIT_WORK_TREE": "/",
        "GIT_PREFIX": "p",
    }
    repo = Repo.find(root, partial(run_git, environ={**environ, **hook, "GIT_OBJECT_DIRECTORY": str(tmp_path / "o")}))

    assert repo.subject(SUBJECT).live().id
    assert list(tmp_path.iterdir()) == [root]


def test_a_subject_may_be_given_with_slashes_at_its_end_or_by_its_absolute_path(root: Path, repo: Repo):
    assert repo.subject(f"./{SUBJECT}//").path == SUBJECT
    assert repo.subject(str(root / SUBJECT)).path == SUBJECT


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../elsewhere", "outside the repository"),
        ("/etc", "outside the repository"),
        ("experiments/../../x", "outside the repository"),
        (".", "whole repository"),
        ("", "whole repository"),
        ("experiments/none", "no directory.*relative to"),
        ("src/app.py", "not a plain directory"),
        ("link", "symbolic link"),
        ("link/harness", "symbolic link"),
        ("drafts", "no committed file.*git add"),
        ("src\\app", "backslash"),
        ("src\n", "control character"),
        ("src ", "space at an end"),
    ],
)
def test_a_subject_that_is_no_committed_directory_inside_is_refused(root: Path, repo: Repo, path: str, why: str):
    (root / "link").symlink_to("experiments/wörd tasks")
    write(root / "drafts" / "a.md", "a")

    with pytest.raises(UserError, match=why):
        repo.subject(path)


def test_the_live_version_is_the_committed_tree(root: Path, subject: Subject, user_git: UserGit):
    write(root / "README.md", "Edited elsewhere.\n")

    live = subject.live()

    assert live.id == user_git(root, "rev-parse", f"HEAD:{SUBJECT}").strip()
    assert live.commit == user_git(root, "rev-parse", "HEAD").strip()
    assert subject.text(live.id) == FILES


def test_edits_that_no_version_holds_are_refused_by_name(root: Path, subject: Subject, user_git: UserGit):
    write(root / SUBJECT / "prompts/solve.md", "Edited.\n")
    write(root / SUBJECT / "prompts/größe.md", "New.\n")
    write(root / SUBJECT / "prompts/plan.md", "Staged.\n")
    user_git(root, "add", f"{SUBJECT}/prompts/plan.md")
    write(root / SUBJECT / "scratch.cache", "Ignored.\n")

    with pytest.raises(UserError, match=r"git stash push") as refused:
        subject.live()

    assert all(name in str(refused.value) for name in ("prompts/solve.md", "prompts/größe.md", "prompts/plan.md"))
    assert "scratch.cache" not in str(refused.value)


def test_text_comes_from_git_and_not_from_the_working_tree(root: Path, subject: Subject):
    write(root / SUBJECT / "prompts/solve.md", "Edited.\n")

    assert subject.text(subject.version("live").id) == FILES


def test_a_caller_cannot_change_a_version_by_changing_its_text(subject: Subject):
    id = subject.live().id
    subject.text(id)["prompts/solve.md"] = "Edited.\n"

    assert subject.text(id) == FILES


def test_a_version_that_is_not_there_is_an_error_with_its_id(subject: Subject):
    with pytest.raises(UserError, match="version 1234123412"):
        subject.text("1234" * 10)


def test_a_file_that_is_not_utf8_text_is_named(root: Path, subject: Subject, user_git: UserGit):
    (root / SUBJECT / "logo.png").write_bytes(b"\x89PNG\xff")
    user_git(root, "add", "-A")
    user_git(root, "commit", "-q", "-m", "Logo")

    with pytest.raises(UserError, match=r"logo.png is not UTF-8 text"):
        subject.text(subject.live().id)


def test_a_symbolic_link_inside_the_subject_is_named(root: Path, subject: Subject, user_git: UserGit):
    (root / SUBJECT / "shared").symlink_to("/etc")
    user_git(root, "add", "-A")
    user_git(root, "commit", "-q", "-m", "Link")

    with pytest.raises(UserError, match="harness/shared is a symbolic link"):
        subject.text(subject.live().id)


def test_a_branch_without_the_subject_has_no_live_version(root: Path, subject: Subject, user_git: UserGit):
    user_git(root, "rm", "-r", "-q", SUBJECT)
    user_git(root, "commit", "-q", "-m", "Remove")

    with pytest.raises(UserError, match="HEAD has no directory"):
        subject.live()
