"""Decisions: which tenant an identity belongs to, and what it may do. Pure, and closed by default.

Nobody is admitted whom no rule names; no method and no endpoint is open that the rule does not name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from falrpc_server.access import option_rules, policy_file
from falrpc_server.access.identity_patterns import IdentityPattern
from falrpc_server.access.policy_file import PolicyError
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.access.rules import ANY_ENDPOINT, METHODS, KeySource, Rule, Tenant
from falrpc_server.fal_http import endpoint_patterns
from falrpc_server.fal_http.models import CallOptions, EndpointId, QueueOptions, Upload

__all__ = ["Grant", "Policy", "PolicyError", "Rule", "Tenant"]

GRANTS_MAX = 4_096  # remembered
SHOWN_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Grant:
    """One identity's rights. Each check returns, or raises a Refusal of kind DENIED."""

    identity: str
    tenant: Tenant
    rule: Rule

    def check_rpc(self, rpc: str) -> None:
        """Checks a method of FalService, by its bare name."""
        if rpc not in self.rule.rpcs:
            raise self._refusal("RPC_NOT_ALLOWED", f"{_shown(rpc)} is not allowed for this caller")

    def check_endpoint(self, endpoint: EndpointId) -> None:
        """Checks the endpoint of a call, or of the request that a handle names."""
        if self.endpoint_pattern(endpoint) is None:
            text = f"endpoint {_shown(endpoint.full)} is not allowed for this caller"
            raise self._refusal("ENDPOINT_NOT_ALLOWED", text)

    def endpoint_pattern(self, endpoint: EndpointId) -> str | None:
        """The pattern that allows an endpoint, the longest first; None when none does."""
        if ANY_ENDPOINT in self.rule.endpoints:
            return ANY_ENDPOINT
        return endpoint_patterns.matching(endpoint.full, self.rule.endpoints)

    def call_options(self, options: CallOptions, prefix: str = "") -> CallOptions:
        """A paid call's options with what the rule forces. `prefix` stands before the names of fields."""
        return option_rules.call_options(options, self.rule, prefix)

    def queue_options(self, options: QueueOptions, prefix: str = "") -> QueueOptions:
        """A queue request's options with what the rule forces."""
        return option_rules.queue_options(options, self.rule, prefix)

    def upload(self, upload: Upload, prefix: str = "header.") -> Upload:
        """A file's description with what the rule forces."""
        return option_rules.upload(upload, self.rule, prefix)

    def _refusal(self, reason: str, text: str) -> Refusal:
        return Refusal(Kind.DENIED, reason, text, cause=f"{text}; {self.rule.place} decides")


class Policy:
    """Tenants and rules. Never changes: a policy that is read again is another one."""

    __slots__ = ("_grants", "_rules", "_tenants")

    def __init__(self, tenants: Iterable[Tenant], rules: Iterable[Rule]) -> None:
        """Takes rules in the order in which they decide; the tenant of each must be there."""
        self._tenants = MappingProxyType({tenant.name: tenant for tenant in tenants})
        self._rules = tuple(rules)
        self._grants: dict[str, Grant] = {}  # of identities that were asked for
        assert all(rule.tenant in self._tenants for rule in self._rules)

    @classmethod
    def read(cls, text: str, path: str, fal_key_from: KeySource = "server") -> "Policy":
        """Reads a policy file. Raises PolicyError with everything that is wrong with it.

        `path` is what problems call the file; `fal_key_from` is for tenants that do not say.
        """
        tenants, rules = policy_file.read(text, path, fal_key_from)
        return cls(tenants, rules)

    @classmethod
    def open_to_all(cls, fal_key_from: KeySource) -> "Policy":
        """What holds without a policy file: everyone may do everything, as one tenant."""
        everyone = (IdentityPattern.parse("**"),)
        rule = Rule("no policy file", everyone, "default", METHODS, (ANY_ENDPOINT,))
        return cls([Tenant("default", fal_key_from)], [rule])

    @property
    def tenants(self) -> Mapping[str, Tenant]:
        """By name."""
        return self._tenants

    @property
    def rules(self) -> tuple[Rule, ...]:
        """In the order in which they decide."""
        return self._rules

    def grant(self, identity: str) -> Grant:
        """What an identity may do: the first rule that matches it decides. Raises Refusal."""
        if grant := self._grants.get(identity):
            return grant
        for rule in self._rules:
            if rule.matches(identity):
                if len(self._grants) >= GRANTS_MAX:
                    self._grants.clear()
                grant = self._grants[identity] = Grant(identity, self._tenants[rule.tenant], rule)
                return grant
        text = "this caller is not allowed to use this service"
        raise Refusal(Kind.DENIED, "CALLER_NOT_ALLOWED", text, cause=f"no rule matches {_shown(identity)}")


def _shown(text: str) -> str:
    """What a caller sent, short and without control characters."""
    return repr(text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "...")
