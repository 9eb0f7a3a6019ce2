import pytest

from gateway.wire.media import inline, is_shown, kind_of


@pytest.mark.parametrize(
    ("url", "kind"), [("https://x/a.png?b", "image/png"), ("gs://b/a", ""), ("http://[x", "")]
)
def test_an_address_tells_its_kind_by_its_end(url: str, kind: str) -> None:
    assert kind_of(url) == kind


def test_pictures_in_an_answer_are_seen_however_they_are_told() -> None:
    assert is_shown({"images": [{"type": "image_url", "image_url": {"url": "data:,"}}]})
    assert is_shown({"other_blocks": [7, {"inlineData": {}}]})
    assert not is_shown({"content": "a", "images": [], "other_blocks": [{"type": "x"}]})


def test_a_data_url_holds_its_content() -> None:
    assert inline("data:image/png;base64,AA==") == ("image/png", "AA==")
    assert inline("data:text/plain,hello") is None
