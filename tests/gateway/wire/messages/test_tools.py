"""Functions of a chat call, as Anthropic's tools."""

from typing import Any

import pytest

from gateway.wire.base import Changes
from gateway.wire.messages.back import MessagesBack


def asked(**chat: Any) -> dict[str, Any]:
    return MessagesBack().from_chat({"messages": [], **chat}, Changes("m"))


def test_functions_are_tools() -> None:
    whole = {"name": "f", "description": "d", "strict": True, "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": whole, "cache_control": {"type": "ephemeral"}},
             {"type": "function", "function": {"name": "g"}}]  # fmt: skip
    assert asked(tools=tools)["tools"] == [
        {"name": "f", "description": "d", "strict": True, "input_schema": {"type": "object"},
         "cache_control": {"type": "ephemeral"}},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "choice"),
    [
        ({}, None),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_which_tool_must_be_called(more: dict[str, Any], choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert asked(tools=tools, **more).get("tool_choice") == choice
    assert "tool_choice" not in asked(**more)  # without tools there is nothing to choose
