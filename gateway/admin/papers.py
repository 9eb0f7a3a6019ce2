"""Bodies of admin requests: strict, unknown fields refused."""

import re
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.requests import Request

from gateway.config.scalars import Day, Name
from gateway.core.failure import BadRequest, BodyTooLarge

MOST = 4 << 20  # bytes

_KEY = re.compile(r"[\w.@:+-]{1,128}")


def _key_name(name: str) -> str:
    """It stands in paths, which lose . and .. on the way. Raises ValueError."""
    if _KEY.fullmatch(name) is None or name in (".", ".."):
        raise ValueError(
            "must be of letters, digits and . _ - @ : +, at most 128, and more than one or two dots;"
            " take another name"
        )
    return name


KeyName = Annotated[str, AfterValidator(_key_name)]


class Paper(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewKey(Paper):
    name: KeyName
    team: Name
    expires: Day | None = None


class NewTexts(Paper):
    """Policy files by name."""

    files: dict[str, str]


class Drained(Paper):
    target: str


P = TypeVar("P", bound=Paper)


async def read_json(request: Request) -> Any:
    """Raises BadRequest, BodyTooLarge."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST:
            raise BodyTooLarge(f"the body is larger than {MOST} bytes")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("the body is not valid JSON", code="invalid_json") from None


async def read(request: Request, model: type[P]) -> P:
    """Raises BadRequest for no JSON, ValidationError for wrong fields."""
    return model.model_validate(await read_json(request))
