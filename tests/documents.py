"""The snippets in the project's documents. Tests run them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "deploy/helm/README.md",
)

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(fakesweep [^`]+)`")
_BETWEEN = re.compile(r"[;|&](?=(?:[^']*'[^']*')*[^']*$)")
"""What stands between two commands of a line, but not between quotes."""
_COMMENT = re.compile(r"(?:^|\s)#.*")


class Snippet(NamedTuple):
    """A code block of a document, with the language that its fence names."""

    document: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.name}: {self.text.strip().splitlines()[0][:60]}"


def snippets(*languages: str) -> list[Snippet]:
    """Returns all blocks in these languages."""
    return [
        Snippet(path, *found.groups())
        for path in DOCUMENTS
        for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))
        if found[1] in languages
    ]


def first(document: str, language: str) -> str:
    """Returns the first block of a document in this language."""
    return next(snippet.text for snippet in snippets(language) if snippet.document.name == document)


def command_lines() -> list[str]:
    """Returns every `fakesweep …` of the documents: those in shell blocks, and those in the text."""
    lines: dict[str, None] = {}
    for snippet in snippets("sh"):
        text = snippet.text.replace("\\\n", " ").replace("-m producers", "-m producers; fakesweep")
        for part in (one for line in text.splitlines() for one in _BETWEEN.split(_COMMENT.sub("", line))):
            if found := re.search(r"\bfakesweep \S.*", part):
                lines[" ".join(found[0].split())] = None
    for path in DOCUMENTS:
        lines |= dict.fromkeys(_INLINE.findall(path.read_text(encoding="utf-8")))
    return list(lines)


def service_lines(unit: Path) -> dict[str, list[str]]:
    """Returns the section [Service] of a unit file of systemd: each name with its values."""
    found: dict[str, list[str]] = {}
    section = unit.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found
