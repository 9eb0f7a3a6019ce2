"""Which objects of a provider a body names, and which ids an answer brings into the world."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.core.failure import BadRequest
from gateway.wire import sse
from gateway.wire.splice import has_escapes, members

# Where bodies name objects that must be the team's own, alone or in lists, or as {"id": ...}.
REFERENCES = frozenset(
    {
        "assistant_id", "cachedContent", "cached_content", "container", "container_id", "conversation", "eval_id",
        "file_id", "file_ids", "input_file_id", "part_ids", "previous_response_id", "skill_id", "thread_id",
        "training_file", "validation_file", "vector_store_id", "vector_store_ids",
    }
)  # fmt: skip
# What a call of a model may name of these, and what Gemini has beside them. They are the same in every dialect, for
# a translation carries on what it has no word for.
_OF_CALLS = frozenset(
    {
        "cachedContent", "cached_content", "container", "container_id", "conversation", "file_id", "file_ids",
        "fileSearchStoreNames", "file_search_store_names", "previous_response_id", "skill_id", "vector_store_ids",
    }
)  # fmt: skip
# Those that stand alone at the top of a call, or in a call to be counted.
_AT_TOP = frozenset(
    {
        "cachedContent", "cached_content", "container", "conversation", "generateContentRequest",
        "generate_content_request", "previous_response_id",
    }
)  # fmt: skip
# Free text, facts and JSON schemas of the client's: what is called file_id there is none, and nobody reads one.
_OPAQUE = frozenset(
    {
        "arguments", "attributes", "client_metadata", "env", "input_schema", "item", "item_schema", "json_schema",
        "metadata", "output_schema", "parameters", "sample", "schema",
    }
)  # fmt: skip
# And what is such in one dialect alone: `input` is what Responses are asked, in Messages what a tool was.
_OPAQUE_IN = {
    "anthropic": _OPAQUE | {"input", "input_examples"},
    "gemini": _OPAQUE
    | {
        "args", "labels", "parametersJsonSchema", "parameters_json_schema", "response", "responseJsonSchema",
        "response_json_schema", "responseSchema", "response_schema",
    },
}  # fmt: skip
# What an answer refers to: sent back, it need not be known, for nothing is read there.
_CITED = ("annotations", "citations")
# Written plainly or with escapes: where none of this occurs, the body is not searched.
_SUSPECT = re.compile(rb'_ids?"|"id"|"conversation"|"container"|"cached_?[cC]ontent"|_file"|\\u00')
_NO_IDS = ("", "auto")
_FILED = (b"files/", rb"files\/")  # in addresses of Google's: its host may be in capitals
# And in calls of a model: what names of files hold, or the addresses of some, told by one pass, for prompts speak of
# files. Letters are U+0055 to U+0078.
_FILES = re.compile(rb"file(?:_id|Uri|_uri|s/|s\\/|SearchStore|_search_store)")
_ESCAPED = re.compile(rb"\\u00(?:[567]|2[fF])")
# Where Gemini keeps files, which all who share the account could use; whatever dialect names them to it.
_ADDRESSES = frozenset({"fileUri", "file_uri", "uri", "url", "file_data", "file_id", "file_url", "image_url"})
_STORED = re.compile(
    r"https?://(?:[^/?#]*@)?(?![\w.-]*storage\.)[\w.-]+\.googleapis\.com\.?(?::\d+)?/(?:[^?#]*/)?(files/.+)",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)

_MINTED = (
    "id",
    "output_file_id",
    "error_file_id",
    "container_id",
    "file_id",
    "thread_id",
    "vector_store_id",
    "result_files",
)
_NESTED = ("audio", "container", "conversation", "delta", "file", "item", "message")


class Reference(NamedTuple):
    """An id a body uses. `strict`: it must be known; else it only must not be another team's (items that a
    client sends back carry ids that may come from anywhere)."""

    id: str
    strict: bool = True


class _Object(list[tuple[str, Any]]):
    """A JSON object with every member it was written with: of two with one name, parsers differ on which
    counts, so both must be good."""


def references(body: bytes) -> list[Reference]:
    """Ids of provider-made objects that a (valid) JSON body uses. Raises BadRequest past all depth."""
    return list(_references(_read(body, _Object), REFERENCES, _OPAQUE, whole=True)) if may_refer(body) else []


def may_refer(body: bytes) -> bool:
    """Whether anything in it could be a reference: most bodies are not searched."""
    return _SUSPECT.search(body) is not None or any(body.find(sign) >= 0 for sign in _FILED)


def used(body: bytes, payload: Mapping[str, Any], dialect: str) -> list[Reference]:
    """The same of a call of a model, whose body `payload` is. Raises BadRequest past all depth."""
    if not _is_suspect(body, payload):
        return []
    opaque = _OPAQUE_IN.get(dialect.partition(".")[0], _OPAQUE)
    return list(_references(_read(body, _Object), _OF_CALLS, opaque, whole=False))


def _is_suspect(body: bytes, payload: Mapping[str, Any]) -> bool:
    """Finds, for most calls pass here: one that only talks of files is not searched."""
    if not _AT_TOP.isdisjoint(payload):
        return True
    is_escaped = has_escapes(body)
    if (is_escaped or body.find(b"audio") >= 0) and _speaks(payload.get("messages")):
        return True
    if body.find(b"file") >= 0 and (_FILES.search(body) or body.find(b"vector_store") >= 0):
        return True
    if _hosts(payload.get("tools")) and body.find(b"container") >= 0:
        return True
    return is_escaped and _ESCAPED.search(body) is not None


def _speaks(messages: Any) -> bool:
    """Whether something that was said aloud is sent back, by its id perhaps."""
    return isinstance(messages, list) and any(
        isinstance(message, dict) and "audio" in message for message in messages
    )


def _hosts(tools: Any) -> bool:
    """Whether a provider is to run tools of its own."""
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and tool.get("type", "function") not in ("function", "custom")
        for tool in tools
    )


def named(body: bytes, *names: str) -> list[str]:
    """Every string that stands under one of these names anywhere in a (valid) JSON body."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.extend(value for known, value in pairs if known in names and isinstance(value, str))

    _read(body, look)
    return found


def members_of(body: bytes) -> Iterator[tuple[str, str, Any]]:
    """Every member of a (valid) JSON body, behind the name of what it is part of; the client's own words left out."""
    todo: list[tuple[str, Any]] = [("", _read(body, _Object))]
    while todo:
        place, value = todo.pop()
        if isinstance(value, _Object):
            for name, one in value:
                yield place, name, one
            todo += [(name, one) for name, one in value if name not in _OPAQUE]
        elif isinstance(value, list):
            todo += [(place, one) for one in value]


def _read(body: bytes, pairs: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    try:
        return json.loads(body, object_pairs_hook=pairs)
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def _references(
    tree: Any, names: frozenset[str], opaque: frozenset[str], *, whole: bool
) -> Iterator[Reference]:
    """`whole`: also of objects that are a reference by their `id` alone, whatever they are called."""
    todo: list[tuple[str, Any, bool]] = [("", tree, True)]
    while todo:
        place, value, strict = todo.pop()
        if isinstance(value, _Object):
            # What a model said aloud is named so, too.
            if whole or place in names or place == "audio":
                yield from _of_members(place, value)
            known = _is_built_in(value)
            todo += [
                (name, one, strict and name not in _CITED)
                for name, one in value
                if name not in opaque and not (known and name == "skill_id")
            ]
        elif isinstance(value, list):
            todo += [(place, one, strict) for one in value]
        elif isinstance(value, str):
            if place in _ADDRESSES and (stored := _STORED.match(value)):
                yield Reference(stored[1], strict)
            elif place in names and value not in _NO_IDS:
                yield Reference(value, strict)


def _is_built_in(members: _Object) -> bool:
    """A skill of Anthropic's own, which is everybody's."""
    kinds = [value for name, value in members if name == "type"]
    return bool(kinds) and all(kind == "anthropic" for kind in kinds)


def _of_members(place: str, members: _Object) -> Iterator[Reference]:
    """Objects that are a reference as a whole, by their `id`."""
    ids = [value for name, value in members if name == "id" and isinstance(value, str)]
    if not ids or place in ("", "prompt"):  # stored prompts are made by hand, for all teams of the account
        return
    kinds = [value for name, value in members if name == "type"]
    bare = {name for name, _ in members} <= {"id", "type"}
    refers = bare or place in REFERENCES or "item_reference" in kinds or "file_id" in kinds
    yield from (Reference(one, refers) for one in ids)


def minted(body: bytes, *, nested: bool) -> list[str]:
    """Ids that came with a JSON answer; `nested`: also those of a list of parts of an owned object. An answer
    that is cut off gives what its top level says before the cut."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = _top_level(body)
    found = list(_minted(answer))
    if nested and isinstance(answer, dict) and isinstance(answer.get("data"), list):
        for one in answer["data"]:
            found += _minted(one)
    return found


def minted_in(block: bytes) -> list[str]:
    """The same for whole events of a stream."""
    found: list[str] = []
    for event in sse.events(block):
        if b'"id"' not in event and b"_id" not in event:
            continue
        try:
            payload = orjson.loads(sse.data(event))
        except orjson.JSONDecodeError:
            continue
        if isinstance(payload, dict):
            found += _minted(payload.get("response", payload))
    return found


def _minted(answer: Any) -> Iterator[str]:
    if not isinstance(answer, dict):
        return
    for name in _MINTED:
        value = answer.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one:
                yield one
    for name in _NESTED:
        yield from _minted(answer.get(name))
    for name in ("choices", "output"):
        parts = answer.get(name)
        for part in parts if isinstance(parts, list) else ():
            yield from _minted(part)
    content = answer.get("content")
    for block in content if isinstance(content, list) else [answer.get("content_block")]:
        yield from _made_by_code(block)


def _made_by_code(block: Any) -> Iterator[str]:
    """Files that Anthropic's code execution left, in a block of its answer."""
    if isinstance(block, dict) and str(block.get("type")).endswith("code_execution_tool_result"):
        result = block.get("content")
        for part in (result.get("content") if isinstance(result, dict) else None) or ():
            yield from _minted(part)


def _top_level(body: bytes) -> dict[str, Any]:
    if not body.lstrip().startswith(b"{"):
        return {}
    found = {}
    for member in members(body):
        if member.name in _MINTED and body[member.start : member.start + 1] == b'"':
            found[member.name] = orjson.loads(body[member.start : member.end])
    return found
