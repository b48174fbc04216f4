"""Versions of a subject are git trees, and a promotion is one commit.

Plumbing only, through the git command line: writing a candidate touches neither the working tree, nor the index, nor
a branch of the user. Only a promotion or a roll back does, and only inside the subject. What Ratchet adds:

- ``.git/ratchet``: a repository that holds the candidates, ``candidates/<version id>`` each: a commit of the whole
  repository with the subject replaced, as ``git --git-dir=.git/ratchet show`` shows and ``git fetch .git/ratchet
  candidates/…`` brings over. However many there are, no command in your repository gets slower, and none deletes any.
  Where that name holds another subject's candidate with the same files, and so the same id, it is
  ``<version id>-<digest of the subject's path>``. ``bases/…`` there are the commits that candidates were made of,
  without the files outside of the subject.
- ``refs/tags/ratchet/<experiment>/v<N>``: every version that was live, in order. A promotion takes the next number, and
  so does a roll back. A live version that no promotion made (the one you started from, or one edited by hand since)
  gets its number when it is replaced, so nothing that was replaced is ever without a name.
- ``refs/worktree/ratchet/promotion``: only while a promotion is under way. Whoever finds it finishes the promotion.
"""

import hashlib
import os
import re
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Literal

from harness.errors import UserError
from harness.git import Commit, File, Git, NewCommit, RunGit, items_of, lines_of, run_git, said
from traces.records import Edit, Promotion, Version, now

CANDIDATES = "refs/candidates/"
BASES = "refs/bases/"
PENDING = "refs/worktree/ratchet/promotion"
ALL_OBJECTS = ("--objects", "--no-object-names")
TIDY = "00"
"""How the ids begin of candidates after which git packs what lies loose: one of 256."""


class InvalidEdit(Exception):
    """An edit that cannot be applied to its parent; the message says which one and why."""


@dataclass(frozen=True)
class Promoted:
    """A version that is or was live, as the repository remembers it."""

    experiment: str
    number: int
    """The N of its tag."""
    kind: Literal["found", "promote", "rollback"]
    """``found``: a person committed it; it has a number because a promotion or a roll back replaced it."""
    version: Version
    when: datetime
    trailers: Mapping[str, str]
    """Of its commit."""


def tag(experiment: str, number: int) -> str:
    """What git calls a promoted version."""
    return f"ratchet/{experiment}/v{number}"


# ── edits: facts in, facts out ─────────────────────────────────────────────────────────────────────────────────


def applied(text: Mapping[str, str], edits: Iterable[Edit]) -> dict[str, str]:
    """*text* (path → text) after *edits*.

    Raises:
        InvalidEdit: the first edit that names a path it may not, or does not fit the files that are there.
    """
    result = dict(text)
    edited: set[str] = set()
    for edit in edits:
        _check_path(edit.path)
        if edit.path in edited:
            raise InvalidEdit(f"{edit.path!r} is edited twice in one proposal")
        edited.add(edit.path)
        if edit.text is not None:
            _check_text(edit.path, edit.text)
            result[edit.path] = edit.text
        elif result.pop(edit.path, None) is None:
            raise InvalidEdit(f"{edit.path!r} cannot be deleted: it is not there")
    directories = {directory for path in result for directory in _directories(path)}
    for path in sorted(directories & result.keys()):
        raise InvalidEdit(f"{path!r} would be a file and a directory at once")
    if not result:
        raise InvalidEdit("the edits delete every file of the subject")
    return result


def _directories(path: str) -> list[str]:
    """The directories above *path*, outermost first."""
    return list(accumulate(path.split("/")[:-1], "{}/{}".format))


_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _has_unseen(path: str) -> bool:
    """Control characters, line breaks, and others that a person would not see in a diff."""
    return any(unicodedata.category(character) in _UNSEEN for character in path)


_STEERS_GIT = {".git", "git~1", ".gitattributes", ".gitignore", ".gitmodules"}
"""They could hide a change from the person who reviews it. ``git~1`` is what Windows may call ``.git``."""


def _check_path(path: str) -> None:
    if "\\" in path:
        raise InvalidEdit(f"{path!r} has a backslash; paths are written with forward slashes")
    if _has_unseen(path):
        raise InvalidEdit(f"{path!r} has a control character or one that cannot be seen")
    if path.startswith("/") or re.match("[A-Za-z]:", path):
        raise InvalidEdit(f"{path!r} is absolute; paths are relative to the subject")
    for name in path.split("/"):
        if name in ("", ".", ".."):
            raise InvalidEdit(f"{path!r} does not name a file inside the subject: it has a part {name!r}")
        if name.split(":")[0].rstrip(" .").casefold() in _STEERS_GIT:
            raise InvalidEdit(f"{path!r} may not be edited: {name} steers git itself")
        if len(name.encode()) > 255:
            raise InvalidEdit(f"{path[:60]!r}… has a part of more than 255 bytes, which no file system takes")


def _check_text(path: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise InvalidEdit(f"the new text of {path!r} has a lone surrogate at character {e.start}") from e


def tree_id(files: Mapping[str, tuple[str, str]], algorithm: str) -> str:
    """The hash that git gives to the tree of *files* (path → mode and blob hash); runs no command."""
    entries: list[tuple[bytes, str, str]] = []
    below: dict[str, dict[str, tuple[str, str]]] = {}
    for path, file in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            below.setdefault(name, {})[rest] = file
        else:
            entries.append((name.encode(), *file))
    # git sorts a directory as if its name ended with a slash
    entries += [(f"{name}/".encode(), "40000", tree_id(inside, algorithm)) for name, inside in below.items()]
    parts = (
        mode.encode() + b" " + name.removesuffix(b"/") + b"\0" + bytes.fromhex(oid)
        for name, mode, oid in sorted(entries)
    )
    return _object_id("tree", b"".join(parts), algorithm)


def _object_id(kind: str, body: bytes, algorithm: str) -> str:
    return hashlib.new(algorithm, f"{kind} {len(body)}\0".encode() + body, usedforsecurity=False).hexdigest()


def _algorithm(oid: str) -> str:
    """Which hash the repository uses."""
    return "sha1" if len(oid) == 40 else "sha256"


def _named(names: Iterable[str]) -> str:
    """The first ten, for a message."""
    ordered = list(names)
    return ", ".join(ordered[:10]) + (f" and {len(ordered) - 10} more" if len(ordered) > 10 else "")


def _kind(trailers: Mapping[str, str], experiment: str, number: int) -> Literal["found", "promote", "rollback"]:
    if trailers.get("Experiment") != experiment or trailers.get("Version") != f"v{number}":
        return "found"
    return "rollback" if "Restores" in trailers else "promote"


def _numbered(history: Sequence[Promoted], number: int) -> Promoted | None:
    return next((promoted for promoted in history if promoted.number == number), None)


def _before(history: Sequence[Promoted], live: str) -> Promoted | None:
    """What was live before the version *live* first was. One that has no number yet came after all that have."""
    first = next((n for n, promoted in enumerate(history) if promoted.version.id == live), len(history))
    return history[first - 1] if first else None


class Repo:
    """A checkout."""

    def __init__(self, root: Path, run: RunGit = run_git) -> None:
        self.root = root
        self._git = Git(root, run)

    @classmethod
    def find(cls, start: Path, run: RunGit = run_git) -> "Repo":
        """The checkout that *start* is in.

        Raises:
            UserError: no git, no repository, or nothing committed yet; says what to type.
        """
        top = run(["-C", str(start), "rev-parse", "--show-toplevel"], b"")
        if top.returncode and b"not a git repository" in top.stderr:
            raise UserError(
                f"{start} is not in a git repository, and versions are git trees. "
                "Start one: git init && git add -A && git commit -m 'Start'"
            )
        if top.returncode:
            raise UserError(f"git cannot open a checkout at {start}. It says: {said(top)}")
        repo = cls(Path(os.fsdecode(top.stdout.removesuffix(b"\n"))), run)
        if repo._git.resolve("HEAD") == [None]:
            raise UserError(
                f"the repository at {repo.root} has no commit yet, so there is no version to start from. "
                "Make one: git add -A && git commit -m 'Start'"
            )
        return repo

    def subject(self, path: str) -> "Subject":
        """The directory *path*, relative to the top of the checkout.

        Raises:
            UserError: it is not a committed directory inside this repository.
        """
        return Subject(self._git, _inside(self._git, path))

    def candidates(self) -> list[Version]:
        """Every candidate that is kept, of any subject, by id; two subjects may have the same id."""
        return _candidates(self._git)


def _candidates(git: Git, start: str = "") -> list[Version]:
    """Those whose id begins with *start*."""
    store = git.store()
    wanted = f"{CANDIDATES}{start}*" if start else CANDIDATES
    listing = store.ask("for-each-ref", "--format=%(refname) %(objectname)", wanted) if store else b""
    pairs = (line.removeprefix(CANDIDATES).split(" ") for line in lines_of(listing))
    return [Version(id=name.partition("-")[0], commit=commit) for name, commit in pairs]


def _inside(git: Git, path: str) -> str:
    """*path* relative to the top, as git spells it, once it is sure to be a committed directory."""
    posix = PurePosixPath(path)
    if posix.is_absolute() and Path(posix).resolve().is_relative_to(git.root.resolve()):
        posix = PurePosixPath(Path(posix).resolve().relative_to(git.root.resolve()).as_posix())
    if posix.is_absolute() or ".." in posix.parts:
        raise UserError(
            f"subject {path!r} is outside the repository {git.root}. "
            "Give a directory inside it, relative to its top, such as experiments/NAME/harness."
        )
    if not posix.parts:
        raise UserError(
            "the subject is the whole repository, so a proposal could edit its own grader. "
            "Move what may be edited into a directory, such as experiments/NAME/harness, and name that."
        )
    if "\\" in path or _has_unseen(path) or str(posix) != str(posix).strip():
        raise UserError(
            f"subject {path!r} has a backslash or a control character, or a space at an end, which cannot be written "
            "into a commit message and read back. Rename the directory."
        )
    for directory in [*_directories(str(posix)), str(posix)]:
        if (git.root / directory).is_symlink():
            raise UserError(
                f"subject {path!r}: {directory} is a symbolic link, so what it points to is not in its git tree. "
                "Name the directory itself."
            )
    kind = git.ask("ls-tree", "-z", "HEAD", str(posix)).split(b" ")[1:2]
    if kind == [b"tree"]:
        return str(posix)
    if kind:
        raise UserError(f"subject {path!r} is not a plain directory of {git.root}. Name the directory it is in.")
    if (git.root / posix).is_dir():
        raise UserError(
            f"subject {path!r} has no committed file, so there is no version to start from. "
            f"Commit it: git add -- '{posix}' && git commit -m 'Add {posix.name}'"
        )
    raise UserError(
        f"there is no directory {path!r} in {git.root}. "
        "Give the subject relative to that, such as experiments/NAME/harness."
    )


# ── the second half of a promotion, which is also what finishes one that was cut off ──────────────────────────────


def _settle(git: Git) -> None:
    """Finish the promotion that is under way, if there is one. The caller holds the lock."""
    commit = _under_way(git)
    if commit is not None:
        _complete(git, commit)
        _unmark(git, commit)


def _under_way(git: Git) -> Commit | None:
    [pending] = git.resolve(PENDING)
    return git.commits([pending])[pending] if pending else None


def _complete(git: Git, commit: Commit) -> bool:
    """Tags, then index and working tree; ``False`` when the commit has not reached a branch, so there is nothing to do.

    Each part looks at what is there, so it can be cut off anywhere and begun again. Where a person edited the same
    files in between it raises, and their edits stay.
    """
    arrived = bool(git.ask("for-each-ref", "--count=1", f"--contains={commit.id}", "refs/heads").strip())
    if arrived:
        _name(git, commit)
        _bring_home(git, commit)
    return arrived


def _unmark(git: Git, commit: Commit) -> None:
    git.ask("update-ref", "-d", PENDING, commit.id)


def _name(git: Git, commit: Commit) -> None:
    """Tag the version that is live now, and the one it replaced if that had no name."""
    wanted = {commit.trailers["Replaces"]: commit.parent, commit.trailers["Version"]: commit.id}
    refs = {f"refs/tags/ratchet/{commit.trailers['Experiment']}/{v}": target for v, target in wanted.items()}
    missing = [ref for ref, found in zip(refs, git.resolve(*refs), strict=True) if found is None]
    if missing:
        git.ask("update-ref", "--stdin", stdin="".join(f"create {ref} {refs[ref]}\n" for ref in missing).encode())


def _bring_home(git: Git, commit: Commit) -> None:
    """Bring index and working tree up to date, where HEAD has this promotion and no later change of the subject."""
    path = commit.trailers["Subject"]
    here, there = git.resolve(f"HEAD:{path}", f"{commit.id}:{path}")
    if here == there and git.contains("HEAD", commit.id):
        _check_out(git, commit)


def _check_out(git: Git, commit: Commit, *dry_run: str) -> None:
    """Bring index and working tree from *commit*'s parent to *commit*; refuses before it touches anything.

    This is git's own two-tree merge, as in switching branches: what differs between the two trees is brought up to
    date where it is unedited, and all else, staged or not, stays as it is. That merge would overwrite ignored files,
    so these are looked for first.
    """
    path, number = commit.trailers["Subject"], commit.trailers["Version"]
    in_the_way = _in_the_way(git, commit)
    if in_the_way:
        raise UserError(
            f"{number} of {path} adds files where the working tree has others, which git does not track and which "
            f"would be lost: {_named(in_the_way)}. Move them away, then type the same again."
        )
    refreshed = git.attempt("update-index", "--refresh")
    if refreshed.returncode > 1:  # 1: there are edits, which may be elsewhere
        raise UserError(f"git cannot write the index of {git.root}. It says: {said(refreshed)}")
    done = git.attempt("read-tree", "-m", "-u", "--no-recurse-submodules", *dry_run, f"{commit.id}^", commit.id)
    if done.returncode:
        raise UserError(
            f"{number} of {path} cannot be put into the working tree without losing edits. git says: {said(done)}\n"
            f"Commit them or put them aside (git stash push -u -- '{path}'), then type the same again."
        )


def _in_the_way(git: Git, commit: Commit) -> list[str]:
    """Untracked files, ignored ones too, where *commit* adds a file or needs a directory."""
    options = ("-r", "-z", "--no-renames", "--diff-filter=A", "--name-only")
    added = items_of(git.ask("diff-tree", *options, f"{commit.id}^", commit.id))
    above = sorted({directory for path in added for directory in _directories(path)})
    occupied = [place for place in above if (git.root / place).is_symlink() or (git.root / place).is_file()]
    return items_of(git.ask("ls-files", "--others", "-z", "--", *added, *occupied)) if added else []


# ── subjects ───────────────────────────────────────────────────────────────────────────────────────────────────

_UNFINISHED = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}


@dataclass(frozen=True)
class _Place:
    """The branch that a promotion goes to."""

    branch: str
    tip: str
    """What the promotion builds on: the branch, or HEAD where the branch is new."""
    live: str
    """The version of the subject there."""
    is_new: bool
    checked_out: bool


class Subject:
    """The directory that proposals may edit, and its versions. May be shared between threads."""

    def __init__(self, git: Git, path: str) -> None:
        self.path = path
        """Relative to the top of the checkout, with forward slashes."""
        self._git = git
        self._read: OrderedDict[str, dict[str, File]] = OrderedDict()
        self._dates: dict[str, datetime] = {}
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def live(self) -> Version:
        """The promoted version: what HEAD has. A promotion that was cut off is finished first.

        Raises:
            UserError: the working tree or the index has edits of the subject, which no version holds; names the files.
        """
        if self._git.resolve(PENDING) != [None]:
            with self._git.promoting():
                _settle(self._git)
        live = self._at("HEAD")
        self._refuse_edits()
        return live

    def text(self, version: str) -> dict[str, str]:
        """The files of the version with this id, path → text; from git's objects, never from the working tree.

        Raises:
            UserError: there is no such version any more, or a file of it is not UTF-8 text; names it.
        """
        return {path: file.text for path, file in self._files(version).items()}

    def diff(self, a: str, b: str) -> str:
        """What a person reads: from version *a* to version *b*, paths relative to the subject."""
        options = ("-r", "-p", "-M", "--text", "--no-ext-diff", "--no-textconv", "--no-color")
        command = ("diff-tree", *options, "--src-prefix=a/", "--dst-prefix=b/", a, b)
        where = self._git.store() or self._git
        done = where.attempt(*command)
        if not done.returncode:
            return done.stdout.decode(errors="replace")
        for tree in (a, b):  # one of them was live long ago
            if where is not self._git and self._git.resolve(tree) != [None]:
                self._git.copy_to(where, lines_of(self._git.ask("rev-list", *ALL_OBJECTS, tree)))
        return where.ask(*command).decode(errors="replace")

    def version(self, name: str) -> Version:
        """What *name* stands for: ``live``; at least the first four characters of an id; or whatever git knows by that
        name and has the subject, such as ``ratchet/EXPERIMENT/v3`` or a branch.

        Raises:
            UserError: no version, or more than one, goes by that name.
        """
        if name == "live":
            return self._at("HEAD")
        if re.fullmatch("[0-9a-f]{40,}", name):  # the whole id of a candidate, which the loop asks for each round
            kept, _ = self._kept(name)
            if kept is not None:
                return Version(id=name, commit=kept)
        matches = self._beginning(name.lower()) if re.fullmatch("[0-9a-fA-F]{4,}", name) else []
        if len(matches) > 1:
            ids = _named(sorted(version.id for version in matches))
            raise UserError(f"{name!r} is the beginning of several versions: {ids}. Type more of it.")
        if matches:
            return matches[0]
        names = (f"{name}^{{commit}}", f"{name}^{{commit}}:{self.path}") if name.isprintable() else ()
        found = self._found(*names)
        if not found or found[0] is None or found[1] is None:
            raise UserError(
                f"no version of {self.path} is called {name!r}. A name is live, a tag such as ratchet/EXPERIMENT/v1, "
                "or the beginning of an id. To see them: ratchet versions EXPERIMENT"
            )
        return Version(id=found[1], commit=found[0])

    def history(self, experiment: str) -> list[Promoted]:
        """What was live for *experiment*, oldest first, from git alone.

        Numbers whose commit does not have the subject, because it was elsewhere then, are left out.
        """
        tags = self._tags(experiment)
        commits = self._git.commits(tags.values())
        trees = self._git.resolve(*(f"{commit}:{self.path}" for commit in tags.values()))
        return [
            Promoted(
                experiment=experiment,
                number=number,
                kind=_kind(commits[id].trailers, experiment, number),
                version=Version(id=tree, commit=id),
                when=commits[id].when,
                trailers=commits[id].trailers,
            )
            for (number, id), tree in zip(tags.items(), trees, strict=True)
            if tree is not None
        ]

    def version_id(self, parent: str, edits: Iterable[Edit]) -> str:
        """The id that *edits* to *parent* would have. Writes nothing, and runs no command once *parent* was read.

        Raises:
            InvalidEdit: they cannot be applied.
        """
        return _id_of(self._edited(parent, edits), parent)

    def candidate(self, parent: Version, edits: Iterable[Edit]) -> Version:
        """Keep the version that *edits* make of *parent*; the parent itself when they change nothing.

        Files keep their modes; new ones are not executable. Made again, it is the same version and the same commit.

        Raises:
            InvalidEdit: they cannot be applied.
        """
        before, files = self._files(parent.id), self._edited(parent.id, edits)
        id = _id_of(files, parent.id)
        if id == parent.id:
            return parent
        kept, free = self._kept(id)
        if kept is None and self._found(parent.commit) == [None]:
            raise UserError(
                f"commit {parent.commit} of version {parent.id[:12]} is not in {self._git.root} any more, so nothing "
                "can be built on it. Start a new run from the live version."
            )
        if kept is None:
            self._hold(parent.commit)
            new = NewCommit(
                parent=parent.commit,
                when=self._date(parent.commit),
                line=f"Candidate {id[:12]} of {self.path}",
                trailers={},
                path=self.path,
                base=parent.id,
                changes=_changes(before, files),
                result=id,
            )
            kept = self._keep(free, new)
            if id.startswith(TIDY):
                self._git.opened_store().tidy()
        self._remember(id, files)
        return Version(id=id, commit=kept)

    def promote(
        self,
        version: Version,
        *,
        experiment: str,
        replaces: str,
        trailers: Mapping[str, str],
        branch: str | None = None,
    ) -> Promotion:
        """Make *version* the live one in place of *replaces*: one commit on the checked-out branch and the next number.

        On a *branch* that is not checked out (a new one starts from HEAD) working tree and index are not touched. Cut
        off anywhere and called again it completes the same promotion; called once more it returns that one.
        ``certification`` and ``gain`` of the result are the caller's to fill in.

        Raises:
            UserError: the subject has edits, or is not *replaces* any more, or a merge or rebase is under way, or HEAD
                is detached and no *branch* is given.
        """
        with self._git.promoting():
            _settle(self._git)
            if self._found(f"{version.commit}:{self.path}") != [version.id]:
                raise UserError(
                    f"{version.id[:12]} is not a version of {self.path} in this repository. "
                    f"To see them: ratchet versions {experiment}"
                )
            place = self._place(branch)
            if place.live == version.id:
                return self._already_live(place, experiment, "promote")
            if place.live != replaces:
                raise UserError(
                    f"{self.path} on {place.branch} is now version {place.live[:12]}, and {version.id[:12]} was tested "
                    f"against {replaces[:12]}: somebody changed it since, and nothing is known about this pair. "
                    f"Test against what is there now: ratchet run {experiment}"
                )
            return self._make_live(version.id, place, experiment, None, trailers)

    def rollback(self, experiment: str, to: int | None = None, *, branch: str | None = None) -> Promotion:
        """Put number *to* of *experiment* back; by default, what was live before the present version first was.

        It is a commit with a number of its own, like a promotion, so it can be rolled back in turn. One that was cut
        off and is asked for again is completed, and no second one is made.

        Raises:
            UserError: as ``promote``, or there is nothing to go back to.
        """
        with self._git.promoting():
            pending = _under_way(self._git)
            arrived = pending is not None and _complete(self._git, pending)
            place = self._place(branch)
            if pending is not None:
                here = arrived and self._git.contains(place.tip, pending.id)
                same = here and _asked_for(pending.trailers, experiment, to)
                done = self._promotion(pending, place.branch) if same else None
                _unmark(self._git, pending)  # last of all: without the mark, to ask again is to ask for one more
                if done is not None:
                    return done
            history = self.history(experiment)
            target = _before(history, place.live) if to is None else _numbered(history, to)
            if target is None:
                wanted = "a version before the live one" if to is None else f"a version v{to}"
                numbers = _named(f"v{promoted.number}" for promoted in history) or "none"
                raise UserError(
                    f"experiment {experiment!r} does not have {wanted}, so there is nothing to put back. "
                    f"Versions that were live: {numbers}. For more: ratchet versions {experiment}"
                )
            if target.version.id == place.live:
                return self._already_live(place, experiment, "rollback")
            return self._make_live(target.version.id, place, experiment, target, {})

    # ── what these are made of ──

    def _found(self, *names: str) -> list[str | None]:
        """The objects that *names* stand for among the candidates, or else in the repository: a partial clone asks its
        remote for what it does not have."""
        store = self._git.store()
        found: list[str | None] = store.resolve(*names) if store else [None for _ in names]
        if None not in found:
            return found
        return [here or there for here, there in zip(found, self._git.resolve(*names), strict=True)]

    def _hold(self, base: str) -> None:
        """Copy what candidates of the commit *base* need of it, so that they stay whole whatever becomes of it."""
        if base in self._held:
            return
        store, ref = self._git.opened_store(), f"{BASES}{base}-{self._mark}"
        held, known = store.resolve(ref, base)
        if held is None and (known is None or self._git.resolve(base) != [None]):  # else it is a candidate
            trees = lines_of(self._git.ask("rev-list", *ALL_OBJECTS, "--no-walk", "--filter=blob:none", base))
            files = items_of(self._git.ask("ls-tree", "-r", "-z", "--full-tree", f"{base}:{self.path}"))
            self._git.copy_to(store, [*trees, *(entry.split("\t")[0].split(" ")[2] for entry in files)])
            store.begin_with(base)
            store.ask("update-ref", ref, base)
        self._held.add(base)

    @property
    def _mark(self) -> str:
        """What tells this subject from others with the same files."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:12]

    def _kept(self, id: str) -> tuple[str | None, str]:
        """The commit of candidate *id* of this subject, if there is one, and the ref that a new one would get."""
        plain = CANDIDATES + id
        own = f"{plain}-{self._mark}"
        if (store := self._git.store()) is None:
            return None, plain
        taken, *found = store.resolve(plain, f"{plain}:{self.path}", own, f"{own}:{self.path}")
        kept = taken if found[0] == id else found[1] if found[2] == id else None
        return kept, plain if taken is None else own

    def _keep(self, ref: str, new: NewCommit) -> str:
        """Write the commit of a candidate, and *ref*, unless another thread or process is quicker; what is kept."""
        try:
            return self._git.opened_store().write_commit(ref, new).id
        except UserError:
            kept, free = self._kept(new.result)
            if kept is None and free == ref:
                raise
        return kept or self._keep(free, new)

    def _at(self, commit: str) -> Version:
        id, tree = self._git.resolve(commit, f"{commit}:{self.path}")
        if id is None or tree is None:
            raise UserError(
                f"{commit} has no directory {self.path}, so the subject has no version there. "
                "Switch to a branch that has it, or commit it."
            )
        return Version(id=tree, commit=id)

    def _refuse_edits(self) -> None:
        status = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", self.path)
        edited = [line[3:] for line in items_of(self._git.ask(*status))]
        if edited:
            raise UserError(
                f"{self.path} has edits that no version holds: {_named(edited)}. Commit or stash them: "
                f"git add -- '{self.path}' && git commit, or: git stash push -u -- '{self.path}'"
            )

    def _files(self, tree: str) -> dict[str, File]:
        with self._lock:
            if tree in self._read:
                self._read.move_to_end(tree)
                return self._read[tree]
        files = self._load(tree)
        self._remember(tree, files)
        return files

    def _remember(self, tree: str, files: dict[str, File]) -> None:
        """A few versions are in use at a time; a candidate shares all but its new texts with its parent."""
        with self._lock:
            self._read[tree] = files
            while len(self._read) > 32:
                self._read.popitem(last=False)

    def _load(self, tree: str) -> dict[str, File]:
        places = [git for git in (self._git.store(), self._git) if git is not None]
        listing = places[0].attempt("ls-tree", "-r", "-z", "--full-tree", tree)
        if listing.returncode and len(places) > 1:
            listing = places[1].attempt("ls-tree", "-r", "-z", "--full-tree", tree)
        if listing.returncode:
            raise UserError(
                f"version {tree[:12]} of {self.path} is not in {self._git.root} any more. git says: {said(listing)}. "
                "Start a new run from the live version."
            )
        entries = [(*entry.split("\t", 1)[0].split(" "), entry.split("\t", 1)[1]) for entry in items_of(listing.stdout)]
        for mode, _, _, path in entries:
            if mode not in ("100644", "100755"):
                raise UserError(
                    f"{self.path}/{path} is a symbolic link or a submodule: what it points to could change while the "
                    "version stays the same. Put the files themselves there."
                )
        with self._lock:
            latest = next(reversed(self._read.values()), {})
        known = {file.oid: file.text for file in latest.values()}  # versions differ in a few files
        oids = [oid for _, _, oid, _ in entries if oid not in known]
        blobs: dict[str, bytes] = {}
        for git in places:
            blobs |= git.blobs([oid for oid in oids if oid not in blobs])
        if lost := [path for _, _, oid, path in entries if oid not in known and oid not in blobs]:
            raise UserError(
                f"of version {tree[:12]} of {self.path} these files are not in {self._git.root} any more: "
                f"{_named(lost)}. Start a new run from the live version."
            )
        return {
            path: File(mode, oid, known[oid] if oid in known else self._decoded(path, blobs[oid]))
            for mode, _, oid, path in entries
        }

    def _decoded(self, path: str, content: bytes) -> str:
        try:
            path.encode()
            return content.decode()
        except UnicodeError as e:
            raise UserError(
                f"{self.path}/{os.fsencode(path).decode(errors='replace')} is not UTF-8 text, and proposals edit text. "
                "Convert it, or move it out of the subject."
            ) from e

    def _edited(self, parent: str, edits: Iterable[Edit]) -> dict[str, File]:
        before, algorithm = self._files(parent), _algorithm(parent)
        after = applied({path: file.text for path, file in before.items()}, edits)
        same = {path: before[path] for path, text in after.items() if path in before and before[path].text == text}
        return same | {
            path: File(
                before[path].mode if path in before else "100644", _object_id("blob", text.encode(), algorithm), text
            )
            for path, text in after.items()
            if path not in same
        }

    def _date(self, commit: str) -> datetime:
        """A candidate is dated like its parent, so that it is the same commit whenever it is made."""
        if commit not in self._dates:
            self._dates[commit] = self._git.opened_store().commits([commit])[commit].when
        return self._dates[commit]

    def _beginning(self, start: str) -> list[Version]:
        """Versions whose id begins so: candidates, and all that was ever committed here or promoted."""
        tried = [version.commit for version in _candidates(self._git, start)]
        past = self._git.ask("rev-list", "HEAD", "--glob=refs/tags/ratchet", "--", self.path).decode().split()
        commits = [*tried, *reversed(past)]
        trees = self._found(*(f"{commit}:{self.path}" for commit in commits))
        known = {tree: commit for commit, tree in zip(commits, trees, strict=True) if tree is not None}
        return [Version(id=tree, commit=commit) for tree, commit in known.items() if tree.startswith(start)]

    def _tags(self, experiment: str) -> dict[int, str]:
        """Number → commit, in order."""
        prefix = f"refs/tags/{tag(experiment, 0)[:-1]}"
        if self._git.attempt("check-ref-format", f"{prefix}0").returncode:
            raise UserError(
                f"experiment {experiment!r} cannot name its versions: git takes no tag {tag(experiment, 1)!r}. "
                "Rename it, with letters, digits, - and _ only."
            )
        form = "--format=%(refname) %(objectname) %(*objectname)"
        found = lines_of(self._git.ask("for-each-ref", form, prefix.rpartition("/")[0]))
        fields = [line.removeprefix(prefix).split() for line in found]
        return dict(sorted((int(number), oids[-1]) for number, *oids in fields if number.isdecimal()))

    def _place(self, branch: str | None) -> _Place:
        current = self._git.attempt("symbolic-ref", "-q", "HEAD").stdout.decode().strip()
        ref = current if branch is None else self._ref(branch)
        if ref == current:
            self._refuse_unfinished()
        if not ref:
            raise UserError(
                "HEAD is detached: no branch is checked out that a promotion could go to. "
                "Check one out (git switch BRANCH), or add --branch NAME."
            )
        tip, head = self._git.resolve(ref, "HEAD")
        if ref != current and (
            elsewhere := self._git.ask("for-each-ref", "--format=%(worktreepath)", ref).decode().strip()
        ):
            raise UserError(
                f"branch {ref.removeprefix('refs/heads/')!r} is checked out at {elsewhere}, whose files would fall "
                "behind. Type the same there, or name another branch."
            )
        at = self._at(tip or head or "HEAD")
        return _Place(ref.removeprefix("refs/heads/"), at.commit, at.id, is_new=tip is None, checked_out=ref == current)

    def _ref(self, branch: str) -> str:
        checked = self._git.attempt("check-ref-format", "--branch", branch)
        if checked.returncode or checked.stdout.decode().strip() != branch:
            raise UserError(f"{branch!r} cannot be the name of a branch. Choose another one for --branch.")
        return f"refs/heads/{branch}"

    def _refuse_unfinished(self) -> None:
        git_dir = Path(os.fsdecode(self._git.ask("rev-parse", "--absolute-git-dir").removesuffix(b"\n")))
        for name, what in _UNFINISHED.items():
            if (git_dir / name).exists():
                raise UserError(
                    f"a {what} is under way in {self._git.root}, and a commit in the middle of it would get mixed up "
                    f"with it. Finish it (git {what} --continue) or give it up (git {what} --abort), then try again."
                )

    def _make_live(
        self, version: str, place: _Place, experiment: str, restores: Promoted | None, trailers: Mapping[str, str]
    ) -> Promotion:
        """The first half: write the commit and mark it as under way, then move the branch if it is where it was."""
        if place.checked_out:
            self._refuse_edits()
        replaced, number = self._numbers(experiment, place.live)
        line = f"Roll back {experiment} to v{restores.number}" if restores else f"Promote {experiment} v{number}"
        ours = {"Experiment": experiment, "Subject": self.path, "Version": f"v{number}", "Replaces": f"v{replaced}"}
        ours |= {"Restores": f"v{restores.number}"} if restores else {}
        new = NewCommit(
            parent=place.tip,
            when=now(),
            line=line,
            trailers=ours | {key: value for key, value in trailers.items() if key not in ours},
            path=self.path,
            base=version if restores else place.live,  # a candidate's tree is not in the repository yet
            changes={} if restores else _changes(self._files(place.live), self._files(version)),
            result=version,
        )
        commit = self._git.write_commit(PENDING, new)
        try:
            if place.checked_out:
                _check_out(self._git, commit, "-n")
            expected = "0" * len(place.tip) if place.is_new else place.tip
            self._git.ask("update-ref", "-m", f"ratchet: {line}", f"refs/heads/{place.branch}", commit.id, expected)
        except UserError:
            _unmark(self._git, commit)
            raise
        _complete(self._git, commit)
        done = self._promotion(commit, place.branch)
        _unmark(self._git, commit)
        return done

    def _numbers(self, experiment: str, live: str) -> tuple[int, int]:
        """The number of the live version, which may be about to get its first, and the number of what replaces it."""
        following = max(self._tags(experiment), default=-1) + 1
        known = [promoted.number for promoted in self.history(experiment) if promoted.version.id == live]
        return (known[-1], following) if known else (following, following + 1)

    def _already_live(self, place: _Place, experiment: str, kind: Literal["promote", "rollback"]) -> Promotion:
        """How it became live, for one who asks for the same twice."""
        id = self._git.ask("rev-list", "-1", place.tip, "--", self.path).decode().strip()
        commit = self._git.commits([id])[id]
        number = commit.trailers.get("Version", "").removeprefix("v")
        if not number.isdecimal() or _kind(commit.trailers, experiment, int(number)) != kind:
            raise UserError(
                f"version {place.live[:12]} of {self.path} is already live on {place.branch}, so there is nothing to "
                f"do. How it became live: ratchet versions {experiment}"
            )
        return self._promotion(commit, place.branch)

    def _promotion(self, commit: Commit, branch: str) -> Promotion:
        experiment, number = commit.trailers["Experiment"], int(commit.trailers["Version"].removeprefix("v"))
        version, replaces = self._at(commit.id), self._at(commit.parent)
        return Promotion(
            id=tag(experiment, number),
            experiment=experiment,
            kind="rollback" if "Restores" in commit.trailers else "promote",
            number=number,
            version=version.id,
            replaces=replaces.id,
            commit=commit.id,
            branch=branch,
        )


def _changes(before: Mapping[str, File], after: Mapping[str, File]) -> dict[str, File | None]:
    """What makes *after* of *before*; ``None`` deletes."""
    gone: dict[str, File | None] = dict.fromkeys(before.keys() - after.keys())
    return gone | {path: file for path, file in after.items() if before.get(path) != file}


def _id_of(files: Mapping[str, File], parent: str) -> str:
    return tree_id({path: (file.mode, file.oid) for path, file in files.items()}, _algorithm(parent))


def _asked_for(trailers: Mapping[str, str], experiment: str, to: int | None) -> bool:
    """Is this the roll back that is asked for?"""
    restored = trailers.get("Restores")
    return trailers["Experiment"] == experiment and restored is not None and to in (None, int(restored[1:]))
