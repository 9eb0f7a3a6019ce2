"""What becomes of every recorded exchange: `python -m tests.contract.report` (`make recordings`).

Walks the registries. Between equal dialects the request must leave as the bytes it came in, and the answer too,
however it is cut into chunks. Across dialects an answer is told in the client's words, read again as a provider's,
and must say the same; a request must find its words or be refused by name.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.providers.registry import PROVIDERS
from gateway.wire.base import Asked, Changes
from gateway.wire.registry import BACKS, DIALECTS, FRONTS, between
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import unpacked
from tests.contract import cohere
from tests.contract.recorded import Record, answer_of, at_random, byte_by_byte, every, per_event, whole

# The dialect of a recorded endpoint; those that the gateway does not speak are not counted.
DIALECT_OF = {
    "chat.completions": "openai.chat", "completions": "openai.completions", "embeddings": "openai.embeddings",
    "responses": "openai.responses", "messages": "anthropic.messages", "count_tokens": "anthropic.count_tokens",
    "generateContent": "gemini.generate", "streamGenerateContent": "gemini.generate",
    "converse": "bedrock.converse", "converse-stream": "bedrock.converse", "chat v2": "cohere.chat",
}  # fmt: skip
# What only chat's own clients can ask for; an answer to it is not told in other words.
CHATS_OWN = ("n", "audio", "functions")
OTHERS = ("writer",)  # whose endpoints of OpenAI's names speak another format
CHUNKINGS = (whole, per_event, at_random, byte_by_byte)


class Result(NamedTuple):
    record: Record
    dialect: str  # the client's
    what: str  # request | answer
    verdict: str  # equal | refused | wrong
    reason: str = ""


def results() -> Iterator[Result]:
    for record in every():
        dialect = DIALECT_OF.get(record["api"], "")
        if record["api"] == "rerank" and record["provider"] != "voyage":  # which calls it otherwise
            dialect = "cohere.rerank" if "/v2/" in record["request"]["url"] else "cohere.rerank_v1"
        elif record["provider"] == "cohere":
            yield from _of_cohere(record, dialect)
            continue
        if (
            record["provider"] in OTHERS
            or dialect not in DIALECTS
            or not isinstance(record["request"].get("body"), dict)
        ):
            continue
        if record["request"]["body"].get("model") or dialect.startswith("gemini."):
            yield Result(record, dialect, "request", *_same_request(record, dialect))
            yield from _translated_requests(record, dialect)
        if record["response"]["status"] == 200:
            yield Result(record, dialect, "answer", *_same_answer(record, dialect))
            yield from _translated_answers(record, dialect)


def _of_cohere(record: Record, back: str) -> Iterator[Result]:
    """No client speaks Cohere's chat here: what was asked of it is put in OpenAI's words."""
    body = record["request"].get("body")
    if cohere.is_embed(record):
        yield from _of_embed(record)
        return
    if back not in BACKS:
        yield Result(record, record["api"], "request", "refused", "no route of the gateway")
        return
    asked = {"openai.chat": cohere.chat_of(body)}
    for front, payload in asked.items():
        call = _call(front, payload)
        written = orjson.loads(between(front, back).write(call, Changes(call.model)))
        same = cohere.plain(written) == cohere.plain(body)
        yield Result(
            record, front, f"request to {back}", *(("equal", "") if same else ("wrong", "it changed"))
        )
    if record["response"]["status"] == 200:
        yield from _translated_answers(record, back)


def _of_embed(record: Record) -> Iterator[Result]:
    front, way = "openai.embeddings", between("openai.embeddings", "cohere.chat")
    asked = cohere.embeddings_of(record["request"]["body"])
    written = orjson.loads(way.write(_call(front, asked), Changes(asked["model"])))
    same = written == cohere.set_only(record["request"]["body"])
    yield Result(
        record, front, "request to cohere.embed", *(("equal", "") if same else ("wrong", "it changed"))
    )
    if record["response"]["status"] == 200:
        told = way.tap(Asked(asked, Usage())).whole(answer_of(record))
        vectors = [one["embedding"] for one in orjson.loads(told or b"{}").get("data", [])]
        same = vectors == orjson.loads(answer_of(record))["embeddings"]["float"]
        yield Result(
            record, front, "answer of cohere.embed", *(("equal", "") if same else ("wrong", "numbers"))
        )


def call_of(record: Record, dialect: str) -> Call:
    return _call(dialect, record["request"]["body"])


def _call(dialect: str, asked: dict[str, Any]) -> Call:
    body = orjson.dumps(asked)
    payload, model, stream = DIALECTS[dialect].read(body)
    return Call("chat", dialect, "POST", "/", body, payload, model, stream)


def _same_request(record: Record, dialect: str) -> tuple[str, str]:
    call = call_of(record, dialect)
    same = DIALECTS[dialect].write(call, Changes(call.model)) == call.body
    return ("equal", "") if same else ("wrong", "the request changed")


def _translated_requests(record: Record, dialect: str) -> Iterator[Result]:
    """To each format that some provider wants its calls translated to."""
    for name in sorted({provider.speaks(dialect, "m") for provider in PROVIDERS.values()} - {dialect}):
        if dialect in FRONTS and name in BACKS:
            try:
                orjson.loads(between(dialect, name).write(call_of(record, dialect), Changes("m")))
                yield Result(record, dialect, f"request to {name}", "equal")
            except BadRequest as refusal:
                reason = _place_of(record["request"]["body"], refusal.param or refusal.message)
                yield Result(record, dialect, f"request to {name}", "refused", reason)


def _place_of(body: Any, place: str) -> str:
    """Where a refusal points, in the client's own writing but without the numbers, and the type of what stands
    there; Gemini's parts are told by the name of what they hold."""
    found = body
    for step in re.findall(r"\w+", place):
        try:
            found = found[int(step) if isinstance(found, list) else step]
        except (LookupError, TypeError):
            found = None
    kind = found.get("type") or ", ".join(found) if isinstance(found, dict) else None
    return re.sub(r"\[\d+\]|\.\d+", "[]", place) + (f" ({kind})" if kind else "")


def _same_answer(record: Record, dialect: str) -> tuple[str, str]:
    asked = record["request"]["body"]
    for chunking in CHUNKINGS if record["streaming"] else CHUNKINGS[:1]:
        choices = asked.get("n") or 1
        tap = DIALECTS[dialect].tap(Asked(asked, Usage(), choices=choices))
        if not record["streaming"]:
            out = tap.whole(answer_of(record)) or answer_of(record)
        else:
            out = b"".join([tap.feed(piece) for piece in chunking(record)] + [tap.rest()])
        if out != answer_of(record):
            return "wrong", f"the answer changed ({chunking.__name__})"
        if not (tap.finished or tap.failed):
            return "wrong", f"its end was not seen ({chunking.__name__})"
    return "equal", ""


def _translated_answers(record: Record, dialect: str) -> Iterator[Result]:
    for front in sorted(FRONTS):
        if front == dialect or dialect not in BACKS or front not in BACKS:
            continue
        own = [name for name in CHATS_OWN if record["request"]["body"].get(name) not in (None, 1)]
        custom = [
            tool for tool in record["request"]["body"].get("tools") or [] if tool.get("type") == "custom"
        ]
        if own or custom:
            reason = f"no {front} client can ask for {', '.join(own) or 'custom tools'}"
            yield Result(record, front, f"answer of {dialect}", "refused", reason)
        else:
            yield Result(record, front, f"answer of {dialect}", *_told(record, front, dialect))


def _told(record: Record, front: str, back: str) -> tuple[str, str]:
    """Told in the client's dialect and read again, against the provider's own words."""
    meant, asked = (
        _read(back, answer_of(record), stream=record["streaming"]),
        {"stream_options": {"include_usage": True}},
    )
    for chunking in CHUNKINGS if record["streaming"] else CHUNKINGS[:1]:
        tap = between(front, back).tap(Asked(asked, Usage()))
        if record["streaming"]:
            out = b"".join([tap.feed(piece) for piece in chunking(record)] + [tap.rest()])
        else:
            try:
                out = tap.whole(answer_of(record)) or b"null"
            except (BadRequest, BadStream) as untold:  # pictures, and generations that failed
                return "refused", str(untold)
        if tap.failed and (meant.get("error") or meant["reason"] == "error"):
            continue
        came = _read(front, out, stream=record["streaming"])
        if came != meant:
            different = [name for name in meant if came.get(name) != meant[name]]
            return "wrong", f"{', '.join(different)} ({chunking.__name__})"
    return "equal", ""


def _read(back: str, body: bytes, *, stream: bool) -> dict[str, Any]:
    """What an answer says."""
    if not stream:
        completion = BACKS[back].completion(orjson.loads(body))
        choice = completion["choices"][0]
        return _said(
            [{"choices": [{**choice, "delta": choice["message"]}], "usage": completion.get("usage")}]
        )
    reader = BACKS[back].reader()
    return _said([*reader.feed(body), *reader.rest()])


def _said(pieces: list[Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"text": "", "thought": "", "signatures": [], "reason": None, "usage": None}
    calls: dict[Any, list[str]] = {}
    pages: list[str] = []
    for piece in pieces:
        if "error" in piece:
            return {"error": True}
        said["usage"] = piece.get("usage") or said["usage"]
        for choice in piece["choices"][:1]:
            delta = choice.get("delta") or {}
            said["text"] += (delta.get("content") or "") + (delta.get("refusal") or "")
            details = delta.get("reasoning_details") or []
            texts = "".join(one.get("text") or "" for one in details)
            said["thought"] += texts or delta.get("reasoning_content") or ""
            # What Anthropic signed goes through Gemini's words packed (gateway/wire/thoughts.py).
            came = [unpacked(one.get("signature") or one.get("data") or "") or one for one in details]
            signed = [one for one in came if one.get("format") == "anthropic-claude-v1"]
            said["signatures"] += [
                mark for one in signed if (mark := one.get("signature") or one.get("data"))
            ]
            pages += [page for one in delta.get("annotations") or [] if (page := _page_of(one))]
            said["reason"] = choice.get("finish_reason") or said["reason"]
            for place, call in enumerate(delta.get("tool_calls") or []):
                last = calls.setdefault(call.get("index", place), ["", "", ""])
                last[0] = last[0] or call.get("id") or ""
                made = call.get("function") or call["custom"]
                last[1] = last[1] or made.get("name") or ""
                last[2] += made.get("arguments") or ""
    said["calls"] = [[id_, name, orjson.loads(given or "{}")] for id_, name, given in calls.values()]
    if calls and said["reason"] in (None, "stop", "function_call"):
        said["reason"] = "tool_calls"
    said["cited"] = sorted(set(pages))
    return said | {"reason": said["reason"] or "stop", "usage": _counted(said["usage"])}


def _page_of(annotation: Any) -> str:
    """The address of what is cited, however its dialect writes that; a document has none."""
    return (annotation.get("url_citation") or annotation).get("url") or ""


def _counted(usage: Any) -> tuple[int, int, int]:
    """(prompt, cached, completion). Some count more as cached than there is, and that is kept apart here."""
    usage = usage or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return max(usage.get("prompt_tokens") or 0, cached), cached, usage.get("completion_tokens") or 0


def table(found: list[Result]) -> list[str]:
    """Provider x client's dialect x feature, then every refusal with its reason, then what is wrong."""
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for one in found:
        for feature in ["(all)", *one.record["features"]]:
            counts[one.record["provider"], f"{one.dialect}: {one.what}", feature][one.verdict] += 1
    lines = [
        f"{'provider':<12} {'dialect':<46} {'feature':<20} {'n':>5} {'equal':>6} {'refused':>8} {'wrong':>6}"
    ]
    for (provider, dialect, feature), verdicts in sorted(counts.items()):
        numbers = (
            f"{verdicts.total():>5} {verdicts['equal']:>6} {verdicts['refused']:>8} {verdicts['wrong']:>6}"
        )
        lines.append(f"{provider:<12} {dialect:<46} {feature:<20} {numbers}")
    refused = Counter((f"{one.dialect}: {one.what}", one.reason) for one in found if one.verdict == "refused")
    lines += ["", "refused:"]
    lines += [f"{count:>5}  {what}: {reason}" for (what, reason), count in sorted(refused.items())]
    wrong = [one for one in found if one.verdict == "wrong"]
    lines += ["", f"wrong: {len(wrong)}"]
    return lines + [f"{one.record['id']} {one.dialect}: {one.what}: {one.reason}" for one in wrong]


if __name__ == "__main__":
    all_results = list(results())
    sys.stdout.write("\n".join(table(all_results)) + "\n")
    sys.exit(any(one.verdict == "wrong" for one in all_results))
