"""Where Redis is: GATEWAY_REDIS_URL as it is written, the files it names, and the node that a Cluster points at."""

import ssl
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # as redis-py calls them


class Place(NamedTuple):
    """Secrets never show in its `repr`. `authorities`, `certificate` and `key` are PEM files; `trust` verifies who
    answers by TLS, and shows the certificate where it is asked for one."""

    host: str
    port: int
    path: str
    tls: bool
    database: int
    credentials: tuple[str, ...]
    authorities: str = ""
    certificate: str = ""
    key: str = ""
    trust: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def secured(self, trust: ssl.SSLContext) -> "Place":
        """This place, verified by `trust`. Raises ValueError where the certificate or its key cannot be used."""
        place = self._replace(trust=trust)
        try:
            place.context()
        except ssl.SSLError:
            why = "they must be a certificate and its key, in PEM and not encrypted"
            raise ValueError(f"GATEWAY_REDIS_URL: ssl_certfile and ssl_keyfile: {why}") from None
        except OSError as error:
            raise ValueError(f"GATEWAY_REDIS_URL: ssl_certfile and ssl_keyfile: {error.strerror}") from None
        return place

    def context(self) -> ssl.SSLContext | None:
        """For one more connection. The certificate is read anew: it may have been renewed. Raises OSError."""
        if not self.tls:
            return None
        trust = self.trust or ssl.create_default_context()
        if self.certificate:
            # Without a password, if an empty one, OpenSSL would ask for it at the terminal.
            trust.load_cert_chain(self.certificate, self.key or None, password="")
        return trust


def parse_url(url: str) -> Place:
    """`redis://[user:password@]host[:port][/db]`, `rediss://...` or `unix://[user:password@]/path`, each with `?db=n`;
    `rediss` with `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` as well. Raises ValueError."""
    try:
        parts = urlsplit(url)
        pair = tuple(unquote(one) for one in (parts.username, parts.password) if one)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        tls, unix = parts.scheme == "rediss", parts.scheme == "unix" and parts.path != ""
        database = int(query.pop("db", "") or (not unix and parts.path.strip("/")) or 0)
        host, port = parts.hostname or "", parts.port or 6379
    except ValueError:
        raise _no_address() from None
    if database < 0 or not (unix or (parts.scheme in ("redis", "rediss") and host)):
        raise _no_address()
    authorities, certificate, key = (query.pop(name, "") if tls else "" for name in _FILES)
    if query:
        known = ", ".join(("db", *_FILES) if tls else ("db",))
        raise ValueError(f'GATEWAY_REDIS_URL: there is no parameter "{min(query)}" here, only {known}')
    if unix:
        return Place("", 0, unquote(parts.path), False, database, pair)
    return Place(host, port, "", tls, database, pair, authorities, certificate, key)


def _no_address() -> ValueError:
    return ValueError(
        "GATEWAY_REDIS_URL: must look like redis://host:6379/0, rediss://... or unix:///path; "
        "in a password, / is written %2F, ? %3F, # %23 and % %25"
    )


def moved(place: Place, refusal: str) -> Place | None:
    """Where our slot is by the word of a Redis Cluster's node: "MOVED 8724 10.0.0.7:6379", without a host the same one.
    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#moved-redirection"""
    match refusal.split():
        case ["MOVED", _, address]:
            host, _, port = address.rpartition(":")
            return place._replace(host=host or place.host, port=int(port))
    return None
