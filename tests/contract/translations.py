"""What each dialect's features become before each provider, found by asking the code: docs/translations.md.

`python -m tests.contract.translations > docs/translations.md`. A feature is put to the code in the smallest call
that asks for it. Identical: the provider speaks the dialect. Refused: with a 400 that names the field. Dropped: the
call leaves as it would without the feature, which is named, or the client is not told of what an answer cites. Done
here: the same, but nothing is lost. Carried: in the client's own words, in another framing. Translated: else.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.providers.base import Provider
from gateway.providers.compatible import Compatible
from gateway.providers.registry import PROVIDERS
from gateway.wire.base import Changes
from gateway.wire.invocations import Invocations
from gateway.wire.invoke import Invoke
from gateway.wire.registry import FRONTS, between
from tests.contract.cited import DOCUMENTS, PAGES, Cited, is_told

# Providers that ask some of their models in another language: what such a one is called.
CLAUDES = {"bedrock": "anthropic.claude-x", "vertex": "claude-x"}

HI = {"role": "user", "content": "hi"}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBO"}
CALLED = [HI, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}]


def block(**content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, content]}]}


def replied(*blocks: dict[str, Any]) -> dict[str, Any]:
    said = [{"type": "text", "text": "a"}, *blocks]
    return {"messages": [HI, {"role": "assistant", "content": said}, HI]}


def result(**more: Any) -> dict[str, Any]:
    return {
        "messages": [
            *CALLED,
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", **more}]},
        ]
    }


def thought(text: str | None = "hm", **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": "a"}
    if text is not None:
        said["reasoning_details"] = [{"type": "reasoning.text", "text": text, **more}]
    return {"messages": [HI, said, HI]}


def given(*items: dict[str, Any]) -> dict[str, Any]:
    return {"input": [HI, *items, HI]}


def shown(**part: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}, part]}]}


SAID = {"role": "assistant", "content": "a"}
RESPONSES_TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
TOOL = [{"name": "f", "input_schema": {"type": "object"}}]
FUNCTION = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CACHED = {"type": "ephemeral"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
BASE: Mapping[str, Mapping[str, Any]] = {
    "anthropic.messages": {"model": "m", "max_tokens": 9000, "messages": [HI]},
    "openai.chat": {"model": "m", "max_completion_tokens": 9000, "messages": [HI]},
    "openai.responses": {"model": "m", "max_output_tokens": 9000, "input": [HI]},
}


# Provider types, and those of which a policy file may make another.
KINDS: Mapping[str, Provider] = {**PROVIDERS, "compatible with responses: only": Compatible(responses="only")}


class Feature(NamedTuple):
    """`more` is what a call has that asks for it, `less` what the same call has without; `why` it is dropped where
    it is, or done by the gateway itself."""

    name: str
    more: dict[str, Any]
    why: str = ""
    less: Mapping[str, Any] = {}
    is_here: bool = False


OWN = "runs at its own provider alone; no reason to refuse, as coding agents offer it with every call"
HINT = "says nothing of the answer, only how it is kept, billed or cached"
NARROWS = "only narrows what is drawn from; Gemini's command line sets it in every call"
LONG = "changes an answer only where a context is too long, which the provider then says"
FEATURES: Mapping[str, list[Feature]] = {
    "anthropic.messages": [
        Feature("system", {"system": "be brief"}),
        Feature("temperature, top_p", {"temperature": 0.5, "top_p": 0.9}),
        Feature("top_k", {"top_k": 3}, NARROWS),
        Feature("stop_sequences", {"stop_sequences": ["x"]}),
        Feature("metadata.user_id", {"metadata": {"user_id": "u"}}, HINT),
        Feature("tools", {"tools": TOOL}),
        Feature("tool_choice", {"tools": TOOL, "tool_choice": {"type": "tool", "name": "f"}}),
        Feature("disable_parallel_tool_use",
                {"tools": TOOL, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        Feature("tools of Anthropic's own (web_search ...)",
                {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, OWN),
        Feature("input_examples, defer_loading, allowed_callers of a tool",
                {"tools": [{**TOOL[0], "input_examples": [{}], "defer_loading": True}]},
                "the tool is offered as all others are", {"tools": TOOL}),
        Feature("tool_result", result(content="r")),
        Feature("tool_result.is_error", result(content="r", is_error=True),
                "a chat message of a tool has no mark for it; its text tells", result(content="r")),
        Feature("tool_result with a picture", result(content=[{"type": "image", "source": PNG}])),
        Feature("image", block(type="image", source=PNG)),
        Feature("document (PDF)", block(type="document", source=PNG)),
        Feature("document (text)", block(type="document", source={"type": "text", "data": "d"})),
        Feature("document with citations", block(type="document", source=PNG, citations={"enabled": True})),
        Feature("document with title and context", block(type="document", source=PNG, title="t", context="c")),
        Feature("image or document by file id", block(type="image", source={"type": "file", "file_id": "x"})),
        Feature("citations of earlier turns", replied({"type": "text", "text": "b", "citations": [{"url": "u"}]}),
                "no other format takes them back: an answer's sources are for who reads it",
                replied({"type": "text", "text": "b"})),
        Feature("thoughts of earlier turns", replied(THOUGHT), "this provider takes none back", replied()),
        Feature("thinking budget", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        Feature("effort", {"output_config": {"effort": "low"}}),
        Feature("JSON schema", {"output_config": {"format": {"type": "json_schema", "schema": {}}}}),
        Feature("cache_control", {"cache_control": CACHED}, HINT),
        Feature("cache_control of a block", {"system": [{"type": "text", "text": "a", "cache_control": CACHED}]}, HINT,
                {"system": [{"type": "text", "text": "a"}]}),
        Feature("cache_control of a tool", {"tools": [{**TOOL[0], "cache_control": CACHED}]}, HINT, {"tools": TOOL}),
        Feature("context_management", {"context_management": {"edits": []}}, "only trims what the provider keeps"),
        Feature("service_tier", {"service_tier": "standard_only"}, HINT),
        Feature("mcp_servers", {"mcp_servers": [{"name": "x"}]}),
        Feature("container", {"container": "c"}),
    ],
    "openai.chat": [
        Feature("system or developer message", {"messages": [{"role": "developer", "content": "be brief"}, HI]}),
        Feature("temperature, top_p", {"temperature": 0.5, "top_p": 0.9}),
        Feature("stop", {"stop": ["x"]}),
        Feature("n", {"n": 2}),
        Feature("seed", {"seed": 1}),
        Feature("frequency_penalty, presence_penalty", {"frequency_penalty": 1}),
        Feature("logit_bias", {"logit_bias": {"1": 1}}),
        Feature("logprobs", {"logprobs": True}),
        Feature("user", {"user": "u"}, HINT),
        Feature("tools", {"tools": FUNCTION}),
        Feature("tool_choice", {"tools": FUNCTION, "tool_choice": "required"}),
        Feature("parallel_tool_calls", {"tools": FUNCTION, "parallel_tool_calls": False}),
        Feature("custom tools", {"tools": [{"type": "custom", "custom": {"name": "f"}}]}),
        Feature("functions (legacy)", {"functions": [{"name": "f"}]}),
        Feature("name of a message", {"messages": [{**HI, "name": "n"}]},
                "this provider knows roles alone"),
        Feature("audio of an earlier answer", {"messages": [HI, {"role": "assistant", "audio": {"id": "a"}}, HI]}),
        Feature("image_url", block(type="image_url", image_url={"url": "https://a/b"})),
        Feature("image_url.detail", block(type="image_url", image_url={"url": "https://a/b", "detail": "low"}),
                "this provider looks at all alike",
                block(type="image_url", image_url={"url": "https://a/b"})),
        Feature("file (data)", block(type="file", file={"file_data": "data:application/pdf;base64,J"})),
        Feature("file (id)", block(type="file", file={"file_id": "x"})),
        Feature("input_audio", block(type="input_audio", input_audio={})),
        Feature("audio output", {"modalities": ["text", "audio"], "audio": {}}),
        Feature("reasoning_effort", {"reasoning_effort": "low"}),
        Feature("reasoning_details without a signature", thought(format="anthropic-claude-v1"),
                "a thought that is not signed is taken back by nobody but who takes plain text", thought(None)),
        Feature("response_format json_schema",
                {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
        Feature("response_format json_object", {"response_format": {"type": "json_object"}}),
        Feature("web_search_options", {"web_search_options": {}}),
        Feature("prediction", {"prediction": {"type": "content", "content": "x"}}),
        Feature("verbosity", {"verbosity": "low"}),
        Feature("store", {"store": True}, HINT),
        Feature("metadata", {"metadata": {"a": "b"}}, HINT),
        Feature("service_tier", {"service_tier": "flex"}, HINT),
        Feature("prompt_cache_key", {"prompt_cache_key": "k"}, HINT),
        Feature("prompt_cache_options", {"prompt_cache_options": {"mode": "explicit"}}, HINT),
    ],
    "openai.responses": [
        Feature("instructions", {"instructions": "be brief"}),
        Feature("temperature, top_p", {"temperature": 0.5, "top_p": 0.9}),
        Feature("top_logprobs, include logprobs", {"top_logprobs": 2, "include": ["message.output_text.logprobs"]}),
        Feature("tools of type function", {"tools": [RESPONSES_TOOL]}),
        Feature("tools of type custom", {"tools": [{"type": "custom", "name": "f"}]}),
        Feature("tools of type namespace", {"tools": [{"type": "namespace", "name": "n", "tools": [RESPONSES_TOOL]}]}),
        Feature("tools a provider runs itself (web_search, mcp ...)", {"tools": [{"type": "web_search"}]}, OWN),
        Feature("tool_choice", {"tools": [RESPONSES_TOOL], "tool_choice": {"type": "function", "name": "f"}}),
        Feature("tool_choice allowed_tools", {"tools": [RESPONSES_TOOL], "tool_choice": {
            "type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]}}),
        Feature("tool_choice of a tool a provider runs itself",
                {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}),
        Feature("parallel_tool_calls", {"tools": [RESPONSES_TOOL], "parallel_tool_calls": False}),
        Feature("function_call and its output", given(
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "r"})),
        Feature("items of tools a provider ran itself", given({"type": "web_search_call", "id": "ws_1"})),
        Feature("reasoning items", given({"type": "reasoning", "id": "rs_1", "summary": [
            {"type": "summary_text", "text": "hm"}]}, SAID),
            "this provider takes no thoughts back but those that it signed", given(SAID)),
        Feature("input_image", shown(type="input_image", image_url="https://a/b")),
        Feature("input_file (data)",
                shown(type="input_file", filename="f", file_data="data:application/pdf;base64,J")),
        Feature("input_file (id)", shown(type="input_file", file_id="file-x")),
        Feature("input_audio", shown(type="input_audio", input_audio={"data": "J", "format": "wav"})),
        Feature("reasoning.effort", {"reasoning": {"effort": "low"}}),
        Feature("reasoning.summary", {"reasoning": {"summary": "auto"}},
                "thoughts are shown as the provider shows them"),
        Feature("text.format json_schema", {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}}),
        Feature("text.format json_object", {"text": {"format": {"type": "json_object"}}}),
        Feature("text.verbosity", {"text": {"verbosity": "low"}}),
        Feature("store, metadata", {"store": True, "metadata": {"a": "b"}}, "the gateway itself keeps the answer",
                is_here=True),
        Feature("max_tool_calls", {"max_tool_calls": 3}, "is about tools that a provider runs itself"),
        Feature("truncation", {"truncation": "auto"}, LONG),
        Feature("context_management", {"context_management": [{"type": "compaction"}]}, LONG),
        Feature("prompt_cache_key", {"prompt_cache_key": "k"}, HINT),
        Feature("user, safety_identifier", {"safety_identifier": "u"}, HINT),
        Feature("background", {"background": True}, "the gateway itself goes on with the call", is_here=True),
        Feature("prompt, conversation", {"prompt": {"id": "pmpt_1"}}),
    ],
}  # fmt: skip


class Source(NamedTuple):
    """What answers may cite; `why` it is dropped where it is."""

    name: str
    answers: Mapping[str, Cited]
    why: str = ""


SOURCES = (
    Source("citations of pages, in an answer or a stream", PAGES),
    Source("citations of documents, in an answer or a stream", DOCUMENTS,
           "Anthropic's name a place in a document of the call, which this provider does not tell"),
)  # fmt: skip


def cites(front: str, kind: str, model: str, source: Source) -> str:
    """What becomes of them; "" where answers of this provider have none."""
    spoken = KINDS[kind].speaks(front, model)
    cited = source.answers.get(kind) or source.answers.get(spoken)
    if cited is None or spoken == front:
        return "identical" if spoken == front else ""
    way = between(front, spoken)
    if is_told(way, BASE[front], cited):
        return "carried" if isinstance(way, Invoke | Invocations) else "translated"
    assert source.why, f"{front} before {kind} loses {source.name} without a reason"
    return f"dropped: {source.why}"


def written(front: str, provider: Provider, model: str, payload: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """What the provider is sent, and the names of what is left out."""
    call = Call("chat", front, "POST", "/", orjson.dumps(payload), payload, model, False)
    left: list[str] = []
    changes = Changes(model, cap_name=provider.cap_name, quirks=provider.quirks, left_out=left)
    return orjson.loads(between(front, provider.speaks(front, model)).write(call, changes)), left


def becomes(front: str, kind: str, model: str, feature: Feature) -> str:
    provider = KINDS[kind]
    if (spoken := provider.speaks(front, model)) == front:
        return "identical"
    try:
        told, left = written(front, provider, model, {**BASE[front], **feature.more})
    except BadRequest as refusal:
        return f"refused: {refusal.param}"
    without, _ = written(front, provider, model, {**BASE[front], **feature.less})
    names = ", ".join(f"`{name}`" for name in left)
    if told != without:
        found = "carried" if isinstance(between(front, spoken), Invoke | Invocations) else "translated"
        return f"{found}, but for {names}" if left else found
    assert feature.why, f"{front} before {kind} loses {feature.name} without a reason"
    assert feature.is_here is not bool(left), f"{front} before {kind} does not name {feature.name}"
    return f"done here: {feature.why}" if feature.is_here else f"dropped as {names}: {feature.why}"


def page() -> str:
    """Providers before whom every feature becomes the same share a column."""
    lines = [
        "# Translations",
        "What becomes of a call's features before each provider, made from the code by",
        "`python -m tests.contract.translations`. *Identical*: the client's own bytes. *Translated*: in the provider's "
        "words.",
        "*Carried*: in the client's own words, in another framing. *Refused*: a 400 that names the field; before a",
        "fallback target the field is left out and named in `x-gateway-dropped`. *Dropped*: left out, and named in "
        "`x-gateway-dropped`",
        "as it stands here, for the reason given; so is any other field or part of a call that a translation leaves "
        "out, unless it",
        "says nothing (null, false, empty, a default). *Done here*: by the gateway itself.",
        "A page that another provider cites is told in Anthropic's words by its address and title, and by its own",
        "words where the provider tells them; `encrypted_index` is empty, as only Anthropic can make one.",
    ]
    for front in sorted(FRONTS.keys() & FEATURES.keys()):
        columns: dict[tuple[str, ...], list[str]] = defaultdict(list)
        models = [(kind, kind, "m") for kind in KINDS]
        models += [(f"{kind}: {model}", kind, model) for kind, model in CLAUDES.items()]
        for label, kind, model in sorted(models):
            asked = [becomes(front, kind, model, feature) for feature in FEATURES[front]]
            column = (*asked, *(cites(front, kind, model, source) for source in SOURCES))
            columns[column].append(label)
        lines += ["", f"## {front}"]
        for column, kinds in columns.items():
            lines += ["", f"Before {', '.join(f'`{kind}`' for kind in kinds)}:"]
            if len(set(column) - {""}) == 1:
                lines.append(f"all of it is {column[0]}.")
                continue
            lines += ["", "| feature | |", "|---|---|"]
            names = [one.name for one in FEATURES[front]] + [one.name for one in SOURCES]
            rows = zip(names, column, strict=True)
            lines += [f"| {name} | {found} |" for name, found in rows if found]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
