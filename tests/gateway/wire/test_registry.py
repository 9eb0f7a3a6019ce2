from gateway.wire.registry import DIALECTS


def test_every_dialect_is_found_by_its_own_name() -> None:
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
    assert set(DIALECTS) == {"openai.chat", "openai.completions", "openai.embeddings", "openai.raw"}
