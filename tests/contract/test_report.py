"""The report over all recordings finds nothing that a gateway would get wrong, and a reason for all it refuses."""

from collections import Counter

from gateway.wire.registry import FRONTS
from tests.contract.report import results, table


def test_nothing_is_wrong_and_every_refusal_has_its_reason() -> None:
    """Takes six seconds: some 6,500 requests and answers, streams in four ways of cutting them."""
    found = list(results())
    verdicts = Counter(one.verdict for one in found)
    assert [f"{one.record['id']} {one.what}: {one.reason}" for one in found if one.verdict == "wrong"] == []
    assert all(one.reason for one in found if one.verdict == "refused")
    assert verdicts["equal"] >= 6000
    asked = Counter(one.dialect for one in found if one.what == "request")
    assert min(asked[name] for name in FRONTS if name != "gemini.array") >= 190, asked
    assert table(found)[-1] == "wrong: 0"
