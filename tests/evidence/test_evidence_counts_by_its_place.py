"""How much a hit counts: where it stands, how often it was seen, who said it. Weights are log-odds."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from necropsy_analyzer.evidence.collect import collect
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.lines import read

RULES = """\
- id: widget
  title: a widget broke
  origin: "drivers/widget.c"
  match: 'widget (?P<device>w\\d+) broke'
  mechanism: io_error
  severity: fault
  supports: {hardware.storage: 2.0, kernel.bug: -1.0}
  culprit: {device: device, filesystem: '=widgetfs'}
  examples: [{text: 'widget w1 broke'}]
  counterexamples: [{text: 'widget w1 works', because: it works}]
- id: shady
  title: not sure yet
  state: shadow
  origin: "drivers/widget.c"
  match: 'widget \\w+ broke'
  severity: fatal
  mechanism: mce
  supports: {hardware.cpu: 5.0}
  culprit: {device: '=x'}
  examples: [{text: 'widget w1 broke'}]
  counterexamples: [{text: 'widget w1 works', because: it works}]
- id: gone
  title: no longer
  state: retired
  origin: "drivers/widget.c"
  match: 'widget \\w+ broke'
  supports: {hardware.cpu: 5.0}
  examples: [{text: 'widget w1 broke'}]
  counterexamples: [{text: 'widget w1 works', because: it works}]
- id: daemon
  title: the widget daemon gave up
  speaker: any
  origin: "widgetd"
  match: '(?P<process>\\w+)\\[\\d+\\]: lost the widgets'
  supports: {resource.exhaustion: 1.0}
  culprit: {process: process}
  examples: [{text: 'widgetd[1]: lost the widgets'}]
  counterexamples: [{text: 'widgetd[1]: found the widgets', because: it found them}]
- id: waits-for-nfs
  title: waits for a server
  origin: "net/sunrpc"
  report: {mechanism: [hung_task], frames: ['rpc_wait_*'], depth: 4}
  supports: {storage.stall: 3.0}
  examples: [{text: 'x'}]
  counterexamples: [{text: 'y', because: no report}]
"""

OOPS = """\
[{at}.345678] BUG: kernel NULL pointer dereference, address: 0000000000000018
[{at}.345700] #PF: error_code(0x0000) - not-present page
[{at}.345710] Oops: 0000 [#{n}] PREEMPT SMP PTI
[{at}.345720] CPU: 3 PID: 771 Comm: worker {taint} 6.1.0-18-amd64 #1  Debian 6.1.76-1
[{at}.345721] Hardware name: Dell Inc. PowerEdge R650/0, BIOS 1.2 01/02/2022
[{at}.345730] RIP: 0010:{function}+0x1c/0x40
[{at}.345740] Call Trace:
[{at}.345750]  <TASK>
[{at}.345760]  generic_shutdown_super+0x7d/0x110
[{at}.345775] widget w7 broke
[{at}.345780]  </TASK>
[{at}.345785] ---[ end trace 0000000000000000 ]---
"""


@pytest.fixture(scope="module")
def known(know: Callable[[str], Knowledge]) -> Knowledge:
    return know(RULES)


def _oops(at: int, n: int = 1, taint: str = "Not tainted", function: str = "ext4_put_super") -> str:
    return OOPS.format(at=at, n=n, taint=taint, function=function)


def _seen(text: str, known: Knowledge) -> dict[str, Evidence]:
    log = read(text.encode())
    return {item.rule: item for item in collect(log, find(log, known.frames), known)}


def test_a_hit_counts_what_its_rule_says(known: Knowledge) -> None:
    item = _seen("[    1.000000] all is well\n[    2.500000] widget w3 broke\n", known)["widget"]
    assert (item.line, item.text, item.time_s) == (2, "widget w3 broke", 2.5)
    assert item.supports == {"hardware.storage": 2.0, "kernel.bug": -1.0}
    assert item.culprit == {"device": "w3", "filesystem": "widgetfs"}
    assert (item.mechanism, item.fault, item.fatal, item.count) == ("io_error", True, False, 1)


def test_hits_seen_again_count_less_and_less_more(known: Knowledge) -> None:
    weights = []
    for count in (1, 2, 10, 100, 10_000_0):
        text = "".join(
            f"[{number // 100:5d}.{number % 100:06d}] widget w1 broke\n" for number in range(count)
        )
        item = _seen(text, known)["widget"]
        assert item.count == count
        assert item.line == 1
        weights.append(item.supports["hardware.storage"])
    assert weights == sorted(weights)
    assert weights[1] < 1.2 * weights[0]
    assert weights[-1] <= known.fusion.repeat_limit * weights[0]


def test_a_shadow_rule_is_seen_and_does_not_count(known: Knowledge) -> None:
    item = _seen("[    2.500000] widget w3 broke\n", known)["shady"]
    assert (item.supports, item.fault, item.fatal, item.mechanism, item.culprit) == (
        {},
        False,
        False,
        None,
        {},
    )


def test_a_retired_rule_is_not_asked(known: Knowledge) -> None:
    assert "gone" not in _seen("[    2.500000] widget w3 broke\n", known)


@pytest.mark.parametrize(
    "line",
    [
        "Nov 12 10:11:12 host1 app[812]: widget w3 broke",
        "Nov 12 10:11:12 host1 systemd[1]: widget w3 broke",
        "<30>Nov 12 10:11:12 host1 smartd[71]: widget w3 broke",
    ],
)
def test_what_another_program_says_does_not_count(line: str, known: Knowledge) -> None:
    assert "widget" not in _seen(f"{line}\n", known)
    assert "widget" in _seen("Nov 12 10:11:12 host1 kernel: widget w3 broke\n", known)


@pytest.mark.parametrize(
    "line",
    [
        "Nov 12 10:11:12 host1 widgetd[812]: lost the widgets",
        "2026-11-12T10:11:12.000001+00:00 host1 widgetd[812]: lost the widgets",
        "[   12.500000] widgetd[812]: lost the widgets",
        '{"MESSAGE":"lost the widgets","_TRANSPORT":"syslog","SYSLOG_IDENTIFIER":"widgetd","_PID":"812"}',
    ],
)
def test_a_rule_about_a_program_hears_it_in_any_log(line: str, known: Knowledge) -> None:
    assert _seen(f"{line}\n", known)["daemon"].culprit == {"process": "widgetd"}


def test_an_aftershock_counts_less_than_what_came_first(known: Knowledge) -> None:
    first = _oops(12).replace("[12.345775] widget w7 broke\n", "")
    text = first + _oops(14, 2, "Tainted: G      D", "kfree")
    item = _seen(text, known)["widget"]
    assert item.supports["hardware.storage"] == pytest.approx(2.0 * known.fusion.aftershock_share)
    assert _seen(_oops(12), known)["widget"].supports["hardware.storage"] == 2.0


def test_the_first_hit_that_counts_in_full_is_quoted(known: Knowledge) -> None:
    text = "[    5.000000] widget w1 broke\n" + _oops(12) + _oops(14, 2, "Tainted: G      D", "kfree")
    item = _seen(text, known)["widget"]
    assert (item.line, item.text, item.count) == (1, "widget w1 broke", 3)
    # Two of the three hits count in full, and only they are repeats of each other.
    assert 2.0 < item.supports["hardware.storage"] < 2.2


def test_what_comes_after_the_last_words_counts_less(known: Knowledge) -> None:
    panic = "[   13.000000] Kernel panic - not syncing: Fatal exception\n"
    text = _oops(12).replace("[12.345775] widget w7 broke\n", "") + panic + "[   29.000000] widget w1 broke\n"
    item = _seen(text, known)["widget"]
    assert item.supports["hardware.storage"] == pytest.approx(2.0 * known.fusion.afterwards_share)


def test_another_boot_of_the_log_counts_less(known: Knowledge) -> None:
    boot = "[    0.000000] Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org)\n"
    oops = _oops(12).replace("[12.345775] widget w7 broke\n", "")
    text = f"{boot}[    7.000000] widget w1 broke\n{boot}{oops}"
    item = _seen(text, known)["widget"]
    assert item.supports["hardware.storage"] == pytest.approx(2.0 * known.fusion.other_boot_share)


def test_a_rule_looks_at_parsed_reports(known: Knowledge) -> None:
    hung = """\
[  242.000000] INFO: task dd:812 blocked for more than 120 seconds.
[  242.000001]       Not tainted 6.1.0-13-amd64 #1 Debian 6.1.55-1
[  242.000003] task:dd              state:D stack:0     pid:812   ppid:1      flags:0x00000002
[  242.000004] Call Trace:
[  242.000005]  <TASK>
[  242.000006]  __schedule+0x34d/0x9e0
[  242.000007]  schedule+0x5a/0xd0
[  242.000008]  {frame}+0x22/0x80
[  242.000009]  nfs4_do_close+0x1c1/0x2f0
[  242.000010]  </TASK>
"""
    item = _seen(hung.format(frame="rpc_wait_bit_killable"), known)["waits-for-nfs"]
    assert (item.line, item.text) == (8, "rpc_wait_bit_killable+0x22/0x80")
    assert item.supports == {"storage.stall": 3.0}
    assert "waits-for-nfs" not in _seen(hung.format(frame="? rpc_wait_bit_killable"), known)
    assert "waits-for-nfs" not in _seen(hung.format(frame="io_schedule"), known)


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.text(max_size=60),
            st.sampled_from([*_oops(12).splitlines(), "[   1.0] widget w1 broke", "\x00"]),
        ),
        max_size=30,
    )
)
def test_no_text_makes_it_fail(lines: list[str], shipped: Knowledge) -> None:
    log = read("\n".join(lines).encode("utf-8", "surrogatepass"))
    for item in collect(log, find(log, shipped.frames), shipped):
        assert item.rule
        assert item.title
        assert set(item.supports) <= set(shipped.causes)
