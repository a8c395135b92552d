"""Who signed a bundle: the file in it, the public keys that a rig trusts, and whether they fit."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

from edge.bundle_files import read_bounded
from edge.errors import (
    BundleCorrupt,
    FileChanged,
    KeyUnusable,
    SignatureBroken,
    SignatureMissing,
    SignatureUntrusted,
)
from edge.sealed import plain_data

__all__ = [
    "KEY_TEXT",
    "SIGNATURE_FILE",
    "PublicKey",
    "Signature",
    "check_signature",
    "public_key_from",
    "read_public_key",
    "signed_statement",
]

SIGNATURE_FILE = "signature.yaml"
KEY_TEXT = r"^[A-Za-z0-9+/]{43}=$"
"""A public key as text: the base64 of its 32 bytes."""

_MAX_BYTES = 16 * 1024
"""Ten times what a signature or a key file in PEM has."""

_SHA256 = r"^[0-9a-f]{64}$"
_MENDING = "copy the bundle again, or have it signed anew with `edge-export sign`"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An ed25519 public key (RFC 8032): 32 bytes."""

    raw: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key out of the base64 of its 32 bytes; raises `KeyUnusable`."""
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise KeyUnusable(f"{text!r} is not base64 ({error}); give the 44 characters of a key") from error
        return cls._checked(raw, repr(text))

    @classmethod
    def of(cls, key: Ed25519PublicKey, source: str) -> Self:
        """The key as `cryptography` has it; raises `KeyUnusable`."""
        return cls._checked(key.public_bytes_raw(), source)

    @classmethod
    def _checked(cls, raw: bytes, source: str) -> Self:
        if len(raw) != 32:
            raise KeyUnusable(f"{source}: an ed25519 public key has 32 bytes, this has {len(raw)}")
        key = cls(raw)
        # The points of small order (32 zero bytes are one): under them one empty signature holds for many
        # messages, so whoever lists such a key trusts everybody.
        empty = (1).to_bytes(32, "little") + bytes(32)
        if any(key.holds(empty, bytes([number])) for number in range(64)):
            raise KeyUnusable(
                f"{source}: is a key under which anybody can sign; make one with edge-export keygen"
            )
        return key

    @property
    def text(self) -> str:
        return base64.b64encode(self.raw).decode()

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the key's sha256, to be read aloud."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's of `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):  # a ValueError: no point of the curve
            return False
        return True


class Signed(BaseModel):
    """What is signed: the seals of the manifest (which holds the sha256 of every other file) and of the
    calibration as shipped, None where there was none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest_sha256: str = Field(pattern=_SHA256)
    calibration_sha256: str | None = Field(pattern=_SHA256)


class Signature(BaseModel):
    """The content of `signature.yaml`. `public_key` and `signature` are base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    algorithm: Literal["ed25519"] = "ed25519"
    public_key: str = Field(pattern=KEY_TEXT)
    signed: Signed
    signature: str = Field(pattern=r"^[A-Za-z0-9+/]{86}==$")

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def signed_statement(signed: Signed) -> bytes:
    """The bytes that ed25519 signs. The first line keeps a signature for another purpose from fitting."""
    lines = (
        "edge-inspect bundle signature, version 1",
        f"manifest.yaml {signed.manifest_sha256}",
        f"calibration.yaml {signed.calibration_sha256 or 'none'}",
    )
    return ("\n".join(lines) + "\n").encode()


def public_key_from(text: str) -> PublicKey:
    """The key that a person names: its base64, or its file; raises `KeyUnusable`."""
    return PublicKey.from_text(text) if re.fullmatch(KEY_TEXT, text) else read_public_key(Path(text))


def read_public_key(path: Path) -> PublicKey:
    """The ed25519 public key in a PEM file; raises `KeyUnusable`."""
    try:
        data = read_bounded(path, _MAX_BYTES)
    except BundleCorrupt as error:
        raise KeyUnusable(f"{error}") from error
    if b"PRIVATE KEY" in data:
        raise KeyUnusable(
            f"{path}: is a private key, which must never lie on a rig; list its public half, the .pub beside "
            "it"
        )
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(
            f"{path}: is not a public key in PEM ({error}); make a pair with `edge-export keygen`"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(
            f"{path}: is a key of another kind ({type(key).__name__.lstrip('_')}), must be ed25519; make a "
            "pair with `edge-export keygen`"
        )
    return PublicKey.of(key, str(path))


def check_signature(
    folder: Path,
    manifest_sha256: str,
    calibration_sha256: str | None,
    trusted_keys: Sequence[PublicKey] | None,
) -> PublicKey | None:
    """Who signed the bundle with these seals; None where nobody did and `trusted_keys` is None.

    With `trusted_keys` (also none at all) only their signatures are taken. Raises `SignatureMissing`,
    `SignatureUntrusted`, `SignatureBroken`, and `FileChanged` where a file is not the one that was signed.
    """
    path = folder / SIGNATURE_FILE
    if not path.exists() and not path.is_symlink():
        if trusted_keys is None:
            return None
        raise SignatureMissing(
            f"{folder}: is not signed, and this rig takes only what {_keys(trusted_keys)} signed; sign it "
            "with `edge-export sign`, or copy its signature.yaml along"
        )
    signature = _read(path)
    key = PublicKey.from_text(signature.public_key)
    if trusted_keys is not None and key not in trusted_keys:
        raise SignatureUntrusted(
            f"{path}: says that key {key.fingerprint} signed, and this rig trusts {_keys(trusted_keys)}; "
            f'have it signed by a trusted key, or add "{key.text}" to trusted_keys if you know whose it is'
        )
    if not key.holds(base64.b64decode(signature.signature), signed_statement(signature.signed)):
        raise SignatureBroken(
            f"{path}: is not a signature by key {key.fingerprint} of what it lists; it was changed or "
            f"damaged: {_MENDING}"
        )
    for name, signed, found in (
        ("manifest.yaml", signature.signed.manifest_sha256, manifest_sha256),
        ("calibration.yaml", signature.signed.calibration_sha256, calibration_sha256),
    ):
        if signed != found:
            raise FileChanged(
                f"{folder / name}: is {_short(found)}, key {key.fingerprint} signed {_short(signed)}; it was "
                f"changed after it was signed: {_MENDING}"
            )
    return key


def _read(path: Path) -> Signature:
    try:
        return Signature.model_validate(plain_data(read_bounded(path, _MAX_BYTES).decode()))
    except ValueError as error:  # pydantic's ValidationError and a UnicodeDecodeError are some
        raise SignatureBroken(f"{path}: is not a signature ({error}); {_MENDING}") from error


def _keys(keys: Sequence[PublicKey]) -> str:
    named = ", ".join(key.fingerprint for key in keys)
    return f"key {named}" if len(keys) == 1 else f"keys {named}" if keys else "no key at all"


def _short(digest: str | None) -> str:
    return f"{digest[:12]}…" if digest else "missing"
