"""What a format lacks of a chat call. Each says so in a table, and one walk over the call tells it for all of them:
what changes the answer is refused, all else is left out and named."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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
_OF_PICTURES = frozenset({"url"})
_OF_TOOLS = frozenset({"type", "function", "custom"})
_OF_SCHEMAS = frozenset({"name", "schema", "strict"})
_OF_FUNCTIONS = frozenset({"name", "description", "parameters", "strict"})


class Lacks(NamedTuple):
    """`refused` are fields that change the answer, each with those of its values that ask for nothing; `left_out` are
    those that do not. Beside chat's own words this format `takes` members of messages, where it takes each of a list's
    items, and `words`, members of all that stands in messages and of tools: one that holds others with all of them.
    """

    refused: Mapping[str, tuple[Any, ...]]
    left_out: frozenset[str] = frozenset()
    takes: Mapping[str, Callable[[Json], Any]] = {}
    words: frozenset[str] = frozenset()

    def tell(self, chat: Json, refusals: Refusals) -> None:
        """Raises BadRequest for what must not be left out."""
        for name, nothing in self.refused.items():
            if chat.get(name) is not None and chat[name] not in nothing:
                refusals.add(name)
        refusals.leave_out_of(chat, self.left_out)
        wanted = chat.get("response_format")
        if isinstance(wanted, dict) and isinstance(schema := wanted.get("json_schema"), dict):
            refusals.leave_out_rest(schema, _OF_SCHEMAS | self.words, "response_format.")
        self._tell_tools(chat.get("tools"), refusals)
        results, calls, parts, pictures = (
            known | self.words for known in (_OF_RESULTS, _OF_CALLS, _OF_PARTS, _OF_PICTURES)
        )
        for place, message in _objects(chat.get("messages")):
            if message.get("audio"):
                refusals.add(f"messages[{place}].audio")
            is_result = message.get("role") in ("tool", "function")
            if more := message.keys() - (results if is_result else _OF_MESSAGES):
                refusals.leave_out_of(message, self._lost(message, more), "messages.")
            for _, call in _objects(message.get("tool_calls")):
                refusals.leave_out_rest(call, calls, "messages.tool_calls.")
            for _, part in _objects(message.get("content")):
                refusals.leave_out_rest(part, parts, "messages.")
                if "image_url" not in self.words and isinstance(picture := part.get("image_url"), dict):
                    refusals.leave_out_rest(picture, pictures, "image_url.")

    def _tell_tools(self, tools: Any, refusals: Refusals) -> None:
        known, functions = _OF_TOOLS | self.words, _OF_FUNCTIONS | self.words
        for _, tool in _objects(tools):
            refusals.leave_out_rest(tool, known, "tools.")
            if "function" not in self.words and isinstance(function := tool.get("function"), dict):
                refusals.leave_out_rest(function, functions, "tools.function.")

    def _lost(self, message: Json, names: set[str]) -> list[str]:
        """Those of these members that are not taken. The text of signed thoughts stands in a member of its own, too."""
        if message.get("reasoning_details"):
            names.discard("reasoning_content")
        return [name for name in names if not self._is_taken(name, message[name])]

    def _is_taken(self, name: str, value: Any) -> bool:
        takes = self.takes.get(name)
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
