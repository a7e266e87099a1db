"""What a person gets from `necropsy-agent`: answers, or one line that says what to do."""

import json
import struct
from pathlib import Path

import pytest

from necropsy_agent import __version__

from .conftest import Peer, Reply, Site, problem


def _vmcore(path: Path) -> Path:
    """Write an ELF core whose only content is a VMCOREINFO note."""
    info = b"OSRELEASE=6.1.0-test\nBUILD-ID=abc\nCRASHTIME=1700000000\n"
    note = struct.pack("<LLL", 11, len(info), 0) + b"VMCOREINFO\0\0" + info
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHLQQQLHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1)
    segment = struct.pack("<LLQQQQQQ", 4, 0, 120, 0, 0, len(note), 0, 4)
    path.write_bytes(head.ljust(64, b"\0") + segment + note)
    return path


def test_the_version_is_told(site: Site) -> None:
    assert site.agent("--version").stdout == f"necropsy-agent {__version__}\n"


@pytest.mark.parametrize("command", [(), ("run",), ("once",), ("status",), ("check-config",), ("vmcore",)])
def test_every_command_has_help(command: tuple[str, ...], site: Site) -> None:
    told = site.agent(*command, "--help")
    assert told.returncode == 0
    assert told.stdout.startswith("usage: necropsy-agent")


@pytest.mark.parametrize("arguments", [(), ("walk",), ("vmcore",), ("status", "--format", "xml")])
def test_wrong_usage_has_status_2(arguments: tuple[str, ...], site: Site) -> None:
    assert site.agent(*arguments).returncode == 2


@pytest.mark.parametrize("command", ["run", "once", "status", "check-config"])
def test_a_missing_configuration_is_one_line(command: str, site: Site) -> None:
    told = site.agent(command, "--config", site.folder / "none.toml")
    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert "none.toml: there is no such file" in told.stderr


@pytest.mark.parametrize("command", ["run", "once", "check-config"])
@pytest.mark.parametrize("name", ["etc/machine-id", "proc/sys/kernel/random/boot_id"])
def test_a_host_without_a_name_is_one_line(command: str, name: str, site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    (site.root / name).unlink()
    told = site.agent(command, "--config", site.config)
    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert name in told.stderr


def test_once_ships_all_and_says_nothing_of_it(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    site.pstore(1)
    told = site.once()
    assert told.returncode == 0, told.stderr
    kinds = sorted(event.kind for event in peer.arrived)
    assert kinds == ["agent.health", "boot", "crash.record", "host.inventory"]
    assert site.once().returncode == 0
    again = [event.kind for event in peer.arrived[len(kinds) :]]
    assert again == ["agent.health"], "each thing once"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (problem(401, "the token is not valid"), "401: the token is not valid"),
        (problem(503, "the store is full", retry_after="60"), "503: the store is full"),
        (Reply(302, b"", {"location": "/login"}), "set server.url"),
    ],
)
def test_once_says_why_something_waits(reply: Reply, words: str, site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    site.pstore(1)
    peer.always = lambda _: reply
    told = site.once()
    assert told.returncode == 1
    last = told.stderr.splitlines()[-1]
    assert words in last
    assert "nothing is lost" in last
    assert "s3cret" not in told.stderr
    peer.always = None
    assert site.once().returncode == 0
    assert len({event.id for event in peer.arrived if event.kind == "crash.record"}) == 1


def test_once_waits_for_a_short_while_where_it_is_asked_to(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    peer.answers.append(problem(503, "busy", retry_after="0"))
    assert site.once().returncode == 0
    assert len(peer.sent) == 2


def test_once_says_what_was_refused(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    site.pstore(1)
    peer.always = lambda sent: (
        problem(422, "no name") if any(event.kind == "crash.record" for event in sent.events) else None
    )
    told = site.once()
    assert told.returncode == 1
    assert "refused 1 events, which are kept: 422 no name" in told.stderr
    assert "refused   1" in site.agent("status", "--config", site.config).stdout


def test_status_before_the_first_run_says_what_to_do(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    told = site.agent("status", "--config", site.config)
    assert told.returncode == 1
    assert "no agent has run there yet" in told.stderr


def test_status_tells_of_sources_outbox_and_contact(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    site.pstore(1)
    site.once()
    told = json.loads(site.agent("status", "--config", site.config, "--format", "json").stdout)
    assert told["schema"] == "necropsy.agent-status/1"
    assert told["running"] is False
    sources = {source["name"]: source for source in told["sources"]}
    assert (sources["pstore"]["state"], sources["pstore"]["found"]) == ("on", 1)
    assert (sources["journal"]["state"], sources["journal"]["why"]) == ("off", "by configuration")
    assert sources["kmsg"]["why"] == "there is no /dev/kmsg on this host"
    assert told["outbox"]["waiting"] == {}
    assert told["outbox"]["shipped"]["crash"] == 1
    assert told["outbox"]["limit_bytes"] == 256 << 20
    assert told["contact"]["failures"] == 0
    assert told["contact"]["reached_wall_ns"] > 0


def test_status_of_a_running_agent(site: Site, peer: Peer) -> None:
    site.configure(peer.url)
    site.pstore(1)
    with site.running() as agent:
        peer.wait_for(lambda: any(event.keep == "crash" for event in peer.arrived))
        text = site.agent("status", "--config", site.config).stdout
        second = site.agent("run", "--config", site.config)
    assert f"runs as {agent.pid} since" in text
    assert second.returncode == 1
    assert "another necropsy-agent works in" in second.stderr


def test_check_config_says_that_all_is_well(site: Site, peer: Peer) -> None:
    told = site.agent("check-config", "--config", site.configure(peer.url))
    assert (told.returncode, told.stderr) == (0, "")
    assert "can be used" in told.stdout
    assert peer.sent == []
    assert not site.state.exists(), "nothing is started"


def test_check_config_doubts_a_token_that_all_can_read(site: Site, peer: Peer) -> None:
    (site.folder / "token").chmod(0o644)
    told = site.agent("check-config", "--config", site.configure(peer.url))
    assert told.returncode == 0
    assert "chmod 600" in told.stderr


def test_check_config_misses_a_file(site: Site, peer: Peer) -> None:
    told = site.agent("check-config", "--config", site.configure(peer.url, server={"ca_file": "/no/ca.pem"}))
    assert told.returncode == 1
    assert told.stderr == "necropsy-agent: /no/ca.pem: No such file or directory\n"


def test_a_vmcore_is_told_as_json_and_text(site: Site) -> None:
    path = _vmcore(site.folder / "vmcore")
    told = json.loads(site.agent("vmcore", path).stdout)
    assert told["schema"] == "necropsy.vmcore/1"
    assert (told["format"], told["release"], told["build_id"]) == ("elf", "6.1.0-test", "abc")
    assert told["crash_wall_ns"] == 1_700_000_000 * 10**9
    assert told["damage"] == []
    text = site.agent("vmcore", path, "--format", "text").stdout
    assert "6.1.0-test" in text
    assert "2023-11-14T22:13:20Z" in text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none", None, "No such file"),
        ("empty", b"", "empty file"),
        ("text", b"no vmcore at all\n" * 100, "no vmcore format"),
        ("", None, "a folder: name the vmcore in it"),
    ],
)
def test_what_is_no_vmcore_is_one_line(name: str, content: bytes | None, words: str, site: Site) -> None:
    path = site.folder / name
    if content is not None:
        path.write_bytes(content)
    told = site.agent("vmcore", path)
    assert told.returncode == 1
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1
    assert words in told.stderr
