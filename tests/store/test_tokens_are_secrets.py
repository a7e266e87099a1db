"""A token is shown once, is not in the store, and ends when it is renewed or revoked."""

import re
from pathlib import Path

import pytest

from necropsy_analyzer.store import hosts
from necropsy_analyzer.store.store import Store


def test_no_token_stands_in_the_files_of_the_store(store: Store, tmp_path: Path) -> None:
    tokens = []
    for number in range(20):
        with store.write() as connection:
            tokens.append(hosts.enroll(connection, f"node{number}", labels={}, now_ns=1))
    with store.write() as connection:
        tokens.append(hosts.enroll(connection, "node0", labels={}, now_ns=2, renew=True))
    files = [path for path in (tmp_path / "state").iterdir() if path.is_file()]
    held = b"".join(path.read_bytes() for path in files)
    assert b"node19" in held
    assert len(set(tokens)) == 21
    for token in tokens:
        secret = token.removeprefix("necropsy-")
        assert re.fullmatch("[0-9a-f]{64}", secret)
        for form in (secret.encode(), bytes.fromhex(secret)):
            assert form not in held
            assert form[:16] not in held
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_a_token_finds_its_host_until_it_ends(store: Store) -> None:
    with store.write() as connection:
        first = hosts.enroll(connection, "node1", labels={"rack": "7"}, now_ns=1)
        other = hosts.enroll(connection, "node2", labels={}, now_ns=1)
    with store.write() as connection:
        found = hosts.of_token(connection, first)
        assert found is not None
        assert (found.name, found.labels, found.revoked_ns) == ("node1", {"rack": "7"}, None)
        with pytest.raises(hosts.HostError, match="--renew"):
            hosts.enroll(connection, "node1", labels={}, now_ns=2)
        second = hosts.enroll(connection, "node1", labels={}, now_ns=2, renew=True)
        assert hosts.of_token(connection, first) is None
        renewed = hosts.of_token(connection, second)
        assert renewed is not None
        assert renewed.labels == {"rack": "7"}
        hosts.revoke(connection, "node1", now_ns=3)
        assert hosts.of_token(connection, second) is None
        assert hosts.of_token(connection, other) is not None
        third = hosts.enroll(connection, "node1", labels={}, now_ns=4)
        assert hosts.of_token(connection, third) is not None


@pytest.mark.parametrize("token", ["", "necropsy-", "necropsy-" + "0" * 64, "\udcff", "\0", "x" * 10**6])
def test_nothing_else_is_a_token(store: Store, token: str) -> None:
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={}, now_ns=1)
        hosts.enroll(connection, "gone", labels={}, now_ns=1)
        hosts.revoke(connection, "gone", now_ns=2)
        assert hosts.of_token(connection, token) is None


@pytest.mark.parametrize("name", ["", "-", ".hidden", "a b", "a/b", "x" * 255, "a\n", "nöde", "[red]x"])
def test_a_host_has_a_host_name(store: Store, name: str) -> None:
    with pytest.raises(hosts.HostError) as refused, store.write() as connection:
        hosts.enroll(connection, name, labels={}, now_ns=1)
    assert "\n" not in str(refused.value)


def test_only_an_enrolled_host_can_be_revoked(store: Store) -> None:
    for _ in range(2):
        with pytest.raises(hosts.HostError, match="no enrolled host"), store.write() as connection:
            hosts.revoke(connection, "node1", now_ns=1)
