"""TLS: the server's certificate, loaded anew on request, and one of its own making for where there is no authority."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mlhost.config import Server
from mlhost.errors import Conflict, Invalid, Unavailable
from mlhost.http.origins import is_loopback

OLDEST = ssl.TLSVersion.TLSv1_2
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")  # that every certificate of our own making is for
CLOCKS_APART = timedelta(minutes=5)  # a client's clock may be behind


class Certificate:
    """The certificate and key that connections begin with; each connection keeps what it began with."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self.context = _context(cert, key)

    @classmethod
    def of(cls, settings: Server) -> Self | None:
        """What `server.tls_cert` and `server.tls_key` name, or None for a server that does without.

        Invalid if they do not fit, or if it may not do without: others could listen in, and nobody said they may.
        """
        if not settings.tls_cert and not settings.tls_key:
            _check_plain(settings)
            return None
        if not settings.tls_cert:
            raise Invalid("server.tls_key without server.tls_cert: name the certificate too.", field="server.tls_cert")
        return cls(Path(settings.tls_cert), Path(settings.tls_key or settings.tls_cert))

    def reload(self) -> None:
        """Read both files again, for the connections to come; Invalid, and all stays as it was, if they do not fit."""
        _context(self._cert, self._key)  # a pair that does not fit would leave the one in use half replaced
        _load(self.context, self._cert, self._key)


def _check_plain(settings: Server) -> None:
    if not settings.insecure_http and not is_loopback(settings.host):
        raise Invalid(
            f"Whoever is between a client and {settings.host} could read passwords and tokens, and with them run code"
            " here: without TLS the server listens on this machine only (127.0.0.1). Give it a certificate with"
            " --tls-cert and --tls-key (`mlhost tls self-signed` makes one), or say --insecure-http if something else"
            " keeps the connection safe.",
            field="server.insecure_http",
        )


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = OLDEST
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    _load(context, cert, key)
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def ask() -> NoReturn:
        raise Invalid(f"{key} is locked with a password, which a server has nobody to ask for; give it an open one.")

    for path in (cert, key):
        if not os.access(path, os.R_OK):
            raise Invalid(f"{path} (server.tls_cert, server.tls_key) is not there or cannot be read.")
    if key.stat().st_mode & 0o007:
        raise Invalid(f"{key} holds the private key and is open to every user; run: chmod o= {key}")
    try:
        context.load_cert_chain(cert, key, ask)
    except (OSError, ValueError) as fault:  # SSLError is an OSError
        raise Invalid(f"{cert} and {key} are not a certificate and its key in PEM form: {fault}") from None


def last_day(cert: Path) -> datetime:
    """When the certificate in a PEM file, the first of its chain, ends."""
    return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc


# --- of our own making ---------------------------------------------------------------------------------------------


def self_signed(names: Iterable[str], days: int) -> tuple[bytes, bytes, str]:
    """A certificate for these names and addresses and its key, both PEM, and the certificate's SHA-256 fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = list(dict.fromkeys((*names, *LOCAL_NAMES)))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    public = key.public_key()
    extensions: list[tuple[x509.ExtensionType, bool]] = [  # and whether who does not know it must refuse
        (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(now + timedelta(days=days))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def write_pair(folder: Path, pair: tuple[bytes, bytes], *, replace: bool) -> tuple[Path, Path]:
    """Keep a certificate and its key as `tls-cert.pem` and `tls-key.pem`; Conflict if they are there already."""
    paths = (folder / "tls-cert.pem", folder / "tls-key.pem")
    if not replace and any(path.exists() for path in paths):
        raise Conflict(f"{paths[0]} is there already; --replace makes a new one in its place.")
    try:
        for path, text, mode in zip(paths, pair, (0o644, 0o600), strict=True):
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(text)
            fresh.replace(path)
    except OSError as fault:
        raise Unavailable(f"{folder}: {fault.strerror}") from fault
    return paths


def _general_name(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    try:
        return x509.DNSName(name.encode("idna").decode())
    except UnicodeError:
        raise Invalid(f"{name!r} is neither a host's name nor an address.") from None
