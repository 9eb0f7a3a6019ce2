"""A certificate authority of the test run's own, made by the openssl command."""

import ssl
import subprocess
from functools import cached_property
from pathlib import Path


class Authority:
    """Keys and certificates in `folder`; `openssl` must be installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            "req", "-x509", *_new_key(self._key), "-out", self.certificate, "-subj", "/CN=test authority"
        )

    @cached_property
    def client(self) -> ssl.SSLContext:
        """Trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=self.certificate)
        return context

    def server(self, name: str) -> ssl.SSLContext:
        """A server that can prove to be `name`."""
        request, key = self._folder / f"{name}.csr", self._folder / f"{name}.key"
        certificate, names = self._folder / f"{name}.pem", self._folder / f"{name}.ext"
        names.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl("req", *_new_key(key), "-out", request, "-subj", f"/CN={name}")
        signing = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-extfile", names)
        _openssl("x509", "-req", "-in", request, *signing, "-out", certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def _new_key(key: Path) -> tuple[str | Path, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
