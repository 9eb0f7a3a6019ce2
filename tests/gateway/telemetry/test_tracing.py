"""Which calls are traced, by the standard variables; what becomes of spans is seen in whole gateways."""

import pytest

from gateway.telemetry.tracing import Sampler

RATIO = {"OTEL_TRACES_SAMPLER": "traceidratio"}


@pytest.mark.parametrize("share", ["nan", "inf", "-0.1", "1.1", "half"])
def test_a_share_that_is_none_says_how_one_is_written(share: str) -> None:
    with pytest.raises(ValueError, match=r"^OTEL_TRACES_SAMPLER_ARG: takes a share from 0 to 1, as 0.25$"):
        Sampler({**RATIO, "OTEL_TRACES_SAMPLER_ARG": share}, exporting=True)


@pytest.mark.parametrize(("share", "is_traced"), [("0", False), ("1.0", True), ("", True)])
def test_a_share_decides_which_calls_are_traced(share: str, is_traced: bool) -> None:
    sampler = Sampler({**RATIO, "OTEL_TRACES_SAMPLER_ARG": share}, exporting=True)
    assert (sampler.sample(None, None) is not None) is is_traced


def test_a_sampler_that_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match="OTEL_TRACES_SAMPLER: there is no sampler 'sometimes'"):
        Sampler({"OTEL_TRACES_SAMPLER": "sometimes"}, exporting=True)
