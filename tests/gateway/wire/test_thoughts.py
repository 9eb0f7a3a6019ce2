import base64

import pytest

from gateway.wire.thoughts import packed, unpacked


def test_what_was_packed_comes_back_but_for_its_text_and_place() -> None:
    detail = {"type": "reasoning.text", "signature": "s?>", "format": "f", "text": "hm", "index": 3}
    text = packed(detail)
    kept = {"type": "reasoning.text", "signature": "s?>", "format": "f"}
    assert unpacked(text) == kept
    assert unpacked(text.replace("+", "-").replace("/", "_")) == kept


@pytest.mark.parametrize("text", ["", "AAAA", "no base64!", base64.b64encode(b"gatehouse:{").decode(),
                                  base64.b64encode(b"gatehouse:[]").decode()])  # fmt: skip
def test_what_was_not_is_left_alone(text: str) -> None:
    assert unpacked(text) is None
