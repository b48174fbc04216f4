"""e-LOND with a declared horizon: how much of the error budget the next promotion test may spend.

Of all that is promoted over the life of a validation split, the expected share that is no better is at most the
declared ``alpha``, whatever each test was about and however the tests depend on each other. Each promotion earns the
tests after it a larger share.
"""

from numbers import Integral


class HorizonPassed(ValueError):
    """All the tests that were declared have been opened: the hidden tasks are used up, only new ones help."""


def alpha_for(alpha: float, horizon: int, number: int, promotions: int) -> float:
    """What promotion test *number*, counted from 1, may spend after *promotions* earlier ones were accepted.

    Raises:
        HorizonPassed: *number* is above *horizon*.
        ValueError: the numbers cannot describe a ledger.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha!r} is not between 0 and 1: it is the error budget of the validation split")
    for name, value, least in (("horizon", horizon, 1), ("number", number, 1), ("promotions", promotions, 0)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} {value!r} is not a whole number from {least}")
    if promotions >= number:
        raise ValueError(f"{promotions} promotions before test {number}: each needs a test of its own")
    if number > horizon:
        raise HorizonPassed(
            f"test {number} of a validation split declared for {horizon}: its error budget is spent, and its tasks "
            "have been looked at too often to prove anything more; add new validation tasks"
        )
    return alpha * (promotions + 1) / horizon
