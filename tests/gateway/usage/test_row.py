import orjson
import pytest

from gateway.usage.event import begun, died, ended
from gateway.usage.row import NoRow, checked, parsed
from tests.gateway.usage.books import call


def test_what_a_call_writes_is_a_row() -> None:
    one = call()
    assert checked(parsed(ended(one, begun(one))))["search_units"] == 0
    assert checked(died(parsed(begun(one))))["outcome"] == "gateway_died"


@pytest.mark.parametrize("line", [b"scribble", b"{}", b"[]", b"1", b'"\\ud800"'])
def test_what_is_something_else_is_none(line: bytes) -> None:
    with pytest.raises(NoRow):
        checked(parsed(line))


@pytest.mark.parametrize(
    ("member", "value"),
    [("id", 1), ("prompt", "ten"), ("prompt", True), ("stream", 0), ("started", None), ("metadata", [])],
)
def test_a_member_of_another_kind_makes_it_none(member: str, value: object) -> None:
    event = orjson.loads(ended(call(), begun(call())))
    with pytest.raises(NoRow):
        checked({**event, member: value})


def test_no_text_of_a_row_has_a_nul() -> None:
    one = call(team="a\0b")
    one.model = "\0"
    event = parsed(ended(one, begun(one)))
    assert (event["team"], event["entry"]) == ("a\ufffdb", "\ufffd")
    assert died(parsed(begun(one)))["team"] == "a\ufffdb"
