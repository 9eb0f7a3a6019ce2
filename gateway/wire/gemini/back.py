"""A chat call as Gemini takes it."""

from typing import Any

import orjson

from gateway.wire.base import Changes
from gateway.wire.gemini.reader import GeminiReader, completion
from gateway.wire.gemini.turns import Conversation, is_ours, is_part
from gateway.wire.gemini.words import is_signed, thinking
from gateway.wire.lacks import OF_CALLERS, Lacks
from gateway.wire.reason import NO_REASON, reason
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json

CAP = "maxOutputTokens"
_CONFIG = {
    "max_completion_tokens": CAP, "max_tokens": CAP, "temperature": "temperature", "top_p": "topP",
    "top_k": "topK", "n": "candidateCount", "seed": "seed", "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty", "logprobs": "responseLogprobs", "top_logprobs": "logprobs",
}  # fmt: skip
_TURNED = frozenset(
    {"model", "stream", "stream_options", "messages", "tools", "tool_choice", "stop", "response_format",
     "reasoning_effort", "modalities", "web_search_options"}
)  # fmt: skip
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
# What changes nothing of an answer, only how it is kept, billed or shown, is left out.
_LACKS = Lacks(
    refused={
        "logit_bias": ({},), "audio": (), "prediction": (), "functions": ([],), "function_call": ("none", "auto"),
        "parallel_tool_calls": (True,), "verbosity": ("medium",),
    },
    left_out=OF_CALLERS | {"moderation"},
    takes={"reasoning_details": is_ours, "other_blocks": is_part},
    words=frozenset({"is_error", "extra_content"}),
)  # fmt: skip


class GeminiBack:
    def from_chat(self, chat: Json, changes: Changes) -> Json:
        refusals = Refusals("Gemini", changes.dropped, changes.left_out)
        _LACKS.tell(chat, refusals)
        known = _LACKS.left_out | _TURNED | _CONFIG.keys() | _LACKS.refused.keys()
        body: Json = {name: value for name, value in changes.params.items() if name != CAP}
        body |= {name: value for name, value in chat.items() if name not in known}
        signed = is_signed(str(chat.get("model", "")))
        system, contents = Conversation(refusals, signed).turns(chat["messages"])
        if system:
            body["systemInstruction"] = {"parts": system}
        body["contents"] = contents
        _set_tools(body, chat, refusals)
        config = {CAP: changes.params[CAP]} if CAP in changes.params else {}
        config = {**config, **(body.pop("generationConfig", None) or {}), **_config(chat, refusals)}
        if config:
            body["generationConfig"] = config
        return body

    def completion(self, answer: Any) -> Json:
        return completion(answer)

    def reader(self) -> GeminiReader:
        return GeminiReader()

    def error(self, body: bytes) -> Json:
        """Google's error, alone or as the one element of a list (where a stream had been asked for)."""
        try:
            told = orjson.loads(body)
            error = (told[0] if isinstance(told, list) else told)["error"]
            return {
                "message": str(error["message"]),
                "type": None,
                "param": None,
                "code": error.get("status"),
            }
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            return {"message": reason(body) or NO_REASON}


def _config(chat: Json, refusals: Refusals) -> Json:
    config: Json = {}
    for name, theirs in _CONFIG.items():
        if chat.get(name) is not None:
            config.setdefault(theirs, chat[name])
    if stop := chat.get("stop"):
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    if chat.get("modalities") not in (None, ["text"]):
        config["responseModalities"] = [str(one).upper() for one in chat["modalities"]]
    if asked := chat.get("reasoning_effort"):
        thinks = thinking(str(asked), str(chat.get("model", "")))
        if thinks is None:
            refusals.add("reasoning_effort")
        else:
            config["thinkingConfig"] = thinks
    wanted = chat.get("response_format") or {"type": "text"}
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in ("json_schema", "json_object"):
        config["responseMimeType"] = "application/json"
        if kind == "json_schema":
            config["responseJsonSchema"] = (wanted.get("json_schema") or {}).get("schema") or {}
    elif kind != "text":
        refusals.add("response_format")
    return config


def _set_tools(body: Json, chat: Json, refusals: Refusals) -> None:
    declared, strict = [], False
    for place, tool in enumerate(chat.get("tools") or []):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or "name" not in function:
            refusals.add(f"tools[{place}]")
            continue
        made = {name: function[name] for name in ("name", "description") if function.get(name) is not None}
        if function.get("parameters"):
            made["parametersJsonSchema"] = function["parameters"]
        declared.append(made)
        strict = strict or function.get("strict") is True
    tools: list[Json] = [{"functionDeclarations": declared}] if declared else []
    if (search := chat.get("web_search_options")) is not None:
        for name in search if isinstance(search, dict) else ():
            refusals.add(f"web_search_options.{name}")
        tools.append({"googleSearch": {}})
    if tools:
        body["tools"] = tools
    choice = _choice(chat.get("tool_choice"), refusals)
    if strict and choice in (None, {"mode": "AUTO"}):
        choice = {"mode": "VALIDATED"}  # calls keep to their schemas: what `strict` asks for
    if choice is not None and declared:
        body["toolConfig"] = {"functionCallingConfig": choice}


def _choice(asked: Any, refusals: Refusals) -> Json | None:
    if asked is None:
        return None
    if isinstance(asked, str) and asked in _MODES:
        return {"mode": _MODES[asked]}
    name = (asked.get("function") or {}).get("name") if isinstance(asked, dict) else None
    if name is None:
        refusals.add("tool_choice")
        return None
    return {"mode": "ANY", "allowedFunctionNames": [name]}
