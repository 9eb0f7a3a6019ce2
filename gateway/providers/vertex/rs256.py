"""Signatures with a Google service account's key (RS256, RFC 7518). Imported by who signs, and then only: the library
takes 7 MB of every process otherwise."""

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def sign(pem: str, message: bytes) -> bytes:
    """Raises ValueError for what is no RSA key in PEM."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError:  # it asks for a password
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("no RSA key in PEM")
    return key.sign(message, PKCS1v15(), SHA256())
