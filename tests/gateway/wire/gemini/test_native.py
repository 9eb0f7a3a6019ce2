from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.wire.base import Changes
from gateway.wire.gemini.dialect import CountTokens, Generate
from gateway.wire.gemini.words import FOREIGN
from gateway.wire.thoughts import packed

THEIRS = packed({"type": "reasoning.text", "signature": "Q0xBVURF", "format": "anthropic-claude-v1"})
URL_SAFE = THEIRS.replace("+", "-").replace("/", "_")
OURS = "R0VNSU5J"
ASKED = {"role": "user", "parts": [{"text": "hi"}]}
THOUGHT = {"text": "Let me see.", "thought": True, "thoughtSignature": THEIRS}
SAID = {"text": "I look."}
CALL = {"functionCall": {"name": "look", "args": {"a": 1}, "id": "toolu_1"}}


def sent(
    *contents: Any, model: str = "gemini-3-pro", dialect: Generate | None = None
) -> tuple[list[Any], list[str]]:
    """The contents as the provider gets them, and what is told of them."""
    dialect = dialect or Generate()
    body = orjson.dumps({"contents": [*contents], "safetySettings": []})
    call = Call("r", dialect.name, "POST", "/p", body, dialect.read(body).payload, "m", False)
    left_out: list[str] = []
    written = dialect.write(call, Changes(model, left_out=left_out))
    dialect.write(call, Changes(model))
    assert (written == body) is not bool(left_out)
    return orjson.loads(written)["contents"], left_out


def said(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": [*parts]}


@pytest.mark.parametrize("signature", [THEIRS, URL_SAFE])
@pytest.mark.parametrize("dialect", [Generate(), Generate("gemini.array"), CountTokens()])
def test_what_another_model_thought_stays_behind(dialect: Generate, signature: str) -> None:
    thought = {**THOUGHT, "thoughtSignature": signature}
    told = sent(ASKED, said(thought, SAID), ASKED, dialect=dialect)
    assert told == ([ASKED, said(SAID), ASKED], ["contents.thought"])


def test_a_thought_goes_with_the_pieces_that_it_was_streamed_in() -> None:
    pieces = [{"text": "Let me ", "thought": True}, {"text": "see.", "thought": True}]
    end = {"text": "", "thought": True, "thought_signature": THEIRS}
    own = {"text": "hm", "thought": True, "thoughtSignature": OURS}
    assert sent(said(own, *pieces, end, SAID))[0] == [said(own, SAID)]
    assert sent(said(*pieces, SAID, end))[0] == [said(*pieces, SAID)]


def test_what_else_bears_such_a_signature_keeps_its_words() -> None:
    signed = [{**SAID, "thoughtSignature": THEIRS}, {**CALL, "thought_signature": THEIRS}]
    assert sent(said(*signed), model="gemini-2.5-pro")[0] == [said(SAID, CALL)]


def test_what_holds_nothing_else_goes_as_a_whole() -> None:
    assert sent(ASKED, said(THOUGHT), ASKED) == ([ASKED, ASKED], ["contents.thought"])


def test_the_first_call_of_each_step_bears_the_stand_in_where_the_model_wants_one() -> None:
    other = {"functionCall": {"name": "look"}}
    own = {**CALL, "thoughtSignature": OURS}
    history = [ASKED, said(THOUGHT, SAID, CALL, other), said(other), said(own, other), said(SAID)]
    standing_in = {"thoughtSignature": FOREIGN}
    assert sent(*history)[0] == [
        ASKED, said(SAID, CALL | standing_in, other), said(other | standing_in), said(own, other), said(SAID)
    ]  # fmt: skip
    assert sent(*history, model="gemini-2.5-pro")[0] == [
        ASKED, said(SAID, CALL, other), said(other), said(own, other), said(SAID)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "contents",
    [
        [ASKED, said(CALL)],
        [
            {"role": "user", "parts": [{"text": THEIRS}]},
            said(CALL, "odd", 1),
            {"parts": 3},
            "hi",
            {"parts": []},
        ],
        [{"role": "user", "parts": [THOUGHT]}],
        [said(THOUGHT)],
    ],
    ids=["nothing packed", "talked of", "said by a user", "nothing left"],
)
def test_where_nothing_is_to_stay_behind_the_bytes_are_the_clients(contents: list[Any]) -> None:
    assert sent(*contents)[1] == []


def test_what_is_to_be_counted_may_stand_elsewhere() -> None:
    dialect = CountTokens()
    body = orjson.dumps({"generateContentRequest": {"contents": [said(THOUGHT)]}})
    call = Call("r", dialect.name, "POST", "/p", body, dialect.read(body).payload, "m", False)
    assert dialect.write(call, Changes("gemini-3-pro")) == body
