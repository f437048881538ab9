"""What a policy consists of: tenants, and rules that give identities to them. Pure values."""

from dataclasses import dataclass
from typing import Literal

from falrpc_server.access.identity_patterns import IdentityPattern

__all__ = [
    "ANY_ENDPOINT",
    "CALLS",
    "METHODS",
    "PAID",
    "QUEUED",
    "STREAMS",
    "UPLOADS",
    "KeySource",
    "Rule",
    "Tenant",
]

KeySource = Literal["server", "file", "caller"]

# FalService's methods, by exact name.
CALLS = ("Run", "Submit", "Status", "Result", "Cancel")
STREAMS = ("Subscribe", "StreamStatus", "Stream", "StreamWorkflow")
UPLOADS = ("Upload",)
METHODS = CALLS + STREAMS + UPLOADS
PAID = frozenset({"Run", "Submit", "Subscribe", "Stream", "StreamWorkflow"})  # those with CallOptions
QUEUED = frozenset({"Submit", "Subscribe"})  # those with QueueOptions

ANY_ENDPOINT = "*"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Callers that share a fal key, limits and requests.

    Attributes:
        fal_key_from: Whose fal key its calls use; `file` is `fal_key_file`, which somebody else reads.
        weight: Its share of a full server, compared with the others'.
        calls_in_flight_max: How many unary calls at once; None for no limit of its own, here and below.
        burst: How many calls may come at once before `calls_per_second` counts.
    """

    name: str
    fal_key_from: KeySource = "server"
    fal_key_file: str = ""
    weight: float = 1.0
    calls_in_flight_max: int | None = None
    streams_in_flight_max: int | None = None
    uploads_in_flight_max: int | None = None
    calls_per_second: float | None = None
    burst: int | None = None
    upload_bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What some identities may do.

    Attributes:
        place: Where it stands, for people: `policy.toml:31: rules[2]`.
        identities: Whom it is for: those that any of the patterns matches.
        tenant: The name of their tenant.
        rpcs: The methods that they may call.
        endpoints: Beginnings of endpoint ids in whole parts, or ANY_ENDPOINT.
        priority_max: `low` forces low priority on queue requests.
        store_io: Forced value; None: as the caller says.
        webhook_hosts: Hosts and `*.` patterns; None: any.
        lifecycle_seconds_max: How long files may be kept at most; None: as the caller says.
        access_control: Whether callers may say who reads files.
    """

    place: str
    identities: tuple[IdentityPattern, ...]
    tenant: str
    rpcs: tuple[str, ...]
    endpoints: tuple[str, ...] = ()
    priority_max: Literal["normal", "low"] = "normal"
    store_io: bool | None = None
    webhook_hosts: tuple[str, ...] | None = None
    lifecycle_seconds_max: int | None = None
    access_control: Literal["allowed", "forbidden"] = "allowed"

    def matches(self, identity: str) -> bool:
        """Whether it is for this caller."""
        return any(pattern.matches(identity) for pattern in self.identities)
