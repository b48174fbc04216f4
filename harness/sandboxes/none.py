"""No sandbox: for machines where none works, and code that one trusts."""

import functools
import logging
import os
import signal
import sys
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from harness.errors import UserError
from harness.protocols import Finished
from harness.sandboxes.folder import Folder
from harness.sandboxes.isolation import (
    ENVIRONMENT,
    MIB,
    PID1,
    SHOWN,
    WRITTEN,
    ended_command,
    interpreter,
    is_command,
    search_path,
    temporary_folder,
)

MARK = "RATCHET_COMMAND"
"""The variable by which what was started is found again, should whoever watches over it be killed."""


@dataclass(frozen=True)
class NoSandbox:
    """Runs commands as the user who runs Ratchet. They can read and change whatever that user can, and reach the
    network; the limits hold, and nothing that they start outlives them, unless they set out to.

    The fields are those of ``Bubblewrap``; what only a sandbox can do is asked for in vain.
    """

    network: bool = True
    """It always is."""
    seconds: float = 60.0
    cpu: float | None = None
    memory: int = 2048 * MIB
    output: int = 64 * MIB
    kept: int = SHOWN
    processes: int = 256
    disk: int = 1024 * MIB
    """Bytes of any one file; to the folder a command can add ``WRITTEN`` times as many."""
    readable: tuple[Path, ...] = ()
    placed: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """As of ``Bubblewrap``: a link takes the place of what lies there."""
    devices: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = field(default=(), repr=False)

    name: ClassVar[str] = "none"

    def conditions(self) -> Mapping[str, str]:
        return {"sandbox": self.name}

    def works(self) -> str:
        return "" if sys.platform == "linux" else f"it needs Linux, and this is {sys.platform}"

    @contextmanager
    def open(self, folder: Path | None = None) -> Generator["BareBox"]:
        warn()
        if folder is not None:
            yield BareBox(self, folder.resolve(strict=True))
            return
        with temporary_folder("ratchet-box-") as temporary:
            yield BareBox(self, temporary)


@functools.cache
def warn() -> None:
    """Once for each process."""
    logging.getLogger(__name__).warning(
        "NO SANDBOX: a candidate's code runs as you, and can read, change and delete whatever you can, and send it "
        "away. Better: install bubblewrap, and leave out --no-sandbox"
    )


@dataclass(frozen=True)
class BareBox:
    """A folder, and commands that see all else as well."""

    sandbox: NoSandbox
    folder: Path

    def read(self, path: str) -> str:
        return Folder(self.folder).read(path)

    def write(self, path: str, text: str) -> None:
        Folder(self.folder).write(path, text)

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        fixed: Sequence[str] = (),
    ) -> Finished:
        """As ``Box.run``, but that nothing keeps what is *fixed* from being changed."""
        is_command(command)
        for place, source in self.sandbox.placed.items():
            put_link(self.folder / place, source)
        mark = uuid.uuid4().hex
        with temporary_folder("ratchet-home-") as home:
            given = {**ENVIRONMENT, "HOME": str(home), "TMPDIR": str(home), "PATH": search_path()}
            spec = {
                "command": list(command),
                "environment": {**given, **(environment or {}), MARK: mark},
                "folder": str(self.folder),
                "home": str(home),
                "seconds": self.sandbox.seconds if seconds is None else seconds,
                "cpu": self.sandbox.cpu,
                "memory": self.sandbox.memory,
                "processes": self.sandbox.processes,
                "disk": self.sandbox.disk,
                "written": WRITTEN * self.sandbox.disk,
                "mounts": None,
                "alone": False,
            }
            try:
                return ended_command(self.sandbox, started_by, spec)
            finally:
                end_marked(mark)


def started_by(report: int) -> list[str]:
    return [interpreter(), "-I", "-S", str(PID1), str(report)]


def put_link(place: Path, source: Path) -> None:
    """Let *place*, where nothing but an empty file or folder lies, be a link to *source*."""
    if place.is_symlink():
        return
    try:
        place.rmdir() if place.is_dir() else place.unlink()
    except OSError as e:
        raise UserError(f"{place.name} cannot be put in its place: {e}. Give it another one in fixed=…") from e
    place.symlink_to(source.resolve())


def end_marked(mark: str) -> None:
    """End whatever was started with *mark* in its environment and is still there: its watcher was killed."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(100):
        left = [int(name) for name in os.listdir("/proc") if name.isdigit() and has(name, wanted)]  # noqa: PTH208
        if not left:
            return
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)


def has(process: str, wanted: bytes) -> bool:
    try:
        return wanted in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
