from gateway.core.head import Head

SAID = {b"host": b"x", b"content-length": b"1"}


def test_a_head_before_a_body_of_another_length_keeps_what_was_found_in_it() -> None:
    head = Head(SAID.items())
    head.digest, head.forward = "d", [(b"openai-beta", b"x")]
    other = head.resized(b"22")
    assert other == {b"host": b"x", b"content-length": b"22"}
    assert (other.digest, other.forward) == ("d", [(b"openai-beta", b"x")])
    assert head == SAID


def test_of_a_head_that_nobody_looked_at_nothing_is_found() -> None:
    assert (Head(SAID).digest, Head(SAID).forward) == ("", ())
