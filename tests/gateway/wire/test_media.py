import pytest

from gateway.wire.media import inline, kind_of


@pytest.mark.parametrize(
    ("url", "kind"), [("https://x/a.png?b", "image/png"), ("gs://b/a", ""), ("http://[x", "")]
)
def test_an_address_tells_its_kind_by_its_end(url: str, kind: str) -> None:
    assert kind_of(url) == kind


def test_a_data_url_holds_its_content() -> None:
    assert inline("data:image/png;base64,AA==") == ("image/png", "AA==")
    assert inline("data:text/plain,hello") is None
