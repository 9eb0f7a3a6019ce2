from gateway.upstream.breaker import MOST_PASSED, WINDOW
from gateway.upstream.budgets import RetryBudgets
from tests.gateway.upstream.test_breaker import TARGET, Clock


def test_retries_are_a_share_of_calls() -> None:
    clock = Clock()
    budgets = RetryBudgets(clock)
    assert [budgets.spend(TARGET, 0.2) for _ in range(4)] == [True, True, True, False]
    for _ in range(100):
        budgets.call(TARGET)
    assert sum(budgets.spend(TARGET, 0.2) for _ in range(100)) == 17
    assert budgets.spend("openai/other", 0.2)
    clock.now += WINDOW + 0.001
    assert budgets.spend(TARGET, 0.2)


def test_of_more_names_than_are_known_at_once_none_is_remembered() -> None:
    budgets = RetryBudgets(Clock())
    while budgets.spend(TARGET, 0.2):
        pass
    for n in range(MOST_PASSED - 1):
        budgets.call(f"openai/gpt-{n}")
    assert not budgets.spend(TARGET, 0.2)
    budgets.call("openai/one-more")
    assert budgets.spend(TARGET, 0.2)
