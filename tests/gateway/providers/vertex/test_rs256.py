import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from gateway.providers.vertex.rs256 import sign

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def pem(key: Private, encryption: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def test_who_has_the_public_key_can_tell_the_signature() -> None:
    KEY.public_key().verify(sign(pem(KEY), b"told"), b"told", PKCS1v15(), SHA256())


@pytest.mark.parametrize(
    "text",
    ["", "none", pem(KEY, BestAvailableEncryption(b"secret")), pem(ec.generate_private_key(ec.SECP256R1()))],
    ids=["empty", "no key", "locked", "another kind"],
)
def test_a_key_that_cannot_sign_so_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        sign(text, b"told")


def test_a_gateway_without_google_does_not_load_the_library() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "import gateway.app.run, sys; print('cryptography' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "False"
