"""What can go wrong with traces. Each message says what was seen, why it matters and what to do next."""


class TracesError(Exception):
    """The traces could not be written, merged or read; the spool is as it was."""


class JournalLocked(TracesError):
    """Another process, or another part of this one, is writing this journal."""


class JournalFull(TracesError, OSError):
    """The disk took only a part of a line. The part was removed again: the journal ends with its last whole line."""


class JournalGone(TracesError):
    """The file was deleted while it was being written; what is appended now would be lost."""


class BadLine(TracesError, ValueError):
    """A whole line that is not a record in an envelope."""


class TracesBusy(TracesError):
    """Another process has the database open in a way that excludes us. The message names it where DuckDB does."""


class TracesUnreadable(TracesError):
    """The database is damaged, or from another version of Ratchet. It can be deleted: the spool holds everything."""
