"""Each kind of report, of old and new kernels and of several architectures: what it says stands in its fields."""

from collections.abc import Callable
from typing import Any

import pytest

from necropsy_analyzer.report.report import Report

Reports = Callable[[str | bytes], tuple[Report, ...]]

X86_NEW = """\
[  102.118101] BUG: unable to handle page fault for address: ffffc90000a41018
[  102.118110] #PF: supervisor write access in kernel mode
[  102.118112] #PF: error_code(0x0002) - not-present page
[  102.118119] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI
[  102.118131] CPU: 5 UID: 0 PID: 2210 Comm: kworker/5:1 Tainted: G        W  O       6.12.9-amd64 #1  Debian 6.12.9-1
[  102.118140] Tainted: [W]=WARN, [O]=OOT_MODULE
[  102.118142] Hardware name: Supermicro SYS-6029P/X11DPi-N, BIOS 3.3 02/21/2020
[  102.118150] Workqueue: events vnic_unmap_work [vnic]
[  102.118161] RIP: 0010:vnic_unmap+0x41/0x90 [vnic]
[  102.118170] RSP: 0018:ffffb5c0803efd98 EFLAGS: 00010246
[  102.118174] RAX: ffffc90000a41018 RBX: ffff8d9b0127c200 RCX: 0000000000000001
[  102.118190] Call Trace:
[  102.118192]  <TASK>
[  102.118200]  vnic_unmap_work+0x1a/0x30 [vnic]
[  102.118210]  process_one_work+0x184/0x3a0
[  102.118214]  worker_thread+0x2e8/0x410
[  102.118220]  kthread+0xf0/0x120
[  102.118224]  ret_from_fork_asm+0x1a/0x30
[  102.118230]  </TASK>
[  102.118232] Modules linked in: vnic(O) nvme nvme_core
[  102.118240] ---[ end trace 0000000000000000 ]---
"""
RHEL7 = """\
[ 8127.300112] BUG: unable to handle kernel NULL pointer dereference at 0000000000000038
[ 8127.300140] IP: [<ffffffffc0a1b2d4>] bond_poll_one+0x24/0x80 [vbond]
[ 8127.300155] PGD 0
[ 8127.300160] Oops: 0000 [#1] SMP
[ 8127.300171] Modules linked in: vbond(OE) ip6table_filter iptable_filter ip_tables xfs libcrc32c
[ 8127.300175]  sd_mod crc_t10dif [last unloaded: vbond]
[ 8127.300201] CPU: 3 PID: 1127 Comm: bond0_mon Tainted: G           OE  ------------   3.10.0-1160.el7.x86_64 #1
[ 8127.300210] Hardware name: HP ProLiant DL380 Gen9/ProLiant DL380 Gen9, BIOS P89 10/17/2018
[ 8127.300219] task: ffff9a5d3b2c1040 ti: ffff9a5d3a1f0000 task.ti: ffff9a5d3a1f0000
[ 8127.300226] RIP: 0010:[<ffffffffc0a1b2d4>]  [<ffffffffc0a1b2d4>] bond_poll_one+0x24/0x80 [vbond]
[ 8127.300240] RSP: 0018:ffff9a5d3a1f3d90  EFLAGS: 00010246
[ 8127.300260] Call Trace:
[ 8127.300271]  [<ffffffffc0a1b541>] bond_monitor+0x91/0x1c0 [vbond]
[ 8127.300280]  [<ffffffff9b8bdfdf>] ? process_one_work+0x17f/0x440
[ 8127.300290]  [<ffffffff9b8bf0a6>] worker_thread+0x126/0x3c0
[ 8127.300300]  [<ffffffff9b8c5e61>] kthread+0xd1/0xe0
[ 8127.300320] Code: 48 89 e5 41 54 53 48 8b 47 38
[ 8127.300330] RIP  [<ffffffffc0a1b2d4>] bond_poll_one+0x24/0x80 [vbond]
[ 8127.300340]  RSP <ffff9a5d3a1f3d90>
[ 8127.300350] CR2: 0000000000000038
[ 8127.300360] ---[ end trace 1c2d4f2e8a9b0c3d ]---
[ 8127.300370] Kernel panic - not syncing: Fatal exception
"""
RHEL6 = """\
BUG: unable to handle kernel NULL pointer dereference at 0000000000000010
IP: [<ffffffffa01f2a11>] qreq_complete+0x11/0x60 [qstor]
PGD 1067cb067 PUD 1067cc067 PMD 0
Oops: 0000 [#1] SMP
last sysfs file: /sys/devices/system/cpu/online
CPU 2
Modules linked in: qstor(U) ext4 mbcache jbd2

Pid: 4311, comm: qstor_rx Not tainted 2.6.32-754.el6.x86_64 #1 Dell Inc. PowerEdge R710/00NH4P
RIP: 0010:[<ffffffffa01f2a11>]  [<ffffffffa01f2a11>] qreq_complete+0x11/0x60 [qstor]
RSP: 0018:ffff880106799e40  EFLAGS: 00010246
Call Trace:
 [<ffffffffa01f2c30>] qstor_rx_thread+0x80/0x110 [qstor]
 [<ffffffff810a640e>] kthread+0x9e/0xc0
 [<ffffffff8100c28a>] child_rip+0xa/0x20
Code: 48 8b 47 10
RIP  [<ffffffffa01f2a11>] qreq_complete+0x11/0x60 [qstor]
 RSP <ffff880106799e40>
CR2: 0000000000000010
---[ end trace 5f2b7c8d9e0a1b2c ]---
Kernel panic - not syncing: Fatal exception
"""
ARM64 = """\
[   41.220011] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000020
[   41.220020] Mem abort info:
[   41.220022]   ESR = 0x0000000096000004
[   41.220025]   EC = 0x25: DABT (current EL), IL = 32 bits
[   41.220040] user pgtable: 4k pages, 48-bit VAs, pgdp=0000000883e5a000
[   41.220050] [0000000000000020] pgd=0000000000000000, p4d=0000000000000000
[   41.220060] Internal error: Oops: 0000000096000004 [#1] SMP
[   41.220066] Modules linked in: hisi_ring(O) hns3 hclge
[   41.220080] CPU: 12 PID: 884 Comm: modprobe Tainted: G           O       6.6.30 #2
[   41.220086] Hardware name: Huawei TaiShan 200 (Model 2280)/BC82AMDDA, BIOS 1.85 04/20/2021
[   41.220092] pstate: 60400009 (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)
[   41.220098] pc : hisi_ring_start+0x2c/0xa0 [hisi_ring]
[   41.220104] lr : hisi_ring_probe+0x88/0x140 [hisi_ring]
[   41.220110] sp : ffff80008a3bb9d0
[   41.220112] x29: ffff80008a3bb9d0 x28: ffff0020c2f4a000 x27: 0000000000000000
[   41.220130] Call trace:
[   41.220136]  hisi_ring_start+0x2c/0xa0 [hisi_ring]
[   41.220142]  hisi_ring_probe+0x88/0x140 [hisi_ring]
[   41.220150]  local_pci_probe+0x48/0xb8
[   41.220156]  pci_device_probe+0xc0/0x248
[   41.220160]  really_probe+0xc4/0x2a8
[   41.220170]  el0t_64_sync+0x194/0x198
[   41.220180] Code: f9400001 b4000061 f9401020 d65f03c0 (f9401001)
[   41.220190] ---[ end trace 0000000000000000 ]---
[   41.220200] Kernel panic - not syncing: Oops: Fatal exception
"""
ARM64_OLD = """\
[   19.101000] Unable to handle kernel paging request at virtual address dead000000000108
[   19.101010] Internal error: Oops: 96000044 [#1] SMP
[   19.101020] CPU: 1 PID: 300 Comm: sh Not tainted 4.14.98-g1 #7
[   19.101030] task: ffff80003b2d8000 task.stack: ffff00000b1d8000
[   19.101040] PC is at mdev_unlink+0x34/0x70
[   19.101050] LR is at mdev_unlink+0x20/0x70
[   19.101060] pc : [<ffff0000085a1f34>] lr : [<ffff0000085a1f20>] pstate: 60000145
[   19.101100] Call trace:
[   19.101110] [<ffff0000085a1f34>] mdev_unlink+0x34/0x70
[   19.101120] [<ffff0000085a2210>] mdev_release+0x20/0x38
[   19.101130] [<ffff00000821b1d0>] __fput+0x90/0x1b8
[   19.101140] ---[ end trace 3a5b6c7d8e9f0a1b ]---
"""
ARM64_BUG = """\
[   77.000100] ------------[ cut here ]------------
[   77.000110] kernel BUG at drivers/misc/mring.c:210!
[   77.000120] Internal error: Oops - BUG: 00000000f2000800 [#1] SMP
[   77.000130] Modules linked in:
[   77.000140] CPU: 3 PID: 611 Comm: mringd Not tainted 6.6.30 #2
[   77.000150] pc : mring_push+0xb4/0xc0
[   77.000160] lr : mring_push+0x3c/0xc0
[   77.000170] Call trace:
[   77.000180]  mring_push+0xb4/0xc0
[   77.000190]  mring_write+0x50/0x90
[   77.000200]  vfs_write+0xc8/0x378
[   77.000210]  el0_svc+0x38/0xd8
[   77.000220] ---[ end trace 0000000000000000 ]---
"""
SERROR = """\
[  300.100000] SError Interrupt on CPU6, code 0x00000000be000011 -- SError
[  300.100010] CPU: 6 PID: 1922 Comm: fio Not tainted 6.6.30 #2
[  300.100020] Hardware name: Ampere Mt.Jade/Altra, BIOS 2.10 03/01/2023
[  300.100030] pc : nvme_irq+0x28/0x70
[  300.100040] lr : __handle_irq_event_percpu+0x60/0x130
[  300.100050] Kernel panic - not syncing: Asynchronous SError Interrupt
[  300.100060] CPU: 6 PID: 1922 Comm: fio Not tainted 6.6.30 #2
[  300.100070] Call trace:
[  300.100080]  dump_backtrace+0x9c/0x120
[  300.100090]  show_stack+0x20/0x38
[  300.100100]  panic+0x340/0x3a8
[  300.100110]  nmi_panic+0x94/0xa0
[  300.100120]  arm64_serror_panic+0x74/0x88
[  300.100130]  do_serror+0x40/0x68
[  300.100140]  el1h_64_error+0x64/0x68
[  300.100150]  nvme_irq+0x28/0x70
[  300.100160]  __handle_irq_event_percpu+0x60/0x130
"""
KASAN_SW_TAGS = """\
[   55.000010] ==================================================================
[   55.000020] BUG: KASAN: slab-use-after-free in sdma_desc_done+0x40/0x80
[   55.000030] Read at addr f5ff000806d2c808 by task irq/44-sdma/211
[   55.000040] Pointer tag: [f5], memory tag: [fe]
[   55.000050]
[   55.000060] CPU: 2 PID: 211 Comm: irq/44-sdma Not tainted 6.6.30 #2
[   55.000070] Call trace:
[   55.000080]  dump_backtrace+0x9c/0x120
[   55.000090]  dump_stack_lvl+0x50/0x68
[   55.000100]  print_report+0xf8/0x5c8
[   55.000110]  kasan_report+0x7c/0xc0
[   55.000120]  __do_kernel_fault+0x11c/0x1b8
[   55.000130]  do_tag_check_fault+0x80/0x98
[   55.000140]  do_mem_abort+0x48/0xa0
[   55.000150]  el1_abort+0x40/0x68
[   55.000160]  el1h_64_sync+0x68/0x70
[   55.000170]  sdma_desc_done+0x40/0x80
[   55.000180]  irq_thread_fn+0x34/0xa8
[   55.000190]  irq_thread+0x178/0x2d0
[   55.000200]  kthread+0x118/0x120
[   55.000210]
[   55.000220] Allocated by task 140:
[   55.000230]  kasan_save_stack+0x30/0x50
[   55.000240]  sdma_alloc_desc+0x28/0x60
[   55.000250]
[   55.000260] Freed by task 211:
[   55.000270]  kasan_save_stack+0x30/0x50
[   55.000280]  sdma_free_desc+0x1c/0x40
[   55.000290]
[   55.000300] The buggy address belongs to the object at ffff000806d2c800
"""
RISCV = """\
[   12.000010] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010
[   12.000020] Oops [#1]
[   12.000030] CPU: 2 PID: 77 Comm: insmod Not tainted 6.6.0 #3
[   12.000040] Hardware name: SiFive HiFive Unmatched A00 (DT)
[   12.000050] epc : rvdev_open+0x1c/0x60 [rvdev]
[   12.000060]  ra : chrdev_open+0xa2/0x1c6
[   12.000070] epc : ffffffff01b8d01c ra : ffffffff80219f36 sp : ffffffc80083bb50
[   12.000080] [<ffffffff01b8d01c>] rvdev_open+0x1c/0x60 [rvdev]
[   12.000090] [<ffffffff80219f36>] chrdev_open+0xa2/0x1c6
[   12.000100] [<ffffffff8020e2c2>] do_dentry_open+0x14a/0x3ac
[   12.000110] ---[ end trace 0000000000000000 ]---
"""
PPC64 = """\
[   88.000010] BUG: Kernel NULL pointer dereference on read at 0x00000018
[   88.000020] Faulting instruction address: 0xc00800000f1a0088
[   88.000030] Oops: Kernel access of bad area, sig: 11 [#1]
[   88.000040] LE PAGE_SIZE=64K MMU=Radix SMP NR_CPUS=2048 NUMA pSeries
[   88.000050] CPU: 9 PID: 2048 Comm: cat Not tainted 5.14.0-362.el9.ppc64le #1
[   88.000060] NIP:  c00800000f1a0088 LR: c00800000f1a0070 CTR: c0000000007a1c40
[   88.000070] REGS: c0000000123cf9b0 TRAP: 0300   Not tainted  (5.14.0-362.el9.ppc64le)
[   88.000080] NIP [c00800000f1a0088] pdev_show+0x38/0x80 [pdev]
[   88.000090] LR [c00800000f1a0070] pdev_show+0x20/0x80 [pdev]
[   88.000100] Call Trace:
[   88.000110] [c0000000123cfc50] [c000000000b1c0b0] dev_attr_show+0x40/0xb0
[   88.000120] [c0000000123cfc80] [c00000000068a1d4] sysfs_kf_seq_show+0xd4/0x1c0
[   88.000130] [c0000000123cfcf0] [c000000000686f4c] kernfs_seq_show+0x3c/0x50 (unreliable)
[   88.000140] ---[ end trace 0000000000000000 ]---
"""
ARM32 = """\
[    9.100010] Unable to handle kernel NULL pointer dereference at virtual address 00000014
[    9.100020] pgd = c0204000
[    9.100030] Internal error: Oops: 5 [#1] PREEMPT SMP ARM
[    9.100040] CPU: 0 PID: 61 Comm: kworker/0:2 Not tainted 5.15.32-v7+ #1538
[    9.100050] Hardware name: BCM2835
[    9.100060] PC is at bcm_fifo_read+0x18/0x4c
[    9.100070] LR is at bcm_fifo_work+0x24/0x60
[    9.100080] pc : [<c05a1f34>]    lr : [<c05a1f80>]    psr: 60000013
[    9.100090] Backtrace:
[    9.100100] [<c05a1f1c>] (bcm_fifo_read) from [<c05a1f80>] (bcm_fifo_work+0x24/0x60)
[    9.100110] [<c05a1f5c>] (bcm_fifo_work) from [<c013a1d0>] (process_one_work+0x1b0/0x4a0)
[    9.100120] [<c013a020>] (process_one_work) from [<c013b010>] (worker_thread+0x50/0x560)
[    9.100130] ---[ end trace 5d3c2b1a09f8e7d6 ]---
"""
WARN_OLD = """\
[  500.000010] ------------[ cut here ]------------
[  500.000020] WARNING: at net/core/vdev.c:112 vdev_queue_stop+0x1d/0x30 [vdev]()
[  500.000030] Hardware name: PowerEdge R710
[  500.000040] Modules linked in: vdev ipv6
[  500.000050] Pid: 0, comm: swapper/4 Not tainted 3.2.0-4-amd64 #1 Debian 3.2.102-1
[  500.000060] Call Trace:
[  500.000070]  <IRQ>  [<ffffffff81046a95>] ? warn_slowpath_common+0x78/0x8c
[  500.000080]  [<ffffffffa01f2a11>] ? vdev_queue_stop+0x1d/0x30 [vdev]
[  500.000090]  [<ffffffff8105254c>] ? call_timer_fn+0x4e/0x11a
[  500.000100]  <EOI>  [<ffffffff8127c9c4>] ? intel_idle+0xea/0x110
[  500.000110] ---[ end trace 1f2e3d4c5b6a7988 ]---
"""
WARN_NEW = """\
[  500.000010] ------------[ cut here ]------------
[  500.000020] queue stopped twice
[  500.000030] WARNING: net/core/vdev.c:112 at vdev_queue_stop+0x1d/0x30 [vdev], CPU#4: swapper/4/0
[  500.000040] Modules linked in: vdev ipv6
[  500.000050] CPU: 4 UID: 0 PID: 0 Comm: swapper/4 Not tainted 6.18.1 #1 PREEMPT(voluntary)
[  500.000060] Hardware name: Dell Inc. PowerEdge R650/0PYXKY, BIOS 1.9.2 11/17/2022
[  500.000070] RIP: 0010:vdev_queue_stop+0x1d/0x30 [vdev]
[  500.000080] Call Trace:
[  500.000090]  <IRQ>
[  500.000100]  vdev_timeout+0x27/0x60 [vdev]
[  500.000110]  call_timer_fn+0x27/0x130
[  500.000120]  </IRQ>
[  500.000130]  <TASK>
[  500.000140]  asm_sysvec_apic_timer_interrupt+0x1a/0x20
[  500.000150] RIP: 0010:cpuidle_enter_state+0xcc/0x440
[  500.000160]  cpuidle_enter+0x2d/0x40
[  500.000170]  </TASK>
[  500.000180] ---[ end trace 0000000000000000 ]---
"""
DOUBLE_FAULT = """\
[   70.000010] traps: PANIC: double fault, error_code: 0x0
[   70.000020] Oops: double fault: 0000 [#1] PREEMPT SMP PTI
[   70.000030] CPU: 1 PID: 900 Comm: fsd Not tainted 6.1.0-21-amd64 #1  Debian 6.1.90-1
[   70.000040] RIP: 0010:fsd_walk+0x3a/0x60
[   70.000050] Call Trace:
[   70.000060]  <#DF>
[   70.000070]  ? die+0x31/0x80
[   70.000080]  ? exc_double_fault+0x100/0x190
[   70.000090]  </#DF>
[   70.000100]  <TASK>
[   70.000110]  fsd_read+0x21/0x40
[   70.000120]  </TASK>
[   70.000130] ---[ end trace 0000000000000000 ]---
[   70.000140] Kernel panic - not syncing: Fatal exception in interrupt
"""
SOFT_LOCKUP = """\
[ 1000.000010] watchdog: BUG: soft lockup - CPU#7 stuck for 26s! [flushd:4410]
[ 1000.000020] Modules linked in: cachefs(OE) xfs
[ 1000.000030] CPU: 7 PID: 4410 Comm: flushd Tainted: G           OEL     5.10.0-28-amd64 #1 Debian 5.10.209-2
[ 1000.000040] Hardware name: Dell Inc. PowerEdge R650/0PYXKY, BIOS 1.9.2 11/17/2022
[ 1000.000050] RIP: 0010:cachefs_spin+0x9/0x20 [cachefs]
[ 1000.000060] Call Trace:
[ 1000.000070]  cachefs_flush+0x11/0x30 [cachefs]
[ 1000.000080]  flushd_main+0x11/0x20 [cachefs]
[ 1000.000090]  kthread+0x118/0x140
[ 1000.000100]  ret_from_fork+0x1f/0x30
[ 1000.000110] Sending NMI from CPU 7 to CPUs 0-6:
[ 1000.000120] NMI backtrace for cpu 2 skipped: idling at native_safe_halt+0xe/0x20
[ 1000.000130] NMI backtrace for cpu 3
[ 1000.000140] CPU: 3 PID: 99 Comm: xfsaild/sda1 Tainted: G           OEL     5.10.0-28-amd64 #1 Debian 5.10.209-2
[ 1000.000150] RIP: 0010:xfs_log_wait+0x5/0x40 [xfs]
[ 1000.000160] Call Trace:
[ 1000.000170]  xfsaild_push+0x11/0x30 [xfs]
"""
HARD_LOCKUP = """\
[ 2000.000010] {0}
[ 2000.000020] Modules linked in: gdrv(OE)
[ 2000.000030] CPU: 3 PID: 777 Comm: gdrvd Tainted: G           OE     5.15.0-91-generic #101-Ubuntu
[ 2000.000040] RIP: 0010:gdrv_wait_idle+0x19/0x40 [gdrv]
[ 2000.000050] Call Trace:
[ 2000.000060]  <TASK>
[ 2000.000070]  gdrv_submit+0x5a/0x90 [gdrv]
[ 2000.000080]  gdrv_ioctl+0x12/0x20 [gdrv]
[ 2000.000090]  __x64_sys_ioctl+0x92/0xd0
[ 2000.000100]  do_syscall_64+0x59/0xc0
[ 2000.000110]  </TASK>
[ 2000.000120] Kernel panic - not syncing: Hard LOCKUP
"""
BUDDY = """\
[ 2000.000010] watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 4
[ 2000.000020] Modules linked in:
[ 2000.000030] CPU: 3 PID: 0 Comm: swapper/3 Not tainted 6.6.30 #2
[ 2000.000040] Sending NMI from CPU 3 to CPUs 4:
[ 2000.000050] NMI backtrace for cpu 4
[ 2000.000060] CPU: 4 PID: 612 Comm: spinner Not tainted 6.6.30 #2
[ 2000.000070] pc : dsp_mailbox_poll+0x18/0x30
[ 2000.000080] lr : dsp_boot+0x3c/0x70
[ 2000.000090] Call trace:
[ 2000.000100]  dsp_mailbox_poll+0x18/0x30
[ 2000.000110]  dsp_boot+0x3c/0x70
[ 2000.000120]  dsp_ioctl+0x20/0x40
[ 2000.000130]  __arm64_sys_ioctl+0xa8/0xf0
[ 2000.000140]  invoke_syscall+0x48/0x118
[ 2000.000150] Kernel panic - not syncing: Hard LOCKUP
"""
RCU_OTHER = """\
[ 3000.000010] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[ 3000.000020] rcu: 	2-....: (5249 ticks this GP) idle=4b04/1/0x4000000000000000 softirq=150/150 fqs=2625
[ 3000.000030] rcu: 	(detected by 0, t=5252 jiffies, g=-851, q=89 ncpus=4)
[ 3000.000040] Sending NMI from CPU 0 to CPUs 2:
[ 3000.000050] NMI backtrace for cpu 2
[ 3000.000060] CPU: 2 PID: 1501 Comm: tx_pump Not tainted 6.1.0-21-amd64 #1  Debian 6.1.90-1
[ 3000.000070] RIP: 0010:tx_drain+0x19/0x30
[ 3000.000080] Call Trace:
[ 3000.000090]  <TASK>
[ 3000.000100]  tx_pump_write+0x4a/0x80
[ 3000.000110]  vfs_write+0xc7/0x3f0
[ 3000.000120]  ksys_write+0x6b/0xf0
[ 3000.000130]  do_syscall_64+0x5d/0xb0
[ 3000.000140]  </TASK>
[ 3000.400010] rcu: INFO: rcu_preempt self-detected stall on CPU
[ 3000.400020] rcu: 	2-....: (5349 ticks this GP) idle=4b04/1/0x4000000000000000 softirq=150/150 fqs=2625
"""
HUNG_OLD = """\
[ 1200.000010] INFO: task jbd2/dm-0-8:412 blocked for more than 120 seconds.
[ 1200.000020]       Not tainted 4.19.0-26-amd64 #1 Debian 4.19.304-1
[ 1200.000030] "echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
[ 1200.000040] jbd2/dm-0-8     D    0   412      2 0x80000000
[ 1200.000050] Call Trace:
[ 1200.000060]  __schedule+0x29f/0x840
[ 1200.000070]  schedule+0x28/0x80
[ 1200.000080]  jbd2_journal_commit_transaction+0x24e/0x18a0 [jbd2]
[ 1200.000090]  kjournald2+0xbd/0x270 [jbd2]
[ 1200.000100]  kthread+0x112/0x130
"""
HUNG_NEW = """\
[ 1200.000010] INFO: task dd:120 blocked for more than 120 seconds.
[ 1200.000020]       Not tainted 6.1.0-21-amd64 #1 Debian 6.1.90-1
[ 1200.000030] "echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
[ 1200.000040] task:dd              state:D stack:0     pid:120   ppid:1      flags:0x00004002
[ 1200.000050] Call Trace:
[ 1200.000060]  <TASK>
[ 1200.000070]  __schedule+0x351/0xa00
[ 1200.000080]  schedule+0x5d/0xe0
[ 1200.000090]  io_schedule+0x42/0x70
[ 1200.000100]  bigfs_wait_extent+0x5a/0x90 [bigfs]
[ 1200.000110]  vfs_write+0xc7/0x3f0
[ 1200.000120]  do_syscall_64+0x5d/0xb0
[ 1200.000130]  </TASK>
"""
LOCKDEP = """\
[   60.000010] ======================================================
[   60.000020] WARNING: possible circular locking dependency detected
[   60.000030] 6.1.0 #1 Not tainted
[   60.000040] ------------------------------------------------------
[   60.000050] qd_writer/514 is trying to acquire lock:
[   60.000060] ffff8880271a8e98 (&qd->list_lock){+.+.}-{3:3}, at: qd_flush+0x32/0x90
[   60.000070]
[   60.000080] but task is already holding lock:
[   60.000090] ffff8880271a8d20 (&qd->io_lock){+.+.}-{3:3}, at: qd_write+0x41/0x110
[   60.000100]
[   60.000110] which lock already depends on the new lock.
[   60.000120]
[   60.000130] the existing dependency chain (in reverse order) is:
[   60.000140]
[   60.000150] -> #1 (&qd->io_lock){+.+.}-{3:3}:
[   60.000160]        __mutex_lock+0x9b/0xb50
[   60.000170]        qd_scan+0x3e/0xa0
[   60.000180] -> #0 (&qd->list_lock){+.+.}-{3:3}:
[   60.000190]        __lock_acquire+0x1246/0x1c90
[   60.000200]        qd_flush+0x32/0x90
[   60.000210] stack backtrace:
[   60.000220] CPU: 1 PID: 514 Comm: qd_writer Not tainted 6.1.0 #1
[   60.000230] Call Trace:
[   60.000240]  <TASK>
[   60.000250]  dump_stack_lvl+0x5b/0x77
[   60.000260]  check_noncircular+0xff/0x110
[   60.000270]  __lock_acquire+0x1246/0x1c90
[   60.000280]  lock_acquire+0xbf/0x2b0
[   60.000290]  __mutex_lock+0x9b/0xb50
[   60.000300]  qd_flush+0x32/0x90
[   60.000310]  qd_write+0x9d/0x110
[   60.000320]  vfs_write+0xc7/0x3f0
[   60.000330]  </TASK>
"""
KASAN = """\
[   31.000010] ==================================================================
[   31.000020] BUG: KASAN: slab-out-of-bounds in tlv_parse+0x1c4/0x2a0
[   31.000030] Write of size 8 at addr ffff88800c6b1a40 by task tlvd/310
[   31.000040]
[   31.000050] CPU: 1 PID: 310 Comm: tlvd Not tainted 6.1.0 #1
[   31.000060] Call Trace:
[   31.000070]  <TASK>
[   31.000080]  dump_stack_lvl+0x34/0x44
[   31.000090]  print_report+0x171/0x4a5
[   31.000100]  kasan_report+0xb1/0x130
[   31.000110]  tlv_parse+0x1c4/0x2a0
[   31.000120]  tlv_ioctl+0x5a/0x90
[   31.000130]  </TASK>
[   31.000140]
[   31.000150] Allocated by task 309:
[   31.000160]  kasan_save_stack+0x1c/0x40
[   31.000170]  tlv_alloc+0x21/0x40
[   31.000180]
[   31.000190] The buggy address belongs to the object at ffff88800c6b1a00
"""
KFENCE = """\
[   31.000010] ==================================================================
[   31.000020] BUG: KFENCE: use-after-free read in sess_touch+0x31/0x60
[   31.000030]
[   31.000040] Use-after-free read at 0x000000009e3b1c7d (in kfence-#104):
[   31.000050]  sess_touch+0x31/0x60
[   31.000060]  sess_timer+0x12/0x40
[   31.000070]  call_timer_fn+0x24/0x120
[   31.000080]
[   31.000090] kfence-#104: 0x000000009e3b1c7d-0x00000000c1d8f1f0, size=96, cache=kmalloc-96
[   31.000100]
[   31.000110] allocated by task 88 on cpu 2 at 30.900000s:
[   31.000120]  sess_new+0x21/0x50
[   31.000130]
[   31.000140] freed by task 89 on cpu 0 at 30.990000s:
[   31.000150]  sess_drop+0x33/0x70
[   31.000160]
[   31.000170] CPU: 0 PID: 0 Comm: swapper/0 Not tainted 6.1.0 #1
"""
KMSAN = """\
[   31.000010] =====================================================
[   31.000020] BUG: KMSAN: uninit-value in hdr_check+0x1b2/0x220
[   31.000030]  hdr_check+0x1b2/0x220
[   31.000040]  pkt_input+0x310/0x620
[   31.000050]
[   31.000060] Uninit was created at:
[   31.000070]  __alloc_pages+0x9a4/0xe00
[   31.000080]  pkt_alloc+0x41/0x80
[   31.000090]
[   31.000100] CPU: 0 PID: 201 Comm: pktd Not tainted 6.1.0 #1
"""
KCSAN = """\
[   31.000010] ==================================================================
[   31.000020] BUG: KCSAN: data-race in stat_bump / stat_show
[   31.000030]
[   31.000040] write to 0xffff888237c1a6c8 of 8 bytes by task 311 on cpu 1:
[   31.000050]  stat_bump+0x2a/0x50
[   31.000060]
[   31.000070] read to 0xffff888237c1a6c8 of 8 bytes by task 420 on cpu 3:
[   31.000080]  stat_show+0x11/0x40
[   31.000090]
[   31.000100] Reported by Kernel Concurrency Sanitizer on:
[   31.000110] CPU: 3 PID: 420 Comm: cat Not tainted 6.1.0 #1
"""
UBSAN = """\
[   31.000010] ================================================================================
[   31.000020] UBSAN: array-index-out-of-bounds in drivers/net/vsw.c:88:14
[   31.000030] index 8 is out of range for type 'u32 [8]'
[   31.000040] CPU: 2 PID: 55 Comm: vswd Not tainted 6.1.0 #1
[   31.000050] Call Trace:
[   31.000060]  <TASK>
[   31.000070]  dump_stack_lvl+0x34/0x44
[   31.000080]  __ubsan_handle_out_of_bounds+0x61/0x80
[   31.000090]  vsw_map+0x44/0x70
[   31.000100]  vsw_ioctl+0x5a/0x90
[   31.000110]  </TASK>
[   31.000120] ================================================================================
"""
KMEMLEAK = """\
unreferenced object 0xffff88810a3c8a00 (size 256):
  comm "conf", pid 700, jiffies 4294939296 (age 31.420s)
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace:
    [<ffffffff812a6fd1>] kmalloc_trace+0x21/0x90
    [<ffffffff81a1b2d4>] conf_parse+0x34/0xd0
    [<ffffffff81a1b541>] conf_write+0x91/0x1c0
"""
WORKQUEUE = """\
[  950.000010] BUG: workqueue lockup - pool cpus=2 node=0 flags=0x0 nice=0 stuck for 42s!
[  950.000020] Showing busy workqueues and worker pools:
[  950.000030] workqueue events: flags=0x0
[  950.000040]   pwq 4: cpus=2 node=0 flags=0x0 nice=0 active=2/256 refcnt=3
[  950.000050]     in-flight: 212:slowdev_poll_work [slowdev]
[  950.000060]     pending: vmstat_shepherd
"""
MCE = """\
[  400.000010] mce: [Hardware Error]: CPU 14: Machine Check Exception: 5 Bank 1: be00000000000135
[  400.000020] mce: [Hardware Error]: RIP !INEXACT! 10:<ffffffffba25a170> {{copy_from_read_buf+0x30/0x2a0}}
[  400.000030] mce: [Hardware Error]: TSC 48fb6b305 ADDR 12345000 MISC 8c
[  400.000040] mce: [Hardware Error]: CPU 40: Machine Check Exception: 5 Bank 1: be00000000000135
[  400.000050] mce: [Hardware Error]: Machine check: Processor context corrupt
[  400.000060] Kernel panic - not syncing: Fatal machine check
"""
GHES = """\
[  400.000010] {1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1
[  400.000020] {1}[Hardware Error]: event severity: fatal
[  400.000030] {1}[Hardware Error]:  Error 0, type: fatal
[  400.000040] {1}[Hardware Error]:   section_type: memory error
[  400.000050] Kernel panic - not syncing: Fatal hardware error!
"""
STACK_GUARD = """\
[    3.332196] BUG: TASK stack guard page was hit at 00000000447df5bd (stack is 00000000f040c246..0000000091f3fd27)
[    3.338612] stack guard page: 0000 [#1] PREEMPT SMP NOPTI
[    3.339174] CPU: 1 PID: 28 Comm: tarfsd Not tainted 6.1.0-21-amd64 #1  Debian 6.1.90-1
[    3.340947] RIP: 0010:tarfs_walk+0x2c/0x80 [tarfs]
[    3.341789] Call Trace:
[    3.346453]  <TASK>
[    3.346989]  tarfs_walk+0x68/0x80 [tarfs]
[    3.347114]  tarfs_walk+0x68/0x80 [tarfs]
[    3.347155]  tarfs_walk+0x68/0x80 [tarfs]
[    3.347192]  tarfs_lookup+0xf/0x20 [tarfs]
[    3.347229]  path_openat+0x1a1/0x1240
[    3.347265]  </TASK>
[    3.377376] ---[ end trace 0000000000000000 ]---
[    3.407626] Kernel panic - not syncing: Fatal exception in interrupt
"""
STACK_CYCLE = STACK_GUARD.replace(
    "[    3.347114]  tarfs_walk+0x68/0x80 [tarfs]\n",
    "[    3.347114]  tarfs_enter+0x18/0x40 [tarfs]\n[    3.347120]  tarfs_walk+0x68/0x80 [tarfs]\n"
    "[    3.347130]  tarfs_enter+0x18/0x40 [tarfs]\n",
).replace(
    "[    3.347155]  tarfs_walk", "[    3.347150]  tarfs_enter+0x18/0x40 [tarfs]\n[    3.347155]  tarfs_walk"
)
ARM64_STACK = """\
[    5.000010] Insufficient stack space to handle exception!
[    5.000020] ESR: 0x0000000096000047 -- DABT (current EL)
[    5.000030] FAR: 0xffff800009877ff0
[    5.000040] CPU: 2 PID: 70 Comm: deepd Not tainted 6.6.30 #2
[    5.000050] pc : deep_walk+0x4/0x40
[    5.000060] Kernel panic - not syncing: kernel stack overflow
[    5.000070] CPU: 2 PID: 70 Comm: deepd Not tainted 6.6.30 #2
[    5.000080] Call trace:
[    5.000090]  dump_backtrace+0x9c/0x120
[    5.000100]  panic+0x340/0x3a8
[    5.000110]  deep_walk+0x4/0x40
[    5.000120]  deep_walk+0x24/0x40
[    5.000130]  deep_walk+0x24/0x40
[    5.000140]  deep_walk+0x24/0x40
[    5.000150]  deep_ioctl+0x24/0x40
"""
SYSRQ_OLD = """\
[  700.000010] SysRq : Trigger a crash
[  700.000020] BUG: unable to handle kernel NULL pointer dereference at           (null)
[  700.000030] IP: [<ffffffff813b9716>] sysrq_handle_crash+0x16/0x20
[  700.000040] Oops: 0002 [#1] SMP
[  700.000050] CPU: 0 PID: 1120 Comm: bash Not tainted 3.10.0-1160.el7.x86_64 #1
[  700.000060] RIP: 0010:[<ffffffff813b9716>]  [<ffffffff813b9716>] sysrq_handle_crash+0x16/0x20
[  700.000070] Call Trace:
[  700.000080]  [<ffffffff813b9f07>] __handle_sysrq+0x107/0x170
[  700.000090]  [<ffffffff813ba37f>] write_sysrq_trigger+0x2f/0x40
[  700.000100]  [<ffffffff81273d0d>] proc_reg_write+0x3d/0x80
[  700.000110] ---[ end trace 1c2d4f2e8a9b0c3d ]---
[  700.000120] Kernel panic - not syncing: Fatal exception
"""
NETDEV = """\
[  800.000010] ------------[ cut here ]------------
[  800.000020] NETDEV WATCHDOG: ens1f0 (ixgbe): transmit queue 7 timed out
[  800.000030] WARNING: CPU: 7 PID: 0 at net/sched/sch_generic.c:525 dev_watchdog+0x20a/0x220
[  800.000040] Modules linked in: ixgbe
[  800.000050] CPU: 7 PID: 0 Comm: swapper/7 Not tainted 6.1.0-21-amd64 #1  Debian 6.1.90-1
[  800.000060] RIP: 0010:dev_watchdog+0x20a/0x220
[  800.000070] Call Trace:
[  800.000080]  <IRQ>
[  800.000090]  call_timer_fn+0x27/0x130
[  800.000100]  </IRQ>
[  800.000110] ---[ end trace 0000000000000000 ]---
"""
FS_PANIC = """\
[   90.000010] EXT4-fs error (device {0}): ext4_lookup:1785: inode #2: comm ls: deleted inode referenced: 12
[   90.000020] Kernel panic - not syncing: EXT4-fs (device {0}): panic forced after error
[   90.000030] CPU: 0 PID: 137 Comm: ls Not tainted 6.1.0-21-amd64 #1  Debian 6.1.90-1
[   90.000040] Call Trace:
[   90.000050]  <TASK>
[   90.000060]  panic+0x118/0x2f4
[   90.000070]  ext4_handle_error.cold+0x13/0x13 [ext4]
[   90.000080]  </TASK>
"""
SLAB = """\
[   50.000010] =============================================================================
[   50.000020] BUG kmalloc-64 (Tainted: G           OE     ): Object already free
[   50.000030] -----------------------------------------------------------------------------
[   50.000040] Allocated in rdesc_new+0x21/0x40 [rdesc] age=12 cpu=1 pid=510
[   50.000050]  rdesc_new+0x21/0x40 [rdesc]
[   50.000060] Slab 0xffffea0000a0b0c0 objects=64 used=64 fp=0x0000000000000000 flags=0x100000000000200
[   50.000070] CPU: 1 PID: 510 Comm: insmod Tainted: G           OE      6.1.0-21-amd64 #1  Debian 6.1.90-1
[   50.000080] Call Trace:
[   50.000090]  <TASK>
[   50.000100]  dump_stack_lvl+0x44/0x5c
[   50.000110]  object_err+0x3d/0x60
[   50.000120]  free_debug_processing+0x240/0x4d0
[   50.000130]  kfree+0x6a/0xc0
[   50.000140]  rdesc_drop+0x1a/0x30 [rdesc]
[   50.000150]  </TASK>
"""

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("x86-64 of 6.12", X86_NEW, {
        "mechanism": "bad_page_fault", "culprit": "vnic_unmap", "culprit_module": "vnic", "process": "kworker/5:1",
        "pid": 2210, "cpu": 5, "release": "6.12.9-amd64", "tainted": "WO", "address": 0xFFFFC90000A41018,
        "hardware": "Supermicro SYS-6029P/X11DPi-N", "workqueue": "events vnic_unmap_work [vnic]",
        "modules": {"vnic": "O", "nvme": "", "nvme_core": ""}, "fatal": False,
    }),
    ("x86-64 of RHEL 7", RHEL7, {
        "mechanism": "null_deref", "culprit": "bond_poll_one", "process": "bond0_mon", "pid": 1127, "cpu": 3,
        "release": "3.10.0-1160.el7.x86_64", "tainted": "OE", "address": 0x38, "fatal": True,
        "modules": {"vbond": "OE", "ip6table_filter": "", "iptable_filter": "", "ip_tables": "", "xfs": "",
                    "libcrc32c": "", "sd_mod": "", "crc_t10dif": ""},
    }),
    ("x86-64 of RHEL 6, no time", RHEL6, {
        "mechanism": "null_deref", "culprit": "qreq_complete", "process": "qstor_rx", "pid": 4311,
        "release": "2.6.32-754.el6.x86_64", "hardware": "Dell Inc. PowerEdge R710/00NH4P", "fatal": True,
    }),
    ("arm64", ARM64, {
        "mechanism": "null_deref", "culprit": "hisi_ring_start", "process": "modprobe", "cpu": 12, "release": "6.6.30",
        "tainted": "O", "address": 0x20, "fatal": True, "hardware": "Huawei TaiShan 200 (Model 2280)/BC82AMDDA",
    }),
    ("arm64 of 4.14", ARM64_OLD, {
        "mechanism": "bad_page_fault", "culprit": "mdev_unlink", "process": "sh", "cpu": 1,
        "address": 0xDEAD000000000108, "fatal": False,
    }),
    ("arm64 BRK", ARM64_BUG, {"mechanism": "bug", "culprit": "mring_push", "process": "mringd", "cpu": 3}),
    ("arm64 SError", SERROR, {"mechanism": "mce", "culprit": "nvme_irq", "cpu": 6, "process": "fio", "fatal": True}),
    ("KASAN with tags in hardware", KASAN_SW_TAGS, {
        "mechanism": "use_after_free", "culprit": "sdma_desc_done", "process": "irq/44-sdma", "cpu": 2,
    }),
    ("riscv", RISCV, {"mechanism": "null_deref", "culprit": "rvdev_open", "process": "insmod", "cpu": 2}),
    ("ppc64", PPC64, {"mechanism": "null_deref", "culprit": "pdev_show", "culprit_module": "pdev", "process": "cat"}),
    ("arm", ARM32, {"mechanism": "null_deref", "culprit": "bcm_fifo_read", "process": "kworker/0:2"}),
    ("warning of 3.2", WARN_OLD, {
        "mechanism": "warn", "culprit": "vdev_queue_stop", "process": "swapper/4", "pid": 0, "fatal": False,
        "release": "3.2.0-4-amd64", "tainted": None,
    }),
    ("warning of 6.18", WARN_NEW, {
        "mechanism": "warn", "culprit": "vdev_queue_stop", "culprit_module": "vdev", "process": "swapper/4",
        "pid": 0, "cpu": 4,
    }),
    ("double fault", DOUBLE_FAULT, {"mechanism": "double_fault", "culprit": "fsd_walk", "process": "fsd", "fatal": True}),
    ("soft lockup with other CPUs' traces", SOFT_LOCKUP, {
        "mechanism": "soft_lockup", "culprit": "cachefs_spin", "process": "flushd", "pid": 4410, "cpu": 7,
    }),
    ("hard lockup", HARD_LOCKUP.format("NMI watchdog: Watchdog detected hard LOCKUP on cpu 3"), {
        "mechanism": "hard_lockup", "culprit": "gdrv_wait_idle", "cpu": 3, "process": "gdrvd", "fatal": True,
    }),
    ("hard lockup of 3.10", HARD_LOCKUP.format("Watchdog detected hard LOCKUP on cpu 3"), {
        "mechanism": "hard_lockup", "culprit": "gdrv_wait_idle", "cpu": 3,
    }),
    ("hard lockup told by the neighbour", BUDDY, {
        "mechanism": "hard_lockup", "cpu": 4, "process": "spinner", "pid": 612, "fatal": True,
    }),
    ("RCU stall told by two CPUs", RCU_OTHER, {
        "mechanism": "rcu_stall", "culprit": "tx_pump_write", "process": "tx_pump", "cpu": 2, "fatal": False,
    }),
    ("hung task of 4.19", HUNG_OLD, {
        "mechanism": "hung_task", "culprit": "jbd2_journal_commit_transaction", "process": "jbd2/dm-0-8", "pid": 412,
        "cpu": None,
    }),
    ("hung task", HUNG_NEW, {
        "mechanism": "hung_task", "culprit": "bigfs_wait_extent", "process": "dd", "pid": 120, "cpu": None,
    }),
    ("lockdep", LOCKDEP, {"mechanism": "deadlock", "culprit": "qd_flush", "process": "qd_writer", "cpu": 1}),
    ("KASAN", KASAN, {"mechanism": "out_of_bounds", "culprit": "tlv_parse", "process": "tlvd", "cpu": 1}),
    ("KFENCE", KFENCE, {"mechanism": "use_after_free", "culprit": "sess_touch", "process": "swapper/0"}),
    ("KMSAN", KMSAN, {"mechanism": "uninit_value", "culprit": "hdr_check", "process": "pktd"}),
    ("KCSAN", KCSAN, {"mechanism": "data_race", "culprit": "stat_bump"}),
    ("UBSAN", UBSAN, {"mechanism": "out_of_bounds", "culprit": "vsw_map", "process": "vswd"}),
    ("kmemleak", KMEMLEAK, {"mechanism": "memory_leak", "culprit": "conf_parse"}),
    ("work queue lockup", WORKQUEUE, {"mechanism": "hung_task", "culprit": "slowdev_poll_work"}),
    ("machine check on two CPUs", MCE, {"mechanism": "mce", "cpu": 14, "fatal": True, "culprit": None}),
    ("APEI", GHES, {"mechanism": "mce", "fatal": True, "culprit": None}),
    ("recursion of one function", STACK_GUARD, {
        "mechanism": "stack_overflow", "culprit": "tarfs_walk", "process": "tarfsd", "fatal": True,
    }),
    ("recursion over several functions", STACK_CYCLE, {"mechanism": "stack_overflow", "culprit": "tarfs_lookup"}),
    ("arm64 stack overflow", ARM64_STACK, {
        "mechanism": "stack_overflow", "culprit": "deep_walk", "process": "deepd", "fatal": True,
    }),
    ("sysrq of 3.10", SYSRQ_OLD, {
        "mechanism": "sysrq", "culprit": "sysrq_handle_crash", "process": "bash", "fatal": True,
    }),
    ("sysrq of 3.10 without its line", SYSRQ_OLD.split("\n", 1)[1], {
        "mechanism": "sysrq", "culprit": "sysrq_handle_crash", "process": "bash", "fatal": True,
    }),
    ("transmit timeout", NETDEV, {"mechanism": "tx_timeout", "device": "ens1f0", "culprit_module": "ixgbe", "cpu": 7}),
    ("file system that panics", FS_PANIC.format("dm-3"), {
        "mechanism": "fs_error", "device": "dm-3", "fatal": True, "culprit": None, "process": "ls",
    }),
    ("file system that panics over its disk",
     "[   89.999000] critical medium error, dev sda, sector 536 op 0x0:(READ) flags 0x3000 phys_seg 1 prio class 2\n"
     + FS_PANIC.format("sda2"), {"mechanism": "io_error", "device": "sda2", "fatal": True}),
    ("slab", SLAB, {"mechanism": "memory_corruption", "culprit": "rdesc_drop", "process": "insmod", "tainted": "OE"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("log", "expected"), [(log, told) for _, log, told in CASES], ids=[case[0] for case in CASES]
)
def test_what_a_report_says_stands_in_its_fields(
    log: str, expected: dict[str, Any], reports: Reports
) -> None:
    (report,) = reports(log)
    assert {name: getattr(report, name) for name in expected} == expected
    assert report.corrupted is False or report.mechanism in {"hung_task", "mce", "fs_error"}


@pytest.mark.parametrize(
    ("log", "sections"),
    [
        (WARN_OLD, {"warn_slowpath_common": "irq", "call_timer_fn": "irq", "intel_idle": "task"}),
        (WARN_NEW, {
            "vdev_timeout": "irq", "call_timer_fn": "irq", "cpuidle_enter_state": "task", "cpuidle_enter": "task",
        }),
        (DOUBLE_FAULT, {"fsd_walk": "task", "exc_double_fault": "exception", "fsd_read": "task"}),
        (
            "[ 1.0000] Kernel panic - not syncing: NMI: Not continuing\n[ 1.0001] Call Trace:\n"
            "[ 1.0002]  <NMI>\n[ 1.0003]  dump_stack+0x41/0x60\n[ 1.0004]  default_do_nmi+0x1/0x2\n[ 1.0005]  </NMI>\n"
            "[ 1.0006]  <IRQ>\n[ 1.0007]  timer_fn+0x1/0x9\n[ 1.0008]  <SOFTIRQ>\n[ 1.0009]  net_rx+0x1/0x9\n"
            "[ 1.0010]  </SOFTIRQ>\n[ 1.0011]  <TASK>\n[ 1.0012]  do_idle+0x1/0x9\n",
            {"dump_stack": "nmi", "default_do_nmi": "nmi", "timer_fn": "irq", "net_rx": "softirq", "do_idle": "task"},
        ),
    ],
)  # fmt: skip
def test_sections_of_a_trace_are_told_apart(log: str, sections: dict[str, str], reports: Reports) -> None:
    (report,) = reports(log)
    assert {f.function: f.section for f in report.stack if f.function in sections} == sections


def test_guesses_of_the_unwinder_are_told_from_frames(reports: Reports) -> None:
    (report,) = reports(RHEL7)
    assert [frame.function for frame in report.stack if not frame.reliable] == ["process_one_work"]
    (report,) = reports(PPC64)
    assert [frame.function for frame in report.stack if not frame.reliable] == ["kernfs_seq_show"]


def test_traces_of_others_are_kept_with_their_headings(reports: Reports) -> None:
    (report,) = reports(KASAN)
    assert [(title, frames[-1].function) for title, frames in report.traces] == [
        ("Allocated by task 309:", "tlv_alloc")
    ]
    (report,) = reports(SOFT_LOCKUP)
    assert [[frame.function for frame in frames] for _, frames in report.traces] == [["xfsaild_push"]]


def test_registers_are_those_of_the_report_itself(reports: Reports) -> None:
    (report,) = reports(X86_NEW)
    assert report.registers["RAX"] == 0xFFFFC90000A41018
    (report,) = reports(ARM64)
    assert report.registers["x29"] == 0xFFFF80008A3BB9D0


HEADINGS: list[tuple[str, str]] = [
    ("BUG: KASAN: double-free in qd_drop+0x1a/0x30", "use_after_free"),
    ("BUG: KASAN: use-after-free in qd_get+0x1a/0x30", "use_after_free"),
    ("BUG: KASAN: null-ptr-deref in qd_get+0x1a/0x30", "null_deref"),
    ("BUG: KASAN: wild-memory-access in qd_get+0x1a/0x30", "bad_page_fault"),
    ("BUG: KASAN: stack-out-of-bounds in qd_get+0x1a/0x30", "out_of_bounds"),
    ("BUG: KASan: use after free in qd_get+0x1a/0x30 at addr ffff8800bb4b1a40", "use_after_free"),
    ("BUG: KASan: out of bounds access in qd_get+0x1a/0x30 at addr ffff8800bb4b1a40", "out_of_bounds"),
    ("BUG: KFENCE: invalid free in qd_drop+0x1a/0x30", "use_after_free"),
    ("BUG: KFENCE: out-of-bounds write in qd_put+0x1a/0x30", "out_of_bounds"),
    ("BUG: KFENCE: memory corruption in qd_put+0x1a/0x30", "memory_corruption"),
    ("BUG: KMSAN: kernel-infoleak in qd_read+0x1a/0x30", "uninit_value"),
    ("BUG: KCSAN: assert: race in qd_put+0x1a/0x30", "data_race"),
    ("UBSAN: array-index-out-of-bounds in mm/qd.c:88:14", "out_of_bounds"),
    ("UBSAN: shift-out-of-bounds in mm/qd.c:88:14", "undefined_behavior"),
    ("unreferenced object 0xffff88810a3c8a00 (size 256):", "memory_leak"),
    ("watchdog: BUG: soft lockup - CPU#7 stuck for 26s! [a b:4410]", "soft_lockup"),
    ("BUG: soft lockup detected on CPU#7!", "soft_lockup"),
    ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 3", "hard_lockup"),
    ("watchdog: CPU 3 detected hard LOCKUP on other CPUs 4", "hard_lockup"),
    ("watchdog: CPU 3 self-detected hard LOCKUP @ plpar_hcall+0x1c/0x50", "hard_lockup"),
    ("BUG: NMI Watchdog detected LOCKUP on CPU3, ip ffffffff81046a95, registers:", "hard_lockup"),
    ("INFO: rcu_sched detected stalls on CPUs/tasks: { 4} (detected by 2, t=60002 jiffies)", "rcu_stall"),
    ("rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 2-... } 21001 jiffies", "rcu_stall"),
    ("INFO: rcu_tasks_trace detected stalls on tasks:", "rcu_stall"),
    ("INFO: rcu_sched self-detected stall on CPU { 4}  (t=60000 jiffies g=85 c=84 q=9)", "rcu_stall"),
    ("rcu: rcu_preempt kthread starved for 5253 jiffies! g-851 f0x0 RCU_GP_WAIT_FQS(5)", "rcu_stall"),
    ("INFO: task a b:1 blocked for more than 120 seconds.", "hung_task"),
    ("INFO: task dd:77 blocked in I/O wait for more than 120 seconds.", "hung_task"),
    ("INFO: task dd:77 can't die for more than 143 seconds.", "hung_task"),
    ("BUG: workqueue lockup - pool cpus=2 node=0 flags=0x0 nice=0 stuck for 42s!", "hung_task"),
    ("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", "no_root"),
    ("Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.", "panic_other"),
    ("Kernel panic - not syncing: Requested init /sbin/initt failed (error -2).", "panic_other"),
    ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", "init_killed"),
    ("Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled", "oom"),
    ("Kernel panic - not syncing: System is deadlocked on memory", "oom"),
    ("Kernel panic - not syncing: Timeout: Not all CPUs entered broadcast exception handler", "mce"),
    ("Kernel panic - not syncing: Fatal local machine check", "mce"),
    ("Kernel panic - not syncing: Fatal hardware error!", "mce"),
    ("Kernel panic - not syncing: Uncorrected hardware memory error in user-access at 2fb7e1c40", "mce"),
    ("Kernel panic - not syncing: Asynchronous SError Interrupt", "mce"),
    ("Kernel panic - not syncing: Watchdog detected hard LOCKUP on cpu 3", "hard_lockup"),
    ("Kernel panic - not syncing: Hard LOCKUP", "hard_lockup"),
    ("Kernel panic - not syncing: NMI: Not continuing", "nmi"),
    ("Kernel panic - not syncing: An NMI occurred, please see the Integrated Management Log for details.", "nmi"),
    ("Kernel panic - not syncing: sysrq triggered crash", "sysrq"),
    ("Kernel panic - not syncing: AER: unrecoverable error", "aer"),
    ("Kernel panic - not syncing: softlockup: hung tasks", "soft_lockup"),
    ("Kernel panic - not syncing: hung_task: blocked tasks", "hung_task"),
    ("Kernel panic - not syncing: RCU Stall", "rcu_stall"),
    ("Kernel panic - not syncing: panic_on_warn set ...", "warn"),
    ("Kernel panic - not syncing: EXT4-fs (device sda2): panic forced after error", "fs_error"),
    ("Kernel panic - not syncing: BTRFS: transaction aborted", "fs_error"),
    ("Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: qd_put+0x1a/0x30", "memory_corruption"),
    ("Kernel panic - not syncing: corrupted stack end detected inside scheduler", "stack_overflow"),
    ("Kernel panic - not syncing: Kernel stack overflow", "stack_overflow"),
    ("Kernel panic - not syncing: Fatal exception in interrupt", "panic_other"),
    ("Kernel panic - not syncing: qd: firmware asked for it", "panic_other"),
    ("Kernel panic - not syncing", "panic_other"),
    ("sysrq: SysRq : Trigger a crash", "sysrq"),
    ("[Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 7: be00000001010091", "mce"),
    ("{1}[Hardware Error]: event severity: fatal", "mce"),
    ("Uhhuh. NMI received for unknown reason 2c on CPU 0.", "nmi"),
    ("NMI: PCI system error (SERR) for reason b1 on CPU 0.", "nmi"),
    ("list_del corruption. prev->next should be ffff8db6c1befc00, but was ffff8db6c1befb40.", "memory_corruption"),
    ("list_add double add: new=ffff8db6c1befc00, prev=ffff8db6c1befc00, next=ffff8db6.", "memory_corruption"),
    ("BUG: Bad page state in process a b  pfn:12345", "memory_corruption"),
    ("BUG: Bad page map in process sh  pte:8000000012345025 pmd:12345067", "memory_corruption"),
    ("BUG: Bad rss-counter state mm:00000000447df5bd type:MM_ANONPAGES val:1", "memory_corruption"),
    ("BUG: non-zero pgtables_bytes on freeing mm: 4096", "memory_corruption"),
    ("mm/pgtable-generic.c:50: bad pmd 0000000012345678(deadbeef)", "memory_corruption"),
    ("BUG kmalloc-64 (Not tainted): Redzone overwritten", "memory_corruption"),
    ("BUG dentry (Tainted: [W]=WARN, [O]=OOT_MODULE): Poison overwritten", "memory_corruption"),
    ("Slab corruption (Not tainted): size-64 start=ffff88010a3c8a00, len=64", "memory_corruption"),
    ("slab error in verify_redzone_free(): cache `size-64': double free detected", "memory_corruption"),
    ("sh: Corrupted page table at address 7f1234567890", "memory_corruption"),
    ("PAX: size overflow detected in function qd_put mm/qd.c:88", "bug"),
    ("refcount_t: underflow; use-after-free.", "memory_corruption"),
    ("WARNING: CPU: 1 PID: 7 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110", "memory_corruption"),
    ("ODEBUG: free active (active state 0) object type: timer_list hint: qd_timer+0x0/0x40", "warn"),
    ("WARNING: CPU: 1 PID: 7 at lib/debugobjects.c:505 debug_print_object+0x6e/0x90", "warn"),
    ("WARNING: CPU: 1 PID: 7 at kernel/locking/mutex.c:950 __mutex_lock+0x3f/0x90", "deadlock"),
    ("WARNING: at kernel/lockdep.c:2690 check_flags+0x12f/0x190()", "deadlock"),
    ("WARNING: at lib/list_debug.c:47 __list_del_entry+0x63/0xd0()", "memory_corruption"),
    ("kobject (ffff88010a3c8a00): tried to init an initialized object, something is seriously wrong.", "warn"),
    ("NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out", "tx_timeout"),
    ("NETDEV WATCHDOG: CPU: 3: eth0 (e1000e): transmit queue 0 timed out 5001 ms", "tx_timeout"),
    ("WARNING: CPU: 7 PID: 0 at net/sched/sch_generic.c:525 dev_watchdog+0x20a/0x220", "tx_timeout"),
    ('memcpy: detected field-spanning write (size 8) of single field "&a->b" at mm/qd.c:88 (size 4)', "out_of_bounds"),
    ("WARNING: CPU: 1 PID: 7 at mm/qd.c:88 qd_put+0x1a/0x30 [qd]", "warn"),
    ("WARNING: at mm/qd.c:88", "warn"),
    ("WARNING: kernel stack frame pointer at 00000000447df5bd in sh:7 has bad value 0000000000000000", "warn"),
    ("Badness at mm/qd.c:88", "warn"),
    ("RTNL: assertion failed at net/core/dev.c (1234)", "warn"),
    ('irq 16: nobody cared (try booting with the "irqpoll" option)', "warn"),
    ("kswapd0: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP)", "oom"),
    ("BUG: Dentry 00000000447df5bd{i=1,n=f}  still in use (1) [unmount of ext4 sda1]", "memory_corruption"),
    ("unregister_netdevice: waiting for lo to become free. Usage count = 2", "warn"),
    ("WARNING: possible circular locking dependency detected", "deadlock"),
    ("WARNING: possible recursive locking detected", "deadlock"),
    ("WARNING: possible irq lock inversion dependency detected", "deadlock"),
    ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "deadlock"),
    ("WARNING: inconsistent lock state", "deadlock"),
    ("WARNING: bad unlock balance detected!", "deadlock"),
    ("WARNING: bad contention detected!", "deadlock"),
    ("WARNING: held lock freed!", "deadlock"),
    ("[ BUG: Invalid wait context ]", "deadlock"),
    ("WARNING: Nested lock was not taken", "deadlock"),
    ("WARNING: lock held when returning to user space!", "deadlock"),
    ("WARNING: qd/7 is leaving the kernel with locks still held!", "deadlock"),
    ("WARNING: qd/7 still has locks held!", "deadlock"),
    ("[ BUG: lock held at task exit time! ]", "deadlock"),
    ("WARNING: suspicious RCU usage", "deadlock"),
    ("[ INFO: suspicious rcu_dereference_check() usage. ]", "deadlock"),
    ("INFO: trying to register non-static key.", "deadlock"),
    ("BUG: MAX_LOCKDEP_CHAINS too low!", "deadlock"),
    ("DEBUG_LOCKS_WARN_ON(1)", "deadlock"),
    ("BUG: scheduling while atomic: sh/7/0x00000002", "deadlock"),
    ("bad: scheduling from the idle thread!", "deadlock"),
    ("BUG: sleeping function called from invalid context at mm/qd.c:88", "deadlock"),
    ("BUG: using smp_processor_id() in preemptible [00000000] code: sh/7", "deadlock"),
    ("BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[7]", "deadlock"),
    ("BUG: spinlock bad magic on CPU#0, sh/7", "deadlock"),
    ("BUG: rwlock wrong CPU on CPU#0, sh/7", "deadlock"),
    ("BUG: write-lock lockup on CPU#0, sh/7, ffff88010a3c8a00", "deadlock"),
    ("Voluntary context switch within RCU read-side critical section!", "deadlock"),
    ("BUG: kernel NULL pointer dereference, address: 0000000000000010", "null_deref"),
    ("Unable to handle kernel NULL pointer dereference at virtual address 00000010", "null_deref"),
    ("BUG: Kernel NULL pointer dereference on read at 0x00000010", "null_deref"),
    ("BUG: unable to handle kernel paging request at ffffc90000a41018", "bad_page_fault"),
    ("Unable to handle kernel execution of user memory at virtual address 0000000000401000", "bad_page_fault"),
    ("BUG: Unable to handle kernel data access at 0x6b6b6b6b6b6b6b83", "bad_page_fault"),
    ("BUG: Bad page fault in process sh", "bad_page_fault"),
    ("general protection fault: 0000 [#1] SMP", "gpf"),
    ("Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP", "gpf"),
    ("stack segment: 0000 [#1] PREEMPT SMP", "gpf"),
    ("PANIC: double fault, error_code: 0x0", "double_fault"),
    ("double fault: 0000 [#1] SMP", "double_fault"),
    ("Oops: divide error: 0000 [#1] SMP", "divide_error"),
    ("invalid opcode: 0000 [#1] SMP", "invalid_opcode"),
    ("int3: 0000 [#1] PREEMPT SMP", "panic_other"),
    ("BUG: IRQ stack guard page was hit at ffffc90000a41018", "stack_overflow"),
    ("kernel stack overflow (page fault): 0000 [#1] SMP", "stack_overflow"),
    ("Insufficient stack space to handle exception!", "stack_overflow"),
    ("Thread overran stack, or stack corrupted", "stack_overflow"),
    ("kernel BUG at mm/qd.c:88!", "bug"),
    ("Kernel BUG [#1]", "bug"),
    ("Bad mode in Error handler detected on CPU0, code 0xbf000000 -- SError", "mce"),
    ("Bad mode in Synchronous Abort handler detected on CPU0, code 0x8600000e", "panic_other"),
    ("SError Interrupt on CPU6, code 0x00000000be000011 -- SError", "mce"),
    ("Internal error: synchronous external abort: 0000000096000210 [#1] SMP", "mce"),
    ("Unhandled fault: imprecise external abort (0x406) at 0xb6f3c000", "bad_page_fault"),
    ("Alignment trap: not handling instruction e1923f9f at [<c05a1f34>]", "panic_other"),
    ("Internal error: Oops - BUG: 0 [#1] SMP ARM", "bug"),
    ("Internal error: Oops - undefined instruction: 0 [#1] SMP ARM", "invalid_opcode"),
    ("Internal error: Oops: 0000000096000004 [#1] SMP", "bad_page_fault"),
    ("Oops: Machine check, sig: 7 [#1]", "mce"),
    ("Oops: 0002 [#1] SMP", "bad_page_fault"),
    ("usercopy: Kernel memory exposure attempt detected from SLUB object 'qd' (offset 0, size 9)!", "bug"),
    ("CFI failure at qd_call+0x1a/0x30 [qd] (target: qd_free+0x0/0x40; expected type: 0x1b2c3d4e)", "bug"),
    ("detected buffer overflow in memcpy", "out_of_bounds"),
]  # fmt: skip


STOPPING = ("Kernel panic", "Trigger a crash", "event severity: fatal")


@pytest.mark.parametrize(("line", "mechanism"), HEADINGS)
def test_every_wording_begins_a_report(line: str, mechanism: str, reports: Reports) -> None:
    for log in (line, f"[   12.345678] {line}\n", f"Mar  9 08:00:26 web-04 kernel: {line}\n"):
        (report,) = reports(log)
        assert report.mechanism == mechanism
        assert report.fatal == any(words in line for words in STOPPING)


def test_no_wording_is_there_in_vain() -> None:
    """Each heading is the first that matches some line; one that never is would be dead."""
    from necropsy_analyzer.report.formats import HEADINGS as KNOWN

    lines = [line for line, _ in HEADINGS]
    matching = (
        [n for n, known in enumerate(KNOWN) if known.literal in line and known.pattern.search(line)]
        for line in lines
    )
    reached = {places[0] for places in matching if places}
    assert [KNOWN[n].pattern.pattern for n in range(len(KNOWN)) if n not in reached] == []
