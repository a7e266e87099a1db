"""Shipping over TLS: to an analyzer that is whom it says, and that knows the host by its certificate."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Peer, Site


class Authority:
    """A certificate authority in a folder, made with openssl(1)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate),
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Issue a certificate for loopback; give it and its key."""
        certificate, key, request = (
            self.folder / f"{self.name}-{name}.{end}" for end in ("pem", "key", "csr")
        )
        self._openssl(
            *(
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                f"/CN={name}",
            ),
            *("-keyout", key, "-out", request),
        )
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-days", "2"),
            *("-extfile", extensions, "-out", certificate),
        )
        return certificate, key

    @staticmethod
    def _openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    return Authority(tmp_path, "ours")


@pytest.fixture
def secure(authority: Authority) -> Iterator[Peer]:
    """A server with a certificate of ours that takes only clients with one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("analyzer"))
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    peer = Peer(context)
    yield peer
    peer.close()


def _server(authority: Authority, ca: Path | None, client: tuple[Path, Path] | None) -> dict[str, str]:
    files = {"ca_file": ca, "cert_file": client and client[0], "key_file": client and client[1]}
    return {name: str(path) for name, path in files.items() if path}


def test_each_side_proves_who_it_is(site: Site, secure: Peer, authority: Authority) -> None:
    server = _server(authority, authority.certificate, authority.issue("node1"))
    site.configure(secure.url, server=server)
    assert site.agent("check-config", "--config", site.config).returncode == 0
    told = site.once()
    assert told.returncode == 0, told.stderr
    assert secure.sent


@pytest.mark.parametrize(
    ("ca", "client", "words"),
    [
        ("ours", None, "certificate required"),
        ("system", "ours", "certificate verify failed"),
        ("theirs", "ours", "certificate verify failed"),
        ("ours", "theirs", "127.0.0.1"),
    ],
)
def test_who_does_not_is_not_spoken_to(
    ca: str, client: str | None, words: str, site: Site, secure: Peer, authority: Authority
) -> None:
    authorities = {"ours": authority, "theirs": Authority(site.folder, "theirs")}
    issued = authorities[client].issue("node1") if client else None
    server = _server(authority, authorities[ca].certificate if ca != "system" else None, issued)
    site.configure(secure.url, server=server)
    told = site.once()
    assert told.returncode == 1
    assert words in told.stderr
    assert "nothing is lost" in told.stderr
    assert secure.sent == []


@pytest.mark.parametrize("broken", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_is_no_certificate_is_named(
    broken: str, site: Site, secure: Peer, authority: Authority
) -> None:
    server = _server(authority, authority.certificate, authority.issue("node1"))
    Path(server[broken]).write_text("no certificate\n")
    site.configure(secure.url, server=server)
    told = site.once()
    assert told.returncode == 1
    assert server[broken] in told.stderr
    assert secure.sent == []
