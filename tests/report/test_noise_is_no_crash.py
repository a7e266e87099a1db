"""What looks like a crash and is none: boot messages, settings, quotations, corrected errors."""

from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from necropsy_analyzer.report.report import Report

Reports = Callable[[str | bytes], tuple[Report, ...]]
HEALTHY = Path(__file__).parents[2] / "fixtures" / "healthy"

NOISE = """\
Kernel command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro panic=1 oops=panic softlockup_panic=1 nmi_watchdog=panic
Kernel command line: BUG=1 hung_task_panic=1 panic_on_warn=1 crashkernel=256M
kexec_core: Starting new kernel
Reserving 256MB of memory at 592MB for crashkernel (System RAM: 16383MB)
kdump: saving to /sysroot/var/crash/127.0.0.1-2026-03-09-08:00:26/
kdump: saving vmcore-dmesg.txt complete
INFO: NMI handler (perf_event_nmi_handler) took too long to run: 1.237 msecs
perf: interrupt took too long (2501 > 2500), lowering kernel.perf_event_max_sample_rate to 79750
NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.
NMI watchdog: disabled (cpu0): hardware events not enabled
watchdog: Delayed init of the lockup detector failed: -19
soft lockup: hung tasks detection is on
a.out[1234]: segfault at 0 ip 0000000000401136 sp 00007ffd5a0a8b50 error 6 in a.out[401000+1000]
traps: x[1] general protection fault ip:7f1b2c3d4e5f sp:7ffd12345678 error:0 in libc.so.6[7f1b2c200000+156000]
traps: divide[77] trap divide error ip:401136 sp:7ffd5a0a8b50 error:0 in divide[401000+1000]
traps: illegal[78] trap invalid opcode ip:401136 sp:7ffd5a0a8b50 error:0 in illegal[401000+1000]
traps: dbg[79] trap int3 ip:401137 sp:7ffd5a0a8b50 error:0
show_signal_msg: 12 callbacks suppressed
potentially unexpected fatal signal 11.
sd 0:0:0:0: [sda] Write cache: enabled, read cache: enabled, doesn't support DPO or FUA
sda: WARNING: no partition table found
EXT4-fs (sda1): warning: mounting fs with errors, running e2fsck is recommended
EXT4-fs (sda1): mounted filesystem with ordered data mode. Opts: errors=panic
EXT4-fs (sda1): mount option "nobarrier" is deprecated; WARNING: it has no effect
XFS (sda2): Deprecated V4 format (crc=0) will not be supported after September 2030.
FAT-fs (sda1): Volume was not properly unmounted. Some data may be corrupt. Please run fsck.
Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!
RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!
MDS CPU bug present and SMT on, data leak possible.
x86/cpu: SGX disabled by BIOS.
Spectre V1 : Mitigation: usercopy/swapgs barriers and __user pointer sanitization
[Firmware Bug]: TSC_DEADLINE disabled due to Errata; please update microcode to version: 0x52 (or later)
[Firmware Warn]: GHES: Failed to read error status block address for hardware error source: 0.
ACPI BIOS Warning (bug): 32/64X length mismatch in FADT/Gpe0Block: 128/32 (20210730/tbfadt-564)
ACPI BIOS Error (bug): Could not resolve symbol [\\_SB.PCI0.LPCB.EC0.BAT1], AE_NOT_FOUND (20210730/psargs-330)
ACPI: Using ACPI (MADT) for SMP configuration information
mce: [Hardware Error]: Machine check events logged
mce: CPU0: Thermal monitoring enabled (TM1)
MCE: In-kernel MCE decoding enabled.
{1}[Hardware Error]: event severity: corrected
[Hardware Error]: Corrected error, no action required.
HEST: Enabling Firmware First mode for corrected errors.
BERT: Error records from previous boot:
EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x7d3f offset:0x0 grain:32)
snd_hda_intel 0000:00:1b.0: BUG: no codecs initialized
ALSA device list:
snd_hda_codec_hdmi hdaudioC0D2: Monitor plugged-in, Failed to power up codec ret=[-13]
sysrq: HELP : loglevel(0-9) reboot(b) crash(c) terminate-all-tasks(e) memory-full-oom-kill(f) show-backtrace-all-active-cpus(l)
SysRq : HELP : loglevel(0-9) reboot(b) crash(c) sync(s) show-task-states(t) unmount(u)
sysrq: Show Blocked State
sysrq: Emergency Sync
audit: type=1400 audit(1773043227.123:99): apparmor="DENIED" operation="open" profile="BUG" name="/proc/kernel BUG"
audit: type=1701 audit(1773043227.123:100): auid=1000 uid=1000 comm="x" exe="/bin/x" sig=11 res=1
rcu: INFO: rcu_preempt is in use, stalls are checked
rcu: Hierarchical RCU implementation.
rcu: \tRCU event tracing is enabled.
rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.
kmemleak: Kernel memory leak detector initialized (mem pool available: 15727)
KASLR enabled
kasan: KernelAddressSanitizer initialized
kfence: initialized - using 2097152 bytes for 255 objects at 0x00000000
UBSAN: Booted with CONFIG_UBSAN_TRAP
Lockdep: lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
debug: unmapping init [mem 0xffffffff82c00000-0xffffffff82e6ffff]
Freeing unused kernel image (initmem) memory: 2660K
Kernel panic=10 seconds is set
Kernel Offset: 0x3200000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)
page_owner is disabled
oom_reaper: reaped process 4711 (java), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB
Memory cgroup out of memory: Killed process 4711 (java) total-vm:4194304kB, anon-rss:1048576kB, file-rss:0kB
tail invoked oom-killer: gfp_mask=0x100dca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO), order=0, oom_score_adj=0
CPU: 0 PID: 4711 Comm: java Not tainted 6.1.0-21-amd64 #1  Debian 6.1.90-1
Call Trace:
 dump_header+0x4a/0x1f9
systemd[1]: Started Kernel panic handler.
systemd[1]: Starting Oops: show the last one...
systemd-journald[311]: Received SIGTERM; BUG: soft lockup - CPU#0 stuck for 22s! [x:1]
kubelet[811]: level=warning msg="BUG: unable to handle kernel NULL pointer dereference"
dockerd[900]: time="2026-03-09T08:00:27Z" msg="kernel BUG at fs/ext4/inode.c:1!"
usb 1-1: device descriptor read/64, error -110
usb 1-1: WARNING: device has no serial number
usbcore: registered new interface driver debug
nvme nvme0: 16/0/0 default/read/poll queues
ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x0
pcieport 0000:00:1c.0: AER: Corrected error received: 0000:03:00.0
e1000e 0000:00:1f.6 eth0: NIC Link is Down
device-mapper: multipath: Failing path 8:16.
lkdtm: No crash points registered, enable through debugfs
livepatch: enabling patch 'BUG_fix'
floppy: error 10 while reading block 0
random: 7 urandom warning(s) missed due to ratelimiting
bpfilter: Loaded bpfilter_umh pid 811
WARNING! power/level is deprecated; use power/control instead
warning: `iptables' uses legacy ethtool link settings API, iptables is old
process 'x' launched '/dev/fd/3' with NULL argv: empty string added
mdadm: sending ioctl 1261 to a partition!
Unknown kernel command line parameters "splash BUG", will be passed to user space.
task rcu_sched:11 has been running; no task blocked
*** stack smashing detected ***: terminated
free(): double free detected in tcache 2
x: stack overflow detected by the runtime
"""


@pytest.mark.parametrize("line", NOISE.splitlines())
def test_a_harmless_line_is_no_report(line: str, reports: Reports) -> None:
    for log in (f"[   12.345678] {line}\n", f"{line}\n", f"Mar  9 08:00:27 web-04 kernel: {line}\n"):
        assert reports(log) == ()


def test_all_of_them_together_are_none_either(reports: Reports) -> None:
    lines = NOISE.splitlines()
    assert reports("".join(f"[{n / 7 + 1:12.6f}] {line}\n" for n, line in enumerate(lines))) == ()


@pytest.mark.parametrize(
    "quoting",
    [
        "Mar  9 08:00:27 web-04 {0}[811]: {1}",
        "2026-03-09T08:00:27.123456+00:00 web-04 {0}[811]: {1}",
        "<30>1 2026-03-09T08:00:27Z web-04 {0} 811 - - {1}",
        "[   12.345678] {0}[811]: {1}",
        '{{"_TRANSPORT":"stdout","SYSLOG_IDENTIFIER":"{0}","MESSAGE":"{1}"}}',
    ],
)
@pytest.mark.parametrize("program", ["kubelet", "systemd", "dockerd"])
@pytest.mark.parametrize(
    "said",
    [
        "Kernel panic - not syncing: Fatal exception",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1]",
        "[   11.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "INFO: task dd:120 blocked for more than 120 seconds.",
    ],
)
def test_a_program_that_quotes_the_kernel_is_not_the_kernel(
    quoting: str, program: str, said: str, reports: Reports
) -> None:
    assert reports(quoting.format(program, said) + "\n") == ()


@pytest.mark.parametrize("folder", sorted(HEALTHY.iterdir()), ids=lambda folder: folder.name)
def test_healthy_machines_have_no_report(folder: Path, reports: Reports) -> None:
    for name in ("console.log.zst", "kmsg.zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress((folder / name).read_bytes())
        assert [report.title for report in reports(data)] == []
