import pytest

from gateway.core.failure import Failure
from gateway.providers.base import failure_from_status


@pytest.mark.parametrize(
    ("statuses", "failure"),
    [
        ((429,), Failure.THROTTLED),
        ((503, 529), Failure.OVERLOADED),
        ((408, 504, 524), Failure.TIMED_OUT),
        ((401, 402, 403), Failure.UNAUTHORIZED),
        ((400, 404, 409, 413, 422, 451), Failure.REJECTED),
        ((500, 501, 502, 520, 599), Failure.BROKEN),
    ],
)
def test_the_status_alone_says_what_kind_of_failure_it_is(
    statuses: tuple[int, ...], failure: Failure
) -> None:
    assert {failure_from_status(status) for status in statuses} == {failure}
