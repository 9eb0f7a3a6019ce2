"""What those who give keys to AWS out say, as a credential."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.core.credential import Credential, StepResult, Unobtainable
from gateway.providers.aws.sigv4 import Keys

_XML = re.compile(r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration)>\s*([^<]+?)\s*<")
_MOST_SAID = 300  # characters of what STS says


def of_sts(result: StepResult, role: str, now: float) -> Credential:
    """Raises Unobtainable, as all of these."""
    return _credential(
        dict(_XML.findall(result.body.decode("utf-8", "replace"))), result, f"role {role}", now
    )


def of_json(result: StepResult, whose: str, now: float) -> Credential:
    """Of the container's endpoint, the machine, or a process of one's own, which calls the token as STS does."""
    found = read(result)
    token = found.get("SessionToken") or found.get("Token")
    return _credential({**found, "SessionToken": token or ""}, result, whose, now)


def of_portal(result: StepResult, whose: str, now: float) -> Credential:
    """Of the access portal of single sign-on, which tells the end in milliseconds."""
    found = read(result).get("roleCredentials")
    given = found if isinstance(found, dict) else {}
    names = {name[:1].upper() + name[1:]: value for name, value in given.items()}
    if isinstance(ends := given.get("expiration"), int):
        names["Expiration"] = datetime.fromtimestamp(ends / 1000, UTC).isoformat()
    return _credential(names, result, whose, now)


def read(result: StepResult) -> dict[str, Any]:
    """The JSON object of a result, empty for what is none."""
    try:
        found = orjson.loads(result.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _credential(found: Mapping[str, Any], result: StepResult, whose: str, now: float) -> Credential:
    texts = [found.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    complete = result.status == 200 and all(isinstance(text, str) for text in texts)
    keys = keys_of(*texts, whose=whose) if complete else None
    if keys is None:
        raise Unobtainable(f"no keys of {whose}: {_reason(result)}")
    try:
        ends = datetime.fromisoformat(str(found["Expiration"])).timestamp()
    except (KeyError, ValueError):
        return Credential(keys)
    return Credential(keys, ends - now)


def keys_of(key: str | None, secret: str | None, token: str | None, *, whose: str) -> Keys | None:
    """None where there are none. Raises Unobtainable for a key without its secret, and for what no header can show."""
    if not key:
        return None
    if not secret:
        raise Unobtainable(f"the keys of {whose} are not whole: the secret is missing")
    made = Keys(key.strip(), secret.strip(), (token or "").strip())
    if not all(text.isascii() and text.isprintable() for text in made):
        raise Unobtainable(f"the keys of {whose} hold characters that no key has; a line break, perhaps")
    return made


def _reason(result: StepResult) -> str:
    """What STS says of it, else the status: other bodies may hold keys. Below its first line STS repeats what
    was signed, session tokens among it."""
    if not result.status:
        return result.body.decode("utf-8", "replace")
    said = re.search(r"<Message>\s*([^<\r\n]+)", result.body.decode("utf-8", "replace"))
    return said[1][:_MOST_SAID] if said else f"status {result.status}"
