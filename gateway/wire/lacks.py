"""What a format lacks of a chat call. Each says so in a table, and one walk over the call tells it for all of them:
what changes the answer is refused, all else is left out and named."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json

# What every format has a word for.
_OF_MESSAGES = frozenset(
    {"role", "content", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"}
)
_OF_RESULTS = _OF_MESSAGES | {"name"}  # of the function, as results once were told
_OF_CALLS = frozenset({"id", "type", "index", "function", "custom", "after"})
_OF_PARTS = frozenset(
    {"type", "text", "image_url", "video_url", "file", "input_audio", "refusal", "document"}
)
_OF_TOOLS = frozenset({"type", "function", "custom"})
_HELD_BY_PARTS: Mapping[str, frozenset[str]] = {
    "image_url": frozenset({"url"}),
    "video_url": frozenset({"url"}),
    "file": frozenset({"file_data", "file_id"}),
    "input_audio": frozenset({"data", "format"}),
}
_HELD_BY_TOOLS = {"function": frozenset({"name", "description", "parameters", "strict"})}
_HELD_BY_CALLS = {
    "response_format": frozenset({"type", "json_schema"}),
    "tool_choice": frozenset({"type", "function", "custom"}),
}
_HELD_BY_FORMATS = {"json_schema": frozenset({"name", "schema", "strict"})}

# What changes the answer and neither Messages nor Converse has a word for, each with the values that ask for nothing.
OF_CHAT_ALONE: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "seed": (), "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},),
    "logprobs": (False,), "top_logprobs": (0,), "modalities": (["text"],), "audio": (), "prediction": (),
    "web_search_options": (), "verbosity": ("medium",), "moderation": (), "functions": ([],),
    "function_call": ("none", "auto"),
}  # fmt: skip
# What changes nothing of an answer, only how it is kept or billed.
OF_KEEPING = frozenset(
    {
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
    }
)
# And for whom it is.
OF_CALLERS = OF_KEEPING | {"user", "safety_identifier"}


class Lacks:
    """`refused` are fields that change the answer, each with those of its values that ask for nothing; `left_out` are
    those that do not. Beside chat's own words this format `takes` members of messages, where it takes each of a list's
    items, and `words`, members of all that stands in messages and of tools: one that holds others with all of them.
    """

    def __init__(
        self,
        refused: Mapping[str, tuple[Any, ...]],
        left_out: frozenset[str] = frozenset(),
        takes: Mapping[str, Callable[[Json], Any]] = {},
        words: frozenset[str] = frozenset(),
    ) -> None:
        self.refused, self.left_out, self._takes = refused, left_out, takes
        # Worked out once: the walk is a part of every call.
        self._of_results, self._of_calls, self._of_parts, self._of_tools = (
            known | words for known in (_OF_RESULTS, _OF_CALLS, _OF_PARTS, _OF_TOOLS)
        )
        self._by_parts, self._by_tools, self._by_calls, self._by_formats = (
            {name: known | words for name, known in held.items() if name not in words}
            for held in (_HELD_BY_PARTS, _HELD_BY_TOOLS, _HELD_BY_CALLS, _HELD_BY_FORMATS)
        )

    def tell(self, chat: Json, refusals: Refusals) -> None:
        """Raises BadRequest for what must not be left out."""
        for name, nothing in self.refused.items():
            if chat.get(name) is not None and chat[name] not in nothing:
                refusals.add(name)
        refusals.leave_out_of(chat, self.left_out)
        refusals.leave_out_within(chat, self._by_calls)
        if isinstance(wanted := chat.get("response_format"), dict):
            refusals.leave_out_within(wanted, self._by_formats, "response_format.")
        for _, tool in _objects(chat.get("tools")):
            refusals.leave_out_rest(tool, self._of_tools, "tools.")
            refusals.leave_out_within(tool, self._by_tools, "tools.")
        for place, message in _objects(chat.get("messages")):
            self._tell_message(message, place, refusals)

    def _tell_message(self, message: Json, place: int, refusals: Refusals) -> None:
        if not message.keys() <= _OF_MESSAGES:
            known = self._of_results if message.get("role") in ("tool", "function") else _OF_MESSAGES
            refusals.leave_out_of(message, self._lost(message, known), "messages.")
        if message.get("audio"):
            refusals.add(f"messages[{place}].audio")
        if message.get("tool_calls"):
            for _, call in _objects(message["tool_calls"]):
                refusals.leave_out_rest(call, self._of_calls, "messages.tool_calls.")
        if not isinstance(message.get("content"), str):
            for _, part in _objects(message.get("content")):
                refusals.leave_out_rest(part, self._of_parts, "messages.")
                if part.get("type") != "text":
                    refusals.leave_out_within(part, self._by_parts)

    def _lost(self, message: Json, known: frozenset[str]) -> list[str]:
        """Those members that are not taken. The text of signed thoughts stands in a member of its own, too."""
        names = message.keys() - known
        if message.get("reasoning_details"):
            names.discard("reasoning_content")
        return [name for name in names if not self._is_taken(name, message[name])]

    def _is_taken(self, name: str, value: Any) -> bool:
        takes = self._takes.get(name)
        return takes is not None and all(takes(one) for _, one in _objects(value))


def always(_: Any) -> bool:
    """Of a member that is taken whatever it holds."""
    return True


def _objects(value: Any) -> Iterator[tuple[int, Json]]:
    """Those of a list, each with its place; what is none is refused by who reads it."""
    if isinstance(value, list):
        for place, one in enumerate(value):
            if isinstance(one, dict):
                yield place, one
