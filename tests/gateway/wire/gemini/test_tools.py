"""Functions in Gemini's words, as chat declares and chooses them."""

from typing import Any

import pytest

from gateway.wire.gemini.front import GeminiFront
from gateway.wire.refusals import Refusals

FRONT = GeminiFront()


def chat(left: list[str] | None = None, **asked: Any) -> dict[str, Any]:
    return FRONT.to_chat({"contents": [], **asked}, Refusals("chat", None, left))


DECLARED = [{"name": "f", "description": "d", "parameters": {"type": "OBJECT"}}, {"name": "g"}]


@pytest.mark.parametrize(
    ("calling", "names", "choice"),
    [
        ({}, ["f", "g"], None),
        ({"mode": "NONE"}, ["f", "g"], "none"),
        ({"mode": "ANY"}, ["f", "g"], "required"),
        (
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
            ["f"],
            {"type": "function", "function": {"name": "f"}},
        ),
        ({"mode": "ANY", "allowed_function_names": ["f", "g"]}, ["f", "g"], "required"),
        ({"mode": "VALIDATED"}, ["f", "g"], "auto"),
    ],
)
def test_tools_are_functions_and_chosen(calling: dict[str, Any], names: list[str], choice: Any) -> None:
    told = chat(tools=[{"functionDeclarations": DECLARED}], toolConfig={"functionCallingConfig": calling})
    assert [one["function"]["name"] for one in told["tools"]] == names
    assert told.get("tool_choice") == choice
    assert all("strict" not in one["function"] for one in told["tools"])
    assert told["tools"][0]["function"]["parameters"] == {"type": "object"}


def test_calls_are_validated_where_their_schemas_can_be_kept_to_the_letter() -> None:
    def told(*required: str) -> tuple[list[Any], list[str]]:
        left: list[str] = []
        member = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": list(required)}
        declared = [{"name": "f", "parameters": member}, {"name": "g"}]
        asked = {"contents": [], "tools": [{"functionDeclarations": declared}],
                 "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED"}}}  # fmt: skip
        tools = FRONT.to_chat(asked, Refusals("chat", None, left))["tools"]
        return [one["function"] for one in tools], left

    functions, left = told("a")
    assert left == [] and all(one["strict"] for one in functions)
    assert [one["parameters"]["additionalProperties"] for one in functions] == [False, False]
    functions, left = told()
    assert left == ["toolConfig.functionCallingConfig.mode"]
    assert all("strict" not in one and "additionalProperties" not in one["parameters"] for one in functions)


def test_what_a_function_gives_back_is_left_out_and_told_once() -> None:
    left: list[str] = []
    declared = [{"name": one, "responseJsonSchema": {"type": "string"}} for one in ("f", "g")]
    told = chat(
        left, tools=[{"functionDeclarations": [*declared, {"name": "h", "response": {"type": "STRING"}}]}]
    )
    assert set(left) == {f"tools.functionDeclarations.{name}" for name in ("response", "responseJsonSchema")}
    assert all(one["function"].keys() == {"name", "parameters"} for one in told["tools"])
