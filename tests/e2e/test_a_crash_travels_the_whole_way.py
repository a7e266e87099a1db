"""From what a dying kernel left, through the agent and over HTTP, to the verdict that a person reads."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.conftest import BIN, Analyzer
from tests.e2e.conftest import CRASHES, Machine, died_s, truth

from necropsy_agent.wire import KernelLog
from necropsy_analyzer.incident.kernel_text import kernel_text

ROOT = Path(__file__).parents[2]
MakeMachine = Callable[[str], Machine]
FIRST, SECOND, THIRD = "11111111-1111-4111-8111-111111111111", "2" * 32, "3" * 32
CRASH = "null-deref@6.1"
DIED_S = died_s(CRASH)


def _agrees(verdict: dict[str, Any], known: dict[str, Any]) -> None:
    assert verdict["crashed"] == known["crash"]
    assert verdict["fatal"] == known["fatal"]
    assert verdict["mechanism"] == known["mechanism"]
    assert verdict["cause"] in {known["cause"], *known.get("alt_causes", [])}
    assert {field: verdict["culprit"][field] for field in known["culprit"]} == known["culprit"]


def test_a_panic_becomes_a_verdict_that_an_sre_reads(machine: MakeMachine, analyzer: Analyzer) -> None:
    node = machine("node1")
    node.boots(FIRST, DIED_S - 600)
    node.looks()
    assert node.incidents() == []
    node.finds(CRASH)
    node.boots(SECOND, DIED_S + 60)
    node.looks()
    (incident,) = node.incidents()
    assert (incident["host"], incident["boot"]) == ("node1", FIRST.replace("-", ""))
    died = datetime.fromisoformat(incident["died"]).timestamp()
    assert abs(died - DIED_S) <= 5
    _agrees(incident["verdict"], truth(CRASH))
    text = analyzer.run("show", str(incident["id"])).stdout
    for expected in (
        "driver.external", "necrolab_ring_next", "BUG: kernel NULL pointer dereference", "What to do",
        "the host went down", "6.1.0-56-amd64", "revision 1",
    ):  # fmt: skip
        assert expected in text
    assert "necrolab_ring_next" in analyzer.run("incidents").stdout
    node.looks()
    assert [one["revision"] for one in node.incidents()] == [1], "a record is shipped once"


def test_a_silent_end_is_told_and_nothing_is_guessed(machine: MakeMachine, analyzer: Analyzer) -> None:
    node = machine("node1")
    node.boots(FIRST, DIED_S)
    node.looks()
    node.boots(SECOND, DIED_S + 5000)
    node.looks()
    (incident,) = node.incidents()
    _agrees(incident["verdict"], truth("power-cut@6.1"))
    assert all(item["probability"] < 0.2 for item in incident["verdict"]["ranking"][1:])
    assert "went down" in analyzer.run("show", str(incident["id"])).stdout


def test_an_orderly_reboot_is_no_incident(machine: MakeMachine) -> None:
    node = machine("node1")
    node.boots(FIRST, DIED_S)
    node.looks()
    node.boots(SECOND, DIED_S + 5000, orderly=True)
    node.looks()
    assert node.incidents() == []


def test_deaths_of_two_hosts_and_two_of_one_are_told_apart(machine: MakeMachine, analyzer: Analyzer) -> None:
    one, other = machine("node1"), machine("node2")
    earlier, later = sorted((CRASH, "sysrq-c@6.1"), key=died_s)
    between_s = (died_s(earlier) + died_s(later)) // 2
    for boot, start_s, found in (
        (FIRST, died_s(earlier) - 600, None),
        (SECOND, between_s, earlier),
        (THIRD, died_s(later) + 60, later),
    ):
        one.boots(boot, start_s)
        if found is not None:
            one.finds(found)
        one.looks()
    other.boots(FIRST, DIED_S + 60)
    other.finds("mce-memory@6.1")
    other.looks()
    first, second = one.incidents()
    _agrees(first["verdict"], truth(earlier))
    _agrees(second["verdict"], truth(later))
    assert [first["boot"], second["boot"]] == [FIRST.replace("-", ""), SECOND]
    (third,) = other.incidents()
    _agrees(third["verdict"], truth("mce-memory@6.1"))
    assert len({incident["verdict"]["fingerprint"] for incident in (first, second, third)}) == 3
    listed = analyzer.run("incidents", "--host", "node1").stdout
    assert "node2" not in listed


def test_what_happened_while_the_analyzer_was_away_arrives_when_it_is_back(
    machine: MakeMachine, analyzer: Analyzer
) -> None:
    node = machine("node1")
    analyzer.kill()
    node.boots(SECOND, DIED_S + 60)
    node.finds(CRASH)
    for _ in range(2):
        away = node.agent()
        assert away.returncode == 1
        assert "nothing is lost" in away.stderr
    shutil.rmtree(node.root / "sys")  # the host may even lose it meanwhile
    analyzer.start()
    node.looks()
    (incident,) = node.incidents()
    _agrees(incident["verdict"], truth(CRASH))


def test_a_resident_agent_ships_by_itself(machine: MakeMachine, analyzer: Analyzer) -> None:
    node = machine("node1")
    node.boots(SECOND, DIED_S + 60)
    analyzer.kill()
    with (node.folder / "agent.log").open("wb") as log:
        daemon = subprocess.Popen([BIN / "necropsy-agent", "run", "--config", node.config], stderr=log)
    try:
        node.finds(CRASH)
        analyzer.start()
        incidents = _within(60, node.incidents)
    finally:
        daemon.terminate()
        assert daemon.wait(timeout=60) == 0, (node.folder / "agent.log").read_text()
    _agrees(incidents[0]["verdict"], truth(CRASH))


def test_a_second_record_of_the_same_death_makes_a_new_revision(
    machine: MakeMachine, analyzer: Analyzer
) -> None:
    node = machine("node1")
    node.boots(FIRST, DIED_S - 600)
    node.looks()
    node.boots(SECOND, DIED_S + 60)
    node.finds(CRASH)
    node.looks()
    (before,) = node.incidents()
    stamp = f"{datetime.fromtimestamp(DIED_S, UTC):%Y%m%d%H%M}"
    folder = node.root / "var/crash" / stamp
    folder.mkdir(parents=True)
    log = folder / f"dmesg.{stamp}"
    log.write_bytes(_dmesg(CRASH))
    os.utime(log, (DIED_S + 5, DIED_S + 5))
    node.looks()
    (after,) = node.incidents()
    assert (before["revision"], after["revision"]) == (1, 2)
    assert (after["id"], after["boot"]) == (before["id"], before["boot"])
    assert set(before["made_of"]) < set(after["made_of"])
    assert len(after["revisions"]) == 2
    _agrees(after["verdict"], truth(CRASH))
    assert after["verdict"]["fingerprint"] == before["verdict"]["fingerprint"]
    first = json.loads(analyzer.run("show", "1", "--revision", "1", "--format", "json").stdout)
    assert first["verdict"] == before["verdict"]


def _recorded() -> list[str]:
    return sorted({path.parents[4].name for path in CRASHES.glob("*/host/sys/fs/pstore/*")})


def test_every_recorded_crash_gets_the_verdict_that_triage_gives(
    machine: MakeMachine, analyzer: Analyzer
) -> None:
    crashes = _recorded()
    assert len(crashes) > 15
    for number, crash in enumerate(crashes):
        node = machine(f"node{number}")
        node.boots(SECOND, DIED_S + 86_400)
        node.finds(crash)
        node.looks()
    shipped = {one["host"]: one for one in analyzer.diagnosed()}
    paths = [CRASHES / crash / "host/sys/fs/pstore" for crash in crashes]
    done = subprocess.run(
        [BIN / "necropsy", "triage", "--format", "jsonl", *paths], stdout=subprocess.PIPE, check=True,
        env=analyzer.environment(), timeout=120,
    )  # fmt: skip
    for number, (crash, line) in enumerate(zip(crashes, done.stdout.splitlines(), strict=True)):
        offline = json.loads(line)
        for field in ("cause", "confidence", "mechanism", "title", "fingerprint", "fatal"):
            assert shipped[f"node{number}"][field] == offline[field], (crash, field)


def test_a_recorded_crash_can_be_replayed_by_hand() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "fixtures" / "replay.py", "--once", CRASHES / CRASH],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "driver.external" in done.stdout
    assert "$ necropsy-agent once --config" in done.stdout
    if shutil.which("make") is None:
        pytest.skip("make is not installed: its recipe is not looked at")
    recipe = subprocess.run(
        ["make", "-n", "run", "ONCE=1"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "fixtures/replay.py --once 'fixtures/crashes/null-deref@6.1'" in recipe.stdout


def _dmesg(crash: str) -> bytes:
    """Write a recorded crash's kernel log as kdump's capture kernel does."""
    with zstandard.open(CRASHES / crash / "kmsg.zst", "rb") as file:
        records = file.read().decode("utf-8", "replace").split("\n")
    joined: list[str] = []
    for line in records:
        if line.startswith(" ") and joined:
            joined[-1] += f"\n{line}"
        elif line:
            joined.append(line)
    text, damage = kernel_text([KernelLog(records=tuple(joined))])
    assert not damage
    return text


def _within(seconds: float, look: Callable[[], Any]) -> Any:
    """Look again until there is something to be seen."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        with contextlib.suppress(subprocess.CalledProcessError):
            if found := look():
                return found
        time.sleep(0.1)
    raise AssertionError(f"nothing within {seconds:g} s")
