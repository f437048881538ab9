"""The command lines of docs/clients.md, and what the document shows of their output."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Recipe", "learned", "pattern_of", "recipes"]

DOCUMENT = Path(__file__).parents[2] / "docs/clients.md"
SECTION = "## grpcurl and buf curl\n"
WITHOUT_REFLECTION = "### When reflection is off\n"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True)
class Recipe:
    """A command and its output.

    Attributes:
        command: Shell text.
        shown: The output in the document; `…` stands for anything.
        has_reflection: Whether the server that it calls offers reflection.
    """

    command: str
    shown: str
    has_reflection: bool


def recipes() -> list[Recipe]:
    """The commands of the section, in the order of the document."""
    text = DOCUMENT.read_text().partition(SECTION)[2].partition("\n## ")[0]
    with_reflection, _, without = text.partition(WITHOUT_REFLECTION)
    assert with_reflection
    assert without
    return [*_in(with_reflection, True), *_in(without, False)]


def pattern_of(shown: str, known: dict[str, str]) -> re.Pattern[str]:
    """What an output must be: white space counts as one space, an id is any id, or the same one as before.

    Args:
        shown: The output in the document.
        known: The ids of the document that were seen already, and what they were. Others are groups.
    """
    parts = []
    for part in re.split(f"(…|{UUID}|\\s+)", shown.strip()):
        if part == "…":
            parts.append(".*")
        elif re.fullmatch(UUID, part):
            parts.append(re.escape(known[part]) if part in known else f"(?P<{_group(part)}>{UUID})")
        else:
            parts.append(r"\s+" if part.isspace() else re.escape(part))
    pattern = "".join(parts)
    # An ellipsis takes the white space around it, too.
    return re.compile(re.sub(r"(?:\\s\+)?\.\*(?:\\s\+)?", lambda _: ".*", pattern), re.DOTALL)


def learned(shown: str, found: re.Match[str]) -> dict[str, str]:
    """The ids of a shown output, and what they were in the real one."""
    groups = found.groupdict()
    return {one: groups[_group(one)] for one in re.findall(UUID, shown) if _group(one) in groups}


def _group(uuid: str) -> str:
    return "id_" + uuid.replace("-", "_")


def _in(text: str, has_reflection: bool) -> list[Recipe]:
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = entry.splitlines(keepends=True)
            # A command goes on in lines that are indented: no output begins with one.
            count = next((n for n, line in enumerate(lines) if n and not line.startswith("    ")), len(lines))
            found.append(Recipe("".join(lines[:count]), "".join(lines[count:]), has_reflection))
    return found
