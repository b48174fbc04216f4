"""What can go wrong, and whose fault it is.

A wrong answer is a grade of 0. A dead sandbox is an error and never a zero. A bug in our code is a traceback.
"""

from collections.abc import Generator
from contextlib import contextmanager

from traces.errors import TracesError
from traces.records import Boundary, StopReason


class UserError(Exception):
    """Something the user can mend. The message says what was seen, why it matters and what to type next."""


class OutOfIdeas(Exception):
    """The proposer has nothing left to try."""


class BudgetSpent(BaseException):
    """A limit of the budget was reached. Not an ``Exception``: no runner or grader may swallow it."""

    def __init__(self, reason: StopReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: StopReason = reason


class TrialError(Exception):
    """An attempt that could not be scored."""

    def __init__(self, boundary: Boundary, error_class: str, message: str) -> None:
        super().__init__(message)
        self.boundary: Boundary = boundary
        self.error_class = error_class


class ModelError(Exception):
    """A model call that failed for good."""

    def __init__(self, error_class: str, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.error_class = error_class
        """``rate_limit``, ``overloaded``, ``server_error``, ``timeout``, ``connection``, ``malformed``, ``unavailable``
        (the embedded model did not start); ``auth``, ``quota``, ``not_found``, ``bad_request``."""
        self.transient = transient
        """Another try later could succeed: the retries were used up, nothing was wrong with the request."""


class ToolError(Exception):
    """A tool call that did not do what it should. The model is told, and the session goes on."""

    def __init__(self, error_class: str, message: str, *, safe_to_repeat: bool | None = None) -> None:
        super().__init__(message)
        self.error_class = error_class
        """``arguments`` (ask again, corrected), ``not_found``, ``permission`` (only a person helps), ``timeout``,
        ``connection``, ``rate_limit``, ``failed``."""
        self.safe_to_repeat = safe_to_repeat
        """``None``: it may have happened in part, and nobody can tell."""


@contextmanager
def boundary(name: Boundary) -> Generator[None]:
    """Turn whatever the user's code raises into a ``TrialError`` that names whose code it was.

    A ``UserError`` passes: it would meet every further trial as well.
    """
    try:
        yield
    except ModelError as e:
        raise TrialError("model", e.error_class, str(e)) from e
    except (TrialError, UserError, TracesError):  # a journal that cannot be written is nobody's failure to be scored
        raise
    except ConnectionError as e:
        raise TrialError(name, "connection", f"{type(e).__name__}: {e}") from e
    except (Exception, SystemExit) as e:
        raise TrialError(name, type(e).__name__, f"{type(e).__name__}: {e}") from e
