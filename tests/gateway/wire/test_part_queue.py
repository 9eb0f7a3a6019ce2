from gateway.wire.part_queue import PartQueue


class Door:
    is_open = True

    def __init__(self) -> None:
        self.queue = PartQueue(lambda: self.is_open)

    def say(self, word: bytes) -> list[bytes]:
        return [word]

    def shut(self) -> list[bytes]:
        self.is_open = False
        return [b"shut"]


def test_what_may_be_told_is_told_at_once() -> None:
    door = Door()
    assert door.queue.tell(door.say, b"a") == [b"a"]
    assert door.queue.proceed() == door.queue.rest() == []


def test_what_waits_is_told_in_its_order_as_far_as_it_may() -> None:
    door = Door()
    door.is_open = False
    assert door.queue.tell(door.say, b"a") == []
    door.queue.keep(door.shut)
    assert door.queue.tell(door.say, b"b") == []
    door.is_open = True
    assert door.queue.tell(door.say, b"c") == [b"a", b"shut"]
    assert door.queue.proceed() == []
    assert door.queue.rest() == [b"b", b"c"]
    assert door.queue.rest() == []
