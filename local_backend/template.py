"""Chat templates as Hugging Face writes them, in a sandbox of our own. Torch-free."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from local_backend.config import UnusableModel


class BadConversation(ValueError):
    """Messages that the template refuses."""


class _Generation(Extension):
    """`{% generation %}` marks what is learned in training; when serving it means nothing."""

    tags = {"generation"}  # noqa: RUF012 - the base class says so

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    def __init__(self, source: str, specials: dict[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._template = environment.from_string(source)
        self._specials = specials

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool, **more: Any) -> str:
        """Raises BadConversation."""
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._specials, **more
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise BadConversation(
                f"the model's chat template does not take these messages: {error}"
            ) from None


def load(folder: Path) -> ChatTemplate | None:
    """The folder's template; None for a model without one (it is not for chat). Raises UnusableModel."""
    path, settings = folder / "tokenizer_config.json", {}
    if path.exists():
        try:
            settings = json.loads(path.read_text())
        except ValueError as error:
            raise UnusableModel(f"{path}: is no JSON: {error}") from None
    alone = folder / "chat_template.jinja"
    source = alone.read_text() if alone.exists() else settings.get("chat_template")
    if isinstance(source, list):
        named = {one["name"]: one["template"] for one in source}
        source = named.get("default") or next(iter(named.values()), None)
    if not source:
        return None
    specials = {
        name: _text(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")
    }
    return ChatTemplate(source, {name: text for name, text in specials.items() if text is not None})


def _text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _tojson(value: Any, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **more)


def _raise(message: str) -> None:
    raise BadConversation(message)
