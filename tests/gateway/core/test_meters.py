"""The metrics of one process: each once, named and described."""

from gateway.core.meters import Meters
from gateway.core.tally import Counter, Histogram


def test_every_metric_has_a_name_of_its_own_that_tells_its_kind_and_a_sentence() -> None:
    metrics = Meters().all()
    assert len({metric.name for metric in metrics}) == len(metrics) == len(vars(Meters()))
    for metric in metrics:
        assert metric.name.startswith("gateway_")
        assert metric.name.endswith("_total") is isinstance(metric, Counter)
        assert metric.help.endswith(".")
        if isinstance(metric, Histogram):
            assert list(metric.bounds) == sorted(set(metric.bounds))


def test_what_is_known_from_the_start_fits_its_labels() -> None:
    for metric in Meters().all():
        assert all(len(labels) == len(metric.labels) for labels in metric.values)


def test_two_processes_share_nothing() -> None:
    one, other = Meters(), Meters()
    one.requests.add(("chat", "m", "t", "ok"))
    assert other.requests.values == {}
