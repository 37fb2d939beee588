"""`mlhost serve` and its door: where it listens, TLS from the command line, SIGHUP, root."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.server.conftest import Start
from tests.server.test_cli import mlhost


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A certificate and key, made by the command, where the server's data will be."""
    told = mlhost("tls", "self-signed", "models.example.org", "--data", tmp_path / "data").output
    [cert], [key] = re.findall(r"Certificate: (\S+)", told), re.findall(r"Key: (\S+)", told)
    assert re.search(r"fingerprint: ([0-9A-F]{2}:){31}[0-9A-F]{2}", told)
    assert f"--tls-cert {cert} --tls-key {key}" in told
    return cert, key


def refused(*arguments: str) -> str:
    """What a server says that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "mlhost", "serve", "--port", "0", "--ephemeral", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"MLHOST_RUNTIME_PRELOAD": ""},
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_without_tls_only_this_machine_is_listened_to_and_it_says_why(host: str) -> None:
    told = refused("--host", host)
    assert "could read passwords and tokens" in told
    assert "--insecure-http" in told
    assert "mlhost tls self-signed" in told


def test_who_insists_is_warned(start: Start, tmp_path: Path) -> None:
    server = start("--host", "0.0.0.0", "--insecure-http", log=tmp_path / "log")
    assert server.call("GET", "/livez") == {"status": "alive"}
    assert "without TLS: passwords and tokens can be read" in (tmp_path / "log").read_text()


def test_a_certificate_opens_other_addresses(start: Start, pair: tuple[str, str], tmp_path: Path) -> None:
    server = start("--host", "0.0.0.0", "--tls-cert", pair[0], "--tls-key", pair[1], log=tmp_path / "log")
    assert server.url.startswith("https://0.0.0.0:")
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    assert requests.get(f"{url}/livez", verify=pair[0], timeout=10).json() == {"status": "alive"}
    assert "without TLS" not in (tmp_path / "log").read_text()


def test_a_certificate_that_does_not_fit_stops_the_start(pair: tuple[str, str], tmp_path: Path) -> None:
    assert "not a certificate and its key" in refused("--tls-cert", pair[1], "--tls-key", pair[1])
    assert "is not there or cannot be read" in refused("--tls-cert", str(tmp_path / "none.pem"))
    assert "server.tls_key without server.tls_cert" in refused("--tls-key", pair[1])


def test_sighup_makes_the_server_read_its_certificate_anew(start: Start, pair: tuple[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = start("--tls-cert", pair[0], "--tls-key", pair[1], log=log)
    assert "is there already" in mlhost("tls", "self-signed", "--data", tmp_path / "data", expect=1).output

    def hang_up(expect: str) -> None:
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while expect not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    old = Path(pair[0]).read_bytes()
    mlhost("tls", "self-signed", "--replace", "--data", tmp_path / "data")
    assert Path(pair[0]).read_bytes() != old
    assert requests.get(f"{server.url}/livez", verify=_kept(tmp_path, old), timeout=10).ok
    hang_up("The certificate was read anew")
    assert requests.get(f"{server.url}/livez", verify=pair[0], timeout=10).ok
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{server.url}/livez", verify=_kept(tmp_path, old), timeout=10)

    renewed = _kept(tmp_path, Path(pair[0]).read_bytes())
    Path(pair[0]).write_text("half a certifi")
    hang_up("The certificate stays as it was")
    assert requests.get(f"{server.url}/livez", verify=renewed, timeout=10).ok
    assert server.stop()[0] == 0


def _kept(folder: Path, certificate: bytes) -> str:
    path = folder / "trusted.pem"
    path.write_bytes(certificate)
    return str(path)


def test_sighup_ends_a_server_without_tls(start: Start) -> None:
    server = start()
    server.process.send_signal(signal.SIGHUP)
    said, _ = server.process.communicate(timeout=30)
    assert (server.process.returncode, "Stopping" in said) == (0, True)


def test_names_on_the_command_line_are_answered_to(start: Start) -> None:
    server = start("--allowed-hosts", "models.example.org,other.example.org")
    for name, status in (("models.example.org", 200), ("other.example.org:80", 200), ("third.example.org", 421)):
        assert requests.get(f"{server.url}/livez", headers={"Host": name}, timeout=10).status_code == status


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can see what root is told")
def test_root_is_warned(start: Start, tmp_path: Path) -> None:
    start(log=tmp_path / "log")
    assert "Running as root" in (tmp_path / "log").read_text()


def test_the_demo_speaks_tls_to_itself(start: Start, pair: tuple[str, str]) -> None:
    server = start("--demo", "--tls-cert", pair[0], "--tls-key", pair[1], preload="sklearn.svm,sklearn.datasets")
    [curl] = [line for line in server.said.splitlines() if line.startswith("curl")]
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=30)
    assert '"iris_species":"setosa"' in done.stdout, done.stderr
