"""Chat's answers as responses: an item for each thought, message and call, whole or as a stream of events."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.wire.part_queue import PartQueue
from gateway.wire.responses.events import failing, tell
from gateway.wire.responses.resource import resource
from gateway.wire.responses.tools import names
from gateway.wire.responses.words import ending, item_id, responses_usage, seal
from gateway.wire.sides import Json, Piece
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import bare, cuts, in_order, merge


class ResponsesWriter:
    """Thoughts and words come one item at a time. Calls that chat streams interleaved are open together; one is
    closed as soon as something else begins and its arguments are whole. Words that come before are kept until then."""

    tells_failure = tells_media = False

    def __init__(self, asked: Mapping[str, Any], moment: int, ident: str) -> None:
        self._response = resource(asked, moment, ident)
        self._output: list[Json] = self._response["output"]
        self._names = names(asked.get("tools"))
        self._ident = ident
        self._begun = False
        self._sequence = 0
        self._open: Json | None = None  # the message or the thought that is being told
        self._calls: dict[Any, Json] = {}  # calls that are being told, by their index in chat
        self._told: set[Any] = set()  # the indexes of calls that were closed
        self._queue = PartQueue(self._may)
        self._details: list[Json] = []  # of the open thought, as chat tells them
        self._reason: Any = None

    def whole(self, completion: Json) -> Json:
        """A completion is a stream of one piece, or of as many as its thoughts stand apart."""
        first = completion["choices"][0]
        message = first["message"]
        calls = [{**call, "index": place} for place, call in enumerate(message.get("tool_calls") or [])]
        details = message.get("reasoning_details") or []
        steps = list(in_order(details, message.get("content"), calls, cuts(calls)))
        apart = any(thoughts for thoughts, _, _ in steps[1:])
        for thoughts, words, called in steps:
            delta = {**message, "reasoning_details": thoughts, "content": words, "tool_calls": called}
            if apart:
                delta["reasoning_content"] = None  # which holds the words of all thoughts
            self.write({**completion, "choices": [{**first, "delta": delta}]})
            message = {}
        self.end()
        return self._response

    def write(self, piece: Piece) -> bytes:
        out = [] if self._begun else self._begin(piece)
        if "error" in piece:
            return b"".join([*out, failing(piece["error"], self._response, self._sequence)])
        if usage := responses_usage(piece.get("usage")):
            self._response["usage"] = usage
        if piece.get("service_tier"):
            self._response["service_tier"] = piece["service_tier"]
        for choice in piece["choices"][:1]:
            out += self._choice(choice)
        return b"".join(out)

    def end(self) -> bytes:
        status, details = ending(self._reason)
        out = self._close_all(status)
        out += self._queue.rest()
        out += self._close_all(status)
        self._response |= {"status": status, "incomplete_details": details}
        out.append(self._event(f"response.{status}", response=self._response))
        return b"".join(out)

    def _begin(self, piece: Piece) -> list[bytes]:
        self._begun = True
        self._response["model"] = piece.get("model") or self._response["model"]
        told = ("response.created", "response.in_progress")
        return [self._event(name, response=self._response) for name in told]

    def _choice(self, choice: Json) -> list[bytes]:
        delta, out = choice.get("delta") or {}, []
        details, thought = delta.get("reasoning_details") or [], delta.get("reasoning_content")
        if thought or details:
            texts = (str(one.get("text") or one.get("summary") or "") for one in details)
            out += self._queue.tell(self._thought, thought or "".join(texts), details)
        if text := delta.get("content"):
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            out += self._queue.tell(self._text, text, logprobs)
        if refusal := delta.get("refusal"):
            out += self._queue.tell(self._refusal, refusal)
        for annotation in delta.get("annotations") or []:
            out += self._queue.tell(self._annotation, annotation)
        for call in delta.get("tool_calls") or []:
            out += self._fragment(call)
        self._reason = choice.get("finish_reason") or self._reason
        return out

    def _may(self) -> bool:
        """Whether no call that is open may go on."""
        return not self._calls or all(map(_is_whole, self._calls.values()))

    def _thought(self, text: str, details: list[Json]) -> list[bytes]:
        out = self._in("reasoning", {"summary": [], "encrypted_content": None})
        item = self._output[-1]
        if text:
            if not item["summary"]:
                item["summary"].append({"type": "summary_text", "text": ""})
                part = item["summary"][0]
                out.append(self._of(item, "reasoning_summary_part.added", summary_index=0, part=part))
            item["summary"][0]["text"] += text
            out.append(self._of(item, "reasoning_summary_text.delta", summary_index=0, delta=text))
        for detail in details:
            merge(self._details, bare(detail))  # the items tell its place
        return out

    def _text(self, text: str, logprobs: list[Json]) -> list[bytes]:
        part: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        out = self._in_part(part)
        part = self._output[-1]["content"][-1]
        part["text"] += text
        part["logprobs"] += logprobs
        return [*out, self._of_part("output_text.delta", delta=text, logprobs=logprobs)]

    def _refusal(self, text: str) -> list[bytes]:
        out = self._in_part({"type": "refusal", "refusal": ""})
        self._output[-1]["content"][-1]["refusal"] += text
        return [*out, self._of_part("refusal.delta", delta=text)]

    def _annotation(self, annotation: Any) -> list[bytes]:
        """Chat wraps what an annotation says in a member named as its type."""
        kind = annotation.get("type") if isinstance(annotation, dict) else None
        if isinstance(kind, str) and isinstance(annotation.get(kind), dict):
            annotation = {"type": kind, **annotation[kind]}
        out = self._in_part({"type": "output_text", "annotations": [], "logprobs": [], "text": ""})
        found = self._output[-1]["content"][-1]["annotations"]
        found.append(annotation)
        where = {"annotation_index": len(found) - 1, "annotation": annotation}
        return [*out, self._of_part("output_text.annotation.added", **where)]

    def _fragment(self, call: Json) -> list[bytes]:
        """A piece of a call: what names it comes first, its arguments bit by bit. Raises BadStream for one of a call
        that has been told already."""
        place = call.get("index", call.get("id"))
        out: list[bytes] = []
        said = call.get("function") or call.get("custom") or {}
        text = said.get("arguments") or said.get("input") or ""
        if place in self._told:
            if text.strip():
                raise BadStream("a call goes on after its arguments were whole")
            return []
        if place not in self._calls:
            out += [*self._queue.proceed(), *self._close_open()]
            for done in [one for one, item in self._calls.items() if _is_whole(item)]:
                out += self._close_call(done)
            out.append(self._open_call(place, call, said))
        item = self._calls[place]
        field, event = _FIELDS[item["type"]]
        if text:
            item[field] += text
            out.append(self._of(item, f"{event}.delta", delta=text))
        return out

    def _open_call(self, place: Any, call: Json, said: Json) -> bytes:
        kind = "custom_tool_call" if call.get("type") == "custom" else "function_call"
        namespace, name = self._names.get(said.get("name") or "", ("", said.get("name") or ""))
        item = {
            "call_id": call.get("id") or f"call_{self._ident}_{len(self._output)}",
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            _FIELDS[kind][0]: "",
        }
        event = self._add(kind, item)
        self._calls[place] = self._output[-1]
        return event

    def _in(self, kind: str, item: Json) -> list[bytes]:
        """Make the open item one of this kind."""
        if self._open is not None and self._open["type"] == kind:
            return []
        out = [*self._close_all("completed"), self._add(kind, item)]
        self._open = self._output[-1]
        return out

    def _in_part(self, part: Json) -> list[bytes]:
        """Make the open part of a message one of this type."""
        out = self._in("message", {"role": "assistant", "content": []})
        content = self._output[-1]["content"]
        if content and content[-1]["type"] == part["type"]:
            return out
        if content:
            out += self._close_part()
        content.append(part)
        return [*out, self._of_part("content_part.added", part=part)]

    def _add(self, kind: str, item: Json) -> bytes:
        made = {"id": item_id(kind, self._ident, len(self._output)), "type": kind, "status": "in_progress"}
        self._output.append({**made, **item})
        return self._event(
            "response.output_item.added", output_index=len(self._output) - 1, item=self._output[-1]
        )

    def _close_all(self, status: str) -> list[bytes]:
        out = self._close_open(status)
        for place in list(self._calls):
            out += self._close_call(place, status)
        return out

    def _close_open(self, status: str = "completed") -> list[bytes]:
        item, self._open = self._open, None
        if item is None:
            return []
        out = self._close_part() if item["type"] == "message" else self._close_thought(item)
        return [*out, self._done(item, status)]

    def _close_thought(self, item: Json) -> list[bytes]:
        details, self._details = self._details, []
        if details:
            item["encrypted_content"] = seal(details)
        out = []
        for part in item["summary"]:
            text = part["text"]
            out.append(self._of(item, "reasoning_summary_text.done", summary_index=0, text=text))
            out.append(self._of(item, "reasoning_summary_part.done", summary_index=0, part=part))
        return out

    def _close_part(self) -> list[bytes]:
        part = self._output[-1]["content"][-1]
        if part["type"] == "refusal":
            done = self._of_part("refusal.done", refusal=part["refusal"])
        else:
            done = self._of_part("output_text.done", text=part["text"], logprobs=part["logprobs"])
        return [done, self._of_part("content_part.done", part=part)]

    def _close_call(self, place: Any, status: str = "completed") -> list[bytes]:
        self._told.add(place)
        item = self._calls.pop(place)
        field, event = _FIELDS[item["type"]]
        named = {"name": item["name"]} if item["type"] == "function_call" else {}
        out = []
        if named and not item[field] and status == "completed":
            item[field] = "{}"  # clients read it as JSON; not every provider writes what is nothing
            out.append(self._of(item, f"{event}.delta", delta=item[field]))
        done = self._of(item, f"{event}.done", **named, **{field: item[field]})
        return [*out, done, self._done(item, status)]

    def _done(self, item: Json, status: str) -> bytes:
        item["status"] = status
        return self._event("response.output_item.done", output_index=self._output.index(item), item=item)

    def _of_part(self, name: str, /, **more: Any) -> bytes:
        place, item = len(self._output) - 1, self._output[-1]
        where = {"item_id": item["id"], "output_index": place, "content_index": len(item["content"]) - 1}
        return self._event(f"response.{name}", **where, **more)

    def _of(self, item: Json, name: str, /, **more: Any) -> bytes:
        place = self._output.index(item)
        return self._event(f"response.{name}", item_id=item["id"], output_index=place, **more)

    def _event(self, name: str, /, **more: Any) -> bytes:
        number, self._sequence = self._sequence, self._sequence + 1
        return tell(name, number, **more)


# (the member that holds what a call is given, the name of its events)
_FIELDS = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}


def _is_whole(item: Json) -> bool:
    if item["type"] != "function_call":
        return False
    try:
        return isinstance(orjson.loads(item["arguments"]), dict)
    except orjson.JSONDecodeError:
        return False
