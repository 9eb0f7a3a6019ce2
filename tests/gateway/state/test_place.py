"""Where Redis is: addresses, what they name, and what a Cluster answers."""

from pathlib import Path

import pytest

from gateway.state.place import Place, moved, parse_url
from gateway.upstream.client import trusting
from tests.gateway.upstream.authority import Authority


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://cache", Place("cache", 6379, "", False, 0, ())),
        ("redis://u:p%40ss@cache:7000/3", Place("cache", 7000, "", False, 3, ("u", "p@ss"))),
        ("rediss://:pw@10.0.0.1", Place("10.0.0.1", 6379, "", True, 0, ("pw",))),
        ("redis://[::1]:6380/", Place("::1", 6380, "", False, 0, ())),
        ("redis://cache?db=4", Place("cache", 6379, "", False, 4, ())),
        ("unix:///run/redis.sock?db=2", Place("", 0, "/run/redis.sock", False, 2, ())),
        (
            "rediss://cache/1?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/c.key",
            Place("cache", 6379, "", True, 1, (), "/ca.pem", "/c.pem", "/c.key"),
        ),
        ("unix://u:p@/run/re%20dis.sock", Place("", 0, "/run/re dis.sock", False, 0, ("u", "p"))),
    ],
)
def test_addresses_are_read(url: str, place: Place) -> None:
    assert parse_url(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache:6379",
        "http://cache",
        "redis://",
        "redis://c/x",
        "redis://c:port",
        "unix://",
        "redis://[c",
        "redis://c/-1",
        "redis://:a/b@c:1",
        "redis+sentinel://c/primary",
    ],
)
def test_what_is_no_address_is_told_by_its_setting(url: str) -> None:
    with pytest.raises(ValueError, match="GATEWAY_REDIS_URL: must look like redis://host:6379/0"):
        parse_url(url)


def test_secrets_do_not_show() -> None:
    assert "pw" not in repr(parse_url("redis://u:pw@cache"))
    assert "pw" not in repr(parse_url("unix://u:pw@/run/r.sock"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://c?ssl_ca_certs=/ca.pem", 'there is no parameter "ssl_ca_certs" here, only db'),
        (
            "rediss://c?ssl_cert_reqs=none&db=1",
            'no parameter "ssl_cert_reqs" here, only db, ssl_ca_certs, ssl_cert',
        ),
        ("unix:///s?timeout=", 'there is no parameter "timeout" here, only db'),
    ],
)
def test_a_parameter_that_would_be_passed_over_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^GATEWAY_REDIS_URL: .*{said}"):
        parse_url(url)


def test_a_certificate_of_no_use_is_told_and_one_of_use_is_read_for_each_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server("us")
    trust = trusting(str(authority.certificate))
    place = parse_url(f"rediss://c?ssl_certfile={tmp_path}/us.pem&ssl_keyfile={tmp_path}/us.key")
    assert place.secured(trust).context() is trust
    with pytest.raises(
        ValueError, match="ssl_certfile and ssl_keyfile: they must be a certificate and its key"
    ):
        place._replace(key=str(tmp_path / "ca.key")).secured(trust)
    with pytest.raises(ValueError, match="ssl_certfile and ssl_keyfile: No such file"):
        place._replace(certificate=str(tmp_path / "none.pem")).secured(trust)
    secured = place.secured(trust)
    (tmp_path / "us.pem").unlink()
    with pytest.raises(FileNotFoundError):
        secured.context()


def test_tls_is_never_left_out() -> None:
    assert parse_url("rediss://c").context() is not None
    assert parse_url("redis://c").context() is None


@pytest.mark.parametrize(
    ("refusal", "where"),
    [
        ("MOVED 11562 10.0.0.7:7001", ("10.0.0.7", 7001)),
        ("MOVED 11562 ::1:7001", ("::1", 7001)),
        ("MOVED 11562 :7001", ("c", 7001)),
    ],
)
def test_a_node_of_a_cluster_names_the_one_that_has_our_slot(refusal: str, where: tuple[str, int]) -> None:
    place = parse_url("rediss://:pw@c:7000")
    assert moved(place, refusal) == place._replace(host=where[0], port=where[1])
    assert moved(place, "READONLY You can't write against a read only replica.") is None
