"""What the example of every language must print."""

import asyncio
import datetime
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme
from tests.clients.languages import ROOT, Language
from tests.clients.strict_service import TOKEN, strict_service
from tests.conftest import Fal, running_gateway

__all__ = ["ExampleTests"]

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
PRINTED = rf"""
uploaded   http://\S+/photo\.jpg
cut out    512x512 http://\S+\.png
accepted   {UUID}
(waiting    position \d+
)+running
log        step 1/4
log        step 2/4
log        step 3/4
log        step 4/4
picture    seed 15860307465884635512 http://\S+/image\.png
step       node_1 fal-ai/fast-sdxl submitted
step       node_1 completed
step       node_2 fal-ai/imageutils/rembg submitted
step       node_2 completed
step       node_3 fal-ai/face-to-sticker submitted
step       node_3 completed
sticker    http://\S+/sticker\.png
refused    input\.prompt: Field required
refused    input\.num_images: Input should be less than or equal to 8
""".removeprefix("\n")
EXAMPLE_SECONDS_MAX = 90


class ExampleTests:
    """The complete program in examples/."""

    async def test_it_prints_what_its_users_will_see(
        self, language: Language, emulator_url: str, fal: Fal
    ) -> None:
        """It uploads, runs, subscribes, streams, and handles a violation; a request it takes back."""
        followed(fal)
        fal.will("queue", delay_seconds=60, after=1)
        async with running_gateway(emulator_url=emulator_url) as gateway:
            ended = await example(language, FALRPC_ADDRESS=gateway.address)
        assert ended.stderr == ""
        assert re.fullmatch(PRINTED + rf"queued     {UUID}, cancelled\n", ended.stdout), ended.stdout
        assert ended.returncode == 0
        assert len(await fal.seen(operation="cancel")) == 1

    async def test_a_quota(self, language: Language, emulator_url: str, fal: Fal) -> None:
        """When the queue is too long it says when to try again, and goes on."""
        followed(fal)
        body = '{"detail":"Queue is too long"}'
        fal.will(
            "answer",
            operation="submit",
            after=1,
            status=429,
            body=body,
            headers={"x-fal-needs-retry": "1"},
            times=None,
        )
        async with running_gateway(emulator_url=emulator_url) as gateway:
            ended = await example(language, FALRPC_ADDRESS=gateway.address)
        assert ended.stderr == ""
        assert re.fullmatch(PRINTED + r"quota      QUEUE_TOO_LONG, try again in [1-9]\d*s\n", ended.stdout), (
            ended.stdout
        )
        assert ended.returncode == 0

    async def test_the_short_form(
        self, language: Language, emulator_url: str, fal: Fal, tmp_path: Path
    ) -> None:
        """What the README shows compiles, runs, and gives what it says."""
        lines = readme_lines(language)
        async with running_gateway(emulator_url=emulator_url) as gateway:
            command = language.snippet(lines.replace("localhost:50051", gateway.address), tmp_path)
            ended = await finished(command, language.example_folder)
        assert re.fullmatch(r"http://\S+/image\.png\n", ended.stdout), ended
        assert ended.returncode == 0
        assert len(await fal.seen(operation="run")) == 1

    async def test_a_wrong_address(self, language: Language, unused_port: int) -> None:
        """Where nobody listens, one line says so."""
        line = refusal(await example(language, FALRPC_ADDRESS=f"127.0.0.1:{unused_port}"))
        assert line.startswith("falrpc: UNAVAILABLE: ")
        assert re.search("connection refused|ECONNREFUSED", line, re.IGNORECASE), line

    @pytest.mark.parametrize("address", ["localhost:99999", "localhost:port", "http://localhost:50051"])
    async def test_an_address_that_is_none(self, address: str, language: Language) -> None:
        """It is refused, in one line."""
        assert refusal(await example(language, FALRPC_ADDRESS=address)).startswith("falrpc: ")

    async def test_a_ca_file_that_is_missing(self, language: Language) -> None:
        """It is named, in one line."""
        line = refusal(await example(language, FALRPC_CA_FILE="/no/such/ca.pem"))
        assert line.startswith("falrpc: ")
        assert "/no/such/ca.pem" in line

    async def test_an_expired_certificate(self, language: Language, tmp_path: Path) -> None:
        """A certificate that has expired is named as the reason, in one line."""
        ca, ca_file = trustme.CA(), tmp_path / "ca.pem"
        ca.cert_pem.write_to_path(ca_file)
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        certificate = ca.issue_cert("localhost", "127.0.0.1", not_after=past)
        with strict_service(certificate) as port:
            line = refusal(
                await example(language, FALRPC_ADDRESS=f"localhost:{port}", FALRPC_CA_FILE=str(ca_file))
            )
        assert line.startswith("falrpc: UNAVAILABLE: ")
        assert re.search(
            "certificate.*expired|expired.*certificate|CertificateExpired", line, re.IGNORECASE
        ), line

    async def test_a_certificate_of_somebody_else(self, language: Language, tmp_path: Path) -> None:
        """A certificate of an authority that is not trusted is refused: nothing is sent, in one line."""
        ca_file = tmp_path / "ca.pem"
        trustme.CA().cert_pem.write_to_path(ca_file)
        with strict_service(trustme.CA().issue_cert("localhost")) as port:
            line = refusal(
                await example(language, FALRPC_ADDRESS=f"localhost:{port}", FALRPC_CA_FILE=str(ca_file))
            )
        assert line.startswith("falrpc: UNAVAILABLE: ")
        assert re.search("certificate|certification|CERT", line), line

    async def test_a_missing_token(self, language: Language, tmp_path: Path) -> None:
        """A service that wants a token says so, in one line that names the setting; with it, calls go through."""
        ca, ca_file = trustme.CA(), tmp_path / "ca.pem"
        ca.cert_pem.write_to_path(ca_file)
        with strict_service(ca.issue_cert("localhost")) as port:
            given = {"FALRPC_ADDRESS": f"localhost:{port}", "FALRPC_CA_FILE": str(ca_file)}
            line = refusal(await example(language, **given))
            assert line == "falrpc: UNAUTHENTICATED: a bearer token is needed (set FALRPC_TOKEN)"
            line = refusal(await example(language, **given, FALRPC_TOKEN=TOKEN))
            assert line == "falrpc: UNIMPLEMENTED: let in, but nothing is served here"


def followed(fal: Fal) -> None:
    """Lets fal take its time with the request that is subscribed to, so that all of its states are seen."""
    fal.will("queue", delay_seconds=10, position=2)
    fal.will("slow", operation="work", endpoint="fal-ai/fast-sdxl", seconds=1)


async def example(language: Language, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the example to its end."""
    return await finished(language.example, language.example_folder, **environment)


def readme_lines(language: Language) -> str:
    """The lines of the README in a language: one block."""
    tag = {"node": "js"}.get(language.name, language.name)
    [lines] = re.findall(rf"^```{tag}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert "localhost:50051" in lines
    return str(lines)


async def finished(
    command: Sequence[str | Path], folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end."""
    return await asyncio.to_thread(
        subprocess.run,
        list(command),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS_MAX,
    )


def refusal(ended: "subprocess.CompletedProcess[str]") -> str:
    """The one line that an example which can't go on leaves."""
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    [line] = ended.stderr.splitlines()
    return line
