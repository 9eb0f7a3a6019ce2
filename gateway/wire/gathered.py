"""The chunks of a chat stream as the whole answer that they amount to; and what OpenAI's SDKs cannot gather of one."""

from collections.abc import Iterable

from gateway.wire.sides import Json, Piece
from gateway.wire.thoughts import merge, say

_LISTS = ("annotations", "other_blocks")
_OF_CHUNKS = frozenset({"choices", "object", "prompt"})


def gathered(pieces: Iterable[Piece]) -> Json:
    """A completion. Of what is told in every chunk the last word counts; texts and lists go on."""
    found: Json = {}
    choices: dict[int, _Choice] = {}
    for piece in pieces:
        found |= {name: value for name, value in piece.items() if value and name not in _OF_CHUNKS}
        for choice in piece["choices"]:
            choices.setdefault(choice.get("index") or 0, _Choice()).add(choice)
    return {**found, "choices": [one.whole() | {"index": index} for index, one in sorted(choices.items())]}


class _Choice:
    def __init__(self) -> None:
        self._found: Json = {"finish_reason": None, "logprobs": None}
        self._message: Json = {"role": "assistant", "content": None, "refusal": None}
        self._calls: dict[int, Json] = {}

    def whole(self) -> Json:
        return {**self._found, "message": self._message}

    def add(self, choice: Json) -> None:
        for name, value in choice.items():
            if name == "delta":
                self._say(value or {})
            elif name == "logprobs":
                _extend(self._found, name, value)
            elif value is not None:
                self._found[name] = value

    def _say(self, delta: Json) -> None:
        for name, value in delta.items():
            if name == "tool_calls":
                for call in value or ():
                    self._call(call)
            elif name == "reasoning_details":
                for detail in value or ():
                    merge(self._message.setdefault(name, []), detail)
            elif name == "content" and value:
                say(self._message, value)
            elif name != "role" and value:
                _extend(self._message, name, value)

    def _call(self, call: Json) -> None:
        """What names a call is said once, what it is given bit by bit."""
        if call["index"] not in self._calls:
            self._calls[call["index"]] = {}
            self._message.setdefault("tool_calls", []).append(self._calls[call["index"]])
        known = self._calls[call["index"]]
        for name, value in call.items():
            if name in ("function", "custom"):
                said = known.setdefault(name, {})
                said |= {"name": said.get("name") or value.get("name") or ""}
                for given in ("arguments", "input"):
                    if value.get(given):
                        _extend(said, given, value[given])
            elif value and name != "index":
                known.setdefault(name, value)


def _extend(told: Json, name: str, more: object) -> None:
    """Texts and lists go on, members of objects each for itself; of all else the last word counts."""
    before = told.get(name)
    if isinstance(before, dict) and isinstance(more, dict):
        for member, value in more.items():
            _extend(before, member, value)
    elif isinstance(before, str) and isinstance(more, str):
        told[name] = before + more
    elif isinstance(before, list) and isinstance(more, list):
        told[name] = [*before, *more]
    elif more is not None:
        told[name] = more


class Held:
    """Lists whose entries bear no `index`: OpenAI's SDKs gather none that come bit by bit, so each comes once, at the
    end of its choice."""

    def __init__(self) -> None:
        self._lists: dict[int, Json] = {}  # by the index of the choice

    def hold(self, choice: Json) -> None:
        delta, index = choice.get("delta") or {}, choice.get("index") or 0
        for name in _LISTS:
            if found := delta.pop(name, None):
                self._lists.setdefault(index, {}).setdefault(name, []).extend(found)
        if self._lists and choice.get("finish_reason"):
            choice["delta"] = delta | self._lists.pop(index, {})

    def rest(self) -> list[Json]:
        """Choices for what was told behind an end, or without one."""
        held, self._lists = self._lists, {}
        return [{"index": one, "delta": lists, "finish_reason": None} for one, lists in held.items()]
