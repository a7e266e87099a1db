"""The shipped frame model: who is passed over in which kind of report, and whom that leaves to blame."""

from importlib.resources import files
from textwrap import dedent

import pytest

from necropsy_analyzer.report.find import find
from necropsy_analyzer.report.frames import FrameModel, load_frames
from necropsy_analyzer.report.lines import read


@pytest.fixture(scope="module")
def model() -> FrameModel:
    folder = files("necropsy_rules") / "frames"
    return load_frames({file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()})


PASSED_OVER = {
    "fault": """
        dump_stack_lvl kasan_report __asan_report_load8_noabort refcount_warn_saturate
        __list_add_valid_or_report memcpy strscpy rb_erase xas_find idr_remove kobject_put mod_timer
        __queue_work queue_work_on __wake_up complete kfree kmem_cache_free __kmalloc_noprof usb_submit_urb
        skb_put skb_panic folio_unlock truncate_inode_pages_range device_del sysfs_remove_group
        __x86_indirect_thunk_rax asm_exc_page_fault el1h_64_sync_handler bitmap_zero find_next_bit
        copy_page_to_iter vsnprintf seq_printf _dev_info inb ioread32 sg_init_one kfree_skb_reason
        do_trap_break program_check_exception __dabt_svc bpf_prog_6deef7357e7b4530 mutex_lock down_read down
        """,
    "wait": """
        __schedule schedule_timeout io_schedule mutex_lock down_write down folio_wait_bit_common
        __flush_work cancel_delayed_work_sync wait_for_completion kthread_stop bit_wait_io
        filemap_fdatawait_range rwsem_down_read_slowpath __wait_on_freeing_inode wb_wait_for_completion
        usb_start_wait_urb msleep percpu_down_write
        """,
    "leak": """
        kmalloc_trace kmem_cache_alloc_noprof kstrdup alloc_inode __alloc_skb sk_prot_alloc bio_alloc_bioset
        pcpu_alloc
        """,
    "lock_order": """
        lock_acquire _raw_spin_lock mutex_lock_nested down_read iput process_one_work print_circular_bug
        """,
    "lockdep": "lock_acquire complete __timer_delete_sync del_timer_sync down lock_sock_nested kfree kthread",
    "atomic": "__might_resched kmem_cache_alloc_node_noprof mutex_lock down_read schedule",
    "uninit": "_copy_to_iter strscpy aes_encrypt crypto_cipher_encrypt_one memcmp usb_submit_urb",
    "default": """
        debug_print_object debug_check_no_obj_freed kfree call_rcu init_timer_key hrtimer_init
        free_pages_prepare
        """,
    "page": """
        bad_page free_pages_prepare get_page_from_freelist page_frag_free skb_release_data
        folio_batch_move_lru filemap_alloc_folio_noprof
        """,
    "stall": """
        lock_acquire kasan_check_range unwind_next_frame kmem_cache_alloc memcpy vprintk_emit native_halt
        """,
}

BLAMED = {
    # Logic of their own, whatever they are called with.
    "fault": """
        iov_iter_revert iov_iter_advance mas_next_slot rhashtable_walk_enter percpu_ref_exit crc16
        assoc_array_gc d_path dput kernfs_get kernfs_remove_by_name_ns call_rcu try_to_wake_up
        lock_sock_nested skb_release_data skb_dequeue skb_clone get_user_pages copy_page_range bitmap_ip_add
        bit_putcs __strp_recv copy_to_user_tmpl __update_load_avg_se list_add_event list_lru_add atomic_open
        ct_sip_parse_request __rb_reserve_next rb_advance_reader nf_ct_get_tuple sg_release
        folio_lock_anon_vma_read vm_area_dup __put_user_ns input_register_device dma_map_page_attrs
        crypto_gcm_init_common perf_trace_destroy bpf_trampoline_put bpf_prog_create_from_user
        ___bpf_prog_run __lock_task_sighand reserve_compress_blocks filemap_fault __pskb_pull_tail
        process_one_work expire_timers ext4_put_super btrfs_put_root usb_hub_create_port_device
        get_page_from_freelist page_counter_cancel remove_wait_queue kcov_remote_start copy_highpage
        """,
    "wait": """
        synchronize_rcu rcu_barrier jbd2_log_wait_commit truncate_inode_pages_range write_cache_pages
        lock_sock_nested rtnl_lock rpm_resume do_exit blk_mq_get_tag usb_bulk_msg sync_inodes_sb
        freeze_super lock_two_directories
        """,
    "leak": """
        new_inode_pseudo prepare_creds kobject_set_name_vargs radix_tree_insert skb_copy ___neigh_create
        """,
    "lock_order": """
        __wake_up_common_lock try_to_wake_up __flush_workqueue kill_fasync down_trylock lock_sock_nested
        __queue_work console_unlock rtnetlink_rcv_msg fs_reclaim_acquire __might_fault vfs_setxattr
        perf_trace_destroy __run_timer_base
        """,
    "atomic": "dput __alloc_skb pcpu_alloc_noprof vm_area_dup",
    "uninit": "move_addr_to_user __skb_datagram_iter ___bpf_prog_run rng_recvmsg skcipher_walk_virt",
    "default": "netdev_freemem rose_timer_expiry __init_work",
}

DISPATCHERS = """
    process_one_work call_timer_fn __hrtimer_run_queues handle_softirqs vfs_write new_sync_write __fput
    task_work_run rtnetlink_rcv_msg nfnetlink_rcv_msg __netif_receive_skb_core do_syscall_64 el0_svc
    do_trap_ecall_u handle_mm_fault sock_sendmsg io_issue_sqe irq_thread_fn rcu_do_batch
    tasklet_action_common exit_to_user_mode_loop do_dentry_open
    """

OPERATIONS = """
    do_exit ext4_file_write_iter kvm_vcpu_ioctl drm_ioctl sock_write_iter inet_sendmsg netlink_sendmsg
    hub_event __x64_sys_read vfs_statx dummy_timer ip_list_rcv vfs_readlink ia32_setup_frame tty_ioctl
    proc_reg_read shrink_slab
    """


def _table(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(use, function) for use, names in table.items() for function in names.split()]


@pytest.mark.parametrize(("use", "function"), _table(PASSED_OVER))
def test_who_only_serves_its_caller_is_passed_over(model: FrameModel, use: str, function: str) -> None:
    assert model.passed_over(use)(function)


@pytest.mark.parametrize(("use", "function"), _table(BLAMED))
def test_who_has_logic_of_its_own_is_blamed(model: FrameModel, use: str, function: str) -> None:
    assert not model.passed_over(use)(function)


@pytest.mark.parametrize("function", DISPATCHERS.split())
def test_generic_callers_of_many_implementations_dispatch(model: FrameModel, function: str) -> None:
    assert model.belongs(function, "dispatch")


@pytest.mark.parametrize("function", OPERATIONS.split())
def test_an_operation_is_no_dispatcher(model: FrameModel, function: str) -> None:
    assert not model.belongs(function, "dispatch")


def test_an_exception_holds_within_its_class_only() -> None:
    model = load_frames(
        {
            "a.yaml": "classes: {trace: ['perf_trace_*', '!perf_trace_init'], lock: [perf_trace_init]}",
            "b.yaml": "uses: {fault: [trace], wait: [trace, lock]}",
        }
    )
    assert model.passed_over("fault")("perf_trace_sched_switch")
    assert not model.passed_over("fault")("perf_trace_init")
    assert model.passed_over("wait")("perf_trace_init")


def _stack(*functions: str, head: str = "Call Trace:") -> str:
    return "\n".join([head, *(f" {function}+0x1{place:x}/0x900" for place, function in enumerate(functions))])


X86 = "CPU: 0 PID: 77 Comm: worker Not tainted 6.6.1 #1"

STACKS = {
    "a list node of the driver was freed": (
        "BUG: KASAN: slab-use-after-free in __list_del_entry_valid_or_report+0x2f/0x140\n"
        "Read of size 8 at addr ffff888012345678 by task worker/77\n\n"
        + X86
        + "\n"
        + _stack(
            "dump_stack_lvl",
            "print_report",
            "kasan_report",
            "__list_del_entry_valid_or_report",
            "frob_detach",
            "frob_remove",
            "device_release_driver_internal",
        ),
        "frob_detach",
    ),
    "an iterator that ran out of its buffer is named itself": (
        "BUG: KASAN: stack-out-of-bounds in iov_iter_revert+0x1f/0x400\n"
        "Read of size 8 at addr ffff888012345678 by task worker/77\n\n"
        + X86
        + "\n"
        + _stack(
            "dump_stack_lvl", "print_report", "kasan_report", "iov_iter_revert", "frob_read_iter", "vfs_read"
        ),
        "iov_iter_revert",
    ),
    "a counter below zero is its user's": (
        "refcount_t: underflow; use-after-free.\n"
        "WARNING: CPU: 0 PID: 77 at lib/refcount.c:28 refcount_warn_saturate+0xf4/0x144\n" + X86 + "\n"
        "RIP: 0010:refcount_warn_saturate+0xf4/0x144\n"
        + _stack("kobject_put", "put_device", "frob_disconnect", "usb_unbind_interface"),
        "frob_disconnect",
    ),
    "a jump to nowhere is the caller's": (
        "BUG: kernel NULL pointer dereference, address: 0000000000000000\n"
        "#PF: supervisor instruction fetch in kernel mode\n" + X86 + "\nRIP: 0010:0x0\n"
        "Code: Unable to access opcode bytes at 0xffffffffffffffd6.\n"
        + _stack("frob_poll", "ep_item_poll", "do_epoll_ctl"),
        "frob_poll",
    ),
    "a hung task waits for what it flushes": (
        "INFO: task worker:77 blocked for more than 143 seconds.\n"
        "task:worker          state:D stack:0     pid:77    ppid:2      flags:0x00004000\n"
        + _stack(
            "__schedule",
            "schedule",
            "schedule_timeout",
            "__wait_for_common",
            "__flush_work",
            "cancel_delayed_work_sync",
            "frob_shutdown",
            "device_shutdown",
        ),
        "frob_shutdown",
    ),
    "a hung task that waits for a grace period": (
        "INFO: task worker:77 blocked for more than 143 seconds.\n"
        "task:worker          state:D stack:0     pid:77    ppid:2      flags:0x00004000\n"
        + _stack("__schedule", "schedule", "synchronize_rcu_expedited", "frob_unregister", "frob_exit"),
        "synchronize_rcu_expedited",
    ),
    "a stall is the operation's that the dispatcher called": (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [worker:77]\n" + X86 + "\n"
        "RIP: 0010:_raw_spin_unlock_irqrestore+0x11/0x20\n"
        + _stack("frob_walk", "frob_shrink", "frob_write_iter", "vfs_write", "ksys_write", "__x64_sys_write"),
        "frob_write_iter",
    ),
    "a stall in an ioctl is the device's": (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [worker:77]\n" + X86 + "\n"
        "RIP: 0010:frob_spin+0x11/0x20\n"
        + _stack("frob_start", "frob_ioctl", "__se_sys_ioctl", "__x64_sys_ioctl", "do_syscall_64"),
        "frob_ioctl",
    ),
    "a stall in a page fault that a system call took": (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [worker:77]\n" + X86 + "\n"
        "RIP: 0010:do_swap_page+0x11/0x20\n"
        + _stack(
            "handle_mm_fault",
            "do_user_addr_fault",
            "exc_page_fault",
            "asm_exc_page_fault",
            "copy_user_generic",
            "frob_copy",
            "__x64_sys_frob",
            "do_syscall_64",
        ),
        "sys_frob",
    ),
    "a stall in a page fault of user space": (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [worker:77]\n" + X86 + "\n"
        "RIP: 0010:frob_lock_page+0x11/0x20\n"
        + _stack("frob_fault", "__do_fault", "handle_mm_fault", "do_user_addr_fault", "asm_exc_page_fault"),
        "frob_fault",
    ),
    "a lock under a dispatcher is no operation": (
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [worker:77]\n" + X86 + "\n"
        "RIP: 0010:_raw_spin_lock_irq+0x11/0x20\n" + _stack("process_one_work", "worker_thread", "kthread"),
        "process_one_work",
    ),
    "memory that a name was made of": (
        "unreferenced object 0xffff888012345678 (size 32):\n"
        '  comm "worker", pid 77, jiffies 4294943643 (age 30.000s)\n  backtrace:\n'
        "    [<00000000d2ad1d2f>] __kmalloc_node_track_caller+0x4c/0x160\n"
        "    [<00000000d2ad1d2f>] kstrdup+0x3c/0x70\n"
        "    [<00000000d2ad1d2f>] frob_set_label+0x3c/0x70\n"
        "    [<00000000d2ad1d2f>] frob_ioctl+0x3c/0x70",
        "frob_set_label",
    ),
    "who takes a lock of the core in the wrong order": (
        "WARNING: possible circular locking dependency detected\n6.6.1 #1 Not tainted\n"
        "worker/77 is trying to acquire lock:\n"
        "ffff888012345678 (&x->wait){-.-.}-{3:3}, at: __wake_up_common_lock+0x25/0x60\n"
        "but task is already holding lock:\nffff888012345679 (&f->lock){-.-.}-{3:3}, at: frob_irq+0x25/0x60\n"
        "stack backtrace:\n"
        + X86
        + "\n"
        + _stack(
            "dump_stack_lvl",
            "print_circular_bug",
            "__lock_acquire",
            "lock_acquire",
            "_raw_spin_lock_irqsave",
            "__wake_up_common_lock",
            "frob_irq",
        ),
        "__wake_up_common_lock",
    ),
    "a completion that was never initialized": (
        "INFO: trying to register non-static key.\nturning off the locking correctness validator.\n"
        + X86
        + "\n"
        + _stack(
            "dump_stack_lvl",
            "register_lock_class",
            "__lock_acquire",
            "lock_acquire",
            "_raw_spin_lock_irqsave",
            "complete",
            "frob_done",
            "frob_irq",
        ),
        "frob_done",
    ),
    "a live timer in freed memory": (
        "ODEBUG: free active (active state 0) object: ffff888012345678 object type: timer_list "
        "hint: frob_tick+0x0/0x10\n"
        "WARNING: CPU: 0 PID: 77 at lib/debugobjects.c:514 debug_print_object+0x1a2/0x2b0\n" + X86 + "\n"
        "RIP: 0010:debug_print_object+0x1a2/0x2b0\n"
        + _stack(
            "debug_check_no_obj_freed", "slab_free_freelist_hook", "kfree", "frob_release", "device_release"
        ),
        "frob_release",
    ),
    "a page is its owner's, whoever finds it broken": (
        "BUG: Bad page state in process worker  pfn:12345\n"
        "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x12345\n"
        "page dumped because: PAGE_FLAGS_CHECK_AT_FREE flag(s) set\n"
        "page last allocated via order 0, migratetype Unmovable, gfp_mask 0xc40(GFP_NOFS), pid 7, "
        "tgid 7 (a), ts 6000, free_ts 5000\n"
        + _stack(
            "post_alloc_hook",
            "get_page_from_freelist",
            "__alloc_pages_noprof",
            "folio_alloc_noprof",
            "__filemap_get_folio",
            "frob_get_page",
            head="",
        ).strip("\n")
        + "\n"
        + X86
        + "\n"
        + _stack("dump_stack_lvl", "bad_page", "free_unref_folios", "folios_put_refs", "other_write"),
        "frob_get_page",
    ),
    "a report in which everything only serves": (
        "BUG: unable to handle page fault for address: ffffc90000000000\n" + X86 + "\n"
        "RIP: 0010:memcpy_orig+0x54/0x110\n" + _stack("__wake_up", "complete"),
        "memcpy_orig",
    ),
}


@pytest.mark.parametrize("what", STACKS)
def test_the_culprit_of_a_stack(model: FrameModel, what: str) -> None:
    log, culprit = STACKS[what]
    stamped = "".join(f"[   10.{place:06}] {line}\n" for place, line in enumerate(dedent(log).splitlines()))
    reports = find(read(stamped.encode()), model)
    assert [report.culprit for report in reports] == [culprit]
