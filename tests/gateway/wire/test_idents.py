import re

from gateway.wire.idents import fitted

FORM = re.compile(r"[a-z]{4}")


def test_an_id_of_the_form_stays() -> None:
    assert fitted("abcd", FORM) == "abcd"


def test_another_id_becomes_one_that_is_always_the_same_and_no_others() -> None:
    made = fitted("functions.f:0", FORM)
    assert made == fitted("functions.f:0", FORM) and re.fullmatch("[0-9a-f]{32}", made)
    assert made != fitted("functions.f:1", FORM)
    assert fitted("functions.f:0", FORM, 9) == made[:9]
    assert len(fitted("\ud800", FORM)) == 32


def test_what_is_no_text_is_left_to_the_provider() -> None:
    assert fitted(5, FORM) == 5
