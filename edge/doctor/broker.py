"""The MQTT broker: its name, its port, its certificate, and whether it takes this rig's credentials."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509

from edge.config import BrokerConfig, RigConfig
from edge.doctor.machine import Machine
from edge.doctor.report import Details, Finding, error, note, ok, warning
from edge.errors import BrokerRefused, ConfigError

__all__ = ["broker", "expiry"]

_SOON = timedelta(days=30)
_RENEW = "Have it renewed; until then the rig can't connect."


def broker(machine: Machine, rig: RigConfig | None) -> Iterator[Finding]:
    """Connects as the rig does, under a client id of its own, so that a running daemon keeps its connection.

    Publishes nothing. Takes up to a few times `broker.connect_timeout_s` where the broker is silent.
    """
    if rig is None:
        yield note(
            "broker", "config", "No rig is given, so no broker is known.", "Give its YAML: --config rig.yaml."
        )
        return
    config = rig.broker
    where = f"{config.host}:{config.port}"
    addresses = _addresses(config)
    if isinstance(addresses, str):
        yield error(
            "broker",
            "name",
            f"The name {config.host} can't be resolved: {addresses}.",
            "Check broker.host and this machine's DNS (`resolvectl query NAME`), or give an address.",
            host=config.host,
        )
        return
    yield ok(
        "broker", "name", f"{config.host} is {', '.join(addresses)}.", host=config.host, addresses=addresses
    )
    problem = _port_problem(config)
    if problem is not None:
        yield error(
            "broker",
            "port",
            f"Nothing answers at {where}: {problem}.",
            "Start the broker; check broker.port, cable, switch and firewall.",
            port=config.port,
        )
        return
    yield from _own_certificates(machine, config)
    if config.tls is not None:
        yield from _server_certificate(machine, config)
    elif config.username is not None:
        yield warning(
            "broker",
            "tls",
            f"The password goes to {where} in clear text.",
            "Give the broker a certificate, and set broker.tls.ca_file.",
        )
    yield _login(rig, where)


def _addresses(config: BrokerConfig) -> tuple[str, ...] | str:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        return getattr(problem, "strerror", None) or str(problem)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _port_problem(config: BrokerConfig) -> str | None:
    try:
        with socket.create_connection((config.host, config.port), timeout=config.connect_timeout_s):
            return None
    except OSError as problem:
        return problem.strerror or str(problem)


def _own_certificates(machine: Machine, config: BrokerConfig) -> Iterator[Finding]:
    if config.tls is None:
        return
    for key, path in (("ca_file", config.tls.ca_file), ("cert_file", config.tls.cert_file)):
        if path is not None:
            yield from _file_expiry(machine, key, path)


def _file_expiry(machine: Machine, key: str, path: Path) -> Iterator[Finding]:
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as problem:
        yield error(
            "broker",
            key,
            f"broker.tls.{key}: {path} can't be read ({problem}).",
            "Put a certificate in PEM there that this user may read.",
            path=str(path),
        )
        return
    # Of many authorities some may have run out: those that are good are enough.
    latest = max(certificate.not_valid_after_utc for certificate in certificates)
    yield expiry(machine, key, f"broker.tls.{key} ({path.name})", latest)


def expiry(machine: Machine, check: str, name: str, end: datetime) -> Finding:
    """Whether a certificate is good, ends soon, or is no longer good by this machine's clock."""
    left = end - machine.now()
    details: Details = {"not_after": end.isoformat(), "days_left": left.days}
    if left <= timedelta(0):
        return error(
            "broker",
            check,
            f"{name} ended on {end:%Y-%m-%d}, {-left.days} days ago.",
            f"{_RENEW} If the clock is wrong, mend that first.",
            **details,
        )
    if left < _SOON:
        return warning(
            "broker", check, f"{name} ends on {end:%Y-%m-%d}, in {left.days} days.", _RENEW, **details
        )
    return ok("broker", check, f"{name} is good until {end:%Y-%m-%d}.", **details)


def _server_certificate(machine: Machine, config: BrokerConfig) -> Iterator[Finding]:
    from edge.paho_client import tls_context  # noqa: PLC0415

    try:
        context = tls_context(config)
    except ConfigError as problem:
        yield error("broker", "tls", f"{problem}.", "Mend broker.tls in the rig's YAML.")
        return
    if context is None:
        return
    try:
        with (
            socket.create_connection((config.host, config.port), timeout=config.connect_timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=config.host) as secure,
        ):
            certificate, version = secure.getpeercert(), secure.version()
    except ssl.SSLCertVerificationError as problem:
        yield error(
            "broker",
            "tls",
            f"The broker's certificate is not accepted: {problem.verify_message}.",
            "Check broker.tls.ca_file, broker.host (it must be in the certificate) and the clock.",
        )
        return
    except OSError as problem:
        yield error(
            "broker",
            "tls",
            f"No TLS at {config.host}:{config.port}: {problem.strerror or problem}.",
            "Check that broker.port is the one with TLS (often 8883).",
        )
        return
    end = str((certificate or {}).get("notAfter", ""))
    if end:
        until = datetime.fromtimestamp(ssl.cert_time_to_seconds(end), tz=timezone.utc)
        yield expiry(machine, "tls", f"The broker's certificate ({version})", until)


def _login(rig: RigConfig, where: str) -> Finding:
    from edge.connection import BrokerConnection  # noqa: PLC0415
    from edge.outgoing import QueueLimit  # noqa: PLC0415

    config = rig.broker
    try:
        connection = BrokerConnection(
            config,
            rig.rig.client_id("doctor"),
            password=config.read_password(),
            limit=QueueLimit(1, 1, drop_oldest=True),
            on_delivery=lambda delivery: None,
        )
    except ConfigError as problem:
        what, _, remedy = str(problem).partition("; ")
        return error("broker", "login", f"{what}.", remedy or "Put the password where the rig's YAML says.")
    connection.start()
    try:
        # Twice the time, for the fall-back to 3.1.1 takes a second attempt.
        connection.wait_for_answer(2 * config.connect_timeout_s + 1)
    except BrokerRefused as problem:
        what, _, remedy = str(problem).partition("; ")
        return error(
            "broker", "login", f"{what}.", remedy or "Ask who keeps the broker.", username=config.username
        )
    else:
        status = connection.status
    finally:
        connection.stop(None, config.connect_timeout_s)
    if not status.connected:
        what, _, remedy = (status.last_error or f"{where} did not answer").partition("; ")
        return error(
            "broker",
            "login",
            f"{what}.",
            remedy or "Check that an MQTT broker listens there.",
            username=config.username,
        )
    who = f"the user {config.username!r}" if config.username else "a client without a user"
    return ok(
        "broker",
        "login",
        f"The broker at {where} takes {who}, MQTT {status.protocol}.",
        username=config.username,
        protocol=status.protocol,
    )
