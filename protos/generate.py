"""Generates the stubs in generated/ from the contract. Run it as `make gen`.

It needs the pinned tools of protos/requirements.lock. They are older than the runtime on purpose:
generated Python refuses runtimes older than the tool that made it, so the oldest grpcio-tools that
falrpc supports decides how old a caller's protobuf may be.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).parent
OUTPUT = PROTOS.parent / "generated"

MARK = '"""{text}\n\nGenerated from protos/ by `make gen`. Do not edit.\n"""\n'


def main() -> None:
    """Writes generated/ anew, or the directory that the first argument names."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    python = output / "python"
    shutil.rmtree(python, ignore_errors=True)
    python.mkdir(parents=True)
    protos = sorted(PROTOS.rglob("*.proto"))
    services = [path for path in protos if re.search(r"^service ", path.read_text(), re.MULTILINE)]
    protoc(protos, f"--python_out={python}", f"--mypy_out=quiet:{python}")
    protoc(services, f"--grpc_python_out={python}", f"--mypy_grpc_out=quiet:{python}")
    package = python / "falrpc"
    (package / "py.typed").write_text("")
    (package / "__init__.py").write_text(
        MARK.format(text="The contract of falrpc. Use `from falrpc import v1`.")
    )
    (package / "v1" / "__init__.py").write_text(reexports(package / "v1"))


def protoc(protos: list[Path], *outputs: str) -> None:
    """Runs the compiler with the plugins that stand beside this Python."""
    plugins = Path(sys.executable).parent
    subprocess.run(  # noqa: S603 # arguments are this repository's own file names
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"),
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            *outputs,
            *(str(path.relative_to(PROTOS)) for path in protos),
        ],
        check=True,
    )


def reexports(package: Path) -> str:
    """Returns the source of a package that offers every message, enum and stub of its modules."""
    imports, names = [], []
    for path in sorted(package.glob("*_pb2*.pyi")):
        # Messages and enums derive from something; so does the asynchronous stub, which exists for
        # type checkers only. Stub and servicer of the service, and its registration, are by name.
        pattern = r"^class (?:(\w+Stub):|(\w+Servicer)\()|^def (add_\w+)\("
        if not path.stem.endswith("_grpc"):
            pattern = r"^class ([A-Z]\w*)\("
        found = sorted(
            "".join(groups) for groups in re.findall(f"(?={pattern})", path.read_text(), re.MULTILINE)
        )
        names += found
        lines = "".join(f"    {name},\n" for name in found)
        imports.append(f"from falrpc.v1.{path.stem} import (\n{lines})")
    listed = "".join(f'    "{name}",\n' for name in sorted(names))
    title = MARK.format(text="falrpc.v1: messages, enums and the stub.")
    return "{}\n{}\n\n__all__ = [\n{}]\n".format(title, "\n".join(imports), listed)


if __name__ == "__main__":
    main()
