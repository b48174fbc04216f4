"""What the tests stand on: a real git repository, and an experiment whose model is a script."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from tests.world import SEED_PROMPT

# How long an example takes says nothing here; for more of them: pytest --hypothesis-profile=default
# What decides whether work lands draws the same examples each time; people draw others.
settings.register_profile("shared machine", deadline=None, max_examples=25, derandomize="CI" in os.environ)
settings.load_profile("shared machine")

GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "A User",
    "GIT_AUTHOR_EMAIL": "user@example.org",
    "GIT_COMMITTER_NAME": "A User",
    "GIT_COMMITTER_EMAIL": "user@example.org",
}


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, env={**os.environ, **GIT}, capture_output=True, text=True, check=True
    )
    return done.stdout


def a_checkout(root: Path) -> Path:
    """A repository of a user with one committed subject, ``subject/``."""
    prompt = root / "subject" / "prompts" / "solve.md"
    prompt.parent.mkdir(parents=True)
    prompt.write_text(SEED_PROMPT)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Begin")
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return a_checkout(tmp_path / "repository")
