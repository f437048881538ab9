"""The only place that ends a call with a status.

Expected failures are InvalidRequest, UploadMismatch, Refusal, FalError, DeadlinePassed, ServerDraining and
ReaderStalled; anything else is a bug of ours and shows the caller nothing but an id.
"""

import asyncio
import contextlib
from typing import Any, NoReturn

import grpc
from google.rpc import code_pb2

from falrpc_server.access.refusals import Refusal
from falrpc_server.fal_http.error_bodies import FalError
from falrpc_server.fal_http.models import RequestRef
from falrpc_server.fal_http.upload_errors import UploadMismatch, UploadStalled, UploadTooLarge
from falrpc_server.interceptors.adapter import Proceed
from falrpc_server.interceptors.call import Call, ReaderStalled
from falrpc_server.interceptors.deadline import DeadlinePassed
from falrpc_server.interceptors.refusing import ServerDraining
from falrpc_server.translate import interruptions, refusals, rpc_status, verdicts
from falrpc_server.translate.interruptions import CallProgress
from falrpc_server.translate.verdicts import Verdict
from falrpc_server.translate.violations import InvalidRequest

__all__ = ["ending"]

PAID_METHODS = frozenset({"Run", "Submit", "Stream", "StreamWorkflow", "Subscribe"})
SUBMITTING_METHODS = frozenset({"Submit", "Subscribe"})
STATUS_SECONDS_MAX = 1.0  # a caller who reads nothing is not told any sooner for our waiting

_CODES = {code.value[0]: code for code in grpc.StatusCode}


async def ending(call: Call, proceed: Proceed) -> Any:
    """Turns what a method raises into the call's status."""
    try:
        return await proceed()
    except InvalidRequest as error:
        verdict = verdicts.of_invalid_request(error)
    except UploadMismatch as error:
        verdict = verdicts.of_upload_mismatch(error)
    except UploadTooLarge as error:
        verdict = verdicts.of_upload_too_large(error)
    except UploadStalled:
        verdict = verdicts.of_upload_stalled()
    except Refusal as error:
        call.cause = error.cause
        verdict = refusals.of_refusal(error, call.endpoint_id, call.request_id)
    except FalError as error:
        call.log.info(
            "fal.failed",
            cause=str(error),
            http_status=error.http_status,
            endpoint_id=call.endpoint_id,
            request_id=error.request_id or call.request_id,
        )
        verdict = _of_fal_error(call, error)
    except DeadlinePassed:
        verdict = interruptions.of_deadline(_progress(call))
    except ServerDraining:
        verdict = interruptions.of_drain(_progress(call))
    except ReaderStalled:
        verdict = interruptions.of_stalled_reader(_progress(call))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if call.is_drained and task:
            task.uncancel()
            verdict = interruptions.of_drain(_progress(call))
        elif call.is_stalled and task:
            task.uncancel()
            verdict = interruptions.of_stalled_reader(_progress(call))
        elif task and task.cancelling():
            raise  # the caller left or grpc stopped the call: there is nobody to tell
        else:  # not this call's own: without a status the caller would wait for ever (grpc/grpc#29248)
            verdict = _bug(call)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None  # grpc could not send: the caller has left
    except Exception:
        verdict = _bug(call)
    return await _end(call, verdict)


def _of_fal_error(call: Call, error: FalError) -> Verdict:
    if error.operation.is_upload and call.method != "Upload":
        return verdicts.of_attachment(error, call.endpoint_id)
    followed = call.is_paid and call.has_handle and not error.operation.is_paid
    return verdicts.of_fal_error(error, paid_request_accepted=followed)


def _bug(call: Call) -> Verdict:
    call.log.exception("call.failed")
    return interruptions.of_internal_error(call.call_id, _progress(call))


def _progress(call: Call) -> CallProgress:
    # Attachments of a paid call may have gone when the call itself was not begun.
    has_begun = call.is_paid or call.has_handle or call.method not in PAID_METHODS
    return CallProgress(
        is_paid=call.is_paid,
        attempts=call.scope.attempts if has_begun else 0,
        paid_bytes_may_have_left=call.scope.paid_bytes_may_have_left,
        has_handle=call.has_handle,
        endpoint_id=call.endpoint_id,
        request_id=call.request_id,
    )


def _ownership_token(call: Call) -> str:
    """Who is told the id of a request that goes on needs the rest of its handle, too."""
    if call.method not in SUBMITTING_METHODS or not (call.caller and call.endpoint and call.request_id):
        return ""
    return call.caller.signed(RequestRef(call.endpoint, call.request_id)).ownership_token


async def _end(call: Call, verdict: Verdict) -> NoReturn:
    verdict.metadata |= verdicts.present(finished_nodes=verdicts.listed(call.scope.finished_nodes))
    verdict.metadata |= verdicts.present(ownership_token=_ownership_token(call))
    call.code = code_pb2.Code.Name(verdict.code)
    call.reason = verdict.reason
    call.source = verdict.source.value
    call.http_status = verdict.http_status
    call.is_about(call.endpoint_id, call.request_id or verdict.request_id)
    status = rpc_status.status_of(verdict)
    trailers = ((rpc_status.DETAILS_HEADER, status.SerializeToString()),)
    # It waits behind messages that the caller has not read: grpc has the status by then, and sends it when
    # there is room. An InternalError means that the caller has left meanwhile.
    with contextlib.suppress(TimeoutError, grpc.aio.InternalError):
        async with asyncio.timeout(STATUS_SECONDS_MAX):
            await call.context.abort(_CODES[verdict.code], status.message, trailers)
    raise asyncio.CancelledError  # the only end that grpc then takes as one
