from datetime import UTC, datetime

import pytest

from gateway.config.scalars import digest, dimension, epoch, plain, seconds, share
from gateway.config.variables import Filled


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5s", 1.5), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("24h", 86400.0), (" 3 s ", 3.0)],
)
def test_durations_are_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "1", "1.5", "s", "-1s", "1d", "0s", "25h", "1.s", "1s2", 5, None, "1e3s"]
)
def test_other_durations_are_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        seconds(text)


def test_shares_are_fractions() -> None:
    assert share("20%") == 0.2
    assert share("0%") == 0.0
    assert share("100 %") == 1.0
    assert share("2.5%") == 0.025


@pytest.mark.parametrize("text", ["20", "101%", "-1%", "%", 0.2, None])
def test_other_shares_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="write it as 20%"):
        share(text)


def test_a_day_begins_at_midnight_in_utc_and_a_moment_is_itself() -> None:
    assert epoch("2027-01-01") == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert epoch("2027-01-01T12:00:00Z") == datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()
    assert epoch("2027-01-01 12:00:00+02:00") == datetime(2027, 1, 1, 10, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("text", ["tomorrow", "2027-13-01", "2027-02-30", "20270101", "", 20270101, None])
def test_other_days_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a date"):
        epoch(text)


def test_what_is_nested_deeper_than_any_policy_file_stays_as_it_is() -> None:
    deep: list[object] = [Filled("7")]
    assert plain(deep) == [7]
    for _ in range(2000):
        deep = [deep]
    assert plain(deep) is deep


def test_a_hash_is_lower_case_hex_with_its_method() -> None:
    assert digest("sha256:" + "0a" * 32) == "0a" * 32


@pytest.mark.parametrize(
    "text", ["0a" * 32, "sha256:" + "0A" * 32, "sha256:" + "0" * 63, "md5:" + "0" * 32, None]
)
def test_other_hashes_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="sha256"):
        digest(text)


@pytest.mark.parametrize("text", ["key", "team", "user", "model", "metadata.app"])
def test_dimensions(text: str) -> None:
    assert dimension(text) == text


@pytest.mark.parametrize("text", ["keys", "metadata.", "metadata", "", None, 3])
def test_other_dimensions_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        dimension(text)


def test_what_was_filled_in_stands_for_numbers_and_truth_values_even_in_quotes() -> None:
    assert plain(Filled("600")) == 600
    assert plain(Filled("true")) is True
    assert plain(Filled("false")) is False
    assert plain(Filled("x1")) == "x1"
    assert plain(Filled("0.5")) == 0.5
    assert plain(Filled("-1")) == -1.0
    assert plain(Filled("1" * 30)) == float("1" * 30)
    assert plain(Filled("1.2.3")) == "1.2.3"
    assert plain({"a": [Filled("1"), "1", {"b": Filled("true")}]}) == {"a": [1, "1", {"b": True}]}
    assert plain("600") == "600"
    assert plain(7) == 7
