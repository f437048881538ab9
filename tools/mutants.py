"""Breaks the service in one way after the other and sees that tests notice. Run it as `make mutants`.

Each mutant is one replacement in one file of a copy of the tree. It is caught when the tests named with it
fail there; a replacement whose text is not found, or tests that do not even start, are mistakes in the list.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVER = "server/falrpc_server"
TESTS_FAILED = 1  # pytest's exit code
SECONDS_MAX = 300


@dataclass(frozen=True)
class Mutant:
    """One way of being wrong.

    Attributes:
        name: What the service does wrong.
        file: The file, below the service's package.
        old, new: The text that is there once, and what replaces it.
        tests: Who must notice: arguments of pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "paid requests are sent again after a cut",
        "fal_http/retry.py",
        "if error.failure is Failure.UNREACHABLE or was_refused(error):",
        "if error.failure in (Failure.UNREACHABLE, Failure.INTERRUPTED) or was_refused(error):",
        ("tests/faults/test_every_fault.py",),
    ),
    Mutant(
        "what left counts as not sent",
        "fal_http/exchange.py",
        "failure = Failure.INTERRUPTED if progress.connected else Failure.UNREACHABLE",
        "failure = Failure.UNREACHABLE",
        ("tests/faults/test_every_fault.py",),
    ),
    Mutant(
        "the HTTP engine repeats requests by itself",
        "fal_http/transport.py",
        "session._retry_connection = False",
        "session._retry_connection = True",
        ("tests/unit/test_transport.py",),
    ),
    Mutant(
        "bytes that come between two requests are taken for an answer",
        "fal_http/connector.py",
        "                connection.abort()",
        "                pass",
        ("tests/faults/test_response_heads.py",),
    ),
    Mutant(
        "the backup host gets what the first one may have taken",
        "fal_http/exchange.py",
        "_NOT_SENT = (Failure.UNREACHABLE, Failure.SUSPENDED)",
        "_NOT_SENT = (Failure.UNREACHABLE, Failure.SUSPENDED, Failure.INTERRUPTED)",
        ("tests/faults/test_backup_hosts.py",),
    ),
    Mutant(
        "an app's own 429 counts as fal's",
        "fal_http/retry.py",
        "error.operation.is_paid and is_fals_limit(error) and",
        "error.operation.is_paid and error.http_status == 429 and",
        ("tests/faults/test_resends.py",),
    ),
    Mutant(
        "calls are not committed before paid work",
        "fal_http/exchange.py",
        "        await scope.commit()\n",
        "",
        ("tests/faults/test_retrying_clients.py",),
    ),
    Mutant(
        "a cancellation is swallowed",
        "interceptors/ending.py",
        "            raise  # the caller left",
        "            return None  # the caller left",
        ("tests/service/test_leaving.py",),
    ),
    Mutant(
        "a cancellation from elsewhere leaves the caller waiting",
        "interceptors/ending.py",
        "elif task and task.cancelling():",
        "elif task:",
        ("tests/service/test_server.py", "-k", "foreign"),
    ),
    Mutant(
        "a message of a stream is dropped",
        "interceptors/adapter.py",
        "                    await call.send(message)\n",
        "                    call.messages += call.messages == 2\n"
        "                    if call.messages != 3:\n"
        "                        await call.send(message)\n"
        "                    call.messages += call.messages == 3\n",
        ("tests/service/test_stream_calls.py",),
    ),
    Mutant(
        "connections of streams that are left stay open",
        "fal_http/exchange.py",
        "yield OpenAnswer(response, about)\n            finally:\n                await response.aclose()",
        "yield OpenAnswer(response, about)\n            finally:\n                pass",
        ("tests/service/test_leaving.py",),
    ),
    Mutant(
        "places of endpoints are not given back",
        "fal_http/endpoint_limits.py",
        "            places.release()",
        "            pass",
        ("tests/unit/test_endpoint_limits.py",),
    ),
    Mutant(
        "outputs have no limit",
        "fal_http/incoming.py",
        "if size > bytes_max:",
        "if size < 0:",
        ("tests/faults/test_endless_answers.py",),
    ),
    Mutant(
        "a key that fal repeats is passed on",
        "fal_http/incoming.py",
        "text = text.replace(secret.encode(), REDACTED.encode())",
        "pass",
        ("tests/errors/test_situations.py",),
    ),
    Mutant(
        "endpoint ids are not checked",
        "fal_http/models.py",
        "if not _SEGMENT.fullmatch(segment):",
        'if segment == "":',
        ("tests/unit/test_endpoint_ids.py",),
    ),
    Mutant(
        "redirects are followed",
        "fal_http/transport.py",
        "allow_redirects=False",
        "allow_redirects=True",
        ("tests/unit/test_transport.py",),
    ),
    Mutant(
        "proxies of the environment are used",
        "fal_http/transport.py",
        "trust_env=False",
        "trust_env=True",
        ("tests/unit/test_transport.py",),
    ),
    Mutant(
        "resends have no budget",
        "fal_http/retry.py",
        "if resends + 1 > self._policy.reserve + self._policy.share * first_attempts:",
        "if resends < 0:",
        ("tests/faults/test_resends.py",),
    ),
    Mutant(
        "deadlines are not kept",
        "interceptors/deadline.py",
        "asyncio.timeout_at(call.scope.deadline)",
        "asyncio.timeout_at(None)",
        ("tests/faults/test_server_deadlines.py",),
    ),
    Mutant(
        "ids of paid work are not logged",
        "interceptors/call.py",
        'self.log.info("request.accepted",',
        'self.log.debug("request.accepted",',
        ("tests/faults/test_sigkill.py",),
    ),
    Mutant(
        "the end of the server cancels remote work",
        "servicer.py",
        "and not is_over and not call.is_drained",
        "and not is_over",
        ("tests/faults/test_sigterm.py",),
    ),
    Mutant(
        "new calls are refused as soon as the server is to stop",
        "app.py",
        "await asyncio.sleep(self._settings.drain_delay_seconds)",
        "await asyncio.sleep(0)",
        ("tests/faults/test_sigterm.py",),
    ),
    Mutant(
        "late calls are left to grpc, which ends them as CANCELLED",
        "app.py",
        "await self._calls.refuse_new(QUIET_SECONDS, REFUSING_SECONDS_MAX)",
        "await asyncio.sleep(QUIET_SECONDS)",
        ("tests/faults/test_last_calls.py",),
    ),
    Mutant(
        "clean-ups are not awaited",
        "app.py",
        "        await self._background.drain(CLEAN_UP_SECONDS_MAX)\n",
        "",
        ("tests/service/test_leaving.py",),
    ),
    Mutant(
        "files are not compared with their digest",
        "fal_http/upload_parts.py",
        "if self._sha256 and self._sha256 != self.digest:",
        "if not self._sha256 and self._sha256 == self.digest:",
        ("tests/uploads/test_parts.py",),
    ),
    Mutant(
        "the key goes where files go",
        "fal_http/exchange.py",
        "credential = () if is_at_storage else self._credential",
        "credential = self._credential",
        ("tests/unit/test_client.py",),
    ),
    Mutant(
        "bytes go to any host",
        "fal_http/storage_answers.py",
        "listed = any(host == name",
        "listed = True or any(host == name",
        ("tests/unit/test_upload_targets.py",),
    ),
    Mutant(
        "parts take memory that others have",
        "fal_http/byte_budget.py",
        "if not self._line and count <= self._free:",
        "if True:",
        ("tests/unit/test_byte_budget.py",),
    ),
]


def main(chosen: list[str]) -> int:
    """Tries all mutants, or those whose names contain one of the arguments. Returns the exit code."""
    mutants = [m for m in MUTANTS if not chosen or any(part in m.name for part in chosen)]
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        _copy(tree)
        missed = [mutant.name for mutant in mutants if not _is_caught(mutant, tree)]
    print(f"{len(mutants) - len(missed)} of {len(mutants)} caught")
    return 1 if missed or not mutants else 0


def _copy(tree: Path) -> None:
    """Copies what git has, and what it would have, to a directory."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _is_caught(mutant: Mutant, tree: Path) -> bool:
    path = tree / SERVER / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file} has {mutant.old!r} {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    finally:
        path.write_text(text)
    failed = next((line for line in done.stdout.splitlines() if line.startswith("FAILED ")), "")
    word = {TESTS_FAILED: "caught", 0: "MISSED"}.get(done.returncode, f"pytest exited {done.returncode}")
    print(f"{word}: {mutant.name} ({time.monotonic() - started:.0f} s) {failed}", flush=True)
    if done.returncode not in (0, TESTS_FAILED):
        print(done.stdout[-2_000:])
    return done.returncode == TESTS_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
