"""A conversation in chat's words as Converse takes it."""

from collections.abc import Mapping
from typing import Any

from gateway.core.failure import BadRequest
from gateway.wire.converse.words import reasoning
from gateway.wire.fields import arguments, member, members, text
from gateway.wire.idents import fitted
from gateway.wire.media import inline
from gateway.wire.messages.words import IDENT, SAID_NOTHING
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json
from gateway.wire.thoughts import cuts, in_order

FORMATS = {
    "image": {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"},
    "video": {
        "video/mp4": "mp4", "video/quicktime": "mov", "video/x-matroska": "mkv", "video/webm": "webm",
        "video/x-flv": "flv", "video/mpeg": "mpeg", "video/x-ms-wmv": "wmv", "video/3gpp": "three_gp",
    },
    "document": {
        "application/pdf": "pdf", "text/csv": "csv", "text/html": "html", "text/plain": "txt",
        "text/markdown": "md", "application/msword": "doc", "application/vnd.ms-excel": "xls",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    },
}  # fmt: skip


class Turns:
    """Turns must alternate: results of tools open the user's turn, as they come right after the calls."""

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._documents: set[str] = set()
        self.system: list[Json] = []
        self.messages: list[Json] = []

    def take(self, messages: Any) -> None:
        """Raises BadRequest naming the message that cannot be carried."""
        for place, message in enumerate(members(messages, "messages")):
            where = f"messages[{place}]"
            role, content = message.get("role"), message.get("content")
            if role in ("system", "developer"):
                self.system += self._blocks(content, f"{where}.content") + cache_point(message)
            elif role == "user":
                self._join("user", self._blocks(content, f"{where}.content") + cache_point(message))
            elif role in ("tool", "function"):
                self._join("user", self._result(message, where))
            elif role == "assistant":
                self._join("assistant", self._said(message, where))
            else:
                raise BadRequest(
                    f"{where}.role is none that can be translated", code="invalid_value", param=where
                )

    def _join(self, role: str, blocks: list[Json]) -> None:
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        elif blocks:
            self.messages.append({"role": role, "content": blocks})

    def _blocks(self, content: Any, where: str) -> list[Json]:
        if isinstance(content, str):
            return [{"text": content}] if content else []
        blocks: list[Json] = []
        for place, part in enumerate(members(content, where)):
            block = _block(part, f"{where}[{place}].")
            if block is None:
                self._refusals.add(f"{where}[{place}]")
            elif block != {"text": ""}:
                if "document" in block:
                    block["document"]["name"] = self._named(block["document"]["name"])
                blocks += [block, *cache_point(part)]
        return blocks

    def _named(self, name: str) -> str:
        """The same, numbered where another document of the call has it: Bedrock refuses two of one name."""
        numbered, number = name, 1
        while numbered in self._documents:
            number += 1
            numbered = f"{name} {number}"
        self._documents.add(numbered)
        return numbered

    def _result(self, message: Mapping[str, Any], where: str) -> list[Json]:
        made: Json = {
            "toolUseId": fitted(message.get("tool_call_id") or message.get("name") or "", IDENT),
            "content": self._blocks(message.get("content"), f"{where}.content"),
        }
        if message.get("is_error"):
            made["content"] = made["content"] or [{"text": SAID_NOTHING}]  # refused where it is empty
            made["status"] = "error"
        return [{"toolResult": made}, *cache_point(message)]

    def _said(self, message: Mapping[str, Any], where: str) -> list[Json]:
        details = members(message.get("reasoning_details"), f"{where}.reasoning_details")
        calls = members(message.get("tool_calls"), f"{where}.tool_calls")
        uses = [_use(call, f"{where}.tool_calls[{place}].") for place, call in enumerate(calls)]
        others = members(message.get("other_blocks"), f"{where}.other_blocks")
        apart = [dict(block) for block in others if is_own(block)]
        if refusal := text(message, "refusal", f"{where}."):
            apart.insert(0, {"text": refusal})
        blocks: list[Json] = []
        for thoughts, words, used in in_order(details, message.get("content"), uses, cuts(calls)):
            blocks += [made for detail in thoughts if (made := reasoning(detail))]
            blocks += [*self._blocks(words, f"{where}.content"), *apart, *used]
            apart = []
        if legacy := member(message, "function_call", f"{where}."):
            blocks.append(_use({"id": legacy.get("name"), "function": legacy}, f"{where}."))
        return blocks + cache_point(message)


def is_own(block: Mapping[str, Any]) -> bool:
    """Whether it is a block of Bedrock's about tools that it runs itself."""
    return block.keys() <= {"toolUse", "toolResult"}


def cache_point(marked: Mapping[str, Any]) -> list[Json]:
    """What stands behind the last block that is to be cached."""
    control = marked.get("cache_control")
    if not isinstance(control, dict):
        return []
    lasts = {name: control[name] for name in ("ttl",) if name in control}
    return [{"cachePoint": {"type": "default"} | lasts}]


def _block(part: Mapping[str, Any], where: str) -> Json | None:
    """A content part; None where this format has no block for it."""
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": text(part, "text", where) or text(part, "refusal", where)}
    if kind in ("image_url", "video_url"):
        url = part.get(kind)  # a bare text at Mistral
        asked = url if isinstance(url, str) else text(member(part, kind, where), "url", f"{where}{kind}.")
        return _media(kind.removesuffix("_url"), asked)
    if kind == "file":
        file = member(part, "file", where)
        made = _media("document", text(file, "file_data", f"{where}file."))
        if made is not None:
            made["document"]["name"] = _name(text(file, "filename", f"{where}file."))
        return made
    return None


def _media(kind: str, url: str) -> Json | None:
    """Contents come in the call or out of S3; no other address is fetched."""
    formats = FORMATS[kind]
    source: Json
    if found := inline(url):
        form, source = formats.get(found.kind), {"bytes": found.data}
    elif url.startswith("s3://"):
        end = url.rpartition(".")[2].lower()
        form = {"jpg": "jpeg", "3gp": "three_gp", **{one: one for one in formats.values()}}.get(end)
        source = {"s3Location": {"uri": url}}
    else:
        return None
    return {kind: {"format": form, "source": source}} if form else None


def _name(filename: str) -> str:
    """Bedrock takes letters, digits, single blanks, hyphens, parentheses and brackets; the ending is its format."""
    stem = filename.rpartition(".")[0] or filename
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "-()[]") else " " for one in stem)
    return " ".join(kept.split()) or "document"


def _use(call: Mapping[str, Any], where: str) -> Json:
    function = member(call, "function", where)
    given = arguments(function, f"{where}function.")
    named = {"toolUseId": fitted(call.get("id") or "", IDENT), "name": function.get("name") or ""}
    return {"toolUse": {**named, "input": given}}
