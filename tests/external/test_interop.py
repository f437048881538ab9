"""grpc-go's client of the interoperability tests, against the gateway and its interceptors."""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from tests.external.frozen import assert_frozen
from tests.external.tools import go_tool
from tests.processes.gateway import served
from tests.security.guarded import Files

CASES = (
    *("empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream"),
    *("timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response"),
    *("status_code_and_message", "special_status_message", "custom_metadata"),
    *("unimplemented_method", "unimplemented_service", "pick_first_unary", "rpc_soak", "channel_soak"),
)
SOAK = (
    "-soak_iterations=100",
    "-soak_overall_timeout_seconds=60",
    "-soak_per_iteration_max_acceptable_latency_ms=5000",  # on a busy machine
)
AT_ONCE = 4
SECONDS_MAX = 400  # the build of the tools included


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize("over", ["cleartext", "tls"])
async def test_interop(emulator_url: str, tmp_path: Path, over: str) -> None:
    """Each case passes behind our interceptors; one that does not, or no longer, changes the list."""
    settings, flags = {}, ()
    if over == "tls":
        files = Files(tmp_path)
        settings = files.tls()
        authority = files.write("authority.pem", files.authority.pem)
        flags = ("-use_tls", "-use_test_ca", f"-ca_file={authority}", "-server_host_override=localhost")
    client = await asyncio.to_thread(go_tool, "client")
    free = asyncio.Semaphore(AT_ONCE)
    with served(emulator_url, program="tests.external.interop_served", **settings) as gateway:
        host, _, port = gateway.address.rpartition(":")

        async def checked(case: str) -> tuple[str, str]:
            async with free:
                command = (client, f"-server_host={host}", f"-server_port={port}", f"-test_case={case}")
                process = await asyncio.create_subprocess_exec(
                    *command, *flags, *SOAK, stdout=PIPE, stderr=STDOUT
                )
                said, _ = await process.communicate()
            return f"{case}: {'fail' if process.returncode else 'pass'}", said.decode()

        told = dict(await asyncio.gather(*map(checked, CASES)))
        # Calls of methods that are not there never get to the interceptors.
        assert gateway.codes["OK"] > 2 * 100
    assert_frozen(f"interop-{over}.txt", list(told), told)
