"""A repository as people have them: spaces and letters beyond ASCII in paths, no identity set, other files around."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from harness.git import RunGit, run_git
from harness.versions import Repo, Subject

SUBJECT = "experiments/wörd tasks/harness"
TWIN = "experiments/wörd tasks 2/harness"
FILES = {
    "prompts/solve.md": "# system\nAnswer with one word.\n",
    "prompts/plan.md": "Plan.\n",
    "run me.sh": "#!/bin/sh\nexit 0\n",
    "skills/größe/SKILL.md": "Say which is larger.\n",
}

UserGit = Callable[..., str]


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A machine on which nobody has configured git."""
    home = tmp_path_factory.mktemp("home")
    return {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


@pytest.fixture(scope="session")
def run(environ: Mapping[str, str]) -> RunGit:
    return partial(run_git, environ=environ)


@pytest.fixture(scope="session")
def user_git(environ: Mapping[str, str]) -> UserGit:
    """What a person types: ``user_git(root, "add", "-A")``."""
    who = {f"GIT_{role}_{what}": "ann@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def type_(root: Path, *words: str) -> str:
        command = ["git", "-c", "protocol.file.allow=always", "-C", str(root), *words]
        done = subprocess.run(command, env={**environ, **who}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return type_


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, user_git: UserGit) -> Path:
    root = tmp_path_factory.mktemp("template")
    user_git(root, "init", "-q", "-b", "main", "--template=")
    for name, text in {"README.md": "Read me.\n", "src/app.py": "print(1)\n"}.items():
        write(root / name, text)
    for name, text in FILES.items():
        write(root / SUBJECT / name, text)
    (root / SUBJECT / "run me.sh").chmod(0o755)
    write(root / ".gitignore", "*.cache\n")
    user_git(root, "add", "-A")
    user_git(root, "commit", "-q", "-m", "Start")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "a repo", symlinks=True)


@pytest.fixture
def repo(root: Path, run: RunGit) -> Repo:
    return Repo(root, run)


@pytest.fixture
def subject(repo: Repo) -> Subject:
    return repo.subject(SUBJECT)


@pytest.fixture
def twin(root: Path, repo: Repo, user_git: UserGit) -> Subject:
    """Another experiment that starts from the same files as *subject*."""
    shutil.copytree(root / SUBJECT, root / TWIN)
    user_git(root, "add", "-A")
    user_git(root, "commit", "-q", "-m", "Add another experiment")
    return repo.subject(TWIN)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
