"""Read the Dockerfile, and lay an image's own files out in a folder: what a build would do, without an engine."""

import json
import re
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.shared import ROOT


@dataclass
class Stage:
    """One FROM and what follows, as (instruction, rest of the line)."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        return [rest for word, rest in self.steps if word == instruction][-1]

    def words(self, instruction: str) -> list[str]:
        """The last exec form of an instruction; HEALTHCHECK's lies behind its options and CMD."""
        found: list[str] = json.loads(re.sub(r"^.*?(?=\[)", "", self.last(instruction)))
        return found

    @property
    def copies(self) -> list[tuple[list[str], str]]:
        """(sources, destination) of what comes from the build context."""
        rows = [rest.split() for word, rest in self.steps if word == "COPY" and not rest.startswith("--from")]
        return [(row[:-1], row[-1]) for row in rows]


def stages(text: str) -> dict[str, Stage]:
    """Every stage by name; a stage on another begins with that one's steps."""
    found: dict[str, Stage] = {}
    now: Stage | None = None
    for line in re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            before = found[base].steps if base in found else []
            now = found[name] = Stage(name, base, list(before))
        elif word and now is not None:
            now.steps.append((word, rest.strip()))
    return found


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a path of the tree into the build: the last pattern that matches decides."""
    verdict = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if _matches(path, pattern):
                verdict = line.startswith("!")
    return verdict


def _matches(path: str, pattern: str) -> bool:
    """A pattern holds for a path and for all that lies in it."""
    parts = path.split("/")
    whole = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern.removeprefix("**/")) for part in parts)
    return any(fnmatch(one, pattern) and one.count("/") == pattern.count("/") for one in whole)


def lay_out(stage: Stage, root: Path) -> Path:
    """Copy what the stage copies from the tree below `root`; gives its working directory there."""
    work = root / stage.last("WORKDIR").lstrip("/")
    work.mkdir(parents=True)
    for sources, destination in stage.copies:
        place = root / destination.lstrip("/") if destination.startswith("/") else work / destination
        for source in sources:
            _copy(source, place / source.rsplit("/", 1)[-1] if destination.endswith("/") else place)
    return work


def _copy(source: str, place: Path) -> None:
    origin = ROOT / source
    files = [file for file in sorted(origin.rglob("*")) if file.is_file()] if origin.is_dir() else [origin]
    kept = [file for file in files if in_context(file.relative_to(ROOT).as_posix())]
    assert kept, f"COPY {source}: nothing of it is in the build context"
    for file in kept:
        target = place / file.relative_to(origin) if origin.is_dir() else place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
