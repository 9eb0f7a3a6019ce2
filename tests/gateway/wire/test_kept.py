from gateway.wire.kept import Kept


class Door:
    is_open = True

    def __init__(self) -> None:
        self.kept = Kept(lambda: self.is_open)

    def say(self, word: bytes) -> list[bytes]:
        return [word]

    def shut(self) -> list[bytes]:
        self.is_open = False
        return [b"shut"]


def test_what_may_be_told_is_told_at_once() -> None:
    door = Door()
    assert door.kept.tell(door.say, b"a") == [b"a"]
    assert door.kept.proceed() == door.kept.rest() == []


def test_what_waits_is_told_in_its_order_as_far_as_it_may() -> None:
    door = Door()
    door.is_open = False
    assert door.kept.tell(door.say, b"a") == []
    door.kept.keep(door.shut)
    assert door.kept.tell(door.say, b"b") == []
    door.is_open = True
    assert door.kept.tell(door.say, b"c") == [b"a", b"shut"]
    assert door.kept.proceed() == []
    assert door.kept.rest() == [b"b", b"c"]
    assert door.kept.rest() == []
