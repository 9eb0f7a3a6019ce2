"""Text to token ids, by the model's own tokenizer.json. Torch-free."""

from pathlib import Path

from tokenizers import Tokenizer as Fast

from local_backend.config import UnusableModel


class Tokenizer:
    def __init__(self, folder: Path) -> None:
        """Raises UnusableModel."""
        path = folder / "tokenizer.json"
        if not path.exists():
            raise UnusableModel(
                f"{folder}: has no tokenizer.json; convert tokenizer.model with transformers first"
            )
        self.fast = Fast.from_file(str(path))

    def encode(self, text: str, *, special: bool) -> list[int]:
        """`special` adds what the tokenizer puts around a text (BOS); a rendered chat has it already.

        encode_batch, not encode: only the former lets other threads run meanwhile.
        """
        found: list[int] = self.fast.encode_batch([text], add_special_tokens=special)[0].ids
        return found

    def decode(self, ids: list[int]) -> str:
        return str(self.fast.decode(ids, skip_special_tokens=False))
