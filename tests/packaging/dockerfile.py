"""Carries out a Dockerfile's build stage in a directory, where there is no engine for containers.

It knows the few instructions that ours uses. Absolute paths below /opt, /src and /dist are moved into the
directory; `python` is the one of a fresh virtual environment.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

MOVED = re.compile(r"(?<![\w.])/(opt|src|dist)\b")


@dataclass
class Stage:
    """One stage: its instructions in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def value(self, keyword: str) -> str:
        """The argument of the last such instruction."""
        return [argument for name, argument in self.instructions if name == keyword][-1]


def read(path: Path) -> list[Stage]:
    """Reads a Dockerfile."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    stages: list[Stage] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        keyword, _, argument = line.partition(" ")
        if keyword == "FROM":
            stages.append(Stage(argument))
        else:
            stages[-1].instructions.append((keyword, argument.strip()))
    return stages


def carry_out(stage: Stage, context: Path, root: Path) -> None:
    """Does what a stage says: WORKDIR, COPY and RUN."""
    subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)
    environment = {**os.environ, "PATH": f"{root / 'python/bin'}:{os.environ['PATH']}"}
    environment.pop("VIRTUAL_ENV", None)
    directory = root
    for keyword, argument in stage.instructions:
        moved = MOVED.sub(lambda match: f"{root}/{match[1]}", argument)
        match keyword:
            case "WORKDIR":
                directory = Path(moved)
                directory.mkdir(parents=True)
            case "COPY":
                *sources, target = moved.split()
                for source in sources:
                    copy(context / source, directory / target)
            case "RUN":
                subprocess.run(["sh", "-ec", moved], check=True, cwd=directory, env=environment)
            case _:
                raise ValueError(f"{keyword} is not known here")


def copy(source: Path, target: Path) -> None:
    """COPY: directories by their contents, files into directories or to a name."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
