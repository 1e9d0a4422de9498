"""Request identity: a server signs its requests with an Ed25519 key, an endpoint checks them.

The only file that needs `cryptography` (the extra `identity`).
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping

import msgspec

from agentdur.core.errors import BadIdentityKey

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ModuleNotFoundError:  # told when a key is given
    Ed25519PublicKey = None  # type: ignore[assignment,misc]  # stands for "not installed"

SCHEME_HEADER = "x-restate-signature-scheme"
TOKEN_HEADER = "x-restate-jwt-v1"
SCHEME = "v1"
VALID_SECONDS = 60
_PREFIX = "publickeyv1_"
_DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_KEY_BYTES = 32
_PARTS = 3


class _Head(msgspec.Struct):
    alg: str = ""
    kid: str = ""


class _Claims(msgspec.Struct):
    aud: str = ""
    nbf: float = 0
    exp: float = 0


class Verifier:
    """Checks requests against one server's public key."""

    def __init__(self, public_key: str) -> None:
        if Ed25519PublicKey is None:
            raise BadIdentityKey("signatures need `cryptography`: pip install 'agentdur[identity]'")
        if not public_key.startswith(_PREFIX):
            raise BadIdentityKey(f"{public_key!r} does not begin with {_PREFIX}")
        raw = _from_base58(public_key.removeprefix(_PREFIX))
        if len(raw) != _KEY_BYTES:
            raise BadIdentityKey(f"{public_key!r} has {len(raw)} bytes, an Ed25519 key has {_KEY_BYTES}")
        self._kid = public_key
        self._key = Ed25519PublicKey.from_public_bytes(raw)

    def allows(self, headers: Mapping[str, str], path: str) -> bool:
        """True when the request was signed by the key's owner, for this path, about now."""
        token = headers.get(TOKEN_HEADER, "")
        parts = token.split(".")
        if headers.get(SCHEME_HEADER) != SCHEME or len(parts) != _PARTS:
            return False
        try:
            head = msgspec.json.decode(_unpadded(parts[0]), type=_Head)
            claims = msgspec.json.decode(_unpadded(parts[1]), type=_Claims)
            self._key.verify(_unpadded(parts[2]), f"{parts[0]}.{parts[1]}".encode())
        except (InvalidSignature, msgspec.DecodeError, binascii.Error, UnicodeDecodeError, ValueError):
            return False
        if head.alg != "EdDSA" or head.kid != self._kid:
            return False
        return claims.nbf <= time.time() <= claims.exp and claims.aud == path


class Signer:
    """Signs requests with a private key (PEM, PKCS#8)."""

    def __init__(self, pem: bytes) -> None:
        if Ed25519PublicKey is None:
            raise BadIdentityKey("signatures need `cryptography`: pip install 'agentdur[identity]'")
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except ValueError as error:
            raise BadIdentityKey(f"no private key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadIdentityKey(f"an Ed25519 key is needed, this one is {type(key).__name__}")
        self._key = key
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public_key = _PREFIX + _to_base58(raw)
        self._head = _coded(msgspec.json.encode({"typ": "JWT", "alg": "EdDSA", "kid": self.public_key}))

    def headers(self, path: str) -> dict[str, str]:
        """What a request for `path` (without the deployment's own path) carries."""
        now = int(time.time())
        claims = {"aud": path, "iat": now, "nbf": now - VALID_SECONDS, "exp": now + VALID_SECONDS}
        signed = f"{self._head}.{_coded(msgspec.json.encode(claims))}"
        signature = _coded(self._key.sign(signed.encode()))
        return {SCHEME_HEADER: SCHEME, TOKEN_HEADER: f"{signed}.{signature}"}


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _to_base58(raw: bytes) -> str:
    number, out = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        out = _DIGITS[digit] + out
    return _DIGITS[0] * (len(raw) - len(raw.lstrip(b"\0"))) + out


def _from_base58(text: str) -> bytes:
    number = 0
    for digit in text:
        value = _DIGITS.find(digit)
        if value < 0:
            raise BadIdentityKey(f"{digit!r} is no base58 digit")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip(_DIGITS[0]))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
