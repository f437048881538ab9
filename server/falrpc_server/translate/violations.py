"""What is wrong with a request, collected before anything is sent. Pure."""

from dataclasses import dataclass, field

__all__ = ["InvalidRequest", "Violation", "Violations"]

VIOLATIONS_MAX = 100


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks a rule; the description completes "<field> ..."."""

    field: str
    description: str


class InvalidRequest(Exception):
    """The caller's request breaks rules of this service. Nothing was sent to fal."""

    def __init__(self, violations: list[Violation], left_out: int = 0) -> None:
        super().__init__("; ".join(f"{v.field} {v.description}" for v in violations))
        self.violations = tuple(violations)
        self.left_out = left_out


@dataclass(slots=True)
class Violations:
    """Collects violations, so that a caller learns of all of them at once."""

    found: list[Violation] = field(default_factory=list)
    left_out: int = 0

    def add(self, name: str, description: str) -> None:
        """Notes that the field breaks a rule; beyond the first hundred they are only counted."""
        if len(self.found) < VIOLATIONS_MAX:
            self.found.append(Violation(name, description))
        else:
            self.left_out += 1

    def check(self) -> None:
        """Raises InvalidRequest when anything was noted."""
        if self.found:
            raise InvalidRequest(self.found, self.left_out)
