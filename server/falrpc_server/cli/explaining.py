"""check-config --explain: what would become of a call, and why."""

import sys

from falrpc_server.access.explanation import explain, read_endpoint, rpc_problem
from falrpc_server.access.policy import Policy
from falrpc_server.cli import printing
from falrpc_server.config import Settings

__all__ = ["run"]

ANONYMOUS = "anonymous"  # what callers are without authentication


def run(settings: Settings, policy: Policy, identity: str, rpc: str, endpoint_id: str) -> int:
    """Prints it. Returns the exit code: 0 allowed, 1 refused, 2 no such method or endpoint."""
    problems = [problem for problem in (rpc_problem(rpc),) if problem]
    try:
        endpoint = read_endpoint(rpc, endpoint_id)
    except ValueError as error:
        problems.append(f"ENDPOINT: {error}")
    if problems:
        print("\n".join(printing.plain(problem) for problem in problems), file=sys.stderr)
        return 2
    explained = explain(policy, identity, rpc, endpoint)
    verdict = "ALLOWED" if explained.is_allowed else f"REFUSED: PERMISSION_DENIED, {explained.reason}"
    lines = [verdict, *(f"  {label:<9} {text}" for label, text in explained.lines)]
    if settings.auth in ((), ("none",)) and identity != ANONYMOUS:
        lines.append(f"  note      FALRPC_AUTH names no method: here every caller is {ANONYMOUS}")
    print("\n".join(printing.plain(line) for line in lines))
    return 0 if explained.is_allowed else 1
