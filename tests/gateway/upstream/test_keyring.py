from gateway.upstream.breaker import LONGEST_REST, MOST_PASSED
from gateway.upstream.keyring import Keyring
from tests.gateway.upstream.test_breaker import TARGET, Clock

PROVIDER, OTHER = TARGET.partition("/")[0], "openai/other"


def orders(keyring: Keyring, calls: int, asked: str = TARGET) -> list[list[int]]:
    return [list(keyring.order(PROVIDER, asked, 3)) for _ in range(calls)]


def test_keys_take_turns_whatever_is_asked_of_others() -> None:
    keyring = Keyring(Clock())
    assert orders(keyring, 2) == [[1, 2, 0], [2, 0, 1]]
    assert list(keyring.order("another", "another/model", 2)) == [1, 0]
    assert [list(keyring.order("single", "single/model", 1)) for _ in range(2)] == [[0], [0]]
    assert orders(keyring, 2) == [[0, 1, 2], [1, 2, 0]]


def test_a_key_that_rests_comes_last_until_its_time_is_over() -> None:
    clock = Clock()
    keyring = Keyring(clock)
    for seconds in (30, 0):
        keyring.rest(TARGET, 1, seconds)
    assert orders(keyring, 3) == [[2, 0, 1], [2, 0, 1], [0, 2, 1]]
    assert orders(keyring, 1, OTHER) == [[1, 2, 0]], "of another model nothing was said"
    clock.now += 30
    assert orders(keyring, 3) == [[2, 0, 1], [0, 1, 2], [1, 2, 0]]


def test_where_all_keys_rest_they_take_turns() -> None:
    keyring = Keyring(Clock())
    for key in range(3):
        keyring.rest(TARGET, key, 30)
    assert orders(keyring, 3) == [[1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_no_key_rests_for_longer_than_its_target_would() -> None:
    clock = Clock()
    keyring = Keyring(clock)
    keyring.rest(TARGET, 1, 86_000)
    clock.now += LONGEST_REST
    assert orders(keyring, 1) == [[1, 2, 0]]


def test_of_more_models_than_are_known_at_once_nothing_is_remembered() -> None:
    keyring = Keyring(Clock())
    keyring.rest(TARGET, 1, 30)
    for n in range(MOST_PASSED - 1):
        keyring.rest(f"openai/gpt-{n}", 1, 30)
    assert orders(keyring, 1) == [[2, 0, 1]]
    keyring.rest("openai/one-more", 1, 30)
    assert orders(keyring, 3)[2] == [1, 2, 0]
