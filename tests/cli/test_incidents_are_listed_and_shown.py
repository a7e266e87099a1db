"""`necropsy incidents`, `show` and `hosts`: text for people, JSON for programs, one line where it fails."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from necropsy_analyzer.evidence.rule import Action
from necropsy_analyzer.store import hosts, incidents
from necropsy_analyzer.store.store import Store, sqlite_url
from necropsy_analyzer.verdict.verdict import Culprit, Proof, Ranked, Verdict

Command = Callable[..., Any]
DIED = [datetime(2026, 11, day, 14, 30, 5, tzinfo=UTC) for day in (3, 20)]
FIRST = Verdict(input="node1, boot aaaaaaaa", fatal=True, cause="unknown.silent", confidence=0.41,
                title="host went down and left no trace", mechanism="reset_no_log")  # fmt: skip
SECOND = Verdict(
    input="node1, boot aaaaaaaa", crashed=True, fatal=True, cause="hardware.memory", confidence=0.87,
    title="uncorrected memory error", mechanism="mce", fingerprint="9f2c",
    ranking=(Ranked("hardware.memory", 0.87), Ranked("hardware.cpu", 0.09)), culprit=Culprit(dimm="A1"),
    evidence=(Proof(rule="mce-uc", line=812, text="mce: [Hardware Error]: Machine check", title="it is",
                    supports={"hardware.memory": 3.0}),),
    action=Action("Replace the DIMM.", ("Look which.", "Swap it.")),
)  # fmt: skip
WARNED = Verdict(input="node2", crashed=True, cause="kernel.bug", confidence=0.6, title="WARNING in x")


@pytest.fixture
def told(state: Path) -> Path:
    """A store that holds: a death with two verdicts, a fault survived, a death not looked at yet."""
    store = Store.open(sqlite_url(state))
    with store.write() as connection:
        for name in ("node1", "node2"):
            hosts.enroll(connection, name, labels={"rack": "7"} if name == "node1" else {}, now_ns=1)
        one = incidents.create(connection, 1, "a" * 32, died_ns=_ns(DIED[1]), now_ns=_ns(DIED[1]))
        two = incidents.create(connection, 2, "b" * 32, died_ns=_ns(DIED[0]), now_ns=_ns(DIED[1]))
        incidents.create(connection, 2, "c" * 32, died_ns=None, now_ns=_ns(DIED[0]))
        for number, verdict, of in ((one, FIRST, ["e1"]), (one, SECOND, ["e1", "e2"]), (two, WARNED, ["e3"])):
            incidents.revise(connection, number, verdict, made_of=of, digest=b"", now_ns=_ns(DIED[1]))
    store.close()
    return state


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def test_incidents_are_a_table_for_people(told: Path, necropsy: Command) -> None:
    done = necropsy("incidents", "--state-dir", told)
    assert (done.returncode, done.stderr) == (0, "")
    heading, first, *rest = done.stdout.splitlines()
    assert heading.split() == ["id", "died", "host", "cause", "sure", "what"]
    assert first.rstrip().split(maxsplit=5) == [
        "1", "2026-11-20T14:30:05Z", "node1", "hardware.memory", "87%", "uncorrected memory error",
    ]  # fmt: skip
    assert len(rest) == 2
    assert any("(survived)" in line for line in rest)
    assert any("not diagnosed yet" in line for line in rest)


def test_incidents_are_objects_for_programs(told: Path, necropsy: Command) -> None:
    found = json.loads(necropsy("incidents", "--state-dir", told, "--format", "json").stdout)
    assert {one["id"] for one in found} == {1, 2, 3}
    first = found[0]
    assert first["died"] == "2026-11-20T14:30:05Z"
    assert (first["cause"], first["confidence"], first["mechanism"]) == ("hardware.memory", 0.87, "mce")
    assert (first["host"], first["boot"], first["revision"]) == ("node1", "a" * 32, 2)
    assert next(one for one in found if one["id"] == 3)["cause"] is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--host", "node1"], {1}),
        (["--limit", "1"], {1}),
        (["--since", "2026-11-10"], {1}),
        (["--since", "2026-11-20T14:30:05Z"], {1}),
        (["--since", "2026-11-20T15:30:05+01:00"], {1}),
        (["--since", "2026-11-20T14:30:06"], set()),
        (["--since", "20261103T143005Z"], {1, 2, 3}),
        (["--since", "999999w"], {1, 2, 3}),
        (["--since", "0001-01-01"], {1, 2, 3}),
        (["--since", "9999-12-31"], set()),
        (["--since", "1m"], set()),
    ],
)
def test_incidents_can_be_chosen(
    told: Path, necropsy: Command, options: list[str], expected: set[int]
) -> None:
    done = necropsy("incidents", "--state-dir", told, "--format", "json", *options)
    assert {one["id"] for one in json.loads(done.stdout)} == expected


def test_an_incident_is_shown_with_all_that_was_thought_of_it(told: Path, necropsy: Command) -> None:
    text = necropsy("show", 1, "--state-dir", told).stdout
    for expected in (
        "Incident 1", "2026-11-20T14:30:05Z", "hardware.memory 87%", "else hardware.cpu 9%", "line 812: mce:",
        "dimm A1", "What to do", "1. Look which.", "revision 1", "unknown.silent 41%, of 1 event",
        "* revision 2", "of 2 events",
    ):  # fmt: skip
        assert expected in text
    earlier = necropsy("show", 1, "--revision", 1, "--state-dir", told).stdout
    assert "host went down and left no trace" in earlier
    assert "* revision 1" in earlier
    whole = json.loads(necropsy("show", 1, "--state-dir", told, "--format", "json").stdout)
    assert whole["verdict"]["culprit"]["dimm"] == "A1"
    assert whole["verdict"]["schema"] == "necropsy.verdict/1"
    assert whole["made_of"] == ["e1", "e2"]
    assert [item["cause"] for item in whole["revisions"]] == ["unknown.silent", "hardware.memory"]
    waiting = necropsy("show", 3, "--state-dir", told)
    assert waiting.returncode == 0
    assert "necropsy serve" in waiting.stdout


def test_a_merged_incident_shows_what_it_turned_out_to_be(told: Path, necropsy: Command) -> None:
    store = Store.open(sqlite_url(told))
    with store.write() as connection:
        incidents.merge(connection, 3, 2)
    store.close()
    assert "same death" in necropsy("show", 3, "--state-dir", told).stdout
    assert json.loads(necropsy("show", 3, "--state-dir", told, "--format", "json").stdout)["id"] == 2


def test_hosts_are_enrolled_listed_and_revoked(state: Path, necropsy: Command) -> None:
    assert "necropsy hosts enroll" in necropsy("hosts", "list", "--state-dir", state).stdout
    token = necropsy("hosts", "enroll", "node1", "--label", "rack=7", "--state-dir", state).stdout
    assert token.startswith("necropsy-")
    assert token.count("\n") == 1
    other = json.loads(necropsy("hosts", "enroll", "n2", "--state-dir", state, "--format", "json").stdout)
    assert other.keys() == {"name", "token"}
    assert "revoked" in necropsy("hosts", "revoke", "n2", "--state-dir", state).stdout
    text = necropsy("hosts", "list", "--state-dir", state).stdout
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["n2", "revoked"], ["node1", "enrolled"]]
    assert "rack=7" in text
    listed = json.loads(necropsy("hosts", "list", "--state-dir", state, "--format", "json").stdout)
    assert [(host["name"], host["state"]) for host in listed] == [("n2", "revoked"), ("node1", "enrolled")]
    assert listed[1]["labels"] == {"rack": "7"}
    assert "token" not in json.dumps(listed)


def test_an_empty_store_says_so(state: Path, necropsy: Command) -> None:
    assert necropsy("incidents", "--state-dir", state).stdout == "no incidents\n"
    assert json.loads(necropsy("incidents", "--state-dir", state, "--format", "json").stdout) == []
    assert json.loads(necropsy("hosts", "list", "--state-dir", state, "--format", "json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "status", "told_text"),
    [
        (["show", 99], 1, "'necropsy incidents'"),
        (["show", 1, "--revision", 9], 1, "2 revisions"),
        (["show", "one"], 2, "integer. Try"),
        (["show"], 2, "ID"),
        (["incidents", "--host", "no\x1b[31mde"], 1, "'necropsy hosts list'"),
        (["incidents", "--since", "yester\x1bday"], 2, "90m or 7d"),
        (["incidents", "--since", "10000-01-01"], 2, "90m or 7d"),
        (["incidents", "--limit", "0"], 2, "--limit"),
        (["incidents", "--format", "xml"], 2, "xml"),
        (["hosts", "enroll", "node1"], 1, "--renew"),
        (["hosts", "enroll", "no/de"], 1, "no host name"),
        (["hosts", "enroll", "n3", "--label", "rack"], 2, "KEY=VALUE"),
        (["hosts", "revoke", "nobody"], 1, "'necropsy hosts list'"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_does_not_work_is_one_line_that_says_what_to_do(
    told: Path, necropsy: Command, arguments: list[object], status: int, told_text: str
) -> None:
    where = [] if arguments == ["nonsense"] else ["--state-dir", told]
    done = necropsy(*arguments, *where)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert told_text in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", [["incidents"], ["show", 1], ["hosts", "list"], ["hosts", "revoke", "x"]])
def test_without_a_store_nothing_is_made(tmp_path: Path, necropsy: Command, command: list[object]) -> None:
    done = necropsy(*command, "--state-dir", tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "necropsy serve" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_the_state_folder_comes_from_the_environment_too(told: Path, necropsy: Command) -> None:
    assert "node1" in necropsy("incidents", NECROPSY_STATE_DIR=str(told)).stdout
    moved = told.rename(told.parent / "necropsy")
    assert moved.is_dir()
    if "root" not in str(Path.home()):
        assert "node1" in necropsy("incidents", XDG_STATE_HOME=str(told.parent)).stdout


def test_colour_appears_on_a_terminal_and_nowhere_else(
    told: Path, necropsy: Command, on_terminal: Callable[..., str]
) -> None:
    for command in (["show", 1], ["incidents"]):
        arguments = [*command, "--state-dir", told]
        assert "\x1b[" in on_terminal(*arguments)
        assert "\x1b[3" not in on_terminal(*arguments, NO_COLOR="1")
        assert "\x1b" not in on_terminal(*arguments, TERM="dumb")
        assert "\x1b" not in necropsy(*arguments).stdout
    assert "\x1b" not in on_terminal("show", 1, "--state-dir", told, "--format", "json")
