"""buf refuses changes of the contract that break callers (rule FILE of protos/buf.yaml)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).parent / "buf"
V1 = "falrpc/v1"
SECONDS_MAX = 60
BROKEN = 100  # buf's exit code for findings

BREAKING = {
    "a field is removed": (
        "payload.proto",
        "  bytes data = 2;\n}\n\n// Attachment",
        "}\n\n// Attachment",
        'Previously present field "2" with name "data" on message "BinaryOutput" was deleted.',
    ),
    "an RPC is removed": (
        "fal_service.proto",
        "  rpc Submit(SubmitRequest) returns (SubmitResponse);\n",
        "",
        'Previously present RPC "Submit" on service "FalService" was deleted.',
    ),
    "an enum value is removed": (
        "queue.proto",
        "  PRIORITY_LOW = 2;\n",
        "",
        'Previously present enum value "2" on enum "Priority" was deleted.',
    ),
    "a message is renamed": (
        "*.proto",
        "WorkflowError ",
        "WorkflowFailure ",
        'Previously present message "WorkflowError" was deleted from file.',
    ),
    "a field has another type": (
        "fal_service.proto",
        "  int64 size = 2;\n",
        "  int32 size = 2;\n",
        'Field "2" with name "size" on message "UploadResponse" changed type from "int64" to "int32".',
    ),
    "a field has another number": (
        "queue.proto",
        "  string request_id = 2;\n",
        "  string request_id = 4;\n",
        'Previously present field "2" with name "request_id" on message "RequestHandle" was deleted.',
    ),
    "a stream is none any more": (
        "fal_service.proto",
        "returns (stream StreamResponse)",
        "returns (StreamResponse)",
        'RPC "Stream" on service "FalService" changed from server streaming to server unary.',
    ),
}

HARMLESS = {
    "nothing": ("queue.proto", "message Logs {", "message Logs {"),
    "a new field": (
        "queue.proto",
        "  int64 dropped = 2;\n",
        "  int64 dropped = 2;\n  // New.\n  bool whole = 3;\n",
    ),
    "a comment": ("queue.proto", "// Waiting.", "// Waits."),
}


def findings(contract: Path, base: str) -> tuple[int, str]:
    """What `buf breaking` says of a contract beside another one: its exit code and its lines."""
    command = [str(BUF), "breaking", str(contract), "--against", base]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, cwd=ROOT, check=False)
    return done.returncode, done.stdout + done.stderr


def changed(copy: Path, names: str, old: str, new: str) -> Path:
    """A copy of the contract with one change, which must have a place; in a single file, and only one."""
    shutil.copytree(ROOT / "protos", copy)
    texts = {path: path.read_text() for path in (copy / V1).glob(names)}
    places = sum(text.count(old) for text in texts.values())
    assert places == 1 or (places and len(texts) > 1), f"{old!r} is {places} times in {names}"
    for path, text in texts.items():
        path.write_text(text.replace(old, new))
    return copy


@pytest.mark.parametrize("change", BREAKING)
def test_a_breaking_change(tmp_path: Path, change: str) -> None:
    """A change that breaks callers is refused, and the message names what it took from them."""
    *edit, said = BREAKING[change]
    code, lines = findings(changed(tmp_path / "protos", *edit), "protos")
    assert (code, said in lines) == (BROKEN, True), lines


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change(tmp_path: Path, change: str) -> None:
    """What callers don't notice passes."""
    assert findings(changed(tmp_path / "protos", *HARMLESS[change]), "protos") == (0, "")


def test_the_last_release() -> None:
    """The contract breaks nobody who uses the last release. Before there is one, there is nobody."""
    git = ["git", "-C", str(ROOT)]
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git repository: the last release is not known")
    tag = subprocess.run(
        [*git, "describe", "--tags", "--abbrev=0", "--match", "v*"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tag.returncode:
        listed = subprocess.run([*git, "tag", "--list", "v*"], capture_output=True, text=True, check=True)
        assert listed.stdout == "", "there are releases, but none before this commit: fetch the history"
        return
    assert findings(Path("protos"), base_of(".git", tag.stdout.strip())) == (0, "")


def test_a_release_is_a_base(tmp_path: Path) -> None:
    """A tag of a git repository serves as the base: what was released is kept, what came later is free."""
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "protos", repository / "protos")
    path = repository / "protos" / V1 / "workflow.proto"
    git = ["git", "-C", str(repository), "-c", "user.name=test", "-c", "user.email=test@localhost"]

    def commit(*tag: str) -> None:
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", "A release"], check=True)
        if tag:
            subprocess.run([*git, "tag", *tag], check=True)

    released = path.read_text()
    assert "  string app_id = 2;\n" in released
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    commit("v0.1.0")
    path.write_text(f"{released}\n// New.\nmessage New {{}}\n")
    commit()
    base = base_of(str(repository / ".git"), "v0.1.0")
    path.write_text(released)
    assert findings(repository / "protos", base) == (0, "")
    path.write_text(released.replace("  string app_id = 2;\n", "", 1))
    code, lines = findings(repository / "protos", base)
    assert code == BROKEN
    assert 'Previously present field "2" with name "app_id" on message "WorkflowSubmit" was deleted.' in lines


def base_of(repository: str, tag: str) -> str:
    """The contract of a release, as buf wants it (as in CONTRIBUTING.md)."""
    return f"{repository}#tag={tag},subdir=protos"
