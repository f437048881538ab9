"""fal's file storage by way of CDN tokens (docs/fal-http-api.md §10.2 to §10.4).

A token is asked for with our key and kept for many files; the bytes go to the CDN with it, and the key stays
with fal's own hosts. storage.py has the way with signed URLs.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from falrpc_server.fal_http import storage_answers, storage_wire, wire
from falrpc_server.fal_http.error_bodies import Failure, FalError
from falrpc_server.fal_http.incoming import About, Answer
from falrpc_server.fal_http.models import Operation, Scope, Upload
from falrpc_server.fal_http.storage import PartsTarget
from falrpc_server.fal_http.storage_answers import CdnToken
from falrpc_server.fal_http.transfers import Piece, Transfers, read, taken_once

__all__ = ["CdnStorage", "CdnTokens"]

MARGIN_SECONDS = 300.0  # a token is renewed so long before it ends: an upload takes its time
MARGIN_SHARE = 0.1  # of a short lifetime
ACCOUNTS_MAX = 1_000  # whose tokens are kept
AGAIN_SECONDS = 10.0  # after a renewal that failed

_T = TypeVar("_T")


class CdnTokens:
    """The token that all uploads of an account use, renewed before it ends."""

    def __init__(self, transfers: Transfers, hosts: wire.Hosts) -> None:
        self._transfers = transfers
        self._hosts = hosts
        self._token: CdnToken | None = None
        self._renew_at = self._ends_at = 0.0
        self._asking = asyncio.Lock()
        self._failures = 0
        self._failed: Callable[[], FalError] | None = None

    async def current(self, scope: Scope) -> CdnToken:
        """Returns a token that is good for some time yet, a new one if need be. Raises FalError."""
        clock = asyncio.get_running_loop().time
        if self._token and clock() < self._renew_at:
            return self._token
        failures = self._failures
        async with self._asking:
            if self._token and clock() < self._renew_at:
                return self._token
            if self._failures != failures and self._failed:  # another call's, while this one waited
                raise self._failed()
            asked_at = clock()
            try:
                token = await self._ask(scope)
            except FalError as error:
                if self._token and clock() < self._ends_at:
                    self._renew_at = clock() + AGAIN_SECONDS
                    return self._token
                self._failed, self._failures = _like(error), self._failures + 1
                raise
            margin = min(MARGIN_SECONDS, token.lifetime_seconds * MARGIN_SHARE)
            self._token, self._failed = token, None
            self._ends_at = asked_at + token.lifetime_seconds
            self._renew_at = self._ends_at - margin
            return token

    def refused(self, token: CdnToken) -> None:
        """The CDN does not take it: the next one who needs a token asks for a new one."""
        if self._token is token:
            self._token = None

    async def _ask(self, scope: Scope) -> CdnToken:
        about = About(Operation.UPLOAD_TOKEN)
        answer = await self._transfers.brief(storage_wire.cdn_token(self._hosts), about, scope)
        token = read(lambda: storage_answers.read_cdn_token(answer.body), answer, about)
        if not storage_answers.is_upload_url(token.base_url, self._hosts):
            raise about.failed(Failure.HOST_REFUSED, "base_url is not on the list", answer.status)
        return token


class CdnStorage:
    """The storage by way of CDN tokens."""

    def __init__(self, transfers: Transfers, hosts: wire.Hosts) -> None:
        self._transfers = transfers
        self._hosts = hosts
        self._tokens: OrderedDict[str, CdnTokens] = OrderedDict()  # by account

    async def put(self, upload: Upload, size: int, chunks: AsyncIterator[bytes], scope: Scope) -> str:
        about = About(Operation.UPLOAD_PUT)
        request = storage_wire.post_to_cdn(self._hosts, upload, size)
        answer = await self._attempt(
            lambda token: self._transfers.as_they_come(_with(token, request), about, chunks, scope), scope
        )
        return read(lambda: storage_answers.read_access_url(answer.body), answer, about)

    async def put_pieces(self, upload: Upload, pieces: Sequence[Piece], scope: Scope) -> tuple[str, int]:
        about = About(Operation.UPLOAD_PUT)
        request = storage_wire.post_to_cdn(self._hosts, upload, sum(map(len, pieces)))
        answer, resends = await self._send(request, about, pieces, scope)
        return read(lambda: storage_answers.read_access_url(answer.body), answer, about), resends

    async def begin(self, upload: Upload, scope: Scope) -> PartsTarget:
        about = About(Operation.UPLOAD_BEGIN)

        async def attempt(token: CdnToken) -> Answer:
            request = _with(token, storage_wire.begin_at_cdn(token.base_url, upload))
            return await self._transfers.brief(request, about, scope)

        answer, _ = await self._with_token(attempt, scope)
        target = read(lambda: storage_answers.read_cdn_upload(answer.body), answer, about)
        if not storage_answers.is_upload_url(target.upload_url, self._hosts):
            raise about.failed(Failure.HOST_REFUSED, "access_url is not on the list", answer.status)
        return PartsTarget(target.upload_url, target.file_url, upload.content_type)

    async def put_part(
        self, target: PartsTarget, number: int, pieces: Sequence[Piece], scope: Scope
    ) -> tuple[str, int]:
        about = About(Operation.UPLOAD_PART)
        request = storage_wire.put_part(target.parts_url, number, sum(map(len, pieces)))
        request = replace(request, headers=(*request.headers, ("Content-Type", target.content_type)))
        answer, resends = await self._send(request, about, pieces, scope)
        return read(lambda: storage_answers.read_part(answer.body, answer.headers), answer, about), resends

    async def complete(self, target: PartsTarget, etags: Sequence[str], scope: Scope) -> None:
        about = About(Operation.UPLOAD_COMPLETE)
        request = storage_wire.complete_parts(target.parts_url, etags)
        with taken_once(about):
            await self._with_token(
                lambda token: self._transfers.brief(_with(token, request), about, scope), scope
            )

    async def _send(
        self, request: wire.Request, about: About, pieces: Sequence[Piece], scope: Scope
    ) -> tuple[Answer, int]:
        """Sends bytes that are at hand. Returns the answer, and how often they were sent again."""
        answer, renewed = await self._with_token(
            lambda token: self._transfers.pieces(_with(token, request), about, pieces, scope), scope
        )
        return answer, about.resends + renewed

    async def _with_token(self, attempt: Callable[[CdnToken], Awaitable[_T]], scope: Scope) -> tuple[_T, int]:
        """Attempts what takes a token: once more with a new one when the CDN refuses the one that we had.

        Returns what came of it, and whether (1) or not (0) it was attempted again.
        """
        try:
            return await self._attempt(attempt, scope), 0
        except FalError as error:
            if error.http_status != 401 or not error.operation.has_own_credential:
                raise
        return await self._attempt(attempt, scope), 1

    async def _attempt(self, attempt: Callable[[CdnToken], Awaitable[_T]], scope: Scope) -> _T:
        tokens = self._tokens_of(scope)
        token = await tokens.current(scope)
        try:
            return await attempt(token)
        except FalError as error:
            if error.http_status == 401 and error.operation.has_own_credential:
                tokens.refused(token)
            raise

    def _tokens_of(self, scope: Scope) -> CdnTokens:
        """The tokens of the account that pays."""
        account_id = scope.account.id if scope.account else ""
        tokens = self._tokens.setdefault(account_id, CdnTokens(self._transfers, self._hosts))
        self._tokens.move_to_end(account_id)
        if len(self._tokens) > ACCOUNTS_MAX:
            self._tokens.popitem(last=False)
        return tokens


def _with(token: CdnToken, request: wire.Request) -> wire.Request:
    return replace(request, headers=(*request.headers, ("Authorization", f"Bearer {token.secret}")))


def _like(error: FalError) -> Callable[[], FalError]:
    """Makes errors that say the same. The error itself would keep the frames that it came through."""
    make = partial(
        FalError,
        error.operation,
        error.failure,
        "another call asked in vain",
        answer=error.answer,
        http_status=error.http_status,
        retry_after_seconds=error.retry_after_seconds,
    )
    is_callers_key = error.is_callers_key

    def made() -> FalError:
        like = make()
        like.is_callers_key = is_callers_key
        return like

    return made
