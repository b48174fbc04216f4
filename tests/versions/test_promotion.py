"""Promotion and roll back: one commit, one tag, only the subject, and nothing of the user's is lost."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from harness.errors import UserError
from harness.git import STORE, Git, RunGit, run_git
from harness.versions import Repo, Subject
from tests.versions.conftest import FILES, SUBJECT, UserGit, write
from traces.records import Edit, Promotion, Version

EDITS = [
    Edit(path="prompts/solve.md", text="Solve better.\n"),
    Edit(path="prompts/plan.md", text=None),
    Edit(path="rubrics/größe/a.toml", text="x = 1\n"),
]
BETTER = {path: text for path, text in FILES.items() if path != "prompts/plan.md"} | {
    edit.path: edit.text for edit in EDITS if edit.text is not None
}


def better(subject: Subject) -> Version:
    return subject.candidate(subject.live(), EDITS)


def promote(subject: Subject, version: Version | None = None, branch: str | None = None, **trailers: str) -> Promotion:
    live = subject.version("live").id
    version = version or better(subject)
    return subject.promote(version, experiment="words", replaces=live, trailers=trailers, branch=branch)


def one_more(subject: Subject, text: str) -> Promotion:
    return promote(subject, subject.candidate(subject.live(), [Edit(path="prompts/solve.md", text=text)]))


def on_disk(root: Path) -> dict[str, str]:
    subject = root / SUBJECT
    return {str(p.relative_to(subject)): p.read_bytes().decode() for p in subject.rglob("*") if p.is_file()}


def test_a_promotion_is_one_commit_of_the_subject_alone_with_trailers_and_tags(
    root: Path, subject: Subject, user_git: UserGit
):
    start, version = subject.live(), better(subject)

    done = promote(subject, version, Run="r1", Candidate=version.id, Findings="f1 f2\nGain: 1", Gain="+0.30")

    assert done == Promotion(
        id="ratchet/words/v1",
        experiment="words",
        kind="promote",
        number=1,
        version=version.id,
        replaces=start.id,
        commit=done.commit,
        branch="main",
    )
    assert user_git(root, "rev-list", f"{start.commit}..main").split() == [done.commit]
    assert user_git(root, "diff", "--name-only", start.commit, "main", "--", ".", f":!{SUBJECT}") == ""
    assert user_git(root, "log", "-1", "--format=%an <%ae>%n%s%n%(trailers:only)").strip() == "\n".join(
        [
            "Ratchet <ratchet@localhost>",
            "Promote words v1",
            "Experiment: words",
            f"Subject: {SUBJECT}",
            "Version: v1",
            "Replaces: v0",
            "Run: r1",
            f"Candidate: {version.id}",
            "Findings: f1 f2 Gain: 1",
            "Gain: +0.30",
        ]
    )
    assert user_git(root, "rev-parse", "ratchet/words/v0", "ratchet/words/v1").split() == [start.commit, done.commit]
    assert user_git(root, "for-each-ref", "refs/worktree") == ""
    assert user_git(root, "status", "--porcelain") == ""
    assert on_disk(root) == BETTER
    assert subject.live() == Version(id=version.id, commit=done.commit)
    shutil.rmtree(root / ".git" / STORE)
    assert user_git(root, "fsck", "--strict") == ""
    assert subject.text(version.id) == BETTER


def test_what_the_user_has_staged_and_edited_elsewhere_stays_as_it_is(root: Path, subject: Subject, user_git: UserGit):
    write(root / "src/app.py", "print('staged')\n")
    write(root / "src/new.py", "staged\n")
    user_git(root, "add", "-A")
    user_git(root, "rm", "-q", "--cached", "README.md")
    write(root / "src/app.py", "print('edited')\n")
    write(root / "untracked.txt", "mine\n")
    before = user_git(root, "status", "--porcelain"), user_git(root, "diff"), user_git(root, "diff", "--cached")

    promote(subject)

    assert (
        user_git(root, "status", "--porcelain"),
        user_git(root, "diff"),
        user_git(root, "diff", "--cached"),
    ) == before
    assert on_disk(root) == BETTER


def test_files_that_were_only_touched_are_no_edits(root: Path, subject: Subject):
    version = better(subject)
    for path in (root / SUBJECT).rglob("*.md"):
        path.touch()

    promote(subject, version)

    assert on_disk(root) == BETTER


def test_no_hook_runs_nothing_is_signed_and_variables_of_a_hook_are_not_followed(
    root: Path, user_git: UserGit, environ: Mapping[str, str]
):
    names = ["pre-commit", "commit-msg", "post-commit", "post-checkout", "post-index-change", "reference-transaction"]
    for name in names:
        write(root / ".git/hooks" / name, "#!/bin/sh\ntouch hook-ran\nexit 1\n")
        (root / ".git/hooks" / name).chmod(0o755)
    for key, value in {"commit.gpgSign": "true", "tag.gpgSign": "true", "gpg.program": "/nonexistent"}.items():
        user_git(root, "config", key, value)
    user_git(root, "config", "log.showSignature", "true")
    user_git(root, "config", "i18n.commitEncoding", "ISO-8859-1")
    set_by_a_hook = {"GIT_DIR": "/nonexistent", "GIT_INDEX_FILE": "/nonexistent/index", "GIT_AUTHOR_DATE": "rubbish"}
    subject = Repo(root, partial(run_git, environ={**environ, **set_by_a_hook})).subject(SUBJECT)

    promote(subject, Findings="größer")
    subject.rollback("words")

    assert not list(root.rglob("hook-ran"))
    assert subject.history("words")[1].trailers["Findings"] == "größer"


def test_each_change_of_the_live_version_takes_the_next_number(subject: Subject):
    first = one_more(subject, "1")
    second = one_more(subject, "2")
    back = subject.rollback("words")

    assert [(p.number, p.kind) for p in (first, second, back)] == [(1, "promote"), (2, "promote"), (3, "rollback")]
    assert (back.version, back.replaces) == (first.version, second.version)


def test_rolling_back_goes_one_version_further_each_time_until_there_is_none(root: Path, subject: Subject):
    start = subject.live().id
    one_more(subject, "1")
    one_more(subject, "2")

    subject.rollback("words")
    assert subject.rollback("words").version == start
    assert on_disk(root) == FILES
    with pytest.raises(UserError, match=r"does not have a version before the live one.*v0, v1, v2, v3, v4"):
        subject.rollback("words")


def test_a_roll_back_can_be_rolled_back_by_its_number(root: Path, subject: Subject):
    promote(subject)
    subject.rollback("words")

    done = subject.rollback("words", to=1)

    assert on_disk(root) == BETTER
    assert done.number == 3
    with pytest.raises(UserError, match=r"does not have a version v9.*v0, v1, v2, v3"):
        subject.rollback("words", to=9)
    with pytest.raises(UserError, match=r"does not have.*none"):
        subject.rollback("another")


def test_asking_for_the_same_number_twice_makes_one_commit(subject: Subject):
    promote(subject)

    assert subject.rollback("words", to=0) == subject.rollback("words", to=0)
    one_more(subject, "1")
    with pytest.raises(UserError, match="already live"):
        subject.rollback("words", to=3)


def test_a_version_edited_by_hand_gets_a_number_when_it_is_replaced(root: Path, subject: Subject, user_git: UserGit):
    promote(subject)
    write(root / SUBJECT / "prompts/solve.md", "By hand.\n")
    user_git(root, "commit", "-q", "-a", "-m", "Edit by hand")
    by_hand = subject.live()

    one_more(subject, "From the edit.\n")

    assert [(p.number, p.kind) for p in subject.history("words")] == [
        (0, "found"),
        (1, "promote"),
        (2, "found"),
        (3, "promote"),
    ]
    assert subject.rollback("words").version == by_hand.id == subject.version("ratchet/words/v2").id


def test_history_is_read_from_git_alone_with_dates_and_trailers(root: Path, subject: Subject, user_git: UserGit):
    start = subject.live()
    done = promote(subject, Gain="+0.3")
    user_git(root, "tag", "ratchet/words/vague")
    user_git(root, "commit", "-q", "--allow-empty", "-m", "Later")

    found = subject.history("words")

    assert [(p.number, p.version) for p in found] == [(0, start), (1, Version(id=done.version, commit=done.commit))]
    assert found[1].trailers["Gain"] == "+0.3"
    assert found[1].when >= found[0].when
    assert subject.history("another") == []


def test_promoting_the_same_twice_makes_one_commit(root: Path, subject: Subject, user_git: UserGit):
    live, version = subject.live(), better(subject)
    once = subject.promote(version, experiment="words", replaces=live.id, trailers={})
    user_git(root, "commit", "-q", "--allow-empty", "-m", "Something else")

    assert subject.promote(version, experiment="words", replaces=live.id, trailers={}) == once
    assert user_git(root, "rev-list", "--count", "HEAD").strip() == "3"
    with pytest.raises(UserError, match="already live"):
        subject.promote(version, experiment="another", replaces=live.id, trailers={})


def test_a_promotion_goes_to_another_branch_without_touching_the_checkout(
    root: Path, subject: Subject, user_git: UserGit
):
    start = subject.live()
    write(root / SUBJECT / "prompts/plan.md", "An edit in progress.\n")
    before = on_disk(root)

    done = promote(subject, subject.candidate(start, EDITS), branch="better/words")

    assert done.branch == "better/words"
    assert user_git(root, "rev-parse", "better/words", "better/words^", "HEAD").split() == [
        done.commit,
        start.commit,
        start.commit,
    ]
    assert on_disk(root) == before
    assert user_git(root, "diff", "--cached") == ""
    assert subject.rollback("words", branch="better/words").replaces == done.version


def test_with_a_detached_head_a_branch_must_be_named(root: Path, subject: Subject, user_git: UserGit):
    user_git(root, "switch", "-q", "--detach")

    with pytest.raises(UserError, match=r"HEAD is detached.*--branch"):
        promote(subject)
    assert promote(subject, branch="main").branch == "main"
    assert on_disk(root) == FILES


@pytest.mark.parametrize("branch", ["a..b", "-x", "@{-1}", "a b", "HEAD"])
def test_a_branch_must_have_a_name_that_git_takes(subject: Subject, branch: str):
    with pytest.raises(UserError, match="cannot be the name of a branch"):
        promote(subject, branch=branch)


def test_a_branch_that_another_checkout_has_open_is_refused(
    root: Path, subject: Subject, run: RunGit, user_git: UserGit
):
    linked = root.parent / "linked"
    user_git(root, "worktree", "add", "-q", "-b", "side", str(linked))

    with pytest.raises(UserError, match=r"'side' is checked out at .*linked"):
        promote(subject, branch="side")
    done = promote(Repo.find(linked, run).subject(SUBJECT))
    assert (done.branch, on_disk(linked), on_disk(root)) == ("side", BETTER, FILES)
    assert user_git(linked, "status", "--porcelain") == user_git(root, "status", "--porcelain") == ""


def test_an_edited_subject_is_not_promoted_over(root: Path, subject: Subject, user_git: UserGit):
    version = better(subject)
    write(root / SUBJECT / "notes.md", "mine\n")
    refs = user_git(root, "for-each-ref")

    with pytest.raises(UserError, match=r"notes.md.*stash"):
        promote(subject, version)
    assert user_git(root, "for-each-ref") == refs


@pytest.mark.parametrize(
    ("mine", "added"),
    [
        ("x.cache", "x.cache"),
        ("x.cache", "x.cache/y.md"),
        ("x/y.cache", "x"),
        ("prompts/plan.md.cache", "prompts/plan.md.cache"),
    ],
)
def test_an_ignored_file_in_the_way_is_never_overwritten(
    root: Path, subject: Subject, user_git: UserGit, mine: str, added: str
):
    version = subject.candidate(subject.live(), [Edit(path=added, text="theirs\n")])
    write(root / SUBJECT / mine, "mine\n")
    refs = user_git(root, "for-each-ref")

    with pytest.raises(UserError, match=r"would be lost: .*cache"):
        promote(subject, version)
    assert (root / SUBJECT / mine).read_text() == "mine\n"
    assert user_git(root, "for-each-ref") == refs


def test_an_edit_that_git_was_told_to_overlook_is_not_lost(root: Path, subject: Subject, user_git: UserGit):
    version = better(subject)
    user_git(root, "update-index", "--assume-unchanged", f"{SUBJECT}/prompts/solve.md")
    write(root / SUBJECT / "prompts/solve.md", "mine\n")
    refs = user_git(root, "for-each-ref")

    with pytest.raises(UserError, match=r"without losing edits.*solve.md"):
        promote(subject, version)
    assert on_disk(root)["prompts/solve.md"] == "mine\n"
    assert user_git(root, "for-each-ref") == refs


def test_a_subject_that_changed_since_the_test_is_not_promoted_over(root: Path, subject: Subject, user_git: UserGit):
    live, version = subject.live(), better(subject)
    write(root / SUBJECT / "prompts/solve.md", "By hand.\n")
    user_git(root, "commit", "-q", "-a", "-m", "Edit by hand")

    with pytest.raises(UserError) as refused:
        subject.promote(version, experiment="words", replaces=live.id, trailers={})

    assert all(v.id[:12] in str(refused.value) for v in (live, version, subject.live()))


def test_in_the_middle_of_a_merge_nothing_is_promoted(root: Path, subject: Subject, user_git: UserGit):
    version = better(subject)
    user_git(root, "switch", "-q", "-c", "side")
    user_git(root, "commit", "-q", "--allow-empty", "-m", "Side")
    user_git(root, "switch", "-q", "main")
    user_git(root, "merge", "-q", "--no-ff", "--no-commit", "side")

    with pytest.raises(UserError, match=r"a merge is under way.*git merge --abort"):
        promote(subject, version)
    assert promote(subject, version, branch="elsewhere").number == 1


def test_in_the_middle_of_a_rebase_that_is_what_is_said(root: Path, subject: Subject, user_git: UserGit):
    user_git(root, "commit", "-q", "--allow-empty", "-m", "Another")
    version = better(subject)
    user_git(root, "-c", "sequence.editor=sed -i s/pick/edit/", "rebase", "-q", "-i", "HEAD~1")

    with pytest.raises(UserError, match=r"a rebase is under way.*git rebase --continue"):
        promote(subject, version)


def test_a_version_of_another_directory_is_refused(root: Path, repo: Repo, subject: Subject):
    other = repo.subject("src")

    with pytest.raises(UserError, match="is not a version of"):
        promote(subject, other.candidate(other.live(), [Edit(path="app.py", text="print(4)\n")]))


def test_an_experiment_must_have_a_name_that_git_takes(root: Path, subject: Subject, user_git: UserGit):
    with pytest.raises(UserError, match="cannot name its versions"):
        subject.promote(better(subject), experiment="my words", replaces=subject.live().id, trailers={})
    assert user_git(root, "for-each-ref", "refs/worktree", "refs/tags") == ""


def test_a_repository_with_a_submodule_elsewhere_is_fine(
    root: Path, subject: Subject, template: Path, user_git: UserGit
):
    user_git(root, "submodule", "--quiet", "add", str(template), "vendor/other")
    user_git(root, "config", "submodule.recurse", "true")
    user_git(root, "commit", "-q", "-m", "Add a submodule")
    write(root / "vendor/other/README.md", "Edited inside the submodule.\n")

    promote(subject)

    assert on_disk(root) == BETTER
    assert (root / "vendor/other/README.md").read_text() == "Edited inside the submodule.\n"


def test_the_lock_of_another_git_program_is_waited_for(root: Path, subject: Subject):
    version = better(subject)
    lock = root / ".git/index.lock"
    lock.touch()
    release = threading.Timer(0.2, lock.unlink)
    release.start()

    promote(subject, version)

    release.join()
    assert on_disk(root) == BETTER


def test_a_lock_that_stays_is_told_in_gits_words_and_the_same_command_finishes_later(root: Path, subject: Subject):
    live, version = subject.live(), better(subject)
    (root / ".git/index.lock").touch()

    with pytest.raises(UserError, match=r"index\.lock"):
        subject.promote(version, experiment="words", replaces=live.id, trailers={})
    (root / ".git/index.lock").unlink()

    assert subject.promote(version, experiment="words", replaces=live.id, trailers={}).number == 1
    assert on_disk(root) == BETTER


def test_two_promotions_at_once_make_one_commit(root: Path, run: RunGit, user_git: UserGit):
    subject = Repo(root, run).subject(SUBJECT)
    live, version = subject.live(), better(subject)
    done: list[Promotion] = []

    def attempt() -> None:
        again = Repo(root, run).subject(SUBJECT)
        done.append(again.promote(version, experiment="words", replaces=live.id, trailers={}))

    threads = [threading.Thread(target=attempt) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(done) == 3
    assert len({promotion.commit for promotion in done}) == 1
    assert user_git(root, "rev-list", "--count", "HEAD").strip() == "2"


def test_versions_go_by_name_tag_branch_and_the_beginning_of_an_id(root: Path, subject: Subject, user_git: UserGit):
    start, version = subject.live(), better(subject)
    done = promote(subject, version)
    other = subject.candidate(subject.live(), [Edit(path="prompts/solve.md", text="Other.\n")])

    assert subject.version("live").id == subject.version("main").id == version.id
    assert subject.version("ratchet/words/v0") == subject.version(start.id[:9]) == start
    assert subject.version("ratchet/words/v1") == Version(id=version.id, commit=done.commit)
    assert subject.version(other.id[:9].upper()) == subject.version(other.id) == other
    for name in ("nothing", "0000", "", "-x", "a\nb", "ratchet/words/v7", f"{start.id}f"):
        with pytest.raises(UserError, match="no version of"):
            subject.version(name)


def test_the_beginning_of_several_ids_names_them_all(subject: Subject):
    live = subject.live()
    start, texts = two_with_one_beginning(subject, live.id)
    pair = [subject.candidate(live, [Edit(path="prompts/solve.md", text=text)]).id for text in texts]

    with pytest.raises(UserError, match="several versions") as refused:
        subject.version(start)
    assert all(found in str(refused.value) for found in pair)


def two_with_one_beginning(subject: Subject, live: str) -> tuple[str, tuple[str, str]]:
    """The first four characters of two ids, and the texts that make them; there are only 65,536 beginnings."""
    seen: dict[str, str] = {}
    for n in range(70_000):
        start = subject.version_id(live, [Edit(path="prompts/solve.md", text=str(n))])[:4]
        if start in seen:
            return start, (seen[start], str(n))
        seen[start] = str(n)
    raise AssertionError("more beginnings than there are")


def test_a_difference_is_for_people_whatever_they_configured(root: Path, subject: Subject, user_git: UserGit):
    for key, value in {"diff.noprefix": "true", "color.ui": "always", "diff.external": "/nonexistent"}.items():
        user_git(root, "config", key, value)
    write(root / ".gitattributes", "* binary\n")
    live = subject.version("live")
    found = subject.diff(live.id, subject.candidate(live, EDITS).id)

    assert "--- a/prompts/solve.md\n+++ b/prompts/solve.md\n" in found
    assert "\n-Answer with one word.\n+Solve better.\n" in found
    assert "+++ b/rubrics/größe/a.toml" in found
    assert subject.diff(live.id, live.id) == ""


class Killed(BaseException):
    """Stands for kill -9."""


class CutOff:
    """Runs so many commands and then dies; remembers what it ran."""

    def __init__(self, run: RunGit, commands: int) -> None:
        self._run, self._left = run, commands
        self.ran: list[Sequence[str]] = []

    def __call__(self, arguments: Sequence[str], stdin: bytes) -> CompletedProcess[bytes]:
        if len(self.ran) == self._left:
            raise Killed
        self.ran.append(arguments)
        return self._run(arguments, stdin)


def cuts(ran: Sequence[Sequence[str]]) -> list[int]:
    """How many commands to let run: one number for each state of the disk, since what only reads changes nothing."""
    writing = {"fast-import", "update-ref", "update-index", "read-tree"}
    return [0, *(n for n, arguments in enumerate(ran, start=1) if writing.intersection(arguments))]


def state(root: Path, user_git: UserGit) -> tuple[object, ...]:
    """All that a promotion may change, except for dates."""
    names = user_git(root, "for-each-ref", "--format=%(refname) %(tree) %(subject)")
    log = user_git(root, "log", "--format=%T %s %(trailers:only)")
    return names, log, user_git(root, "status", "--porcelain"), on_disk(root)


@pytest.mark.parametrize("branch", [None, "side"])
@pytest.mark.parametrize("what", ["promote", "rollback"])
def test_cut_off_after_any_command_the_same_call_completes_it(
    root: Path, run: RunGit, user_git: UserGit, what: str, branch: str | None
):
    write(root / "src/app.py", "print('staged')\n")
    user_git(root, "add", "-A")
    write(root / "src/app.py", "print('edited')\n")
    subject = Repo(root, run).subject(SUBJECT)
    live, version = subject.live(), better(subject)
    if what == "rollback":
        subject.promote(version, experiment="words", replaces=live.id, trailers={}, branch=branch)

    def change(at: Path, with_: RunGit) -> Promotion:
        there = Subject(Git(at, with_), SUBJECT)
        if what == "rollback":
            return there.rollback("words", branch=branch)
        return there.promote(version, experiment="words", replaces=live.id, trailers={"Run": "r1"}, branch=branch)

    uncut = CutOff(run, 1000)
    whole = shutil.copytree(root, root.parent / "whole", symlinks=True)
    expected, after = change(whole, uncut), state(whole, user_git)

    assert "update-ref" in uncut.ran[-1]  # so no cut falls between the end and the answer
    for commands in cuts(uncut.ran)[:-1]:
        at = shutil.copytree(root, root.parent / f"cut {commands}", symlinks=True)
        with pytest.raises(Killed):
            change(at, CutOff(run, commands))

        done = change(at, run)

        assert done.model_copy(update={"commit": ""}) == expected.model_copy(update={"commit": ""})
        assert state(at, user_git) == after


class DieAfterTheBranchMoved:
    def __init__(self, run: RunGit) -> None:
        self._run = run
        self._moved = False

    def __call__(self, arguments: Sequence[str], stdin: bytes) -> CompletedProcess[bytes]:
        if self._moved:
            raise Killed
        self._moved = "update-ref" in arguments and any(word.startswith("refs/heads/") for word in arguments)
        return self._run(arguments, stdin)


def cut_off_promotion(root: Path, run: RunGit) -> tuple[Version, Version]:
    """A promotion whose commit is on the branch, and that got no further."""
    subject = Repo(root, run).subject(SUBJECT)
    live, version = subject.live(), better(subject)

    dying = Subject(Git(root, DieAfterTheBranchMoved(run)), SUBJECT)
    with pytest.raises(Killed):
        dying.promote(version, experiment="words", replaces=live.id, trailers={})
    return live, version


def test_whoever_looks_next_finishes_a_promotion_that_was_cut_off(root: Path, run: RunGit, user_git: UserGit):
    _, version = cut_off_promotion(root, run)
    write(root / "src/app.py", "print('committed since')\n")
    user_git(root, "commit", "-q", "-m", "Something else", "--", "src/app.py")

    assert Repo(root, run).subject(SUBJECT).live().id == version.id
    assert on_disk(root) == BETTER
    assert user_git(root, "status", "--porcelain") == ""
    assert user_git(root, "tag", "--list").split() == ["ratchet/words/v0", "ratchet/words/v1"]


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("prompts/solve.md", r"losing edits.*\n.*git stash push -u"),
        ("prompts/plan.md", r"losing edits.*\n.*git stash push -u"),
        ("rubrics/größe/a.toml", r"lost.*Move them away"),
    ],
)
def test_an_edit_made_between_the_cut_and_the_second_call_is_kept(
    root: Path, run: RunGit, user_git: UserGit, path: str, advice: str
):
    live, version = cut_off_promotion(root, run)
    edited = root / SUBJECT / path
    write(edited, "mine\n")
    subject = Repo(root, run).subject(SUBJECT)

    for look in (subject.live, lambda: subject.rollback("words")):
        with pytest.raises(UserError, match=f"(?s)^(?=.*{path}).*{advice}"):
            look()
        assert on_disk(root)[path] == "mine\n"

    if "stash" in advice:
        user_git(root, "stash", "push", "-q", "-u", "--", SUBJECT)
        assert "+mine" in user_git(root, "stash", "show", "-p")
    else:
        edited.rename(root.parent / "mine")
    done = subject.promote(version, experiment="words", replaces=live.id, trailers={})
    assert (done.number, on_disk(root), user_git(root, "status", "--porcelain")) == (1, BETTER, "")


def test_an_edit_of_another_file_does_not_hold_up_the_second_call(root: Path, run: RunGit):
    cut_off_promotion(root, run)
    write(root / SUBJECT / "run me.sh", "mine\n")

    with pytest.raises(UserError, match=r"edits that no version holds: .*run me.sh\. "):
        Repo(root, run).subject(SUBJECT).live()
    assert on_disk(root) == {**BETTER, "run me.sh": "mine\n"}


def test_a_promotion_that_was_undone_since_is_not_finished(root: Path, run: RunGit, user_git: UserGit):
    live, version = cut_off_promotion(root, run)
    user_git(root, "reset", "-q", "--hard", live.commit)
    subject = Repo(root, run).subject(SUBJECT)

    assert subject.live() == live
    assert user_git(root, "tag", "--list") + user_git(root, "for-each-ref", "refs/worktree") == ""
    assert subject.promote(version, experiment="words", replaces=live.id, trailers={}).number == 1


def test_a_roll_back_after_a_promotion_that_was_cut_off_finishes_that_first(root: Path, run: RunGit, user_git: UserGit):
    live, _ = cut_off_promotion(root, run)
    subject = Repo(root, run).subject(SUBJECT)

    assert subject.rollback("words", to=0).version == live.id
    assert [p.kind for p in subject.history("words")] == ["found", "promote", "rollback"]


def test_a_roll_back_cut_off_on_one_branch_is_not_the_one_asked_for_on_another(root: Path, run: RunGit):
    subject = Repo(root, run).subject(SUBJECT)
    promote(subject)
    with pytest.raises(Killed):
        Subject(Git(root, DieAfterTheBranchMoved(run)), SUBJECT).rollback("words", branch="side")

    done = subject.rollback("words")

    assert (done.branch, done.number) == ("main", 3)
    assert on_disk(root) == FILES
    assert [p.kind for p in subject.history("words")] == ["found", "promote", "rollback", "rollback"]


def test_two_subjects_with_the_same_files_promote_and_roll_back_each_its_own(
    root: Path, subject: Subject, twin: Subject, user_git: UserGit
):
    start = subject.live().id
    first, second = better(subject), better(twin)
    assert first.id == second.id

    done = twin.promote(twin.version(second.id), experiment="words2", replaces=start, trailers={})

    assert (done.id, done.version, done.replaces) == ("ratchet/words2/v1", second.id, start)
    assert (subject.live().id, twin.live().id) == (start, second.id)
    assert user_git(root, "diff", "--name-only", "HEAD^", "HEAD", "--", ".", f":!{twin.path}") == ""
    assert on_disk(root) == FILES

    assert promote(subject, subject.version(first.id)).id == "ratchet/words/v1"
    assert (subject.live().id, twin.live().id) == (first.id, second.id)
    assert on_disk(root) == BETTER

    assert twin.rollback("words2").version == start
    assert (subject.live().id, twin.live().id) == (first.id, start)
    assert subject.rollback("words").version == start
    assert twin.rollback("words2", 1).version == second.id
    assert (subject.live().id, twin.live().id) == (start, second.id)
    assert [promoted.number for promoted in subject.history("words")] == [0, 1, 2]
    assert [promoted.number for promoted in twin.history("words2")] == [0, 1, 2, 3]
