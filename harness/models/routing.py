"""Which model does what: a small one classifies, a large one judges."""

from dataclasses import dataclass

from harness.models.prices import price_known
from harness.protocols import Model


@dataclass(frozen=True, init=False, repr=False)
class Routes:
    """A table from roles to models: ``maker``, ``judge``, ``summariser``, ``classifier``, the name of a sub-agent.

    ``repr`` shows all of it, sorted; it is part of an experiment's fingerprint.
    """

    default: Model
    """For every role that is not in the table."""
    table: tuple[tuple[str, Model], ...]

    def __init__(self, default: Model, /, **roles: Model) -> None:
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "table", tuple(sorted(roles.items())))

    def of(self, role: str) -> Model:
        return dict(self.table).get(role, self.default)

    @property
    def price_known(self) -> bool:
        """Can a budget in dollars be kept, whoever spends?"""
        return all(price_known(model) for model in (self.default, *dict(self.table).values()))

    def __repr__(self) -> str:
        return f"Routes({', '.join([repr(self.default), *(f'{role}={model!r}' for role, model in self.table)])})"
