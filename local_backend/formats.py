"""How families of models write tool calls: one small class each, to read calls and to demand them. Torch-free.

`read` is a reader (see readers.py); `rest` is the same in a grammar's words.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from local_backend.readers import (
    LONGEST,
    NoCall,
    Reader,
    Schema,
    Schemas,
    Sink,
    call,
    expect,
    known,
    named,
    skip,
    tag,
    until,
)
from local_backend.written import dumps, loads

_END = "</parameter>"  # of a value as Qwen3-Coder writes it: the first one there is
_PLAIN = {"type", "title", "description", "default", "examples"}


class Unwritable(ValueError):
    """A tool that this format has no way to demand exactly; the message says why."""


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
        if (yield from skip()) != "{":
            raise NoCall
        yield from call(tools, sink)
        yield from expect("</tool_call>")

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        return _any(_json_call(sketch, one, tools, "arguments", "\n", "\n</tool_call>") for one in tools)


class Llama(Format):
    """`{"name": …, "parameters": {…}}`, alone or after `<|python_tag|>`: Llama 3. A second call follows a `;`, but
    the templates take one only."""

    marks = tokens = ("<|python_tag|>",)
    bare = True
    opening, again = "", None

    def read(self, mark: str, tools: Schemas, sink: Sink) -> Reader:
        if not mark.endswith("{") and (yield from skip()) != "{":
            raise NoCall
        yield from call(tools, sink)

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
        character = yield from skip()
        if character != "[":
            yield from named(character, tools, sink)
            return
        while character in "[,":
            if (yield from skip()) != "{":
                raise NoCall
            yield from call(tools, sink)
            character = yield from skip()
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
            yield from expect("<function=")
        name = known((yield from until(">", LONGEST)).strip(), tools)
        sink.begin(name)
        before = "{"
        while (found := (yield from tag())) != "/function":
            if not found.startswith("parameter="):
                raise NoCall
            key = found.removeprefix("parameter=").strip()
            value = yield from until(_END)
            sink.more(f"{before}{dumps(key)}: {_typed(value, key, tools[name])}")
            before = ", "
        sink.more("{}" if before == "{" else "}")
        sink.end()
        if mark == "<tool_call>":
            yield from expect("</tool_call>")

    def rest(self, sketch: Sketch, tools: Schemas, most: int | None) -> str:
        return _any(_coder_call(sketch, name, schema) for name, schema in tools.items())


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
    llama = "<|start_header_id|>" in template or "<|python_tag|>" in added
    return LLAMA if llama and '"parameters"' in template else None


def _any(ways: Iterable[str]) -> str:
    return f"({' | '.join(ways)})"


def _json_call(
    sketch: Sketch, name: str, tools: Schemas, member: str, before: str = "", after: str = ""
) -> str:
    head = f'{before}{{"name": {json.dumps(name)}, "{member}": '
    return f"{sketch.text(head)} {sketch.schema(tools[name])} {sketch.text('}' + after)}"


def _coder_call(sketch: Sketch, name: str, schema: Schema) -> str:
    head, tail = f"\n<function={name}>\n", "</function>\n</tool_call>"
    return f"{sketch.text(head)} {_parameters(sketch, name, schema)} {sketch.text(tail)}"


def _parameters(sketch: Sketch, name: str, schema: Schema) -> str:
    """The parameters in the order in which the schema has them."""
    required = schema.get("required") or ()
    properties = schema.get("properties") or {}
    ways = []
    for key, wanted in properties.items():
        if not key or any(one in key for one in "<>\r\n") or key != key.strip():
            raise Unwritable(f"this model's format has no way to write the parameter {key!r} of {name!r}")
        head = f"<parameter={key}>\n"
        way = f"{sketch.text(head)} {_value(sketch, key, wanted, schema)}"
        ways.append(way if key in required else f"({way})?")
    return " ".join(ways)


def _value(sketch: Sketch, key: str, wanted: Any, schema: Schema) -> str:
    end = f"\n{_END}\n"
    if not isinstance(wanted, dict) or not isinstance(wanted.get("enum", []), list):
        raise Unwritable(f"the schema of {key!r} is none that this model's format can be held to")
    if wanted.get("type") != "string":
        whole = {**wanted, **{one: schema[one] for one in ("$defs", "definitions") if one in schema}}
        return f"{sketch.schema(whole)} {sketch.text(end)}"
    fixed = [wanted["const"]] if "const" in wanted else wanted.get("enum")
    if fixed is not None:
        if any(_END in str(one) for one in fixed):
            raise Unwritable(f"this model's format has no way to write {_END} as a value of {key!r}")
        return f"{_any(sketch.text(str(one)) for one in fixed)} {sketch.text(end)}"
    if spare := wanted.keys() - _PLAIN:
        raise Unwritable(f"this model's format writes texts bare: {key!r} cannot be held to {min(spare)!r}")
    return f"{sketch.until(_END)} {sketch.text(chr(10))}"


def _typed(value: str, key: str, schema: Schema) -> str:
    """The JSON of a value that came as plain text: a text where the schema asks for one, else what it reads as."""
    value = value.removeprefix("\n").removesuffix("\n")
    wanted = (schema.get("properties") or {}).get(key)
    if not isinstance(wanted, dict) or wanted.get("type") != "string":
        try:
            return dumps(loads(value))
        except ValueError:
            pass
    return dumps(value)
