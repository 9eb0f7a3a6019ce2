"""What recordings of Cohere say, and the calls that would ask the same; written apart from the code under test."""

from typing import Any

import orjson

from tests.contract.recorded import Record, answer_of
from tests.contract.test_messages import Told, events

REASONS = {"COMPLETE": "stop", "TOOL_CALL": "tool_calls", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length"}


class Heard(Told):
    """With what is cited: where in the text, and the id of the source."""

    def __init__(self) -> None:
        super().__init__()
        self.cited: list[tuple[int, int, str]] = []


def expected(record: Record) -> Heard:
    text = answer_of(record).decode()
    answer = _put_together(events(text)) if record["streaming"] else orjson.loads(text)
    told, message = Heard(), answer["message"]
    told.text = message.get("tool_plan", "") + "".join(one["text"] for one in message.get("content", []))
    for call in message.get("tool_calls", []):
        given = orjson.dumps(orjson.loads(call["function"]["arguments"] or "{}")).decode()
        told.calls.append([call["id"], call["function"]["name"], given])
    for one in message.get("citations", []):
        told.cited += [(one["start"], one["end"], source["id"]) for source in one["sources"]]
    told.reason = REASONS[answer["finish_reason"]]
    counts = answer["usage"]["tokens"]
    told.usage = {
        "prompt": counts["input_tokens"] + counts.get("image_tokens", 0),
        "cached": answer["usage"].get("cached_tokens", 0),
        "completion": counts["output_tokens"],
    }
    return told


def _put_together(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream as the answer it tells."""
    message: dict[str, Any] = {"tool_plan": "", "content": [], "tool_calls": [], "citations": []}
    for piece in pieces:
        part = piece.get("delta", {}).get("message", {})
        match piece["type"]:
            case "tool-plan-delta":
                message["tool_plan"] += part["tool_plan"]
            case "content-start":
                message["content"].append(part["content"])
            case "content-delta":
                message["content"][-1]["text"] += part["content"]["text"]
            case "tool-call-start":
                message["tool_calls"].append(part["tool_calls"])
            case "tool-call-delta":
                text = part["tool_calls"]["function"]["arguments"]
                message["tool_calls"][-1]["function"]["arguments"] += text
            case "citation-start":
                message["citations"].append(part["citations"])
    return {"message": message, **pieces[-1]["delta"]}


def chat_of(body: dict[str, Any]) -> dict[str, Any]:
    """A recorded call as a client of chat would put it."""
    chat = {**body, "messages": [_as_chat(message) for message in body["messages"]]}
    if "stop_sequences" in chat:
        chat["stop"] = chat.pop("stop_sequences")
    if "tool_choice" in chat:
        chat["tool_choice"] = chat["tool_choice"].lower()
    return chat


def _as_chat(message: dict[str, Any]) -> dict[str, Any]:
    if "tool_plan" not in message:
        return message
    return {name: value for name, value in message.items() if name != "tool_plan"} | {
        "content": message["tool_plan"]
    }


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A call without what says nothing: contents that are empty."""
    kept = []
    for message in body["messages"]:
        empty = message.get("content") in (None, "", [{"type": "text", "text": ""}])
        kept.append({name: one for name, one in message.items() if name != "content" or not empty})
    return {**body, "messages": kept}


def is_embed(record: Record) -> bool:
    """By the version of the API that the gateway speaks."""
    return record["api"] == "embed" and "/v2/" in record["request"]["url"]


def set_only(body: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that say nothing."""
    return {name: value for name, value in body.items() if value is not None}


def embeddings_of(body: dict[str, Any]) -> dict[str, Any]:
    """A recorded call as a client of OpenAI's embeddings would put it."""
    named = {"texts": "input", "output_dimension": "dimensions"}
    asked = {named.get(name, name): value for name, value in set_only(body).items()}
    del asked["embedding_types"]
    return asked
