"""What hands a bundle over: keys, signatures, and one file of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.archive import pack_bundle, unpack_bundle
from edge.commands.common import ended_by_errors
from edge.signature import PublicKey, read_public_key
from edge.signing import create_key_pair, public_path, read_private_key, sign_bundle
from export.commands.options import new_passphrase, passphrase

__all__ = ["keygen", "pack", "sign", "unpack"]

AsJson = Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")]


def keygen(
    key: Annotated[
        Path, typer.Argument(help="File for the private key; must not exist.", show_default=False)
    ],
    encrypted: Annotated[bool, typer.Option("--encrypt", help="Encrypt it by a passphrase.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a pair of ed25519 keys: the private one signs, the public one (.pub) goes onto the rigs.

    Example: [bold]edge-export keygen keys/line-1[/bold]
    """
    with ended_by_errors():
        public = create_key_pair(key, new_passphrase() if encrypted else None)
    _tell(
        {
            "private_key": str(key),
            "public_key": str(public_path(key)),
            "text": public.text,
            "fingerprint": public.fingerprint,
        },
        f"{key}: keep it to yourself; {public_path(key)}: list it as a trusted key of your rigs, or as text: "
        f"{public.text}",
        as_json=as_json,
    )


def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    key: Annotated[Path, typer.Option(help="The private key.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Sign a bundle as it lies there, calibration included; an older signature is replaced.

    Example: [bold]edge-export sign bundles/gland --key keys/line-1[/bold]
    """
    with ended_by_errors():
        signed = sign_bundle(bundle, read_private_key(key, passphrase))
    signer = None if signed.signed_by is None else signed.signed_by.fingerprint
    _tell(
        {"bundle": str(bundle), "model_sha256": signed.model_sha256, "signed_by": signer},
        f"{bundle}: signed by {signer}",
        as_json=as_json,
    )


def pack(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    archive: Annotated[Path, typer.Argument(help="The .zip; must not exist.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Pack a bundle as one .zip, the same bytes each time.

    Example: [bold]edge-export pack bundles/gland gland.zip[/bold]
    """
    with ended_by_errors():
        packed = pack_bundle(bundle, archive)
        size = archive.stat().st_size
    _tell(
        {"archive": str(archive), "bytes": size, "model_sha256": packed.model_sha256},
        f"{archive}: {size / 1e6:.1f} MB",
        as_json=as_json,
    )


def unpack(
    archive: Annotated[Path, typer.Argument(help="A .zip of edge-export pack.", show_default=False)],
    into: Annotated[Path, typer.Argument(help="Folder for the bundle; must not exist.", show_default=False)],
    trusted: Annotated[
        list[Path] | None, typer.Option("--trust", help="Public key; only what one of these signed is taken.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Unpack a bundle, as if a stranger had sent it: whole and verified, or not at all.

    Example: [bold]edge-export unpack gland.zip bundles/gland --trust keys/line-1.pub[/bold]
    """
    with ended_by_errors():
        keys: list[PublicKey] | None = None if trusted is None else [read_public_key(key) for key in trusted]
        bundle = unpack_bundle(archive, into, trusted_keys=keys)
    _tell(
        {"bundle": str(into), "model_sha256": bundle.model_sha256},
        f"{into}: {bundle.method} for {bundle.product}",
        as_json=as_json,
    )


def _tell(data: dict[str, object], sentence: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(data))
    else:
        Console(highlight=False, soft_wrap=True).print(sentence, markup=False)
