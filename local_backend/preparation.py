"""A call made ready for the engine: messages to token ids, and what is asked of its answer to a grammar. Torch-free."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_backend import trial
from local_backend.constraint import alone, constraint, of_schema
from local_backend.effort import arguments_of
from local_backend.fields import Refused
from local_backend.formats import FORMATS, Unwritable
from local_backend.template import BadConversation, ChatTemplate
from local_backend.template import load as load_template
from local_backend.tokenizer import Tokenizer
from local_backend.trial import Trial
from local_backend.voice import Stance, Voice
from local_backend.wire import Rendering, Request


@dataclass(slots=True, frozen=True)
class Prepared:
    """`prompts` in token ids; `stance`: where the model stands to its thoughts where they end; `grammar` of the answer,
    empty for none."""

    prompts: list[list[int]]
    stance: Stance
    grammar: str


class Preparation:
    """What all calls of one model share; closed at the end."""

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate | None, voice: Voice, judge: Trial
    ) -> None:
        self.tokenizer, self.voice = tokenizer, voice
        self._template, self._trial = template, judge

    @classmethod
    def load(cls, folder: Path, tool_format: str | None = None) -> "Preparation":
        """`tool_format` of FORMATS where the chat template does not tell. Raises UnusableModel."""
        tokenizer, template = Tokenizer(folder), load_template(folder)
        source, format = template.source if template else "", FORMATS.get(tool_format or "")
        return cls(tokenizer, template, Voice.of(source, tokenizer, format), Trial(folder))

    async def close(self) -> None:
        await self._trial.close()

    async def prepare(self, request: Request, longest: int | None = None) -> Prepared:
        """`longest` is of prompt and answer together, in tokens. Raises Refused."""
        prepared = await asyncio.to_thread(self._prepare, request, longest)
        if prepared.grammar:
            await self._try(request, prepared.grammar)
        return prepared

    def ids(self, request: Request) -> list[list[int]]:
        """The prompts as /tokenize shows them. Raises Refused."""
        return self._prepare(request).prompts

    def _prepare(self, request: Request, longest: int | None = None) -> Prepared:
        self.check_token("logit_bias", (token for token, _ in request.sampling.logit_bias))
        self.check_token("stop_token_ids", request.sampling.stop_ids)
        if request.chat:
            text = self._render(request)
            prompts = [self._encode(request, text, longest)]
            continues = request.rendering.continue_final_message
            stance = self.voice.stance(text, request.messages[-1]["content"] if continues else "")
        else:
            prompts = [self._encode(request, one, longest) for one in request.prompts]
            stance = "after"
        try:
            return Prepared(prompts, stance, constraint(request.form, request.tools, self.voice, stance))
        except Unwritable as error:
            raise _refusal("tools", str(error)) from None
        except RecursionError:
            name = request.form.field if request.form else "tools"
            raise _refusal(name, f"'{name}' is nested too deeply") from None

    def _encode(self, request: Request, prompt: str | list[int], longest: int | None) -> list[int]:
        """Raises Refused for what is too long, before any prompt after it is looked at."""
        if isinstance(prompt, str) and longest and self.tokenizer.exceeds(prompt, longest):
            raise _too_long(request, f"more than {longest}", longest)
        found = self.tokenizer.encode(prompt, special=not request.chat) if isinstance(prompt, str) else prompt
        if longest and len(found) >= longest:
            raise _too_long(request, str(len(found)), longest)
        return found

    def _render(self, request: Request) -> str:
        if self._template is None:
            raise Refused(
                "this model has no chat template; use /v1/completions", code="unsupported_parameter"
            )
        self._check_tools(request, self._template.source)
        rendering = request.rendering
        effort = self._effort(rendering, self._template)
        try:
            return self._template.render(
                request.messages,
                tools=request.tools.told if request.tools else None,
                add_generation_prompt=rendering.add_generation_prompt,
                continue_final_message=rendering.continue_final_message,
                **effort,
                **rendering.arguments,
            )
        except BadConversation as error:
            raise _refusal("messages", str(error)) from None

    def _effort(self, rendering: Rendering, template: ChatTemplate) -> dict[str, Any]:
        """What the template is told of it. Raises Refused where nothing would tell the model."""
        name = "reasoning_effort"
        if not rendering.effort:
            return {}
        found = arguments_of(rendering.effort, template.variables)
        if taken := found.keys() & rendering.arguments.keys():
            raise _refusal(name, f"'{name}' excludes 'chat_template_kwargs.{min(taken)}'")
        if not found and (rendering.effort != "none" or self.voice.marks is not None):
            why = "this model's chat template has no way to say how much is thought"
            raise _refusal(name, f"'{name}' cannot be kept: {why}; leave it out", "unsupported_parameter")
        return found

    def check_token(self, name: str, tokens: Iterable[int]) -> None:
        """Raises Refused."""
        for token in tokens:
            if self.tokenizer.fast.id_to_token(token) is None:
                raise _refusal(name, f"there is no token {token} in this model's vocabulary")

    def _check_tools(self, request: Request, source: str) -> None:
        """What a template would leave out is told, not left out."""
        if request.tools and "tools" not in source:
            raise _refusal("tools", "this model's chat template takes no tools", "unsupported_parameter")
        if request.tools and self.voice.format is None:
            remedy = "how this model writes calls is not known: start the engine with --tool-format"
            raise _refusal("tools", remedy, "unsupported_parameter")
        for place, message in enumerate(request.messages):
            if message.get("tool_calls") and "tool_calls" not in source:
                name = f"messages[{place}].tool_calls"
                raise _refusal(
                    name, "this model's chat template shows no tool calls", "unsupported_parameter"
                )

    async def _try(self, request: Request, text: str) -> None:
        """Raises Refused that names the field whose grammar is wrong, as far as one alone is."""
        pieces = list(_pieces(request))
        if not trial.AVAILABLE:
            message = "this needs llguidance: pip install 'gatehouse[local]'"
            raise _refusal(pieces[0][0], message, "unsupported_parameter")
        fault = await self._trial.fault(text)
        if not fault:
            return
        for field, piece in pieces:
            if reason := await self._trial.fault(piece):
                raise _refusal(field, f"'{field}' cannot be kept to: {reason}")
        raise _refusal(pieces[0][0], f"'{pieces[0][0]}' cannot be kept to: {fault}")


def _pieces(request: Request) -> Iterator[tuple[str, str]]:
    """(field, grammar) of all that asks something of an answer."""
    if request.form:
        yield request.form.field, alone(request.form.entry)
    if request.tools:
        for place, tool in enumerate(request.tools.told):
            schema = request.tools.schemas.get(tool["function"]["name"])
            if schema is not None:
                yield f"tools[{place}].function.parameters", alone(of_schema(schema))


def _too_long(request: Request, tokens: str, longest: int) -> Refused:
    message = f"the prompt has {tokens} tokens and this model takes {longest - 1} at most"
    return _refusal("messages" if request.chat else "prompt", message, "context_length_exceeded")


def _refusal(name: str, message: str, code: str = "invalid_value") -> Refused:
    return Refused(message, param=name, code=code)
