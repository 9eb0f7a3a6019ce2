"""A service account's key, made for the tests of one run."""

import base64
from functools import cache
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(of: Any = None) -> str:
    raw = (of or key()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return str(raw.decode())


def account(**more: str) -> str:
    made = {"type": "service_account", "client_email": "sa@p", "private_key": pem(), "private_key_id": "k1"}
    return orjson.dumps(made | more).decode()


def curve() -> str:
    return pem(ec.generate_private_key(ec.SECP256R1()))


def claims(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and claims of a JWT whose signature holds."""
    head, told, signature = assertion.split(".")
    key().public_key().verify(_bytes(signature), f"{head}.{told}".encode(), PKCS1v15(), SHA256())
    return orjson.loads(_bytes(head)), orjson.loads(_bytes(told))


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
