"""Private keys, and signing a bundle with one. A rig needs neither: it has public keys (`edge.signature`)."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edge.bundle import Bundle, load_bundle, load_to_sign
from edge.errors import BundleError, KeyUnusable
from edge.sealed import write_atomically
from edge.signature import SIGNATURE_FILE, PublicKey, Signature, Signed, signed_statement

__all__ = [
    "PASSPHRASE_VARIABLE",
    "PassphraseSource",
    "create_key_pair",
    "public_path",
    "read_private_key",
    "sign_bundle",
]

PASSPHRASE_VARIABLE = "EDGE_SIGNING_PASSPHRASE"
"""The environment variable that is looked at before a person is asked."""

PassphraseSource = Callable[[], str]

_MAX_BYTES = 16 * 1024


def public_path(private: Path) -> Path:
    """Where the public half of a private key lies: beside it, `.pub` more."""
    return private.with_name(f"{private.name}.pub")


def create_key_pair(private: Path, passphrase: str | None = None) -> PublicKey:
    """Write a new pair: the private key (PEM, PKCS #8) for its owner alone, the public one beside it.

    With `passphrase` the private key is encrypted by it. Neither file is ever written over. Raises
    `KeyUnusable`.
    """
    if passphrase == "":
        raise KeyUnusable(f"{private}: the passphrase is empty; give one, or leave it out")
    key = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    )
    public = public_path(private)
    _write_new(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    try:
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write_new(public, pem, 0o644)
    except KeyUnusable:
        private.unlink(missing_ok=True)  # it has signed nothing yet, and nobody could check what it signs
        raise
    return PublicKey.of(key.public_key(), str(private))


def read_private_key(path: Path, passphrase: PassphraseSource | None = None) -> Ed25519PrivateKey:
    """The ed25519 private key in a PEM file that its owner alone may read.

    Where it is encrypted, its passphrase is that of the environment variable `PASSPHRASE_VARIABLE`, or what
    `passphrase` gives, which may ask a person. Raises `KeyUnusable`.
    """
    pem = _read_private(path)
    key: object
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:  # cryptography's way of saying that it is encrypted
        key = _decrypted(path, pem, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(
            f"{path}: is not a private key in PEM ({error}); make one with `edge-export keygen`"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(
            f"{path}: is a key of another kind ({type(key).__name__.lstrip('_')}), must be ed25519; make one "
            "with `edge-export keygen`"
        )
    return key


def sign_bundle(folder: Path, private_key: Ed25519PrivateKey) -> Bundle:
    """Sign a bundle as it lies there, and give it back as a rig that trusts the key would load it.

    Every byte of it is verified first. An older signature, also one that no longer holds, is replaced.
    Raises what `load_bundle` raises, and `BundleError` where the signature can't be written.
    """
    bundle = load_to_sign(folder)
    signed = Signed(manifest_sha256=bundle.model_sha256, calibration_sha256=bundle.calibration_sha256)
    key = PublicKey.of(private_key.public_key(), "the private key")
    signature = Signature(
        public_key=key.text,
        signed=signed,
        signature=base64.b64encode(private_key.sign(signed_statement(signed))).decode(),
    )
    try:
        write_atomically(folder / SIGNATURE_FILE, signature.to_yaml().encode())
    except OSError as error:
        raise BundleError(
            f"{folder / SIGNATURE_FILE}: can't be written ({error.strerror}); free some room, or check who "
            "may write there"
        ) from error
    return load_bundle(folder, [key])


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            others = stat.S_IMODE(status.st_mode) & 0o077
            if others:
                raise KeyUnusable(
                    f"{path}: has mode {stat.S_IMODE(status.st_mode):04o}, so others may use this private "
                    f"key; chmod 600 {path}, and make a new pair if somebody may have read it"
                )
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise KeyUnusable(f"{path}: can't be read ({error.strerror}); check the path") from error


def _decrypted(path: Path, pem: bytes, passphrase: PassphraseSource | None) -> object:
    given = os.environ.get(PASSPHRASE_VARIABLE)
    source = f"the environment variable {PASSPHRASE_VARIABLE}" if given else "what was typed"
    if not given:
        if passphrase is None:
            raise KeyUnusable(
                f"{path}: is encrypted; set the environment variable {PASSPHRASE_VARIABLE} to its passphrase"
            )
        given = passphrase()
    try:
        return load_pem_private_key(pem, given.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(
            f"{path}: {source} is not its passphrase, or the file is damaged; try again"
        ) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    made = False
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        made = True
        with os.fdopen(number, "wb") as file:
            os.fchmod(number, mode)  # a umask may have taken the owner's own right
            file.write(data)
            file.flush()
            os.fsync(number)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        if made:
            path.unlink(missing_ok=True)
        raise KeyUnusable(f"{path}: can't be written ({error.strerror}); choose another place") from error


def _exists(path: Path) -> KeyUnusable:
    return KeyUnusable(
        f"{path}: exists already, and a key is never written over: what it signed could not be signed again; "
        "choose another name"
    )
