"""Chat templates as Hugging Face writes them: messages to the text that the model was taught. Torch-free."""

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, meta

from local_backend.config import UnusableModel, read_json
from local_backend.sandbox import Meter, Sandbox, meter
from local_backend.written import loads

Message = dict[str, Any]
_MARK = "\ue0c7CONTINUE\ue0c7"  # private characters: no message holds them by chance
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class BadConversation(ValueError):
    """Messages that the template refuses."""


class ChatTemplate:
    """`sources` by name: `default`, and perhaps `tool_use` for calls with tools. `variables`: what they read of a
    call."""

    def __init__(
        self,
        sources: str | dict[str, str],
        specials: dict[str, str],
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Raises UnusableModel."""
        named = {"default": sources} if isinstance(sources, str) else sources
        self.source = "\n".join(named.values())
        environment = Sandbox()
        environment.globals["strftime_now"] = lambda pattern: now().strftime(pattern)
        try:
            self._templates = {name: environment.from_string(source) for name, source in named.items()}
            trees = map(environment.parse, named.values())
            self.variables = frozenset[str]().union(*map(meta.find_undeclared_variables, trees))
        except TemplateError as error:
            raise UnusableModel(f"the chat template cannot be read: {error}") from None
        self._specials = specials

    def render(
        self,
        /,  # a template's variable may have this name
        messages: list[Message],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool,
        continue_final_message: bool = False,
        **more: Any,
    ) -> str:
        """The prompt; with `continue_final_message` it ends where the last message's content ends.

        Raises BadConversation.
        """
        plain = [_plain(message) for message in messages]
        if "length != 9" in self.source:
            plain = [_short_ids(message) for message in plain]
        if continue_final_message:
            plain[-1] = {**plain[-1], "content": plain[-1].get("content", "") + _MARK}
        facts = {**self._specials, **more, "tools": tools, "documents": more.get("documents")}
        facts["add_generation_prompt"] = add_generation_prompt
        try:
            text = self._render([_parsed(one) for one in plain], facts)
        except TypeError:  # the template wants a call's arguments as text, and was given an object
            text = self._render(plain, facts, last=True)
        return _continued(text) if continue_final_message else text

    def _render(self, messages: list[Message], facts: dict[str, Any], *, last: bool = False) -> str:
        template = self._choose(bool(facts["tools"]))
        try:
            return _bounded(template, {**facts, "messages": messages})
        except TypeError as error:
            if last or not any(message.get("tool_calls") for message in messages):
                raise _refusal(error) from None
            raise
        except (TemplateError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise _refusal(error) from None
        except RecursionError:
            raise BadConversation("the model's chat template calls itself without end") from None

    def _choose(self, tools: bool) -> Template:
        if tools and "tool_use" in self._templates:
            return self._templates["tool_use"]
        return self._templates.get("default") or next(iter(self._templates.values()))


def load(folder: Path) -> ChatTemplate | None:
    """The folder's template; None for a model without one (it is not for chat). Raises UnusableModel."""
    settings = _settings(folder / "tokenizer_config.json")
    alone = folder / "chat_template.jinja"
    source = _source(alone) if alone.exists() else _named(settings.get("chat_template"), folder)
    if source and isinstance(source, str):
        more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
        source = {"default": source, **{path.stem: _source(path) for path in more}}
    if not source:
        return None
    older = _settings(folder / "special_tokens_map.json")
    specials = {name: _text(settings.get(name) or older.get(name)) for name in _TOKENS}
    return ChatTemplate(source, {name: text for name, text in specials.items() if isinstance(text, str)})


def _source(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise UnusableModel(f"{path}: cannot be read: {error}") from None


def _named(told: Any, folder: Path) -> str | dict[str, str]:
    """One template, or several, each of which has a name."""
    match told:
        case None:
            return ""
        case str():
            return told
        case list() if all(
            isinstance(one, dict)
            and isinstance(one.get("name"), str)
            and isinstance(one.get("template"), str)
            for one in told
        ):
            return {one["name"]: one["template"] for one in told}
    raise UnusableModel(
        f"{folder}/tokenizer_config.json: chat_template must be a text, or a list of texts with names"
    )


def _settings(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _text(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _bounded(template: Template, facts: dict[str, Any]) -> str:
    measure, parts, size = Meter(), [], 0
    token = meter.set(measure)
    try:
        for part in template.generate(facts):
            parts.append(part)
            size += len(part)
            measure.check(size)
    finally:
        meter.reset(token)
    return "".join(parts)


def _plain(message: Message) -> Message:
    """As templates expect it: what is null is absent, and thoughts have both of the names they go by."""
    found = {name: value for name, value in message.items() if value is not None}
    thought = found.get("reasoning_content", found.get("thinking", found.get("reasoning")))
    return found if thought is None else {"thinking": thought, **found, "reasoning_content": thought}


def _parsed(message: Message) -> Message:
    """OpenAI sends a call's arguments as text; most templates want the object. What holds none stays a text."""
    return _each_call(message, _with_object)


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = loads(function["arguments"] or "{}")
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _short_ids(message: Message) -> Message:
    """Mistral's templates refuse ids of calls that are not nine characters long; other providers' are longer."""
    found = _each_call(message, lambda call: {**call, "id": _short(call["id"])} if "id" in call else call)
    if "tool_call_id" in found:
        found = {**found, "tool_call_id": _short(found["tool_call_id"])}
    return found


def _short(ident: Any) -> Any:
    whole = str(ident)
    return whole if len(whole) == 9 else sha256(whole.encode()).hexdigest()[:9]


def _each_call(message: Message, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Message:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [change(one) if isinstance(one, dict) else one for one in calls]}


def _continued(text: str) -> str:
    place = text.rfind(_MARK)
    if place < 0:
        raise BadConversation("the model's chat template does not show the final message as it is")
    return text[:place]


def _refusal(error: Exception) -> BadConversation:
    return BadConversation(f"the model's chat template does not take these messages: {error}")
