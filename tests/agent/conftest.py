"""One process to fork nights from, for all tests of a session: it has imported everything."""

import os
from collections.abc import Generator

import pytest

from tests.agent.night import Nights, nights

PROVIDERS = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")


@pytest.fixture(scope="session")
def begun() -> Generator[Nights]:
    with nights({name: value for name, value in os.environ.items() if name not in PROVIDERS}) as started:
        yield started
