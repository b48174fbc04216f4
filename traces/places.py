"""Where traces live."""

from pathlib import Path


def data_directory(start: Path) -> Path:
    """The directory of the traces for whoever works in *start*: ``traces/data`` at the top of the git checkout.

    Outside a checkout it is ``traces/data`` under *start*. Creates nothing.
    """
    start = start.absolute()
    top = next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start)
    return top / "traces" / "data"


def prepare(directory: Path) -> None:
    """Make *directory* fit to be written to, and invisible to git whatever the user's ``.gitignore`` says."""
    spool(directory).mkdir(parents=True, exist_ok=True)
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def spool(directory: Path) -> Path:
    """The journals: one file a writer, and the source of truth."""
    return directory / "spool"


def database(directory: Path) -> Path:
    """The DuckDB file that the journals are merged into."""
    return directory / "traces.duckdb"
