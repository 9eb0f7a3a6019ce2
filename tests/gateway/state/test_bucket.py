"""The words and the arithmetic of refusals."""

import pytest

from gateway.core.claim import Claim, Limit, Standing
from gateway.core.failure import LimitReached, NeverFits
from gateway.core.tally import Counter
from gateway.state.bucket import Shortage, refuse, standing, wait

DECISIONS = Counter("decisions", "", ("limit", "decision"))
TOKENS = Limit("t", "tokens", 90, 60)


def said(limit: Limit, amount: int, used: int) -> str:
    return str(refuse([Shortage(Claim(limit, "", amount), used, 0)], Counter("c", "", ("limit", "decision"))))


@pytest.mark.parametrize(
    ("limit", "amount", "used", "words"),
    [
        (Limit("a", "requests", 1, 86400), 1, 1, "1 request per day is used up; try again in 86400 s"),
        (Limit("a", "requests", 2, 3600), 1, 2, "2 requests per hour are used up; try again in 1800 s"),
        (Limit("a", "tokens", 1, 1), 1, 1, "1 token per second is used up; try again in 1 s"),
        (Limit("a", "tokens", 10, 90), 1, 10, "10 tokens per 90 s are used up; try again in 9 s"),
        (
            TOKENS, 31, 60,
            "31 tokens do not fit into the 30 left of 90 tokens per minute; try again in 1 s",
        ),
        (Limit("a", "concurrent", 1), 1, 1, "1 call at a time is in flight; try again in 1 s"),
    ],
)  # fmt: skip
def test_a_refusal_names_rule_unit_and_numbers(limit: Limit, amount: int, used: int, words: str) -> None:
    assert said(limit, amount, used) == f'rule "{limit.rule}": {words}'


def test_what_never_fits_is_said_first() -> None:
    errors = [
        Shortage(Claim(Limit("slow", "requests", 1, 86400), "", 1), 1, 0),
        Shortage(Claim(TOKENS, "", 91), 0, 0),
    ]
    refusal = refuse(errors, DECISIONS)
    assert isinstance(refusal, NeverFits)
    assert str(refusal) == (
        'rule "t": this call needs 91 tokens and the rule never has more than 90 tokens per minute; '
        "ask for less output or send a shorter prompt"
    )
    assert DECISIONS.values == {("slow", "refused"): 1, ("t", "refused"): 1}


def test_the_carry_shortens_the_wait() -> None:
    """90 tokens a minute: one comes back in 2/3 s."""
    assert wait(Shortage(Claim(TOKENS, "", 1), 90, 0)) == 0.666667
    assert wait(Shortage(Claim(TOKENS, "", 1), 90, 30_000_000)) == 0.333334
    refusal = refuse([Shortage(Claim(TOKENS, "", 1), 90, 30_000_000)], DECISIONS)
    assert isinstance(refusal, LimitReached)
    assert refusal.retry_after == 0.333334


def test_a_bucket_in_debt_has_nothing_left_and_is_full_later() -> None:
    assert standing(TOKENS, 180, 0) == Standing(TOKENS, 0, 120.0)
    assert standing(Limit("c", "concurrent", 3), 1, 0).reset == 0.0
