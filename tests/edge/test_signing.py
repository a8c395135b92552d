"""Signatures: who signed is known, what was changed is found, and a rig takes nothing but what it trusts."""

from __future__ import annotations

import base64
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from edge.bundle import MANIFEST_FILE, load_bundle
from edge.calibration_file import CALIBRATION_FILE, read_calibration, write_calibration
from edge.commands.inspect import app as inspect_app
from edge.errors import (
    BundleCorrupt,
    BundleError,
    FileChanged,
    FileTooLarge,
    KeyUnusable,
    SignatureBroken,
    SignatureError,
    SignatureMissing,
    SignatureUntrusted,
)
from edge.sealed import read_sealed, seal
from edge.signature import SIGNATURE_FILE, PublicKey, public_key_from, read_public_key
from edge.signing import PASSPHRASE_VARIABLE, create_key_pair, public_path, read_private_key, sign_bundle
from tests.tiny_bundle import make_tiny_bundle


def new_key() -> tuple[Ed25519PrivateKey, PublicKey]:
    private = Ed25519PrivateKey.generate()
    return private, PublicKey.of(private.public_key(), "a test")


ACME, ACME_PUBLIC = new_key()
OTHER, OTHER_PUBLIC = new_key()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_bundle(tmp_path_factory.mktemp("signed") / "whole", golden=1)
    sign_bundle(folder, ACME)
    return folder


@pytest.fixture
def signed(whole: Path, tmp_path: Path) -> Path:
    """A signed bundle that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "signed"))


@pytest.fixture
def unsigned(signed: Path) -> Path:
    (signed / SIGNATURE_FILE).unlink()
    return signed


def test_what_a_trusted_key_signed_is_taken_and_says_who_it_was(signed: Path) -> None:
    for keys in (None, [ACME_PUBLIC], [OTHER_PUBLIC, ACME_PUBLIC], [ACME_PUBLIC, OTHER_PUBLIC]):
        assert load_bundle(signed, keys).signed_by == ACME_PUBLIC


def test_a_rig_without_trusted_keys_takes_what_nobody_signed(unsigned: Path) -> None:
    assert load_bundle(unsigned).signed_by is None


@pytest.mark.parametrize("keys", [[ACME_PUBLIC], [ACME_PUBLIC, OTHER_PUBLIC], []])
def test_a_rig_with_trusted_keys_does_not(unsigned: Path, keys: list[PublicKey]) -> None:
    with pytest.raises(SignatureMissing, match="is not signed") as caught:
        load_bundle(unsigned, keys)
    assert all(key.fingerprint in str(caught.value) for key in keys)
    assert "edge-export sign" in str(caught.value)


@pytest.mark.parametrize("keys", [[OTHER_PUBLIC], [OTHER_PUBLIC, new_key()[1]], []])
def test_another_key_s_signature_is_none(signed: Path, keys: list[PublicKey]) -> None:
    with pytest.raises(SignatureUntrusted, match=ACME_PUBLIC.fingerprint) as caught:
        load_bundle(signed, keys)
    assert ACME_PUBLIC.text in str(caught.value)
    assert all(key.fingerprint in str(caught.value) for key in keys)


def test_the_key_beside_a_signature_can_t_be_put_in_place_of_it(signed: Path) -> None:
    """An attacker signs what they made and writes a trusted key's name under it."""
    sign_bundle(signed, OTHER)
    change(signed, public_key=ACME_PUBLIC.text)
    for keys in (None, [ACME_PUBLIC], [ACME_PUBLIC, OTHER_PUBLIC]):
        with pytest.raises(SignatureBroken, match=ACME_PUBLIC.fingerprint):
            load_bundle(signed, keys)


def change(folder: Path, **changes: object) -> None:
    path = folder / SIGNATURE_FILE
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_one_byte_changed_in_any_file_is_refused_with_and_without_trusted_keys(signed: Path) -> None:
    files = sorted(path for path in signed.rglob("*") if path.is_file())
    assert len(files) == 7
    for path in files:
        good = path.read_bytes()
        for position in {0, 1, len(good) // 3, len(good) // 2, 2 * len(good) // 3, len(good) - 2}:
            bad = bytearray(good)
            bad[position] ^= 0x01
            path.write_bytes(bytes(bad))
            for keys in (None, [ACME_PUBLIC]):
                with pytest.raises(BundleError) as caught:
                    load_bundle(signed, keys)
                wanted = SignatureError if path.name == SIGNATURE_FILE else FileChanged
                assert isinstance(caught.value, wanted), (path, position, caught.value)
                assert str(path) in str(caught.value)
        path.write_bytes(good)
    load_bundle(signed, [ACME_PUBLIC])


def _resealed(folder: Path, name: str, alter: Callable[[dict[str, Any]], object]) -> None:
    data = yaml.safe_load(read_sealed(folder / name)[0])
    alter(data)
    (folder / name).write_text(seal(yaml.safe_dump(data, sort_keys=False)))


def test_a_threshold_changed_and_sealed_anew_is_refused(signed: Path) -> None:
    _resealed(signed, CALIBRATION_FILE, lambda data: data.update(threshold=1e9))
    for keys in (None, [ACME_PUBLIC]):
        with pytest.raises(FileChanged, match=r"calibration\.yaml: is .*, key .* signed .*; it was changed"):
            load_bundle(signed, keys)


def test_a_manifest_changed_and_sealed_anew_is_refused_before_it_is_parsed(signed: Path) -> None:
    (signed / MANIFEST_FILE).write_text(seal("not: a manifest"))
    with pytest.raises(FileChanged, match=r"manifest\.yaml: is "):
        load_bundle(signed, [ACME_PUBLIC])


def test_the_order_of_a_manifest_s_keys_is_signed_too(signed: Path) -> None:
    data = yaml.safe_load(read_sealed(signed / MANIFEST_FILE)[0])
    (signed / MANIFEST_FILE).write_text(seal(yaml.safe_dump(data, sort_keys=True)))
    with pytest.raises(FileChanged, match=r"manifest\.yaml"):
        load_bundle(signed, [ACME_PUBLIC])


def test_the_order_of_the_signature_s_own_keys_does_not_matter(signed: Path) -> None:
    path = signed / SIGNATURE_FILE
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()), sort_keys=True))
    assert load_bundle(signed, [ACME_PUBLIC]).signed_by == ACME_PUBLIC


def test_a_calibration_removed_or_added_after_signing_is_refused(signed: Path, tmp_path: Path) -> None:
    calibration = read_calibration(signed, load_bundle(signed).model_sha256)
    assert calibration is not None
    (signed / CALIBRATION_FILE).unlink()
    with pytest.raises(FileChanged, match=r"calibration\.yaml: is missing"):
        load_bundle(signed)
    sign_bundle(signed, ACME)
    assert load_bundle(signed, [ACME_PUBLIC]).calibration is None
    write_calibration(signed, calibration)
    with pytest.raises(FileChanged, match=r"calibration\.yaml: is .*signed missing"):
        load_bundle(signed)


def test_a_signature_of_another_bundle_is_refused(signed: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", colour=(1.0, 0.0, 0.0))
    sign_bundle(other, ACME)
    shutil.copy(other / SIGNATURE_FILE, signed / SIGNATURE_FILE)
    with pytest.raises(FileChanged, match=r"manifest\.yaml"):
        load_bundle(signed, [ACME_PUBLIC])


def test_what_is_signed_can_t_be_exchanged_between_its_lines(signed: Path) -> None:
    """Two seals the other way round: each is some file's, and neither signature."""
    listed = yaml.safe_load((signed / SIGNATURE_FILE).read_text())["signed"]
    swapped = dict(zip(listed, reversed(listed.values()), strict=True))
    change(signed, signed=swapped)
    with pytest.raises(SignatureBroken):
        load_bundle(signed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "signature: x",
        "!!python/object/apply:os.mkdir [executed]",
        "a: &a [x]\nb: *a",
        "\x00",
        "schema_version: 2",
    ],
)
def test_a_signature_that_is_none_is_broken_and_not_missing(
    signed: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (signed / SIGNATURE_FILE).write_text(text)
    for keys in (None, [ACME_PUBLIC]):
        with pytest.raises(SignatureBroken, match="is not a signature"):
            load_bundle(signed, keys)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "none"},
        {"algorithm": "hmac"},
        {"public_key": "AAAA"},
        {"public_key": ""},
        {"signature": ""},
        {"signature": "A" * 86 + "=="},
        {"signed": {}},
        {"extra": 1},
    ],
)
def test_a_signature_by_no_means_holds(signed: Path, changes: dict[str, object]) -> None:
    change(signed, **changes)
    with pytest.raises(SignatureBroken):
        load_bundle(signed)


def test_a_signature_too_long_to_be_one_is_not_read(signed: Path) -> None:
    with (signed / SIGNATURE_FILE).open("a") as file:
        file.write("#" * 100_000)
    with pytest.raises(FileTooLarge, match="16384"):
        load_bundle(signed)


def test_a_lost_signature_is_not_taken_for_none(signed: Path) -> None:
    (signed / SIGNATURE_FILE).unlink()
    (signed / SIGNATURE_FILE).symlink_to("/nowhere/signature.yaml")
    with pytest.raises(BundleCorrupt, match=r"signature\.yaml"):
        load_bundle(signed)


def test_a_signature_elsewhere_is_refused(signed: Path, whole: Path) -> None:
    (signed / SIGNATURE_FILE).unlink()
    (signed / SIGNATURE_FILE).symlink_to(whole / SIGNATURE_FILE)  # right: today
    with pytest.raises(BundleCorrupt, match=r"signature\.yaml: is a link"):
        load_bundle(signed, [ACME_PUBLIC])


def test_signing_again_replaces_a_signature_also_a_broken_one(signed: Path) -> None:
    sign_bundle(signed, OTHER)
    assert load_bundle(signed, [OTHER_PUBLIC]).signed_by == OTHER_PUBLIC
    (signed / SIGNATURE_FILE).write_text("broken")
    assert sign_bundle(signed, ACME).signed_by == ACME_PUBLIC


def test_a_signature_is_the_same_whenever_it_is_made(signed: Path) -> None:
    before = (signed / SIGNATURE_FILE).read_bytes()
    sign_bundle(signed, ACME)
    assert (signed / SIGNATURE_FILE).read_bytes() == before


def test_a_damaged_bundle_is_not_signed(unsigned: Path) -> None:
    with (unsigned / "colour.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(FileChanged, match=r"colour\.onnx"):
        sign_bundle(unsigned, ACME)
    assert not (unsigned / SIGNATURE_FILE).exists()


def test_a_file_changed_between_loading_and_reading_is_found(signed: Path) -> None:
    """What is hashed is what is run: a file is hashed again as it is read."""
    bundle = load_bundle(signed, [ACME_PUBLIC])
    good = (signed / "colour.onnx").read_bytes()
    assert bundle.read("colour.onnx") == good
    swapped = bytearray(good)
    swapped[-1] ^= 1
    (signed / "colour.onnx").write_bytes(bytes(swapped))
    with pytest.raises(FileChanged, match=r"colour\.onnx"):
        bundle.read("colour.onnx")
    (signed / "colour.onnx").unlink()
    (signed / "colour.onnx").symlink_to(signed.parent / "elsewhere.onnx")
    with pytest.raises(BundleCorrupt, match=r"colour\.onnx: is a link"):
        bundle.read("colour.onnx")


# Keys


def test_a_pair_is_written_read_and_signs(unsigned: Path, tmp_path: Path) -> None:
    path = tmp_path / "acme"
    public = create_key_pair(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(public_path(path).stat().st_mode) == 0o644
    assert read_public_key(tmp_path / "acme.pub") == public
    assert public_key_from(str(tmp_path / "acme.pub")) == public_key_from(public.text) == public
    sign_bundle(unsigned, read_private_key(path))
    assert load_bundle(unsigned, [public]).signed_by == public


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_no_umask_opens_or_locks_a_private_key(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create_key_pair(tmp_path / "acme")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "acme").stat().st_mode) == 0o600


@pytest.mark.parametrize("there", ["acme", "acme.pub"])
@pytest.mark.parametrize("link", [False, True])
def test_a_key_is_never_written_over(tmp_path: Path, there: str, link: bool) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    if link:
        (tmp_path / there).symlink_to(target)
    else:
        (tmp_path / there).write_text("precious")
    with pytest.raises(KeyUnusable, match="exists already"):
        create_key_pair(tmp_path / "acme")
    assert (tmp_path / there).read_text() == target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"target", there}


def test_a_pair_that_can_t_be_written_whole_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="can't be written"):
        create_key_pair(tmp_path / "missing" / "acme")
    with pytest.raises(KeyUnusable, match="can't be written"):
        create_key_pair(tmp_path / ("a" * 253))  # the name of the public half is too long
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_private_key_that_others_may_use_is_not_used(tmp_path: Path, mode: int) -> None:
    create_key_pair(tmp_path / "acme")
    (tmp_path / "acme").chmod(mode)
    with pytest.raises(KeyUnusable, match=f"has mode {mode:04o}.*chmod 600"):
        read_private_key(tmp_path / "acme")


def test_a_passphrase_comes_from_the_environment_or_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "acme"
    public = create_key_pair(path, "Öl und Salz")
    assert b"ENCRYPTED" in path.read_bytes()
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    with pytest.raises(
        KeyUnusable, match=f"is encrypted; set the environment variable {PASSPHRASE_VARIABLE}"
    ):
        read_private_key(path)
    with pytest.raises(KeyUnusable, match="what was typed is not its passphrase"):
        read_private_key(path, lambda: "Essig")
    assert read_private_key(path, lambda: "Öl und Salz").public_key().public_bytes_raw() == public.raw
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "Essig")
    with pytest.raises(KeyUnusable, match=f"{PASSPHRASE_VARIABLE} is not its passphrase"):
        read_private_key(path, lambda: "Öl und Salz")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "Öl und Salz")
    assert read_private_key(path).public_key().public_bytes_raw() == public.raw
    with pytest.raises(KeyUnusable, match="passphrase is empty"):
        create_key_pair(tmp_path / "second", "")


def test_a_passphrase_that_is_not_needed_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_key_pair(tmp_path / "acme")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "of another key")
    read_private_key(tmp_path / "acme", lambda: pytest.fail("was asked"))


def test_what_is_no_ed25519_key_is_named(tmp_path: Path) -> None:
    pair = rsa.generate_private_key(65537, 2048)
    private, public = tmp_path / "rsa", tmp_path / "rsa.pub"
    private.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    public.write_bytes(pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyUnusable, match=r"RSAPrivateKey\), must be ed25519"):
        read_private_key(private)
    with pytest.raises(KeyUnusable, match=r"RSAPublicKey\), must be ed25519"):
        read_public_key(public)
    for data in (b"", b"words", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        private.write_bytes(data)
        with pytest.raises(KeyUnusable, match="not a private key in PEM"):
            read_private_key(private)
    with pytest.raises(KeyUnusable, match="can't be read"):
        read_private_key(tmp_path / "missing")


# The eight points of small order in the curve's encoding: y = 1, −1, 0 (twice), and the four of order 8.
P = 2**255 - 19


def _order_eight() -> list[int]:
    """y of the points of order 8: 2·(x, y) has y = 0, where y² = −x²; so d·y⁴ + 2·y² − 1 = 0."""
    d = -121665 * pow(121666, -1, P) % P
    root, _ = _roots(1 + d)
    return [y for s in (root, P - root) for y in _roots((s - 1) * pow(d, -1, P) % P)]


def _roots(a: int) -> list[int]:
    """The square roots of `a` modulo P (RFC 8032, 5.1.3), none or two."""
    root = pow(a, (P + 3) // 8, P)
    for candidate in (root, root * pow(2, (P - 1) // 4, P) % P):
        if candidate * candidate % P == a % P:
            return [candidate, P - candidate]
    return []


def test_a_key_under_which_anybody_can_sign_is_none() -> None:
    ys = {1, P - 1, 0, *_order_eight()}
    assert len(ys) == 5
    encodings = [y | sign << 255 for y in ys for sign in (0, 1)]
    for value in encodings:
        text = base64.b64encode(value.to_bytes(32, "little")).decode()
        with pytest.raises(KeyUnusable, match="anybody can sign"):
            PublicKey.from_text(text)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "é" * 44, "A" * 44])
def test_text_that_is_no_key(text: str) -> None:
    with pytest.raises(KeyUnusable):
        PublicKey.from_text(text)


def test_edge_inspect_takes_only_what_its_trusted_keys_signed(
    signed: Path, tmp_path: Path, simulated: Path
) -> None:
    run = CliRunner().invoke
    arguments = [str(signed), str(simulated / "test"), "--limit", "1", "--json"]
    refused = run(inspect_app, [*arguments, "--trusted-key", OTHER_PUBLIC.text])
    assert refused.exit_code == BundleError.exit_code
    assert ACME_PUBLIC.fingerprint in refused.stderr
    taken = run(
        inspect_app, [*arguments, "--trusted-key", OTHER_PUBLIC.text, "--trusted-key", ACME_PUBLIC.text]
    )
    assert taken.exit_code in (0, 20, 21), taken.stderr
    assert len(taken.stdout.splitlines()) == 1
