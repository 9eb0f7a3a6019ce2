from gateway.core.key import KeyFacts


def test_a_key_never_expires_unless_it_says_when() -> None:
    assert KeyFacts("ci", "research", "0a" * 32).expires is None
