"""A real server on loopback: what is bad, slow or endless is turned away, and the good is still taken."""

import contextlib
import json
import os
import re
import resource
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select
from tests.conftest import BIN, Analyzer, Sender
from tests.ingest.conftest import BAD

from necropsy_agent.wire import INGEST_PATH
from necropsy_analyzer.ingest.app import make_app
from necropsy_analyzer.ingest.connection import Connection
from necropsy_analyzer.store import hosts, schema
from necropsy_analyzer.store.store import Store, sqlite_url

RESIDENT_MIB = 420  # 32 MiB sent, 128 opened, their events, twice at once; measured: 240


def _stored(state: Path) -> list[int]:
    store = Store.open(sqlite_url(state))
    with store.read() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (schema.batches, schema.events, schema.incidents, schema.work)
        ]
    store.close()
    return counts


def _client(url: str, token: str, **options: Any) -> httpx.Client:
    headers = {"authorization": f"Bearer {token}", "content-encoding": "zstd"}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, **options)


def _raw(url: str, *pieces: bytes) -> bytes:
    """Send bytes as they are and give all that comes back until the server closes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answer += chunk
        return answer


def _peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) >> 10


def test_all_that_is_bad_in_a_row_leaves_nothing_and_the_server_well(
    analyzer: Analyzer, sender: Sender
) -> None:
    analyzer.start()
    token = analyzer.enroll("node1")
    piece = os.urandom(1 << 20)
    documented = httpx.get(f"{analyzer.url}/schema").json()["paths"][INGEST_PATH]["post"]["responses"]
    with _client(analyzer.url, token) as client:
        for name, (status, told, make) in BAD.items():
            body, encoding = make(sender)
            answer = client.post(INGEST_PATH, content=body, headers={"content-encoding": encoding})
            assert (answer.status_code, told in answer.json()["detail"]) == (status, True), name
            assert str(status) in documented
        for encoding in ("identity", "zstd", "gzip"):
            answer = client.post(
                INGEST_PATH, content=(piece for _ in range(100)), headers={"content-encoding": encoding}
            )
            assert answer.status_code == 413
        for wrong in ("x", "necropsy-" + "0" * 64, "x" * 10_000):
            answer = client.post(
                INGEST_PATH, content=sender.body(sender.crash()), headers={"authorization": f"Bearer {wrong}"}
            )
            assert answer.status_code == 401
        for method, path in (("GET", INGEST_PATH), ("POST", "/v2/batches"), ("PUT", "/"), ("GET", "/%00")):
            answer = client.request(method, path)
            assert answer.status_code in (404, 405)
            assert answer.headers["content-type"].startswith("application/problem+json")
        for noise in (b"\0" * 4096, os.urandom(4096), b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
            assert b" 200 " not in _raw(analyzer.url, noise, b"\r\n\r\n")
        assert b" 431 " in _raw(analyzer.url, b"GET / HTTP/1.1\r\nx: ", *[b"y" * 65536] * 40)
        assert _stored(analyzer.state) == [0, 0, 0, 0]
        assert client.post(INGEST_PATH, content=sender.body(sender.crash())).json()["accepted"] == 1
    assert _peak_mib(analyzer.pid) < RESIDENT_MIB
    assert analyzer.stop() == 0
    assert token not in analyzer.log
    assert "Traceback" not in analyzer.log


def test_a_sender_that_goes_away_half_way_leaves_nothing(analyzer: Analyzer, sender: Sender) -> None:
    analyzer.start()
    token = analyzer.enroll("node1")
    body = sender.body(sender.crash())
    address = urlsplit(analyzer.url)
    head = (
        f"POST {INGEST_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        f"content-encoding: zstd\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    for cut in (0, 1, len(body) // 2, len(body) - 1):
        with socket.create_connection((address.hostname, address.port or 0)) as connection:
            connection.sendall(head + body[:cut])
    with _client(analyzer.url, token) as client:
        # The events came whole in what was cut off, so any trace of it would show as a duplicate.
        answer = client.post(INGEST_PATH, content=body).json()
    assert (answer["accepted"], answer.get("duplicates", 0)) == (1, 0)
    assert analyzer.stop() == 0


def test_forms_of_http_that_senders_use_are_taken(analyzer: Analyzer, sender: Sender) -> None:
    analyzer.start()
    token = analyzer.enroll("node1")
    with _client(analyzer.url, token) as client:
        body = sender.body(sender.crash())
        chunked = client.post(INGEST_PATH, content=(bytes([byte]) for byte in body))
        assert chunked.json()["accepted"] == 1
        lines = sender.lines(sender.crash())
        plain = client.post(INGEST_PATH, content=lines, headers={"content-encoding": "identity"})
        assert plain.json()["accepted"] == 1
    asked = sender.body(sender.crash())
    head = (
        f"POST {INGEST_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: bearer {token}\r\nconnection: close\r\n"
        f"content-encoding: ZSTD\r\nexpect: 100-continue\r\ncontent-length: {len(asked)}\r\n\r\n"
    ).encode()
    answer = _raw(analyzer.url, head, asked)
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b'"accepted":1' in answer


def test_a_token_ends_while_the_server_runs(analyzer: Analyzer, sender: Sender) -> None:
    analyzer.start()
    first = analyzer.enroll("node1")
    with _client(analyzer.url, first) as client:
        assert client.post(INGEST_PATH, content=sender.body(sender.crash())).status_code == 200
        analyzer.run("hosts", "revoke", "node1")
        assert client.post(INGEST_PATH, content=sender.body(sender.crash())).status_code == 401
    with _client(analyzer.url, analyzer.enroll("node1")) as client:
        assert client.post(INGEST_PATH, content=sender.body(sender.crash())).status_code == 200
    with _client(analyzer.url, analyzer.enroll("node2")) as client:
        stolen = client.post(INGEST_PATH, content=sender.body(sender.crash()))
        assert stolen.status_code == 403
        assert "node1" in stolen.json()["detail"]


def test_a_full_disk_is_told_and_what_waited_is_taken_when_there_is_room(
    analyzer: Analyzer, sender: Sender
) -> None:
    analyzer.start()
    token = analyzer.enroll("node1")
    crashes = [sender.crash(os.urandom(60_000).hex()) for _ in range(8)]
    bodies = [sender.body(crash) for crash in crashes]
    limit = (analyzer.state / "necropsy.db").stat().st_size + (300 << 10)
    resource.prlimit(analyzer.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with _client(analyzer.url, token) as client:
        answers = [client.post(INGEST_PATH, content=body) for body in bodies]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/health").status_code == 200
        assert _stored(analyzer.state)[:2] == [statuses.count(200)] * 2
        resource.prlimit(
            analyzer.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        again = [client.post(INGEST_PATH, content=body).json() for body in bodies]
    assert sum(answer["accepted"] for answer in again) == statuses.count(503)
    assert _stored(analyzer.state)[:2] == [8, 8]


@contextlib.contextmanager
def _served(store: Store, **timeouts: float) -> Iterator[str]:
    """Serve in a thread with other times than those of the field."""

    class Impatient(Connection):
        head_timeout_s = timeouts["head_s"]

    app = make_app(store, body_timeout_s=timeouts["body_s"])
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, http=Impatient, ws="none", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_who_trickles_a_request_is_shown_out(store: Store, sender: Sender) -> None:
    with store.write() as connection:
        token = hosts.enroll(connection, "node1", labels={}, now_ns=1)
    body = sender.body(sender.crash())
    head = (
        f"POST {INGEST_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        f"content-encoding: zstd\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode()
    with _served(store, head_s=0.2, body_s=0.2) as url:
        assert b" 408 " in _raw(url)
        assert b" 408 " in _raw(url, b"GET /health HT")
        assert b" 408 " in _raw(url, head[:-2])
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=60) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 200 " in connection.recv(65536)
            connection.sendall(b"GET /hea")
            assert b" 408 " in connection.recv(65536)
        slow = _raw(url, head, body[:-1])
        assert b" 408 " in slow
        assert b"smaller batches" in slow
        assert b'"accepted":1' in _raw(url, head, body)


def _made(*command: str | Path, given: str = "") -> None:
    subprocess.run(["openssl", *map(str, command)], input=given, text=True, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A certification authority, and certificates of it for a server and an agent."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: TLS is not tested")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for ca in ("ca", "other"):
        _made(
            "req", "-x509", *key, "-days", "2", "-subj", f"/CN={ca}", "-keyout", tmp_path / f"{ca}.key",
            "-out", tmp_path / f"{ca}.pem", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
    for name, ca in (("server", "ca"), ("agent", "ca"), ("stranger", "other")):
        request, extensions = tmp_path / f"{name}.csr", tmp_path / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        _made("req", *key, "-subj", f"/CN={name}", "-keyout", tmp_path / f"{name}.key", "-out", request)
        _made(
            "x509", "-req", "-in", request, "-CA", tmp_path / f"{ca}.pem", "-CAkey", tmp_path / f"{ca}.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", tmp_path / f"{name}.pem",
        )  # fmt: skip
    return tmp_path


def _context(folder: Path, ca: str, name: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / f"{ca}.pem"))
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def test_tls_shows_the_servers_certificate(analyzer: Analyzer, sender: Sender, certificates: Path) -> None:
    analyzer.options = ["--tls-cert", certificates / "server.pem", "--tls-key", certificates / "server.key"]
    analyzer.start()
    assert analyzer.url.startswith("https://")
    token = analyzer.enroll("node1")
    with _client(analyzer.url, token, verify=_context(certificates, "ca", None)) as client:
        assert client.post(INGEST_PATH, content=sender.body(sender.crash())).json()["accepted"] == 1
    with (
        _client(analyzer.url, token, verify=_context(certificates, "other", None)) as client,
        pytest.raises(httpx.ConnectError, match="certificate"),
    ):
        client.get("/health")
    with (
        _client(analyzer.url.replace("https", "http"), token) as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        client.get("/health")


def test_with_a_client_ca_only_its_agents_come_in(
    analyzer: Analyzer, sender: Sender, certificates: Path
) -> None:
    analyzer.options = ["--tls-cert", certificates / "server.pem", "--tls-key", certificates / "server.key",
                        "--client-ca", certificates / "ca.pem"]  # fmt: skip
    analyzer.start()
    token = analyzer.enroll("node1")
    with _client(analyzer.url, token, verify=_context(certificates, "ca", "agent")) as client:
        assert client.post(INGEST_PATH, content=sender.body(sender.crash())).json()["accepted"] == 1
    for name in (None, "stranger"):
        with (
            _client(analyzer.url, token, verify=_context(certificates, "ca", name)) as client,
            pytest.raises(httpx.TransportError),
        ):
            client.post(INGEST_PATH, content=sender.body(sender.crash()))
    assert _stored(analyzer.state)[:2] == [1, 1]


def test_what_keeps_a_server_from_starting_is_told_in_one_line(
    analyzer: Analyzer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    analyzer.start()
    other = ["serve", "--listen", analyzer.url.removeprefix("http://")]
    (tmp_path / "noise.pem").write_text("no certificate")
    (tmp_path / "file").write_text("x")
    cases: list[tuple[list[str | Path], str]] = [
        ([*other, "--state-dir", tmp_path / "else"], "Address already in use"),
        (["serve", "--listen", "127.0.0.1:0", "--state-dir", analyzer.state], "another necropsy serves"),
        (["serve", "--listen", "nowhere", "--state-dir", tmp_path / "else"], "ADDRESS:PORT"),
        (["serve", "--listen", "127.0.0.1:99999", "--state-dir", tmp_path / "else"], "ADDRESS:PORT"),
        (["serve", "--listen", "127.0.0.1:0", "--state-dir", "/proc/1/nowhere"], "--state-dir"),
        (["serve", "--listen", "127.0.0.1:0", "--database", "nonsense"], "no URL"),
        (["serve", "--listen", "127.0.0.1:0", "--state-dir", tmp_path / "else", "--tls-key",
          tmp_path / "noise.pem"], "--tls-cert"),
        (["serve", "--listen", "127.0.0.1:0", "--state-dir", tmp_path / "else", "--tls-cert",
          tmp_path / "noise.pem"], "certificate"),
    ]  # fmt: skip
    if shutil.which("openssl") is not None:
        folder: Path = request.getfixturevalue("certificates")
        mixed: list[str | Path] = ["--tls-cert", folder / "server.pem", "--tls-key", folder / "agent.key"]
        cases.append((["serve", "--listen", "127.0.0.1:0", "--state-dir", tmp_path / "else", *mixed], "key"))
    for command, told in cases:
        done = subprocess.run(
            [BIN / "necropsy", *map(str, command)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (1, ""), command
        assert done.stderr.count("\n") == 1, done.stderr
        assert told in done.stderr


def test_the_description_is_openapi_and_says_what_there_is(analyzer: Analyzer) -> None:
    analyzer.start()
    answer = httpx.get(f"{analyzer.url}/schema")
    assert "json" in answer.headers["content-type"]
    described = answer.json()
    assert described["openapi"].startswith("3.1")
    assert described["info"]["title"]
    assert described["info"]["version"]
    assert set(described["paths"]) == {INGEST_PATH, "/health", "/ready"}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"], (path, method)
            assert all(response["description"] for response in operation["responses"].values())
    references = re.findall(r'"\$ref":\s*"#/([^"]+)"', json.dumps(described))
    assert references
    for reference in references:
        found: Any = described
        for name in reference.split("/"):
            found = found[name]
    scheme = described["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert described["paths"][INGEST_PATH]["post"]["security"] == [{"token": []}]
