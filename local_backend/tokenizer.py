"""Text to token ids, by the model's own tokenizer.json. Torch-free."""

import json
import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Fast

from local_backend.config import UnusableModel

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


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
        self._byte_level = _byte_level(json.loads(self.path.read_bytes()).get("decoder"))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """`special` adds what the tokenizer puts around a text (BOS); a rendered chat has it already.

        encode_batch, not encode: only the former lets other threads run meanwhile.
        """
        found: list[int] = self.fast.encode_batch([text], add_special_tokens=special)[0].ids
        return found

    def decode(self, ids: list[int]) -> str:
        return str(self.fast.decode(ids, skip_special_tokens=False))

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


def _byte_level(decoder: Any) -> bool:
    if not isinstance(decoder, dict):
        return False
    if decoder.get("type") == "ByteLevel":
        return True
    return any(_byte_level(one) for one in decoder.get("decoders") or [])


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones are themselves, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTE_OF = _byte_alphabet()
