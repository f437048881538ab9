"""The gate that every call passes: who calls, what that caller may do, and whose money it spends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from falrpc_server.access import metadata
from falrpc_server.access.authentication import Authentication, Peer
from falrpc_server.access.ownership import Ownership
from falrpc_server.access.policy import Grant, Policy, Tenant
from falrpc_server.access.refusals import Kind, Refusal
from falrpc_server.fal_http.accounts import Account, key_problem
from falrpc_server.fal_http.models import EndpointId, RequestRef

__all__ = ["Caller", "Gate"]

KEY_HEADER = "x-fal-key"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, and what that caller may do.

    What a method asks for is checked here before an account is lent to the call: a method that does not ask
    can't spend anything.
    """

    identity: str
    grant: Grant
    account: Account
    ownership: Ownership

    @property
    def tenant(self) -> Tenant:
        """Whose limits count."""
        return self.grant.tenant

    def spend_on(self, endpoint: EndpointId) -> Account:
        """The account for calls to an endpoint. Raises Refusal."""
        self.grant.check_endpoint(endpoint)
        return self.account

    def spend_on_request(self, ref: RequestRef) -> Account:
        """The account for calls about a queue request. Raises Refusal: it may be another tenant's."""
        if not self.ownership.is_owner(self.tenant.name, ref):
            text = "there is no such request; a handle is needed as it came from Submit or Subscribe"
            raise Refusal(Kind.NOT_FOUND, "REQUEST_NOT_FOUND", text, cause="not this tenant's handle")
        return self.spend_on(ref.endpoint)

    def signed(self, ref: RequestRef) -> RequestRef:
        """The request's handle, with the proof that it is this tenant's."""
        token = self.ownership.token(self.tenant.name, ref)
        return RequestRef(ref.endpoint, ref.request_id, token) if token else ref


class Gate:
    """Its parts are replaced as a whole when their files change."""

    def __init__(
        self,
        authentication: Authentication,
        policy: Policy,
        accounts: Mapping[str, Account],
        ownership: Ownership,
    ) -> None:
        """Takes the accounts by tenant; those who pay with their callers' keys have none."""
        self.authentication = authentication
        self.policy = policy
        self.accounts = accounts
        self.ownership = ownership

    async def identify(self, peer: Peer) -> str:
        """Who calls. Raises Refusal when nobody knows."""
        metadata.check(peer.metadata)
        return await self.authentication.identify(peer)

    def enter(self, identity: str, peer: Peer, rpc: str) -> Caller:
        """What that caller may do. Raises Refusal when this method is nothing of it."""
        grant = self.policy.grant(identity)
        grant.check_rpc(rpc)
        account = self._account(grant.tenant, peer)
        return Caller(identity, grant, account, self.ownership)

    def _account(self, tenant: Tenant, peer: Peer) -> Account:
        keys = [value for name, value in peer.metadata if name == KEY_HEADER]
        if tenant.fal_key_from == "caller":
            return Account.of_caller(_only_key(keys))
        if keys:  # using another key than the caller means would spend the wrong money
            text = f"{KEY_HEADER} is not taken here: the server's key pays"
            raise Refusal(Kind.BAD_METADATA, "FAL_KEY_NOT_TAKEN", text)
        return self.accounts[tenant.name]


def _only_key(keys: Sequence[str | bytes]) -> str:
    key = keys[0] if len(keys) == 1 else ""
    if not isinstance(key, str) or (problem := key_problem(key)):
        cause = problem if len(keys) == 1 and isinstance(key, str) else f"{len(keys)} keys"
        text = f"a fal key is required as metadata {KEY_HEADER}, exactly one"
        raise Refusal(Kind.UNAUTHENTICATED, "FAL_KEY_REQUIRED", text, cause=cause)
    return key
