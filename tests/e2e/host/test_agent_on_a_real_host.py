"""The agent on a Debian that boots, dies and comes back: installed by the README, its unit as shipped."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e.host.conftest import NAME, Host, Installed

from necropsy_agent.wire import Boot, CrashRecord, Event, VmcoreReport, unpack

pytestmark = pytest.mark.guest

Boots = Callable[..., Host]
Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a figure whatever pytest does with output."""

    def said(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return said


def test_readmes_steps_leave_a_service_that_is_well(installed: Installed) -> None:
    status = installed.printed["status of the service"]
    assert "Active: active (running)" in status, status
    assert "enabled" in status
    assert re.search(r'Status: "all is well"', status), status
    assert installed.printed["warnings"] == ""
    assert "the configuration can be used" in installed.printed["Configure"]
    agent = installed.printed["status of the agent"]
    assert re.search(r"^analyzer  last reached \d{4}-", agent, re.M), agent
    assert "failed  " not in agent, agent
    assert re.search(rf"{NAME}\s+active", installed.printed["hosts list"])


def test_a_panic_is_explained_after_the_reboot(boot: Boots, say: Say) -> None:
    host = boot()
    died = host.machine.boot_id()
    host.machine.panic()
    after = host.machine.booted(died)
    host.arrived(after, "boot", "crash.record")
    host.settled()
    assert {"pstore", "journal"} == {record.origin for record in _records(host)}
    incident = host.incident(died)
    _is_a_forced_panic(incident)
    say(f"panic in pstore: {_times(host, incident)}")


def test_a_power_cut_is_told_from_a_reboot(boot: Boots, say: Say) -> None:
    host = boot()
    assert host.analyzer.incidents() == []
    died = host.machine.boot_id()
    host.machine.cut_power()
    after = host.machine.switch_on()
    host.arrived(after, "boot")
    host.settled()
    incident = host.incident(died)
    assert (incident["cause"], incident["mechanism"]) == ("unknown.silent", "reset_no_log")
    say(f"power cut: {_times(host, incident)}")
    again = host.machine.reboot()
    host.arrived(again, "boot")
    host.settled()
    assert host.incident(died)["id"] == incident["id"]
    ends = {event.boot: _boot(event).end for event in host.events("boot")}
    assert (ends[after], ends[again]) == ("unclean", "clean")


# As if the dump were copied there for minutes after the reboot: the first verdict has to do without it.
SLOW_DUMP = "[sources]\ncrash_quiet_s = 150\nlook_every_s = 10\n"


def test_a_vmcore_refines_the_verdict(boot: Boots, say: Say) -> None:
    host = boot("crashkernel=256M")
    host.machine.run("cat > /etc/necropsy/agent.d/slow-dump.toml", SLOW_DUMP.encode())
    host.machine.run("systemctl start kdump-tools; kdump-config status | grep 'ready to kdump'")
    died = host.machine.boot_id()
    host.machine.panic()
    after = host.machine.booted(died, within_s=600)
    host.arrived(after, "boot")
    host.settled()
    before_dump = host.incident(died)
    assert before_dump["fatal"]
    (event,) = host.arrived(after, "vmcore.report")
    host.settled()
    report = unpack(event)
    assert isinstance(report, VmcoreReport)
    assert re.search(r"^/var/crash/\d{12}/dump\.\d{12}$", report.path)
    assert report.release == host.machine.run("uname -r").strip()
    assert report.damage == ()
    (crash,) = (record for record in _records(host) if record.origin == "kdump")
    assert crash.complete
    incident = host.incident(died)
    _is_a_forced_panic(incident)
    assert incident["id"] == before_dump["id"]
    assert incident["revision"] > before_dump["revision"]
    assert event.id in incident["made_of"]
    assert before_dump["cause"] != incident["cause"]
    say(f"kdump, {report.format} of {report.size_bytes / 1e6:.0f} MB: {_times(host, incident)}")


def test_a_crash_while_the_analyzer_is_away_arrives_later_and_once(boot: Boots, say: Say) -> None:
    host = boot()
    host.analyzer.stop()
    died = host.machine.boot_id()
    host.machine.panic()
    host.machine.booted(died)

    def waits() -> bool:
        told = host.status()
        return (
            told is not None
            and told["contact"]["failures"] > 1
            and told["outbox"]["waiting"].get("crash", 0) > 1
        )

    host.machine.wait(waits, 300, "nothing waits for the analyzer")
    host.analyzer.start()
    host.settled(within_s=600)
    keys = [record.key for record in _records(host)]
    assert len(keys) == len(set(keys)) == 2
    incident = host.incident(died)
    _is_a_forced_panic(incident)
    say(f"analyzer away: {_times(host, incident)}")


STORM = """
sysctl -q kernel.printk_devkmsg=on
dmesg -n 1
exec python3 -c '
import os
kmsg = os.open("/dev/kmsg", os.O_WRONLY)
count = os.open("/run/storm", os.O_WRONLY | os.O_CREAT)
line = b"<3>blk_update_request: I/O error, dev sdz, sector %d op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0"
n = 0
while True:
    os.write(kmsg, line % n)
    n += 1
    if n % 100 == 0:
        os.pwrite(count, b"%d" % n, 0)
'
"""
STORM_S = 60


def test_a_storm_of_messages_holds_up_neither_host_nor_report(boot: Boots, say: Say) -> None:
    host = boot()
    before = _use(host)
    host.machine.agent.start(STORM)
    time.sleep(STORM_S)
    after_storm = _use(host)
    lines = int(host.machine.run("cat /run/storm"))
    died = host.machine.boot_id()
    host.machine.panic()
    quota = 0.5  # CPUQuota=50%
    share = (after_storm.cpu_s - before.cpu_s) / (after_storm.at_s - before.at_s)
    peak, limit = (size / 1e6 for size in (after_storm.peak_bytes, after_storm.limit_bytes))
    say(f"storm of {lines / STORM_S:.0f} lines/s: {share:.0%} of a CPU, at most {peak:.0f} of {limit:.0f} MB")
    assert lines > 100 * STORM_S
    assert share <= quota * 1.1
    assert after_storm.peak_bytes <= after_storm.limit_bytes
    assert (after_storm.killed, after_storm.restarts) == (0, 0)
    after = host.machine.booted(died)
    host.arrived(after, "boot", "crash.record")
    host.settled(within_s=600)
    incident = host.incident(died)
    _is_a_forced_panic(incident)
    say(f"panic in a storm: {_times(host, incident)}")


@dataclass(frozen=True)
class Use:
    """What the agent's service has taken so far, as its control group tells."""

    at_s: float
    cpu_s: float
    peak_bytes: int
    limit_bytes: int
    killed: int
    restarts: int


def _use(host: Host) -> Use:
    told = host.machine.run(
        """cd /sys/fs/cgroup/system.slice/necropsy-agent.service
        cut -d' ' -f1 /proc/uptime
        sed -n 's/^usage_usec //p' cpu.stat
        cat memory.peak memory.max
        sed -n 's/^oom_kill //p' memory.events
        systemctl show -P NRestarts necropsy-agent"""
    ).split()
    at_s, cpu_us, *rest = told
    return Use(float(at_s), int(cpu_us) / 1e6, *map(int, rest))


def _is_a_forced_panic(incident: dict[str, Any]) -> None:
    assert incident["fatal"]
    assert (incident["cause"], incident["mechanism"]) == ("operator.induced", "sysrq")


def _times(host: Host, incident: dict[str, Any]) -> str:
    """Say when each verdict was made, counted from the agent's start after the reboot."""
    started_s = host.agent_started_s()
    return "verdict " + ", ".join(
        f"{one.made_ns / 1e9 - started_s:.1f} s ({one.verdict.cause} {one.verdict.confidence:.0%})"
        for one in host.revisions(incident["id"])
    )


def _records(host: Host) -> list[CrashRecord]:
    bodies = [unpack(event) for event in host.events("crash.record")]
    return [body for body in bodies if isinstance(body, CrashRecord)]


def _boot(event: Event) -> Boot:
    body = unpack(event)
    assert isinstance(body, Boot)
    return body
