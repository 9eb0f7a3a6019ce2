"""What an answer must look like, as one grammar of llguidance's: thoughts, then a form or calls. Torch-free.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md: a list of grammars, the first of which is the
frame, in Lark, and names the others by `@`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_backend.formats import Format
from local_backend.readers import Schema
from local_backend.tools import Tools
from local_backend.voice import Stance, Voice

# As `json.dumps` writes: what models have seen most on one line. Free white space is where a small model gets lost.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANYTHING = r"/(.|\n)*/"
_GAP = r"/[ \n]{0,3}/"  # between thoughts and what follows


@dataclass(slots=True, frozen=True)
class Form:
    """What an answer's text must be: one grammar of llguidance's list, and the field that asked for it."""

    entry: dict[str, Any]
    field: str


def of_schema(schema: Schema) -> dict[str, Any]:
    return {"json_schema": {**schema, "x-guidance": _SPACING}}


def of_lark(grammar: str) -> dict[str, Any]:
    return {"lark_grammar": grammar}


def of_regex(pattern: str) -> dict[str, Any]:
    escaped = re.sub(r"\\.|/|\n", lambda one: {"/": r"\/", "\n": r"\n"}.get(one[0], one[0]), pattern)
    return {"lark_grammar": f"start: /{escaped}/"}


def of_choice(texts: list[str]) -> dict[str, Any]:
    return {"lark_grammar": f"start: {' | '.join(map(json.dumps, texts))}"}


def alone(entry: dict[str, Any]) -> str:
    return json.dumps({"grammars": [entry]})


def constraint(form: Form | None, tools: Tools | None, voice: Voice, stance: Stance) -> str:
    """The grammar of an answer; empty where it is free. Raises Unwritable."""
    frame = Frame(voice.specials)
    if tools is not None and tools.forced:
        body = _calls(frame, _known(voice), tools)
    elif form is not None:
        body = frame.add(form.entry)
        if tools is not None:
            body = f"{body} | {_calls(frame, _known(voice), tools)}"
    elif tools is not None and tools.strict:
        body = _maybe_calls(frame, _known(voice), tools)
    else:
        return ""
    return frame.whole(f"{_thoughts(frame, voice, stance)} ({body})")


class Frame:
    """A grammar in the making (formats.Sketch)."""

    def __init__(self, specials: Mapping[str, int]) -> None:
        self._specials = specials
        self._rules = [f"ANYTHING: {_ANYTHING}", f"GAP: {_GAP}"]
        self._entries: list[dict[str, Any]] = []

    def text(self, text: str) -> str:
        """This text; tokens that are no text stand in it by their ids."""
        names = sorted((one for one in self._specials if one in text), key=len, reverse=True)
        pieces = re.split(f"({'|'.join(map(re.escape, names))})", text) if names else [text]
        told = [
            f"<[{self._specials[piece]}]>" if piece in self._specials else json.dumps(piece)
            for piece in pieces
            if piece
        ]
        return " ".join(told) or '""'

    def schema(self, schema: Schema) -> str:
        return self.add(of_schema(schema))

    def until(self, mark: str) -> str:
        """Any text, up to this mark and with it."""
        if mark in self._specials:
            return f"ANYTHING {self.text(mark)}"
        name = f"until_{len(self._rules)}"
        self._rules.append(f"{name}[lazy]: ANYTHING {json.dumps(mark)}")
        return name

    def rule(self, body: str) -> str:
        name = f"rule_{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def add(self, entry: dict[str, Any]) -> str:
        name = f"part_{len(self._entries)}"
        self._entries.append({"name": name, **entry})
        return f"@{name}"

    def whole(self, start: str) -> str:
        frame = "\n".join([f"start: {start}", *self._rules])
        return json.dumps({"grammars": [{"lark_grammar": frame}, *self._entries]})


def _known(voice: Voice) -> Format:
    assert voice.format is not None, "tools are refused before where their format is not known"
    return voice.format


def _thoughts(frame: Frame, voice: Voice, stance: Stance) -> str:
    """A model may think before it keeps to a form."""
    if voice.marks is None or stance == "after":
        return ""
    rest = f"{frame.until(voice.marks.closes)} GAP"
    return rest if stance == "inside" else f"({frame.text(voice.marks.opens)} {rest})?"


def _calls(frame: Frame, format: Format, tools: Tools) -> str:
    """One call, or as many as are wanted, and nothing else."""
    rest = frame.rule(format.rest(frame, tools.schemas, tools.most))
    first = f"{frame.text(format.opening)} {rest}"
    if format.again is None or tools.most == 1:
        return first
    return f"{first} ({frame.text(format.again + format.opening)} {rest})*"


def _maybe_calls(frame: Frame, format: Format, tools: Tools) -> str:
    """A free text, with calls where the model begins them."""
    rest = frame.rule(format.rest(frame, tools.schemas, tools.most))
    if not format.bare:
        return f"({frame.until(format.opening)} {rest})* ANYTHING"
    marks = "".join(f" | {frame.text(one)} {rest}" for one in format.marks)
    return rf"{rest}{marks} | /[^{{\s](.|\n)*/"
