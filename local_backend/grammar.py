"""Grammars by llguidance: from a text to what may come next. Compiled for one tokenizer; torch-free."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer as Fast

from local_backend.config import ModelConfig
from local_backend.tokenizer import Tokenizer

_START = "\x02"  # a character that no word holds together with others
_KEPT = 8  # compiled grammars: the same schema comes again and again


class BadGrammar(ValueError):
    """A text that is no grammar, or one too large to be computed; the message says why."""


class Grammars:
    """Called with a grammar's text, gives its state at the first token; choices of one text share what was compiled.
    `Grammars(folder)` costs nothing: vocabularies are read when the first grammar comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start: Callable[[str], Any] = lru_cache(_KEPT)(self._compile)

    def __call__(self, text: str) -> "Matcher":
        """Raises BadGrammar."""
        return Matcher(self._start(text).deep_copy(), self._vocabulary.vocab_size)

    def _compile(self, text: str) -> Any:
        matcher = LLMatcher(self._vocabulary, text, log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()  # some grammars prove impossible here
        if matcher.is_error():
            raise BadGrammar(_reason(matcher.get_error()))
        if matcher.is_stopped():
            raise BadGrammar("nothing can be written that keeps it")
        return matcher

    @cached_property
    def _vocabulary(self) -> Any:
        config, tokenizer = ModelConfig.load(self._folder), Tokenizer(self._folder)
        words = Words(tokenizer, config.eos)
        return LLTokenizer(
            words,  # type: ignore[arg-type]  # what TokenizerWrapper asks for is there
            n_vocab=max(config.vocab_size, len(words.tokens)),
            eos_token=list(config.eos) or None,
        )


class Matcher:
    """The state of one choice (types.Grammar)."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._words = matcher, -(-vocabulary // 32)

    @property
    def over(self) -> bool:
        """Nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def mask(self) -> npt.NDArray[np.int32]:
        """[ceil(vocabulary / 32)]: a bit for each id, 1 where it may come next. Lets other threads run meanwhile."""
        mask = np.zeros(self._words, np.int32)
        found = np.frombuffer(self._matcher.compute_bitmask(), np.int32)[: self._words]
        mask[: len(found)] = found
        return mask

    def accept(self, token: int) -> bool:
        """Go on by one token, the end included; False where the grammar does not allow it."""
        return bool(self._matcher.consume_token(token))

    def rollback(self, count: int) -> None:
        """Take back the last tokens: drafts that were not drawn."""
        self._matcher.rollback(count)


class Words:
    """A vocabulary as llguidance asks for it (its TokenizerWrapper). Its own reading of tokenizer.json takes every
    added token for a special one, and then cannot write `<tool_call>` as a text."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, eos: Sequence[int]) -> None:
        read = json.loads(tokenizer.path.read_bytes())
        read["added_tokens"] = [one for one in read.get("added_tokens") or [] if not one.get("special")]
        self._plain = Fast.from_str(json.dumps(read))
        size = max(tokenizer.fast.get_vocab_size(), *(token + 1 for token in tokenizer.added), 1)
        self.tokens = [tokenizer.bytes_of(token) for token in range(size)]
        self.special_token_ids = sorted(tokenizer.specials)
        self.eos_token_id, self.bos_token_id = (eos[0] if eos else size - 1), None
        self._ids = {word: token for token, word in enumerate(self.tokens) if token not in tokenizer.specials}
        self._longest = max(map(len, self._ids))

    def __call__(self, text: str | bytes) -> list[int]:
        """How the model would write this text, byte for byte: what stands in a grammar as one forced piece is to be
        written so. Words of special tokens are plain text here."""
        raw = text.encode() if isinstance(text, str) else text
        for before in ("", _START):  # the second for vocabularies that begin a text with a space of their own
            ids = self._plain.encode(before + raw.decode("utf-8", "replace"), add_special_tokens=False).ids
            words = [self.tokens[token] for token in ids]
            skip = words.index(before.encode()) + 1 if before and before.encode() in words else 0
            if b"".join(words[skip:]) == raw:
                return list(ids[skip:])
        return list(self._greedy(raw))

    def _greedy(self, raw: bytes) -> Iterator[int]:
        """The longest word that fits, and again; it ends before a byte that no word begins with."""
        place = 0
        while place < len(raw):
            sizes = range(min(self._longest, len(raw) - place), 0, -1)
            word = next(
                (raw[place : place + size] for size in sizes if raw[place : place + size] in self._ids), b""
            )
            if not word:
                return
            yield self._ids[word]
            place += len(word)


def _reason(error: str) -> str:
    """The first lines of what llguidance says: its state and the grammar follow."""
    said = error.partition("<state>")[0].strip()
    if said in ("NoExtension", "NoExtensionBias"):
        return "nothing can be written that keeps it"
    return said[:500] or "it cannot be compiled"
