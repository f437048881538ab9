"""What a client in every language must do; test_go.py and its siblings say in which."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.clients.calling import Caller, calling
from tests.clients.languages import Language
from tests.clients.remote import RemoteClient, failure_in
from tests.clients.scenarios import Scenario, all_scenarios, play
from tests.conftest import Fal, running_gateway
from tests.errors.cases import Case, all_cases, told, wanted
from tests.errors.playing import made

__all__ = ["ClientTests", "RepeatTests"]

SEED = 15860307465884635512
MIB = 1024 * 1024
ECHO = "emulator/echo"


class ClientTests:
    """The program in tests/clients, with the helper's defaults."""

    @pytest.mark.parametrize("scenario", [pytest.param(one, id=one.name) for one in all_scenarios()])
    async def test_a_scenario(self, scenario: Scenario, caller: Caller, fal: Fal) -> None:
        """A client sees what the scenario wants."""
        await play(scenario, caller, fal)

    @pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in all_cases()])
    async def test_an_error_case(self, case: Case, caller: Caller, fal: Fal) -> None:
        """A client is told what the case wants, and its helper reads that."""
        failed, request_id = await made(case, RemoteClient(caller), fal)
        got = told(failed, request_id)
        assert got == wanted(case, got), (case.description, got)

    async def test_five_hundred_violations(self, caller: Caller, fal: Fal) -> None:
        """Of 500 violations a client is told those that fit, and that there are more."""
        items = [
            {"loc": ["body", "подсказки", i], "msg": f"Поле № {i} обязательно", "type": "missing"}
            for i in range(500)
        ]
        fal.will("answer", operation="run", status=422, body=json.dumps({"detail": items}))
        failure = failure_in(await caller.call("Run", {"endpointId": ECHO}))
        assert failure.code == "INVALID_ARGUMENT"
        assert failure.info.reason == "MISSING"
        assert 5 < len(failure.fields) < 500
        assert failure.fields[0] == 'input["подсказки"][0]'
        assert failure.info.metadata["truncated"] == f"{500 - len(failure.fields)} field violations"

    async def test_an_answer_of_20_mb(self, caller: Caller) -> None:
        """A client with the helper's defaults takes an answer of 20 MB."""
        size = 20_000_000
        request = {"endpointId": "emulator/blob", "input": {"json": json.dumps({"bytes": size})}}
        got = await caller.call("Run", request, timeout_seconds=60)
        assert got["code"] == "OK", got
        [message] = got["messages"]
        assert len(message["output"]["json"]) == size

    async def test_a_stream_that_is_left(self, caller: Caller, fal: Fal) -> None:
        """A client that leaves a stream in the way of its language ends fal's work for it."""
        request = {"endpointId": "emulator/ticks", "input": {"json": '{"events": 1000, "seconds": 600}'}}
        got = await caller.call("Stream", request, leave_after=2)
        assert len(got["messages"]) == 2, got
        async with asyncio.timeout(10):
            while await fal.open_requests() > 0:
                await asyncio.sleep(0.01)
        [stream] = await fal.seen(operation="stream")
        assert stream["outcome"] == "client_closed"

    async def test_an_input_that_is_too_large(self, caller: Caller, fal: Fal) -> None:
        """A message of more than 16 MiB is refused by gRPC itself, which promises nothing."""
        request = {"endpointId": ECHO, "input": {"json": json.dumps({"text": "x" * 17 * MIB})}}
        got = await caller.call("Run", request, timeout_seconds=60)
        assert (got["code"], got["reason"], got["safe_to_repeat"]) == ("RESOURCE_EXHAUSTED", "", False)
        assert await fal.seen() == []


class RepeatTests:
    """What the helper's defaults repeat, counted where requests arrive: this gateway itself repeats nothing."""

    @pytest.fixture
    async def own_caller(
        self, language: Language, emulator_url: str, tmp_path: Path
    ) -> AsyncIterator[Caller]:
        """A program with a gateway of its own."""
        async with (
            running_gateway(emulator_url=emulator_url, resends_max=0) as gateway,
            calling(language, gateway.address, tmp_path / "stderr") as one,
        ):
            yield one

    @pytest.mark.parametrize("method", ["Status", "Result", "Cancel"])
    async def test_what_reads_is_repeated(self, method: str, own_caller: Caller, fal: Fal) -> None:
        """UNAVAILABLE of Status, Result and Cancel is tried again, three times in all."""
        handle = (await own_caller.call("Submit", {"endpointId": ECHO}))["messages"][0]["handle"]
        waited = {"handle": handle, "wait": "20s"}
        assert (await own_caller.call("Result", waited))["code"] == "OK"
        earlier = len(await fal.seen(operation=method.lower()))
        fal.will("edge_page", operation=method.lower(), status=503, times=2)
        got = await own_caller.call(method, {"handle": handle})
        assert got["code"] == "OK", got
        assert len(await fal.seen(operation=method.lower())) == earlier + 3
        fal.will("edge_page", operation=method.lower(), status=503, times=None)
        got = await own_caller.call(method, {"handle": handle})
        assert (got["code"], got["safe_to_repeat"]) == ("UNAVAILABLE", True)
        assert len(await fal.seen(operation=method.lower())) == earlier + 6

    @pytest.mark.parametrize("method", ["Run", "Submit", "Stream", "StreamWorkflow"])
    async def test_what_costs_is_not_repeated(self, method: str, own_caller: Caller, fal: Fal) -> None:
        """When the answer is lost, UNKNOWN says so, and fal has the request once."""
        operation = {"Run": "run", "Submit": "submit"}.get(method, "stream")
        endpoint_id = "workflows/emulator/ticks" if method == "StreamWorkflow" else "emulator/ticks"
        fal.will("reset_after_body", operation=operation, times=None)
        got = await own_caller.call(method, {"endpointId": endpoint_id})
        assert (got["code"], got["reason"]) == ("UNKNOWN", "OUTCOME_UNKNOWN"), got
        assert got["safe_to_repeat"] is False
        assert len(await fal.seen(operation=operation)) == 1

    @pytest.mark.parametrize("method", ["Run", "Submit", "Subscribe", "Stream", "StreamWorkflow"])
    async def test_what_costs_is_not_repeated_even_when_it_may(
        self, method: str, language: Language, unused_port: int, tmp_path: Path
    ) -> None:
        """UNAVAILABLE of a paid call promises that it may be repeated; that is the program's to decide.

        Of two calls the second is refused before it is committed, where gRPC would repeat it.
        """
        unreachable = f"http://127.0.0.1:{unused_port}"
        async with (
            running_gateway(
                emulator_url=unreachable, resends_max=0, breaker_failures=1, breaker_seconds=60
            ) as gateway,
            calling(language, gateway.address, tmp_path / "stderr") as caller,
        ):
            for count, reason in ((1, "UPSTREAM_UNREACHABLE"), (2, "UPSTREAM_SUSPENDED")):
                request = {"endpointId": "workflows/a/b" if method == "StreamWorkflow" else ECHO}
                got = await caller.call(method, {"submit": request} if method == "Subscribe" else request)
                assert (got["code"], got["reason"]) == ("UNAVAILABLE", reason), got
                assert got["safe_to_repeat"] is True
                assert len(await gateway.finished(count)) == count
