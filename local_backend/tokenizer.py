"""Text to token ids, by the model's own tokenizer.json. Torch-free."""

import codecs
import json
import re
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer as Fast
from tokenizers.decoders import DecodeStream

from local_backend.config import UnusableModel

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LETTER = "<0x41>"
_WORD = 8  # characters: few texts have longer tokens than that throughout
_CUT = 128  # tokens that half a word may have more than the whole


class Reader(Protocol):
    """Ids to text, one after another: what is certain by then, and at the end the rest."""

    def step(self, token: int) -> str: ...
    def end(self) -> str: ...


class Tokenizer:
    """`added` maps the ids of tokens beside the vocabulary's words to what they are called; `specials` are those of
    them that are no text (the end of a turn, say)."""

    def __init__(self, folder: Path) -> None:
        """Raises UnusableModel."""
        self.path = folder / "tokenizer.json"
        if not self.path.exists():
            raise UnusableModel(
                f"{folder}: has no tokenizer.json; convert tokenizer.model with transformers first"
            )
        try:
            self.fast = Fast.from_file(str(self.path))
        except Exception as error:  # the package raises bare Exception
            raise UnusableModel(f"{self.path}: cannot be read: {error}") from None
        # Some files ask for both, for batches of their own; a text is to be read whole and alone.
        self.fast.no_truncation()
        self.fast.no_padding()
        added = self.fast.get_added_tokens_decoder()
        self.added = {token: told.content for token, told in added.items()}
        self.specials = {token: told.content for token, told in added.items() if told.special}
        decoder = json.loads(self.path.read_bytes()).get("decoder")
        self._byte_level = _decodes(decoder, "ByteLevel")
        # What a vocabulary has no word for may be spelt in tokens of one byte each.
        self.letter = self.fast.token_to_id(_LETTER) if _decodes(decoder, "ByteFallback") else None

    def encode(self, text: str, *, special: bool) -> list[int]:
        """`special` adds what the tokenizer puts around a text (BOS); a rendered chat has it already.

        encode_batch, not encode: only the former lets other threads run meanwhile.
        """
        found: list[int] = self.fast.encode_batch([text], add_special_tokens=special)[0].ids
        return found

    def exceeds(self, text: str, most: int) -> bool:
        """Whether the beginning of a long text has more tokens already: the whole of one that no model could read would
        take a hundred times its size in memory. False where only the whole can tell."""
        most += _CUT
        beginning = text[: most * _WORD]
        return len(beginning) < len(text) and len(self.encode(beginning, special=False)) > most

    def decode(self, ids: list[int]) -> str:
        text = str(self.fast.decode(ids, skip_special_tokens=False))
        if self.letter is None or "\ufffd" not in text:
            return text
        reader = self.reader()  # so that what is no character is shown as in a stream
        return "".join(map(reader.step, ids)) + reader.end()

    def reader(self, *, begun: bool = False) -> Reader:
        """`begun`: what is read goes on with a text."""
        return _Whole(self.fast) if self.letter is None else _Spelt(self, self.letter, begun)

    def bytes_of(self, token: int) -> bytes:
        """What one token stands for; a character may need several tokens. Empty for an id without a token."""
        if (added := self.added.get(token)) is not None:
            return added.encode()
        word = self.fast.id_to_token(token)
        if word is None:
            return b""
        if self._byte_level:
            return bytes(_BYTE_OF[one] for one in word if one in _BYTE_OF)
        if byte := _BYTE.fullmatch(word):
            return bytes([int(byte[1], 16)])
        return word.replace("▁", " ").encode()

    def name_of(self, token: int) -> str:
        """A token as completions call it: its text, or its bytes where they are no text."""
        raw = self.bytes_of(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


class _Whole:
    """By the package's own stream, for vocabularies whose words never change what came before them."""

    def __init__(self, fast: Fast) -> None:
        self._fast, self._stream = fast, DecodeStream(skip_special_tokens=False)
        self._ids: list[int] = []
        self._told = 0

    def step(self, token: int) -> str:
        self._ids.append(token)
        part = self._stream.step(self._fast, token) or ""
        self._told += len(part)
        return part

    def end(self) -> str:
        """An incomplete character is shown as a full decode shows it."""
        return str(self._fast.decode(self._ids, skip_special_tokens=False))[self._told :]


class _Spelt:
    """For vocabularies that spell in bytes. The package takes a run of them as a whole: one byte that is no character's
    makes marks of all, those that have gone out included. Here each character stands once it is there."""

    def __init__(self, tokenizer: Tokenizer, letter: int, begun: bool) -> None:
        self._fast, self._letter, self._begun = tokenizer.fast, letter, begun
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def step(self, token: int) -> str:
        byte = _BYTE.fullmatch(self._fast.id_to_token(token) or "")
        if byte and (value := int(byte[1], 16)) >= 0x80:  # those below are characters by themselves
            self._begun = True
            return self._bytes.decode(bytes([value]))
        before = self.end()
        if self._begun:  # behind a letter: the space before a text's first word is none of the text
            word = self._fast.decode([self._letter, token], skip_special_tokens=False)[1:]
        else:
            word = self._fast.decode([token], skip_special_tokens=False)
        self._begun = True
        return before + word

    def end(self) -> str:
        return self._bytes.decode(b"", final=True)


def _decodes(decoder: Any, kind: str) -> bool:
    """Whether a step of this kind is in a tokenizer's decoder."""
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == kind or any(_decodes(one, kind) for one in decoder.get("decoders") or [])


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones are themselves, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTE_OF = _byte_alphabet()
