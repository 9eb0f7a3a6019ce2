"""How families of models write tool calls: one small class each, to read calls and to demand them. Torch-free.

`read` is a generator that is sent one character after another: it says in plain order what it expects next, so
that the pieces in which a text comes can make no difference. `rest` is the same in a grammar's words.
"""

import json
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, Protocol

Schema = Mapping[str, Any]  # of a tool's parameters
Schemas = Mapping[str, Schema]  # by the tool's name
Reader = Generator[None, str, None]
Text = Generator[None, str, str]
_MEMBERS = ("name", "arguments", "parameters", "id", "type")
_PLAIN = {"type", "title", "description", "default", "examples"}
_LONGEST = 256  # characters of a name, or of a tag
SPACE = " \t\r\n"


class NoCall(Exception):
    """What was read is no call."""


class Unwritable(ValueError):
    """A tool that this format has no way to demand exactly; the message says why."""


class Sink(Protocol):
    """Who hears of the calls that are read."""

    def begin(self, name: str) -> None: ...
    def more(self, arguments: str) -> None: ...
    def end(self) -> None: ...


class Sketch(Protocol):
    """A grammar in the making; each method gives the name of what it adds, as a rule may write it."""

    def text(self, text: str) -> str: ...
    def schema(self, schema: Schema) -> str: ...
    def until(self, mark: str) -> str: ...


class Format(Protocol):
    """`marks` begin a call; `tokens` are those of its words that may be special tokens; `bare`: a text may also
    begin with a call, without any mark. Where a call is demanded it is `opening`, then `rest`; a second one
    follows after `again`, or never where that is None."""

    marks: tuple[str, ...]
    tokens: tuple[str, ...]
    bare: bool
    opening: str
    again: str | None

    def read(self, mark: str, tools: Schemas, sink: Sink) -> Reader:
        """Read on after a mark. Raises NoCall."""

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        """What follows the opening, for any of these tools. Raises Unwritable."""


class Hermes(Format):
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen 2.5, Qwen 3."""

    marks = ("<tool_call>",)
    tokens = ("<tool_call>", "</tool_call>")
    bare = False
    opening, again = "<tool_call>", "\n"

    def read(self, mark: str, tools: Schemas, sink: Sink) -> Reader:
        if (yield from _skip()) != "{":
            raise NoCall
        yield from _call(tools, sink)
        yield from _expect("</tool_call>")

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        return _any(_json_call(sketch, one, tools, "arguments", "\n", "\n</tool_call>") for one in tools)


class Llama(Format):
    """`{"name": …, "parameters": {…}}`, alone or after `<|python_tag|>`: Llama 3. A second call follows a `;`, but
    the templates take one only."""

    marks = tokens = ("<|python_tag|>",)
    bare = True
    opening, again = "", None

    def read(self, mark: str, tools: Schemas, sink: Sink) -> Reader:
        if not mark.endswith("{") and (yield from _skip()) != "{":
            raise NoCall
        yield from _call(tools, sink)

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        return _any(_json_call(sketch, one, tools, "parameters") for one in tools)


class Mistral(Format):
    """`[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`: Mistral up to the third tokenizer."""

    marks: tuple[str, ...] = ("[TOOL_CALLS]",)
    tokens: tuple[str, ...] = marks
    bare = False
    opening: str = "[TOOL_CALLS]"
    again: str | None = None

    def read(self, mark: str, tools: Schemas, sink: Sink) -> Reader:
        character = yield from _skip()
        if character != "[":
            yield from _named(character, tools, sink)
            return
        while character in "[,":
            if (yield from _skip()) != "{":
                raise NoCall
            yield from _call(tools, sink)
            character = yield from _skip()
        if character != "]":
            raise NoCall

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        one = _any(_json_call(sketch, name, tools, "arguments") for name in tools)
        more = "" if most == 1 else f" ({sketch.text(', ')} {one})*"
        return f"{sketch.text('[')} {one}{more} {sketch.text(']')}"


class MistralNamed(Mistral):
    """`[TOOL_CALLS]name[ARGS]{…}`, perhaps with `[CALL_ID]…` between: Mistral's later tokenizers."""

    tokens = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
    again = ""

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        return _any(f"{sketch.text(f'{name}[ARGS]')} {sketch.schema(tools[name])}" for name in tools)


class Coder(Format):
    """`<tool_call><function=name><parameter=key>value</parameter>…</function></tool_call>`: Qwen3-Coder. Texts stand
    there bare, everything else as JSON."""

    marks = ("<tool_call>", "<function=")
    tokens = Hermes.tokens
    bare = False
    opening, again = "<tool_call>", "\n"

    def read(self, mark: str, tools: Schemas, sink: Sink) -> Reader:
        if mark == "<tool_call>":
            yield from _expect("<function=")
        name = _known((yield from _until(">", _LONGEST)).strip(), tools)
        sink.begin(name)
        before = "{"
        while (tag := (yield from _tag())) != "/function":
            if not tag.startswith("parameter="):
                raise NoCall
            key = tag.removeprefix("parameter=").strip()
            value = yield from _until("</parameter>")
            told = json.dumps(key, ensure_ascii=False)
            sink.more(f"{before}{told}: {_typed(value, key, tools[name])}")
            before = ", "
        sink.more("{}" if before == "{" else "}")
        sink.end()
        if mark == "<tool_call>":
            yield from _expect("</tool_call>")

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        return _any(
            f"{sketch.text(f'{chr(10)}<function={name}>{chr(10)}')} {_parameters(sketch, name, tools[name])} "
            f"{sketch.text(f'</function>{chr(10)}</tool_call>')}"
            for name in tools
        )


HERMES, CODER, LLAMA = Hermes(), Coder(), Llama()
MISTRAL, MISTRAL_NAMED = Mistral(), MistralNamed()
FORMATS: Mapping[str, Format] = {
    "hermes": HERMES, "qwen3-coder": CODER, "llama3": LLAMA, "mistral": MISTRAL, "mistral-named": MISTRAL_NAMED,
}  # fmt: skip


def format_of(template: str, added: Collection[str] = ()) -> Format | None:
    """How a model with this chat template, and these tokens beside its vocabulary's words, writes calls; None: not in
    a known way."""
    if "<tool_call>" in template:
        return CODER if "<function=" in template else HERMES
    if "[TOOL_CALLS]" in template:
        return MISTRAL_NAMED if "[ARGS]" in template else MISTRAL
    if '"parameters"' in template and ("<|python_tag|>" in template or "<|python_tag|>" in added):
        return LLAMA
    return LLAMA if '"parameters"' in template and "<|start_header_id|>" in template else None


# reading


def _skip() -> Text:
    """The first character that is no white space."""
    while (character := (yield)) in SPACE:
        pass
    return character


def _expect(text: str) -> Reader:
    """White space, then this."""
    if (yield from _skip()) != text[0]:
        raise NoCall
    for character in text[1:]:
        if (yield) != character:
            raise NoCall


def _until(mark: str, most: int | None = None) -> Text:
    found = ""
    while not found.endswith(mark):
        found += yield
        if most is not None and len(found) > most:
            raise NoCall
    return found.removesuffix(mark)


def _tag() -> Text:
    if (yield from _skip()) != "<":
        raise NoCall
    return (yield from _until(">", _LONGEST))


def _string() -> Text:
    """The rest of a JSON string whose quote has been read."""
    raw = '"'
    while True:
        character = yield
        raw += character
        if character == "\\":
            raw += yield
        elif character == '"':
            return _loaded(raw)


def _loaded(raw: str) -> str:
    try:
        return str(json.loads(raw, strict=False))
    except ValueError:
        raise NoCall from None


def _object(tell: Callable[[str], None]) -> Reader:
    """The rest of a JSON object whose brace has been read, told as it comes."""
    depth, quoted = 1, False
    tell("{")
    while depth:
        character = yield
        tell(character)
        if quoted:
            if character == "\\":
                tell((yield))
            quoted = character != '"'
        elif character == '"':
            quoted = True
        else:
            depth += (character in "{[") - (character in "}]")


def _call(tools: Schemas, sink: Sink) -> Reader:
    """The rest of `{"name": …, "arguments": {…}}` whose brace has been read, its members in any order."""
    name, early, told = "", "", False
    character = yield from _skip()
    while character != "}":
        member = yield from _member(character)
        character = yield from _skip()
        if member == "name":
            name = _known((yield from _quoted(character)), tools)
        elif member not in ("arguments", "parameters"):
            yield from _quoted(character)
        elif name and not told:
            sink.begin(name)
            told = True
            yield from _arguments(character, sink.more)
        else:
            kept: list[str] = []
            yield from _arguments(character, kept.append)
            early = "".join(kept)
        character = yield from _after(",", "}")
    if not told:
        sink.begin(_known(name, tools))
        sink.more(early or "{}")
    sink.end()


def _member(first: str) -> Text:
    """A member's name, and the colon."""
    member = yield from _quoted(first)
    if member not in _MEMBERS or (yield from _skip()) != ":":
        raise NoCall
    return member


def _quoted(first: str) -> Text:
    if first != '"':
        raise NoCall
    return (yield from _string())


def _after(between: str, end: str) -> Text:
    """What follows a member: the next one's first character, or the end."""
    character = yield from _skip()
    if character == between:
        return (yield from _skip())
    if character != end:
        raise NoCall
    return character


def _arguments(first: str, tell: Callable[[str], None]) -> Reader:
    """An object, or a string that holds one, as some models write it."""
    if first == "{":
        yield from _object(tell)
    elif first == '"':
        tell((yield from _string()))
    else:
        raise NoCall


def _named(first: str, tools: Schemas, sink: Sink) -> Reader:
    name = first + (yield from _until("[", _LONGEST))
    tag = yield from _until("]", _LONGEST)
    if tag == "CALL_ID":
        tag = (yield from _until("]", _LONGEST)).partition("[")[2]
    if tag != "ARGS" or (yield from _skip()) != "{":
        raise NoCall
    sink.begin(_known(name.strip(), tools))
    yield from _object(sink.more)
    sink.end()


def _known(name: str, tools: Schemas) -> str:
    if name not in tools:
        raise NoCall
    return name


def _typed(value: str, key: str, schema: Schema) -> str:
    """The JSON of a value that came as plain text: a text where the schema asks for one, else what it reads as."""
    value = value.removeprefix("\n").removesuffix("\n")
    wanted = (schema.get("properties") or {}).get(key)
    if not isinstance(wanted, dict) or wanted.get("type") != "string":
        try:
            return json.dumps(json.loads(value), ensure_ascii=False)
        except ValueError:
            pass
    return json.dumps(value, ensure_ascii=False)


# demanding


def _any(ways: Collection[str] | Generator[str, None, None]) -> str:
    return f"({' | '.join(ways)})"


def _json_call(
    sketch: Sketch, name: str, tools: Schemas, member: str, before: str = "", after: str = ""
) -> str:
    head = f'{before}{{"name": {json.dumps(name)}, "{member}": '
    return f"{sketch.text(head)} {sketch.schema(tools[name])} {sketch.text('}' + after)}"


def _parameters(sketch: Sketch, name: str, schema: Schema) -> str:
    """The parameters in the order in which the schema has them."""
    required = schema.get("required") or ()
    properties = schema.get("properties") or {}
    ways = []
    for key, wanted in properties.items():
        if not key or any(one in key for one in "<>\r\n") or key != key.strip():
            raise Unwritable(f"this model's format has no way to write the parameter {key!r} of {name!r}")
        way = f"{sketch.text(f'<parameter={key}>{chr(10)}')} {_value(sketch, key, wanted, schema)}"
        ways.append(way if key in required else f"({way})?")
    return " ".join(ways)


def _value(sketch: Sketch, key: str, wanted: Any, schema: Schema) -> str:
    end = "\n</parameter>\n"
    if not isinstance(wanted, dict) or wanted.get("type") != "string":
        whole = {**wanted, **{one: schema[one] for one in ("$defs", "definitions") if one in schema}}
        return f"{sketch.schema(whole)} {sketch.text(end)}"
    fixed = [wanted["const"]] if "const" in wanted else wanted.get("enum")
    if fixed is not None:
        return f"{_any(sketch.text(str(one)) for one in fixed)} {sketch.text(end)}"
    if spare := wanted.keys() - _PLAIN:
        raise Unwritable(f"this model's format writes texts bare: {key!r} cannot be held to {min(spare)!r}")
    return sketch.until(end)
