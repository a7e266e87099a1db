"""Evidence that no message holds: whose code it was, what an address is, what machine, what came first."""

import pytest

from necropsy_agent.wire import Boot, HardwareEvent
from necropsy_analyzer.evidence import address
from necropsy_analyzer.evidence.collect import collect
from necropsy_analyzer.evidence.evidence import Evidence
from necropsy_analyzer.evidence.knowledge import Knowledge
from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.lines import read

OOPS = """\
[   12.345678] BUG: unable to handle page fault for address: {address}
[   12.345700] #PF: error_code(0x0000) - not-present page
[   12.345710] Oops: 0000 [#1] PREEMPT SMP PTI
[   12.345715] Modules linked in: {modules}
[   12.345720] CPU: 3 PID: 771 Comm: {process} {taint} 6.1.0-18-amd64 #1  Debian 6.1.76-1
[   12.345721] Hardware name: {hardware}
[   12.345730] RIP: 0010:{culprit}
[   12.345740] Call Trace:
[   12.345750]  <TASK>
[   12.345760]  {caller}
[   12.345770]  generic_shutdown_super+0x7d/0x110
[   12.345780]  </TASK>
[   12.345785] ---[ end trace 0000000000000000 ]---
"""
REAL = "Dell Inc. PowerEdge R650/0, BIOS 1.2 01/02/2022"
GUEST = "QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014"


def _oops(**fields: str) -> str:
    given = {
        "address": "ffffc90000a31018",
        "modules": "ext4 mbcache",
        "process": "worker",
        "taint": "Not tainted",
        "hardware": REAL,
        "culprit": "ext4_put_super+0x1c/0x40 [ext4]",
        "caller": "ext4_kill_sb+0x27/0x60 [ext4]",
    }
    return OOPS.format(**(given | fields))


def _seen(
    text: str, known: Knowledge, boot: Boot | None = None, hardware: tuple[HardwareEvent, ...] = ()
) -> dict[str, Evidence]:
    log = read(text.encode())
    return {item.rule: item for item in collect(log, find(log, known.frames), known, boot, hardware)}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0x6B6B6B6B6B6B6B83, "address-poison"),
        (0xDEAD000000000108, "address-poison"),
        (0xDEAD000000000122, "address-poison"),
        (0xFFFB888012345678, "address-one-bit"),
        (0x7FFF888012345678, "address-one-bit"),
        (0xFFFF088012345678, None),
        (0xFF11888012345678, None),
        (0x2E657669746C7564, "address-text"),
        (0x0000000000000018, None),
        (0x0000001000000000, "address-null-one-bit"),
        (0x0000100000000018, "address-null-one-bit"),
        (0xFFFF888012345678, None),
        (0x00007F3C2A9D1000, None),
        (0x0000000100000000, "address-null-one-bit"),
    ],
)
def test_an_address_tells_how_it_came_to_be(value: int, name: str | None) -> None:
    assert address.finding(value, {}, noncanonical=False) == name


def test_old_kernels_give_no_address_and_the_registers_tell() -> None:
    registers = {"RAX": 0xFFFF888012345678, "RDI": 0xFFFB888012345678, "EFLAGS": 0x10246}
    assert address.finding(None, registers, noncanonical=True) == "address-one-bit"
    assert address.finding(None, registers, noncanonical=False) is None


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (
            {
                "taint": "Tainted: G           OE",
                "modules": "vendor(OE) ext4",
                "culprit": "vendor_poll+0x1/0x40 [vendor]",
            },
            "external-culprit",
        ),
        (
            {
                "taint": "Tainted: P           O",
                "modules": "vendor(PO) ext4",
                "caller": "vendor_poll+0x1/0x40 [vendor]",
            },
            "external-in-stack",
        ),
        ({"taint": "Tainted: G           OE", "modules": "vendor(OE) ext4"}, "external-loaded"),
        ({"taint": "Tainted: G      D", "modules": "vendor(O) ext4"}, "external-loaded"),
        (
            {"taint": "Tainted: G           OE", "modules": "vendor(OE+) ext4", "process": "modprobe"},
            "external-loading",
        ),
        ({}, "untainted"),
        ({"taint": "Tainted: G        W"}, "untainted"),
    ],
)
def test_it_is_told_whose_module_it_was(fields: dict[str, str], name: str, shipped: Knowledge) -> None:
    seen = _seen(_oops(**fields), shipped)
    assert {rule for rule in seen if rule.startswith("external-") or rule == "untainted"} == {name}


def test_a_defect_in_an_external_module_is_the_modules(shipped: Knowledge) -> None:
    taint = {"taint": "Tainted: G           OE", "modules": "vendor(OE) ext4"}
    seen = _seen(_oops(culprit="vendor_poll+0x1c/0x40 [vendor]", **taint), shipped)
    kind = seen["mechanism-bad-page-fault"].supports
    assert kind["driver.external"] > 5 * kind["kernel.bug"]
    assert seen["external-culprit"].line == 7


@pytest.mark.parametrize(
    ("module", "external"), [("xfs", False), ("snd-hda-intel", False), ("vendorfs", True), ("zfs", True)]
)
def test_a_module_of_the_kernels_tree_is_known_without_the_list_of_modules(
    module: str, external: bool, shipped: Knowledge
) -> None:
    whole = _oops(taint="Tainted: P           O", culprit=f"vendor_poll+0x1c/0x40 [{module}]")
    log = "".join(line for line in whole.splitlines(keepends=True) if "Modules linked in" not in line)
    assert ("external-culprit" in _seen(log, shipped)) == external


def test_a_module_known_by_name_is_external_in_a_cut_off_trace(shipped: Knowledge) -> None:
    seen = _seen("[   1.000000] RIP: 0010:spa_taskq_dispatch_ent+0xb0/0xc0 [zfs]\n", shipped)
    assert seen["external-in-stack"].line == 1


CUT = "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000018\n"


@pytest.mark.parametrize(
    ("log", "name"),
    [
        (
            "[   12.300000] vendorfs: loading out-of-tree module taints kernel.\n" + CUT,
            "external-spoke-before",
        ),
        ("[   12.300000] NVRM: GPU 0000:65:00.0: adapter failed to start\n" + CUT, "external-spoke-before"),
        ("[    9.300000] vendorfs: loading out-of-tree module taints kernel.\n" + CUT, None),
        ("[   12.300000] EXT4-fs (sda2): mounted filesystem with ordered data mode\n" + CUT, None),
        (CUT + "[   12.345700] IP: [<ffffffffc0a5549f>] _nv014411rm+0x1f/0x170\n", "external-culprit"),
        (CUT + "[   12.345700] IP: [<ffffffffc0a5549f>] nouveau_drm_open+0x1f/0x170 [nouveau]\n", None),
        (
            "[   11.100000]  [<ffffffffa006e47a>] sf_fill_super+0x33a/0x590 [vboxsf]\n"
            + CUT
            + "[   12.345700] IP: [<ffffffff810fb1a1>] from_kuid+0x1/0x70\n",
            "external-in-stack",
        ),
    ],
)
def test_a_cut_report_is_given_to_whom_names_and_neighbours_tell(
    log: str, name: str | None, shipped: Knowledge
) -> None:
    told = {rule for rule in _seen(log, shipped) if rule.startswith("external-")}
    assert told == (set() if name is None else {name})


def test_a_list_of_modules_without_a_trace_leaves_open_whose_code_it_was(shipped: Knowledge) -> None:
    log = (
        "[  900.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 23s! [kworker/0:2:811]\n"
        "[  900.000002] Modules linked in: vendorfs(O) ext4 mbcache\n"
    )
    assert "external-unseen" in _seen(log, shipped)


def test_a_signal_of_the_hardware_is_not_put_on_a_module_that_was_merely_loaded(shipped: Knowledge) -> None:
    log = (
        "[  734.100000] Kernel panic - not syncing: NMI: Not continuing\n"
        "[  734.100002] CPU: 3 PID: 0 Comm: swapper/3 Tainted: P           OE  5.4.0-42-generic #46-Ubuntu\n"
    )
    assert "external-unseen" not in _seen(log, shipped)


def test_entries_of_a_trace_that_are_all_doubtful_are_better_than_none(shipped: Knowledge) -> None:
    log = (
        "[  900.000001] INFO: task nfsd:2211 blocked for more than 120 seconds.\n"
        "[  900.000002] Call Trace:\n"
        "[  900.000003]  [<ffffffff8134fb74>] ? __mutex_lock_common+0xff/0x164\n"
        "[  900.000004]  [<ffffffffa0b46a6c>] ? zfs_zget+0x39/0x19c [zfs]\n"
    )
    assert {"external-culprit", "external-in-stack"} & _seen(log, shipped).keys()


@pytest.mark.parametrize(
    ("before", "alone"),
    [
        ("", True),
        (
            "[    9.000000] blk_update_request: critical medium error, dev sda, sector 536 op 0x0:(READ)\n",
            False,
        ),
        ("[    9.000000] loop: Write error at byte offset 40960, length 4096.\n", False),
        (
            '[    9.000000] XFS (sda1): metadata I/O error in "xlog_bread" at daddr 0x2 len 1 error 5\n',
            False,
        ),
    ],
)
def test_a_file_system_whose_device_said_nothing_failed_by_itself(
    before: str, alone: bool, shipped: Knowledge
) -> None:
    log = (
        before
        + "[    9.500000] EXT4-fs error (device sda2): ext4_journal_start:83: Detected aborted journal\n"
    )
    assert ("file-system-alone" in _seen(log, shipped)) == alone


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("CPU: 1 PID: 634 Comm: snapd Not tainted 5.15.153.1-microsoft-standard-WSL2 #1", "guest"),
        ("Modules linked in: virtio_balloon virtio_net net_failover ext4", "guest"),
        ("Modules linked in: qemu_fw_cfg ip_tables ext4", "guest"),
        ("Modules linked in: kvm_intel kvm vhost_net tun ext4", None),
        ("EXT4-fs (vda3): re-mounted. Opts: errors=remount-ro", "guest"),
        ("blkfront: xvdb: flush diskcache: enabled; persistent grants: enabled", "guest"),
        ("EXT4-fs (sda3): re-mounted. Opts: errors=remount-ro", None),
    ],
)
def test_a_guest_is_told_by_its_kernel_and_drivers_where_its_name_is_cut(
    line: str, name: str | None, shipped: Knowledge
) -> None:
    log = f"[  900.000001] BUG: soft lockup - CPU#1 stuck for 22s! [snapd:634]\n[  900.000002] {line}\n"
    assert {"guest", "bare-metal"} & _seen(log, shipped).keys() == ({name} if name else set())


def test_an_idle_processor_caught_in_its_first_interrupt_was_not_run(shipped: Knowledge) -> None:
    log = (
        "[  900.000001] watchdog: BUG: soft lockup - CPU#3 stuck for 25s! [swapper/3:0]\n"
        "[  900.000002] CPU: 3 PID: 0 Comm: swapper/3 Not tainted 6.5.3 #1\n"
        "[  900.000003] RIP: 0010:__do_softirq+0x7c/0x2c8\n"
    )
    assert "stalled-in-idle" in _seen(log, shipped)
    assert "stalled-in-idle" not in _seen(log.replace("swapper/3", "fio"), shipped)


@pytest.mark.parametrize(
    ("hardware", "name"),
    [
        (REAL, "bare-metal"),
        (GUEST, "guest"),
        ("VMware, Inc. VMware Virtual Platform/440BX, BIOS 6.00 07/22/2020", "guest"),
        ("Microsoft Corporation Virtual Machine/Virtual Machine, BIOS 090008  12/07/2018", "guest"),
        ("Amazon EC2 m5.large/, BIOS 1.0 10/16/2017", "guest"),
        ("Amazon EC2 m5.metal/, BIOS 1.0 10/16/2017", "bare-metal"),
        ("Google Google Compute Engine/Google Compute Engine, BIOS Google 01/01/2011", "guest"),
    ],
)
def test_guests_are_told_from_machines(hardware: str, name: str, shipped: Knowledge) -> None:
    seen = _seen(_oops(hardware=hardware), shipped)
    assert {"guest", "bare-metal"} & seen.keys() == {name}


def test_hardware_that_reports_itself_is_believed_in_a_guest_too(shipped: Knowledge) -> None:
    mce = "[    9.000000] mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 7: be00000001010091\n"
    assert "guest" in _seen(_oops(hardware=GUEST), shipped)
    assert "guest" not in _seen(mce + _oops(hardware=GUEST), shipped)


def test_memory_errors_before_an_oops_explain_it(shipped: Knowledge) -> None:
    name = "memory-errors-then-oops"
    message = (
        "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7d3f)"
    )
    before = _seen(f"[    9.000000] {message}\n{_oops()}", shipped)
    assert before[name].supports["hardware.memory"] > 0
    assert before[name].line == 1
    assert name not in _seen(f"{_oops()}[   99.000000] {message}\n", shipped)
    assert name not in _seen(_oops(), shipped)


def test_a_failing_disk_explains_its_file_system(shipped: Knowledge) -> None:
    log = (
        "[    9.000000] blk_update_request: critical medium error, dev sda, sector 536 op 0x0:(READ)\n"
        "[    9.100000] EXT4-fs error (device sda): __ext4_get_inode_loc:4433: inode #12: block 67: comm ls: "
        "unable to read itable block\n"
    )
    found = _seen(log, shipped)["io-errors-then-filesystem"]
    assert (found.mechanism, found.line) == ("io_error", 1)


def test_what_gave_up_first_explains_who_waits_for_it(shipped: Knowledge) -> None:
    hung = "[  900.000001] INFO: task ls:2211 blocked for more than 120 seconds.\n"
    panic = "[  700.000001] SPLError: 912:0:(zil.c:812:zil_replay()) SPL PANIC\n"
    assert _seen(panic + hung, shipped)["module-gave-up-then-wait"].mechanism == "bug"
    assert "module-gave-up-then-wait" not in _seen(hung + panic, shipped)


def _boot(end: str) -> Boot:
    return Boot(release="6.1.0", started_wall_ns=0, end=end, proof=("no clean end in wtmp",))  # type: ignore[arg-type]


def test_an_unclean_end_without_a_word_is_evidence_of_silence(shipped: Knowledge) -> None:
    quiet = "[    1.000000] usb 1-1: new high-speed USB device number 2 using xhci_hcd\n"
    silent = _seen(quiet, shipped, _boot("unclean"))["ended-unclean"]
    assert silent.text == "no clean end in wtmp"
    assert silent.supports["unknown.silent"] > 1
    assert "ended-unclean" not in _seen(quiet, shipped, _boot("clean"))
    assert "ended-unclean" not in _seen(_oops(), shipped, _boot("unclean"))


@pytest.mark.parametrize(
    ("component", "device", "cause", "culprit"),
    [
        ("memory", "DIMM_A1", "hardware.memory", {"dimm": "DIMM_A1"}),
        ("dimm", "DIMM_A1", "hardware.memory", {"dimm": "DIMM_A1"}),
        ("processor", "3", "hardware.cpu", {"cpu": "3"}),
        ("pcie", "0000:3b:00.0", "hardware.pcie", {"device": "0000:3b:00.0"}),
        ("Disk", "sda", "hardware.storage", {"device": "sda"}),
        ("psu", None, "hardware.power_thermal", {}),
        ("fan", None, "hardware.power_thermal", {}),
    ],
)
def test_hardware_events_are_evidence(
    component: str, device: str | None, cause: str, culprit: dict[str, str], shipped: Knowledge
) -> None:
    events = tuple(
        HardwareEvent(
            source="ras", component=component, device=device, severity="fatal", message="broken", count=2
        )
        for _ in range(3)
    )
    found = _seen("", shipped, None, events)["hardware-event-fatal"]
    assert (found.count, found.text, found.culprit, found.fault) == (6, "broken", culprit, True)
    assert found.supports[cause] > 2


def test_events_of_unknown_parts_and_mere_news_are_no_evidence(shipped: Knowledge) -> None:
    events = (
        HardwareEvent(source="sel", component="chassis lid", severity="fatal"),
        HardwareEvent(source="sel", component="memory", severity="info"),
    )
    assert not any(rule.startswith("hardware-event") for rule in _seen("", shipped, None, events))


def test_every_finding_that_is_told_of_is_made_somewhere(shipped: Knowledge) -> None:
    from necropsy_analyzer.evidence import external, features, quoted

    made = "".join(
        module.__loader__.get_source(module.__name__) or ""  # type: ignore[union-attr]
        for module in (features, external, address, quoted)
    )
    assert [name for name in shipped.features.findings if f'"{name}"' not in made] == []


def test_a_prompt_on_the_console_before_the_kernels_words_is_not_what_is_quoted(shipped: Knowledge) -> None:
    seen = _seen(f"node7 login: {_oops()}", shipped)
    first = [item for item in seen.values() if item.line == 1]
    assert first
    assert all("login" not in item.text for item in first)
