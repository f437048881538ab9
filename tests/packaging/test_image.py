"""The image, as far as it can be had without an engine: the Dockerfile's steps in a clean directory."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.packaging import dockerfile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the build stage was carried out: opt/falrpc is what the image ships."""
    root = tmp_path_factory.mktemp("image")
    dockerfile.carry_out(dockerfile.read(ROOT / "Dockerfile")[0], ROOT, root)
    return root


@pytest.mark.timeout(300)
def test_the_wheel_installs_two_packages(image: Path) -> None:
    """The wheel installs exactly falrpc and falrpc_server, and the falrpc command."""
    [wheel] = (image / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "falrpc = falrpc_server.cli:main" in archive.read(entry_points).decode()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"falrpc", "falrpc_server"}
    assert {"falrpc/py.typed", "falrpc/service_config.json"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


def test_what_is_installed_is_what_is_locked(image: Path) -> None:
    """The image has the locked packages, falrpc, and pip's own."""
    listed = subprocess.run(
        [image / "opt/falrpc/bin/pip", "list", "--format=json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    installed = {entry["name"].lower().replace("_", "-"): entry["version"] for entry in json.loads(listed)}
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(line.split(" ")[0].split("==") for line in lock.splitlines() if "==" in line)
    assert installed.keys() - locked.keys() <= {"falrpc", "pip", "setuptools"}
    assert {name: installed[name] for name in locked} == locked


def test_it_runs_from_the_image(image: Path, unused_port: int) -> None:
    """The installed service starts, answers `falrpc healthcheck`, writes no file, and stops with 0."""
    falrpc = image / "opt/falrpc/bin/falrpc"
    before = files(image)
    environment = {"PATH": str(falrpc.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    settings = {"FAL_KEY": "a:b", "FALRPC_LISTEN": "127.0.0.1:0", "FALRPC_DRAIN_DELAY_SECONDS": "0"}
    with subprocess.Popen(
        [falrpc, *json.loads(dockerfile.read(ROOT / "Dockerfile")[-1].value("CMD"))],
        env={**environment, **settings},
        cwd="/",
        stdout=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stdout is not None
        address = json.loads(serving.stdout.readline())["address"]
        check = [falrpc, "healthcheck", "--address", address]
        healthy = subprocess.run(check, env=environment, capture_output=True, text=True, check=False)
        serving.terminate()
        serving.stdout.read()
    assert (healthy.returncode, healthy.stdout.strip()) == (0, f"{address}: SERVING")
    assert serving.returncode == 0
    check[-1] = f"127.0.0.1:{unused_port}"
    unhealthy = subprocess.run(check, env=environment, capture_output=True, text=True, check=False)
    assert unhealthy.returncode == 1
    assert files(image) == before


def test_the_final_stage() -> None:
    """The image runs as a user without rights, ships only the environment, and checks its own health."""
    build, final = dockerfile.read(ROOT / "Dockerfile")
    assert final.value("USER") == "10001"
    copies = [argument for name, argument in final.instructions if name == "COPY"]
    assert copies == ["--from=build /opt/falrpc /opt/falrpc"]
    assert final.value("HEALTHCHECK").endswith('CMD ["falrpc", "healthcheck"]')
    assert json.loads(final.value("ENTRYPOINT")) == ["falrpc"]
    installs = [
        part for name, argument in build.instructions if name == "RUN" for part in argument.split("&&")
    ]
    requirements = [part for part in installs if "requirements.lock" in part]
    assert requirements
    assert all("--require-hashes" in part for part in requirements)


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "tests/requirements.lock",
        "protos/requirements.lock",
        ".ci/build-requirements.lock",
    ],
)
def test_lock_files(name: str) -> None:
    """Every locked package has a version and hashes, and no line names an index."""
    lines = (ROOT / name).read_text().splitlines()
    packages = [n for n, line in enumerate(lines) if "==" in line]
    assert packages
    assert all(lines[n + 1].strip().startswith("--hash=sha256:") for n in packages)
    assert not [line for line in lines if "://" in line or "index" in line]


def files(root: Path) -> set[str]:
    """All files below a directory."""
    return {os.path.join(where, name) for where, _, names in os.walk(root) for name in names}
