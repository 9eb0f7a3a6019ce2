from gateway.edge.models import METHODS
from gateway.wire.envelope import GEMINI_METHODS, envelope_of, gemini_method


def test_every_method_that_a_path_may_name_is_served() -> None:
    assert METHODS.keys() == GEMINI_METHODS


def test_a_models_method_is_geminis_under_either_version() -> None:
    assert gemini_method("/v1/models/m:generateContent") == "generateContent"
    assert gemini_method("/v1/models/m:predict") == gemini_method("/v1/other/m:generateContent") == ""
    assert envelope_of("/v1/models/m:countTokens") == "gemini"
    assert envelope_of("/v1/models/m") == "openai"
