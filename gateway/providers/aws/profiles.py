"""The shared files of AWS's tools: which profiles there are, and what stands in which file."""

import configparser
import shlex
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.core.credential import Step, StepResult, Unobtainable

Profiles = dict[str, dict[str, str]]


class Shared(NamedTuple):
    """`profiles` hold what either file says of each, of which the credentials file comes first. `sessions` are those of
    single sign-on, which profiles share."""

    profiles: Profiles
    credentials: Profiles
    config: Profiles
    sessions: Profiles


def shared_files(environ: Mapping[str, str]) -> Generator[Step, StepResult, Shared]:
    """Raises Unobtainable for a file that is none of theirs; one that is not there says nothing."""
    home = Path(environ.get("HOME") or "/") / ".aws"
    result = yield Path(environ.get("AWS_CONFIG_FILE") or home / "config")
    sections = _ini(result, "config")
    result = yield Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials")
    credentials = _ini(result, "credentials")
    config = dict(_named("profile", sections))
    if "default" in sections:
        config["default"] = sections["default"]
    both = {name: config.get(name, {}) | credentials.get(name, {}) for name in config | credentials}
    return Shared(both, credentials, config, dict(_named("sso-session", sections)))


def _named(kind: str, sections: Profiles) -> Iterator[tuple[str, dict[str, str]]]:
    """Those of the config file that are headed `[kind name]`, the name in quotes where it has blanks."""
    for head, members in sections.items():
        try:
            first, name = shlex.split(head)
        except ValueError:
            continue
        if first == kind:
            yield name, members


def _ini(result: StepResult, what: str) -> Profiles:
    if result.status != 200:
        return {}
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(result.body.decode())
    except (configparser.Error, UnicodeDecodeError):
        raise Unobtainable(f"the shared {what} file of AWS cannot be read") from None
    return {section: dict(parser[section]) for section in parser.sections()}
