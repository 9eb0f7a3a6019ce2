from gateway.edge.inflow import LEAST, Inflow


def came(size: int, at: float = 1000.0) -> Inflow:
    inflow = Inflow()
    inflow.begin(at)
    inflow.take(size)
    return inflow


def test_what_has_come_for_a_short_time_is_not_judged() -> None:
    assert not came(0).drips(1030.0, 30)
    assert came(0).drips(1031.0, 30)


def test_whatever_comes_at_the_least_pace_may_take_its_time() -> None:
    assert not came(LEAST * 3600).drips(1000.0 + 3600, 30)
    assert came(LEAST * 3600 - 1).drips(1000.0 + 3600, 30)


def test_time_in_which_nobody_read_does_not_count() -> None:
    inflow = came(LEAST * 40)
    for at in (1010.0, 1200.0):
        inflow.hold(at)
        inflow.go_on(at + 100)
    assert not inflow.drips(1240.0, 30)
    assert inflow.drips(1241.0, 30)


def test_each_body_is_reckoned_by_itself() -> None:
    inflow = came(LEAST * 100)
    inflow.begin(1010.0)
    assert not inflow.drips(1040.0, 30)
    assert inflow.drips(1041.0, 30)
