"""Whose affair a failure is, for whoever is on call."""

import pytest
from tests.errors.cases import Case, all_cases
from tests.errors.test_pure import answer_of

from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.models import Operation
from falrpc_server.translate import interruptions, verdicts
from falrpc_server.translate.interruptions import CallProgress
from falrpc_server.translate.verdicts import Source
from falrpc_server.translate.violations import InvalidRequest, Violation

CASES = {case.name: case for case in all_cases()}
ANSWERS = [
    ("http-400-run", Source.CALLER),
    ("http-404-run", Source.CALLER),
    ("http-424-run", Source.CALLER),
    ("pydantic-2-stored", Source.CALLER),
    ("model-file-download-error-live", Source.CALLER),
    ("request-client-cancelled-stored", Source.CALLER),
    ("result-too-early", Source.CALLER),
    ("queue-too-long-submit", Source.CALLER),
    ("start-timeout-user-run", Source.CALLER),
    ("http-401-run", Source.GATEWAY),
    ("balance-exhausted-run", Source.ACCOUNT),
    ("http-402-stored", Source.ACCOUNT),
    ("http-403-run", Source.ACCOUNT),
    ("request-concurrent-requests-limit-run", Source.ACCOUNT),
    ("http-500-run", Source.FAL),
    ("http-501-run", Source.FAL),
    ("request-runner-disconnected-stored", Source.FAL),
    ("request-request-timeout-run", Source.FAL),
    ("edge-502-run", Source.FAL),
    ("edge-502-status", Source.FAL),
]
PROGRESS = CallProgress(True, 1, True, False, "a/b", "")


@pytest.mark.parametrize(("case", "source"), [pytest.param(CASES[n], s, id=n) for n, s in ANSWERS])
def test_answers(case: Case, source: Source) -> None:
    """Bad input is the caller's affair, the key the gateway's, limits the account's, the rest fal's."""
    verdict = verdicts.of_fal_error(answer_of(case))
    assert (verdict.source, verdict.http_status) == (source, case.fal["status"])


@pytest.mark.parametrize(
    ("failure", "source"),
    [
        (Failure.UNREACHABLE, Source.FAL),
        (Failure.INTERRUPTED, Source.FAL),
        (Failure.TRUNCATED, Source.FAL),
        (Failure.MALFORMED, Source.FAL),
        (Failure.STREAM_TRUNCATED, Source.FAL),
        (Failure.STREAM_ERROR, Source.FAL),
        (Failure.TOO_LARGE, Source.GATEWAY),
        (Failure.HOST_REFUSED, Source.GATEWAY),
        (Failure.NOT_COMPLETED, Source.CALLER),
    ],
)
def test_exchanges(failure: Failure, source: Source) -> None:
    """What happens to an exchange is fal's affair, but for the limits of this server and of the caller."""
    assert verdicts.of_fal_error(FalError(Operation.RUN, failure, "x")).source is source


def test_what_is_not_fals() -> None:
    """Bad requests and deadlines are the caller's affair, shutdown and bugs the gateway's."""
    bad = InvalidRequest([Violation("a", "b")])
    assert verdicts.of_invalid_request(bad).source is Source.CALLER
    assert interruptions.of_deadline(PROGRESS).source is Source.CALLER
    assert interruptions.of_drain(PROGRESS).source is Source.GATEWAY
    assert interruptions.of_internal_error("c", PROGRESS).source is Source.GATEWAY
