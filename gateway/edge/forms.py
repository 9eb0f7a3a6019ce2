"""What is read of a form: its model, ids by the names of their fields, and JSON in whichever field it stands."""

import re
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.edge.multipart import Field, Held, Part
from gateway.edge.other_models import FALLBACKS
from gateway.edge.references import Reference, may_refer, references
from gateway.wire.fields import refuse_names

# The words of a field's name: `images[0][file_id]`, `video.id`.
_WORDS = re.compile(r"[^\[\].]+")
# Fields whose files are stored as they are. Elsewhere files are media, and what begins as JSON is a field that some
# clients send as a file.
_CONTENTS = (["data"], ["file"], ["files"])
_MEMBER = re.compile(rb'"\w*"\s*:')  # text may begin with a bracket, and say "id"
_SAID = "prompt"  # text, which may be JSON that a model is to read


def held(part: Part, *, named: bool) -> Held:
    """`named`: the form may name a model. Raises BadRequest."""
    if part.name == "model" and named:
        return Held.MODEL
    first = _words(part.name)[:1]
    refuse_names(first)
    if names_object(part.name) or not FALLBACKS.isdisjoint(first):
        return Held.VALUE
    is_stored = part.is_file and _words(part.name) in _CONTENTS
    is_said = part.name == _SAID and not part.is_json
    return Held.NOTHING if is_stored or is_said else Held.JSON


def names_object(field: str) -> bool:
    """Whether a form's field of this name holds an id, however deep its name nests it. Raises BadRequest past all
    depth."""
    return bool(references(_as_body(field, b'"x"')))


def references_of(field: Field) -> list[Reference]:
    """Ids that a field uses, read as the member of a body that its name says. Raises BadRequest for what another
    reader could take for JSON, and past all depth."""
    value = field.value.encode()
    if not (field.is_json and _is_sound(value)):
        likely = may_refer(value) and _MEMBER.search(value)
        if field.is_json and (likely or b"\0" in value):  # two bytes a letter: UTF-16
            raise BadRequest(f"the field {field.name!r} is not valid JSON", code="invalid_json")
        value = orjson.dumps(field.value)
    return references(_as_body(field.name, value))


def other_models_of(field: Field) -> dict[str, Any]:
    """The member of a body that a field is where it names further models, however deep it does."""
    first, value = _words(field.name)[:1], field.value
    return dict.fromkeys(first, orjson.loads(value) if field.is_json and _is_sound(value.encode()) else value)


def _is_sound(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def _words(field: str) -> list[str]:
    return [word for word in _WORDS.findall(field) if not word.isdecimal()]


def _as_body(field: str, value: bytes) -> bytes:
    words = _words(field)
    return b"".join(b"{%b:" % orjson.dumps(word) for word in words) + value + b"}" * len(words)
