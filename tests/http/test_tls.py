"""TLS: certificates of our own making, what is refused, and reading the certificate anew."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mlhost.config import Server
from mlhost.errors import Conflict, Invalid
from mlhost.http.server import serve
from mlhost.http.tls import Certificate, self_signed, write_pair
from tests.parts import host_of_its_own
from tests.web import Browser


def make(folder: Path, *names: str) -> tuple[Path, Path]:
    cert, key, _ = self_signed(names, days=7)
    return write_pair(folder, (cert, key), replace=True)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make(tmp_path, "first.example.org")


def settings(pair: tuple[Path, Path]) -> dict[str, str]:
    return {"tls_cert": str(pair[0]), "tls_key": str(pair[1])}


@pytest.fixture
async def served(pair: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[tuple[str, Certificate]]:
    """A server with TLS: its URL and certificate."""
    async with host_of_its_own(tmp_path / "data", server={**settings(pair), "header_seconds": 1.0}) as host:
        certificate = Certificate.of(host.config.server)
        assert certificate is not None
        async with serve(host, certificate) as url:
            yield url, certificate


def strict(*trusted: Path) -> ssl.SSLContext:
    """A client as careful as those of Python 3.13 and later."""
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for path in trusted:
        context.load_verify_locations(path)
    return context


async def shown(url: str, client: ssl.SSLContext, name: str = "127.0.0.1") -> tuple[x509.Certificate, str]:
    """The certificate a new connection is shown, and the version of TLS it speaks."""
    parts = urlsplit(url)
    assert parts.port

    def talk() -> tuple[bytes, str]:
        with (
            socket.create_connection(("127.0.0.1", parts.port or 0), timeout=5) as peer,
            client.wrap_socket(peer, server_hostname=name) as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True) or b"", wrapped.version() or ""

    der, version = await asyncio.to_thread(talk)
    return x509.load_der_x509_certificate(der), version


async def test_a_careful_client_trusts_a_certificate_it_was_given(
    served: tuple[str, Certificate], pair: tuple[Path, Path]
) -> None:
    url, _ = served
    assert url.startswith("https://127.0.0.1:")
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{url}/livez", ssl=strict(pair[0])) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"{url}/livez")
    for name in ("localhost", "first.example.org"):
        await shown(url, strict(pair[0]), name)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown(url, strict(pair[0]), "second.example.org")


async def test_a_browser_keeps_the_cookies_of_the_console_for_tls_alone(
    served: tuple[str, Certificate], pair: tuple[Path, Path]
) -> None:
    async with Browser.open(served[0], connector=aiohttp.TCPConnector(ssl=strict(pair[0]))) as browser:
        await browser.sign_in("admin")
        kept = browser.cookies("/console")
        assert kept.keys() == {"mlhost_console", "mlhost_console_renewal", "mlhost_form"}
        assert all(cookie["secure"] and cookie["httponly"] for cookie in kept.values())


async def test_tls_below_1_2_is_not_spoken(served: tuple[str, Certificate], pair: tuple[Path, Path]) -> None:
    assert (await shown(served[0], strict(pair[0])))[1] == "TLSv1.3"
    client = strict(pair[0])
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await shown(served[0], client))[1] == "TLSv1.2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shown(served[0], client)


async def test_plain_http_at_a_tls_port_gets_no_answer(served: tuple[str, Certificate]) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get(served[0].replace("https", "http") + "/livez")


async def test_a_handshake_that_never_ends_is_hung_up_on(served: tuple[str, Certificate]) -> None:
    parts = urlsplit(served[0])

    def talk() -> bytes:
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as peer:
            return peer.recv(100)

    async with asyncio.timeout(4):
        assert await asyncio.to_thread(talk) == b""


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_live(
    served: tuple[str, Certificate], pair: tuple[Path, Path]
) -> None:
    url, certificate = served
    first, _ = await shown(url, strict(pair[0]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=strict(pair[0]), limit=1)) as http:
        await (await http.get(f"{url}/livez")).read()
        make(pair[0].parent, "second.example.org")
        certificate.reload()
        await (await http.get(f"{url}/livez")).read()  # on the kept connection
    second, _ = await shown(url, strict(pair[0]), "second.example.org")
    assert second.serial_number != first.serial_number


@pytest.mark.parametrize("broken", ["another key", "no certificate", "no file", "open to all", "locked"])
async def test_a_renewal_that_does_not_fit_changes_nothing(
    served: tuple[str, Certificate], pair: tuple[Path, Path], tmp_path: Path, broken: str
) -> None:
    url, certificate = served
    trusted = strict(pair[0])
    first, _ = await shown(url, trusted)
    cert, key, _ = self_signed(["other.example.org"], 7)
    if broken == "another key":
        pair[1].write_bytes(key)
    elif broken == "no certificate":
        pair[0].write_bytes(b"this is no certificate")
    elif broken == "no file":
        pair[0].unlink()
    elif broken == "open to all":
        pair[1].chmod(0o644)
    else:
        loaded = serialization.load_pem_private_key(key, None)
        pair[0].write_bytes(cert)
        pair[1].write_bytes(
            loaded.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"password"),
            )
        )
    with pytest.raises(Invalid) as fault:
        certificate.reload()
    assert str(pair[1]) in fault.value.message or str(pair[0]) in fault.value.message
    again, _ = await shown(url, trusted)
    assert again == first


def test_a_certificate_in_one_file_with_its_key_will_do(pair: tuple[Path, Path], tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.touch(mode=0o600)
    both.write_bytes(pair[0].read_bytes() + pair[1].read_bytes())
    assert Certificate.of(Server(tls_cert=str(both))) is not None
    assert Certificate.of(Server()) is None
    with pytest.raises(Invalid, match=r"server\.tls_cert"):
        Certificate.of(Server(tls_key=str(pair[1])))


def test_a_certificate_of_our_own_is_for_the_names_given_and_the_local_ones(pair: tuple[Path, Path]) -> None:
    certificate = x509.load_pem_x509_certificate(pair[0].read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["first.example.org", "localhost", "127.0.0.1", "::1"]
    assert pair[1].stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="--replace"):
        write_pair(pair[0].parent, (b"", b""), replace=False)
    with pytest.raises(Invalid, match="neither a host's name"):
        self_signed(["a" * 100], 7)
