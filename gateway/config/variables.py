"""`${VAR}`, `${VAR:-default}` and `${file:PATH}` in the values of policy files; `$${` stays `${`."""

import re
import stat
from collections.abc import Mapping
from pathlib import Path

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NONE: Mapping[Path, bytes] = {}


class Filled(str):
    """Text that was filled in: it may stand for a number or a truth value though it is in quotes."""

    __slots__ = ()


class Variables:
    """Fills values in. `files` are those that were asked for, with their bytes (None: unreadable), so that
    they are watched and count for the version."""

    def __init__(self, environ: Mapping[str, str], folder: Path, known: Mapping[Path, bytes] = _NONE) -> None:
        """Relative paths begin at `folder`. Files that are `known` are not read again."""
        self._environ, self._folder, self._known = environ, folder, known
        self.files: dict[Path, bytes | None] = {}

    def fill(self, text: str) -> str:
        """Raises ValueError; its message never holds a value."""
        return _VARIABLE.sub(self._one, text)

    def _one(self, match: "re.Match[str]") -> str:
        inner = match[1]
        if inner is None:
            return "${"
        if not match[0].endswith("}"):
            raise ValueError("${ is never closed; add the }, or write $${ for the two characters")
        if inner.startswith("file:"):
            return self._read(inner.removeprefix("file:"))
        name, has_default, default = inner.partition(":-")
        if _NAME.fullmatch(name) is None:
            raise ValueError("${...} takes VAR, VAR:-default or file:PATH; write $${ for the two characters")
        value = self._environ.get(name)
        if has_default:
            return value or default
        if value is None:
            raise ValueError(
                f"the variable {name} is not set; set it, or write ${{{name}:-}} if it may be absent"
            )
        return value

    def _read(self, name: str) -> str:
        try:
            path = self._folder / Path(name).expanduser()
        except RuntimeError:
            raise ValueError(f"the file {name} is in the home of nobody; write its path out") from None
        if "\0" in name:
            raise ValueError("the name of a file holds no NUL character; take it out")
        try:
            known = self._known.get(path)
            self.files[path] = raw = bytes_of(path) if known is None else known
            return raw.decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.files.setdefault(path, None)
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ValueError(f"the file {name} cannot be read ({why}); mend the path or its rights") from None


def bytes_of(path: Path) -> bytes:
    """Raises OSError, for what is no plain file too: a pipe would be waited for without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is not a plain file")
    return path.read_bytes()


def bytes_if_any(path: Path) -> bytes | None:
    try:
        return bytes_of(path)
    except OSError:
        return None
