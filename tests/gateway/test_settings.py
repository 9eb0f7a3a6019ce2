from argparse import ArgumentParser
from pathlib import Path

import pytest

from gateway.cli.client import add_address, admin_token
from gateway.settings import BadSettings, Settings, from_environment

# What kubelet gives a container beside a Service "gateway" with two named ports, and a Service "gateway-admin".
KUBERNETES = {
    "GATEWAY_SERVICE_HOST": "10.96.7.1",
    "GATEWAY_SERVICE_PORT": "8080",
    "GATEWAY_SERVICE_PORT_HTTP": "8080",
    "GATEWAY_SERVICE_PORT_HTTP_ADMIN": "8081",
    "GATEWAY_PORT": "tcp://10.96.7.1:8080",
    "GATEWAY_PORT_8080_TCP": "tcp://10.96.7.1:8080",
    "GATEWAY_PORT_8080_TCP_PROTO": "tcp",
    "GATEWAY_PORT_8080_TCP_PORT": "8080",
    "GATEWAY_PORT_8080_TCP_ADDR": "10.96.7.1",
    "GATEWAY_PORT_8443_UDP": "udp://10.96.7.1:8443",
    "GATEWAY_ADMIN_SERVICE_HOST": "10.96.7.2",
    "GATEWAY_ADMIN_PORT": "tcp://10.96.7.2:8081",
    "GATEWAY_ADMIN_PORT_8081_TCP_ADDR": "10.96.7.2",
}


def complaint(**environ: str) -> str:
    with pytest.raises(BadSettings) as caught:
        from_environment(environ)
    return str(caught.value)


def test_without_variables_the_defaults_hold() -> None:
    assert from_environment({}) == Settings()
    assert from_environment({"PATH": "/bin", "MY_GATEWAY_MAX_BODY": "1"}) == Settings()


def test_sizes_and_times_take_units() -> None:
    known = from_environment(
        {
            "GATEWAY_MAX_BODY": "3 MiB",
            "GATEWAY_MAX_FILE": "2kb",
            "GATEWAY_DRAIN_TIMEOUT": "500ms",
            "GATEWAY_KEEP_ALIVE": "2m",
            "GATEWAY_BODY_TIMEOUT": "7",
            "GATEWAY_DATA_DIR": "/data",
        }
    )
    assert (known.max_body, known.max_file) == (3 << 20, 2000)
    assert (known.drain_timeout, known.keep_alive, known.body_timeout) == (0.5, 120.0, 7.0)
    assert known.data_dir == Path("/data")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_MAX_BODY", "much"),
        ("GATEWAY_MAX_BODY", "12 parsec"),
        ("GATEWAY_MAX_BODY", "0"),
        ("GATEWAY_USAGE_RETENTION_DAYS", "1000001"),
        ("GATEWAY_RESPONSES_RETENTION_DAYS", "1" + "0" * 20),
        ("GATEWAY_KEEP_ALIVE", "1d"),
        ("GATEWAY_LOG_LEVEL", "loud"),
        ("GATEWAY_MAX_IN_FLIGHT", "-3"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable_and_is_not_told(name: str, value: str) -> None:
    told = complaint(**{name: value})
    assert told.startswith(f"{name}: ")
    assert f"'{value}'" not in told.replace("'debug', 'info', 'warning' or 'error'", "")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "*",
        "https://a.example, http://localhost:3000,",
        "chrome-extension://abc",
        "null",
        "https://a.example:80",
        "http://[::1]:8080,https://[fe80::443]",
    ],
)
def test_origins_are_taken_as_browsers_send_them(value: str) -> None:
    assert from_environment({"GATEWAY_CORS_ORIGINS": value}).cors_origins == value


@pytest.mark.parametrize(
    "value",
    [
        "a.example",
        "https://a.example/",
        "https://a.example/app",
        "https://a.example https://b.example",
        "https://A.example",
        "https://*.example",
        "https://a.example:443",
        "http://a.example:80",
        "http://[::1]:80",
        "https://a.example:",
        "https://a.example:08443",
        "https://bücher.example",
    ],
)
def test_an_origin_that_no_browser_sends_says_how_one_is_written(value: str) -> None:
    told = complaint(GATEWAY_CORS_ORIGINS=f"https://good.example, {value}")
    assert (
        told
        == "GATEWAY_CORS_ORIGINS: takes origins, or *; write each as https://app.example.com, no / at its end "
        "and no port that is the usual one"
    )


@pytest.mark.parametrize("name", ["GATEWAY_ADMIN_TOKEN", "GATEWAY_METRICS_TOKEN"])
@pytest.mark.parametrize("value", ["s3crét", " s3cret", "s3cret ", "s3\ncret", "s3\x7fcret"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_told(name: str, value: str) -> None:
    assert complaint(**{name: value}) == (
        f"{name}: takes printable ASCII without blanks around it; make one with: openssl rand -hex 32"
    )


@pytest.mark.parametrize("value", ["12 parsec", "5xb", "much", " ", "-1", "1.5MiB", "²", "9" * 5000])
def test_a_size_that_is_none_says_how_one_is_written(value: str) -> None:
    assert complaint(GATEWAY_MAX_BODY=value) == (
        "GATEWAY_MAX_BODY: takes a size; write it as 32MiB, 64kb or a number of bytes"
    )


@pytest.mark.parametrize("value", ["1d", "soon", " ", "5sm", "inf", "nan", "-infinity", "infs", "9" * 400])
def test_a_time_that_is_none_says_how_one_is_written(value: str) -> None:
    assert complaint(GATEWAY_KEEP_ALIVE=value) == (
        "GATEWAY_KEEP_ALIVE: takes a time; write it as 500ms, 30s, 5m, 1h or a number of seconds"
    )


def test_a_time_is_longer_than_none() -> None:
    assert complaint(GATEWAY_KEEP_ALIVE="0s") == "GATEWAY_KEEP_ALIVE: Input should be greater than 0"


def test_an_unknown_name_says_which_one_is_near() -> None:
    assert complaint(GATEWAY_MAX_BODDY="1") == (
        "GATEWAY_MAX_BODDY: there is no such setting; did you mean GATEWAY_MAX_BODY?"
    )
    assert complaint(GATEWAY_ADMIN_TOKN="s3cret") == (
        "GATEWAY_ADMIN_TOKN: there is no such setting; did you mean GATEWAY_ADMIN_TOKEN?"
    )
    assert complaint(GATEWAY_QQQQ="s3cret") == "GATEWAY_QQQQ: there is no such setting"


def test_what_kubernetes_tells_of_its_services_is_passed_over() -> None:
    assert from_environment(KUBERNETES) == Settings()
    assert from_environment({**KUBERNETES, "GATEWAY_MAX_BODY": "5"}).max_body == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("GATEWAY_PORT", "9000"), ("GATEWAY_ADMIN_PORT", "9001"), ("GATEWAY_PORT_HTTP", "9000")],
)
def test_a_port_that_someone_meant_is_not_passed_over(name: str, value: str) -> None:
    assert complaint(**{name: value}).startswith(f"{name}: there is no such setting")


def test_what_our_own_commands_read_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_URL", "http://10.0.0.1:8081")
    parser = ArgumentParser()
    add_address(parser)
    assert parser.parse_args([]).admin_url == "http://10.0.0.1:8081"
    assert from_environment({"GATEWAY_ADMIN_URL": "http://10.0.0.1:8081"}) == Settings()


def test_no_secret_is_shown_by_the_settings_themselves() -> None:
    environ = {
        "GATEWAY_ADMIN_TOKEN": "s3cret",
        "GATEWAY_METRICS_TOKEN": "s3cret",
        "GATEWAY_REDIS_URL": "redis://:s3cret@redis",
        "GATEWAY_DATABASE_URL": "postgresql://me:s3cret@db/x",
    }
    assert "s3cret" not in repr(from_environment(environ))


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    names = [f"GATEWAY_{field.upper()}" for field in Settings.model_fields]
    assert from_environment(dict.fromkeys(names, "")) == Settings()


def test_the_line_break_at_the_end_of_a_secret_is_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment({"GATEWAY_ADMIN_TOKEN": "s3cret\n", "GATEWAY_METRICS_TOKEN": "\n"})
    assert (settings.admin_token, settings.metrics_token) == ("s3cret", "")
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "s3cret\n")
    assert admin_token() == "s3cret"


def test_commands_too_take_an_empty_variable_for_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GATEWAY_ADMIN_URL", "GATEWAY_DATA_DIR", "GATEWAY_ADMIN_TOKEN"):
        monkeypatch.setenv(name, "")
    (tmp_path / ".gateway").mkdir()
    (tmp_path / ".gateway" / "admin-token").write_text("kept\n")
    parser = ArgumentParser()
    add_address(parser)
    assert (parser.parse_args([]).admin_url, admin_token()) == ("http://127.0.0.1:8081", "kept")
