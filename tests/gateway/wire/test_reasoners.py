from typing import Any

import pytest

from gateway.wire.base import Changes
from gateway.wire.hub import ChatBack
from gateway.wire.reasoners import drop_sampling
from gateway.wire.refusals import Refusals
from gateway.wire.responses.back import ResponsesBack


def drawn(model: str, effort: str = "", **fields: Any) -> tuple[dict[str, Any], list[str]]:
    left: list[str] = []
    drop_sampling(fields, model, effort, Refusals("OpenAI", None, left))
    return fields, left


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-10", "openai/gpt-5.2-codex"]
)
def test_a_model_that_reasons_is_not_told_how_to_draw(model: str) -> None:
    assert drawn(model, temperature=0.2, top_p=0.95, seed=1) == ({"seed": 1}, ["temperature", "top_p"])
    assert drawn(model, "low", temperature=1, top_p=None) == ({"top_p": None}, [])


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "gpt-oss-120b", "o-1", "mistral-large", "phi-o3"]
)
def test_others_are(model: str) -> None:
    assert drawn(model, temperature=0.2, top_p=0.95) == ({"temperature": 0.2, "top_p": 0.95}, [])


def test_one_that_is_asked_not_to_reason_is() -> None:
    assert drawn("gpt-5.1", "none", temperature=0.2) == ({"temperature": 0.2}, [])


@pytest.mark.parametrize("back", [ChatBack(), ResponsesBack()])
def test_both_apis_are_spared_it(back: ChatBack | ResponsesBack) -> None:
    left: list[str] = []
    chat = {"model": "gpt-5", "messages": [], "temperature": 1, "top_p": 0.95}
    body = back.from_chat(chat, Changes("gpt-5", left_out=left))
    assert body.keys().isdisjoint({"temperature", "top_p"})
    assert left == ["top_p"]
