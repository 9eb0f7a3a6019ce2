from gateway.edge.unread import Unread


def test_bytes_that_nobody_takes_last() -> None:
    unread = Unread()
    assert not unread.lasts(100, 1000.0, 30)
    assert not unread.lasts(100, 1030.0, 30)
    assert unread.lasts(100, 1031.0, 30)


def test_whoever_takes_a_little_has_time_again() -> None:
    unread = Unread()
    assert not unread.lasts(100, 1000.0, 30)
    assert not unread.lasts(99, 1029.0, 30)
    assert not unread.lasts(99, 1059.0, 30)
    assert unread.lasts(99, 1060.0, 30)


def test_nothing_waits_for_ever() -> None:
    unread = Unread()
    assert not unread.lasts(0, 1000.0, 30)
    assert not unread.lasts(0, 2000.0, 30)
    assert not unread.lasts(5, 2001.0, 30)
