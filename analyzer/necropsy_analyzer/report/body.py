"""The lines of one report → who was running, where, and the stack traces in it. In: messages. Out: a `Body`.

Headers are those of show_regs_print_info() and dump_stack_print_info() (lib/dump_stack.c), sched_show_task()
(kernel/sched/core.c), arch/*/kernel/process*.c; the traces' own headings are the kernel's words before them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from necropsy_analyzer.report.report import Frame, LogLine, Section
from necropsy_analyzer.report.stack import frame_of, pointer_of, section_of

# RHEL writes dashes after the letters where the kernel is not changed by support.
_TAINT: Final = r"(?P<taint>Not tainted|Tainted: [A-Z ]{1,60}?)\s[-r ]{0,48}"
_RELEASE: Final = r"\(?(?P<release>\d{1,3}\.[^\s)]{1,100})"
_CPU: Final = re.compile(
    r"\s{0,8}CPU: (?P<cpu>\d{1,5}) (?:UID: \d{1,10} )?PID: (?P<pid>\d{1,9}) Comm: (?P<process>.{1,64}?) "
    r"(?:Kdump: loaded )?" + _TAINT + _RELEASE
)
_OLD_PID: Final = re.compile(
    r"Pid: (?P<pid>\d{1,9}), comm: (?P<process>.{1,64}?) {1,20}"
    + _TAINT
    + _RELEASE
    + r"(?:\s+#\S+(?:\s+(?P<hardware>\S.{0,120}))?)?"
)
_CPU_ONLY: Final = re.compile(r"CPU: (?P<cpu>\d{1,5})\s{1,8}" + _TAINT + _RELEASE)
# kernel/hung_task.c: `      Tainted: G  OE  6.1.0 #1`, a line of its own.
_TAINT_ONLY: Final = re.compile(r"\s{4,8}" + _TAINT + _RELEASE)
# sched_show_task(): `task:dd state:D stack:0 pid:120`, before 5.9 `dd D ffff88… 0 120 1 0x0000`, words of
# columns.
_TASK: Final = re.compile(
    r"task:(?P<process>.{1,64}?) {1,20}state:[A-Z](?:.{0,60}?\bpid: {0,8}(?P<pid>\d{1,9}))?"
    r"|(?P<old>\S.{0,30}?) {1,20}[A-Z] (?:running task {0,10}|[0-9a-f]{8,16}| {4,20})"
    r" {1,10}\d{1,9} {1,10}(?P<old_pid>\d{1,9}) {1,10}\d{1,9} 0x"
)
_HARDWARE: Final = re.compile(r"\s{0,8}Hardware name: (?P<name>.{1,120}?)(?:, BIOS .{0,120})?$")
_WORKQUEUE: Final = re.compile(r"\s{0,8}Workqueue: (?P<queue>.{1,120}?)\s{0,8}$")
_NMI_BACKTRACE: Final = re.compile(
    r"NMI backtrace for cpu (?P<cpu>\d{1,5})(?! skipped)|(?:Task dump|Backtrace) for CPU (?P<of>\d{1,5})"
)
_CALL: Final = re.compile(r"\s{0,8}(?:Call [Tt]race|Backtrace) ?:")
_STALLED: Final = re.compile(r"(?:rcu: )?\s{0,8}(\d{1,5})-[.\-!?a-zA-Z0-9]{1,6}: \(\d{1,12} (?:ticks|GPs)")
_MODULES: Final = re.compile(r"\s{0,8}Modules linked in:(?P<names>.*)")
_MODULE: Final = re.compile(r"([\w-]{1,64})(?:\(([A-Z+-]{1,16})\))?(?=\s|$)")
_MORE_MODULES: Final = re.compile(r"[\s\w()+-]{0,4096}(?:\[last unloaded: .{0,200})?$")
_REGISTER: Final = re.compile(
    r"\b([A-Zx][A-Z0-9]{1,3}|x\d{1,2}|R\d\d|lr|sp|pc) ?: ?([0-9a-f]{16})(?![0-9a-f])"
)
_ADDRESS: Final = re.compile(
    r"(?:address:? |virtual address |paging request at |dereference at |non-canonical address )"
    r"(?:0x)?([0-9a-f]{8,16})(?![0-9a-f])"
)
_CR2: Final = re.compile(r"CR2: ([0-9a-f]{16})")
_USER_MODE: Final = re.compile(r"\s{0,8}(?:RIP: (?:0033|0023|0073|e033):|EIP: (?:0x)?[0-9a-f]{1,16}\s{0,8}$)")
_ENDS_TRACE: Final = re.compile(
    r"\s{0,8}(?:Modules linked in:|---\[ end trace|Sending NMI|Kernel Offset|Dumping ftrace|Rebooting in)"
)
# Words before a trace that is not the reporter's own: KASAN, KFENCE, KMSAN, KCSAN, lockdep, kmemleak, page
# owner, RCU.
_TITLE: Final = re.compile(
    r"(?:[Aa]llocated|[Ff]reed|created|stored to memory|originated|registered|by task|on cpu \d{1,5}"
    r"|dependency|at|backtrace(?: \(.{0,80}\))?|dump|trace|usage|creation|->[ #]{1,4}\d{1,4}.{0,80}"
    r"|holding.{0,80}|[Ll]ast .{0,80}|free|context|scheduled) ?"
    r"(?:\d{1,9} ?)?(?:(?:by|at|in|on|via) .{0,120}|task \d{1,9}.{0,80})?:$"
    r"|^-> #\d{1,4}|^the existing dependency|^\.\.\. acquired at:"
)
_TITLE_CHARACTERS: Final = 256
_OWN: Final = "Call Trace:"
_REGISTERS: Final = 40
_OUT_OF_TREE: Final = frozenset("OP")
_MODULES_KEPT: Final = 1000
_INTERRUPTED: Final = re.compile(
    r"\s{0,8}(?:RIP|EIP|IP|NIP|pc|PC|epc)\s?:|NIP \[|\s{0,8}(?:PC|EIP) is at | {0,8}R[A-Z0-9]{2}: "
    r"| {0,8}[A-Z]{2,3}: {1,8}[0-9a-f]{8}"
)


@dataclass(slots=True)
class Trace:
    """One stack trace of a report, or a header that none has followed yet.

    `title` is the kernel's line before it, `ip` the instruction pointer that its header names, `main` says
    that it stands below `Call Trace:`. `nmi`: another CPU was asked for it.
    """

    title: str
    frames: list[Frame] = field(default_factory=list)
    ip: Frame | None = None
    cpu: int | None = None
    pid: int | None = None
    process: str | None = None
    nmi: bool = False
    main: bool = False


@dataclass(slots=True)
class Body:
    """What the lines of one report tell.

    `headers` say who ran where, in order; `release` and `tainted` are those of the first that has them.
    `external` are out-of-tree and proprietary modules, `stalled` the CPUs that RCU waits for. `jumped`: `ip`
    is no function, but where a wrong call led.
    """

    traces: list[Trace] = field(default_factory=list)
    headers: list[Trace] = field(default_factory=list)
    ip: Frame | None = None
    tainted: str | None = None
    release: str | None = None
    hardware: str | None = None
    workqueue: str | None = None
    address: int | None = None
    jumped: bool = False
    registers: dict[str, int] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)
    stalled: set[int] = field(default_factory=set)


def taint_letters(text: str) -> str | None:
    """Give the letters of `Tainted: G        W  OE`, without G (no proprietary module) and spaces."""
    letters = text.removeprefix("Tainted:").replace(" ", "").replace("G", "")
    return None if text == "Not tainted" else letters or None


class _Reader:
    """Walks over the lines once; mutable, and gone when the body is made."""

    def __init__(self) -> None:
        self.body = Body()
        self._open: Trace | None = None
        self._title = ""
        self._section: Section = "task"
        self._header = Trace("")
        self._in_modules = False

    def take(self, line: LogLine) -> None:
        text = line.text
        frame = frame_of(text, self._section, line.number)
        if frame is not None and not (frame.size is None and text[:4] == "RIP:"):
            self._frame(frame, text)
            return
        if not text or text.isspace():
            return
        if "<" in text and text.lstrip()[:1] == "<" and len(text) < 40:
            self._section = section_of(text, self._section)
            return
        self._header_line(text, line)

    def _frame(self, frame: Frame, text: str) -> None:
        section = section_of(text, self._section) if "<" in text else self._section
        if section != self._section:
            self._section = section
            frame = msgspec.structs.replace(frame, section=section)
        if self._open is None:
            self._open = Trace(
                self._title,
                ip=self._header.ip,
                cpu=self._header.cpu,
                pid=self._header.pid,
                process=self._header.process,
                nmi=self._header.nmi,
                main=self._title == _OWN,
            )
            self.body.traces.append(self._open)
        self._open.frames.append(frame)

    def _close(self) -> None:
        self._open = None
        self._section = "task"

    def _header_line(self, text: str, line: LogLine) -> None:
        body = self.body
        if self._in_modules and _MORE_MODULES.match(text):
            self._modules(text)
            return
        self._in_modules = False
        if _CALL.match(text):
            self._close()
            self._title = _OWN
            rest = text.split(":", 1)[1]
            frame = frame_of(rest, "task", line.number) if "+0x" in rest else None
            if frame is not None:
                self._frame(frame, rest)
            return
        pointer = None
        if "+0x" in text and _INTERRUPTED.match(text):
            pointer = pointer_of(text, line.number)
        if pointer is not None:
            self._pointer(pointer)
            return
        if _USER_MODE.match(text) or _ENDS_TRACE.match(text):
            self._close()
        cpu = _CPU.match(text) or _OLD_PID.match(text) or _CPU_ONLY.match(text)
        if cpu is not None:
            self._cpu(cpu)
            return
        kernel = _TAINT_ONLY.match(text)
        if kernel is not None:
            if body.release is None:
                body.release = kernel["release"]
                body.tainted = taint_letters(kernel["taint"])
            return
        backtrace = _NMI_BACKTRACE.match(text)
        if backtrace is not None:
            self._close()
            self._header = Trace("", cpu=int(backtrace["cpu"] or backtrace["of"]), nmi=True)
            self._title = text.strip()[:_TITLE_CHARACTERS]
            return
        task = _TASK.match(text)
        if task is not None:
            self._close()
            pid = task["pid"] or task["old_pid"]
            process = (task["process"] or task["old"]).strip()
            self._header = Trace("", process=process, pid=None if pid is None else int(pid))
            self.body.headers.append(self._header)
            self._title = text.strip()[:_TITLE_CHARACTERS]
            return
        modules = _MODULES.match(text)
        if modules is not None:
            self._close()
            self._modules(modules["names"])
            self._in_modules = True
            return
        self._fact(text)
        stripped = text.strip()[:_TITLE_CHARACTERS]
        if _TITLE.search(stripped) is not None:
            self._close()
            self._title = stripped
        elif self._open is None:
            self._title = stripped
        if len(body.registers) < _REGISTERS:
            self._registers(text)

    def _fact(self, text: str) -> None:
        body = self.body
        hardware = _HARDWARE.match(text)
        if hardware is not None:
            body.hardware = body.hardware or hardware["name"].strip()
            return
        queue = _WORKQUEUE.match(text)
        if queue is not None:
            body.workqueue = body.workqueue or queue["queue"]
            return
        if "instruction fetch" in text or "NX-protected" in text or "IABT (current EL)" in text:
            body.jumped = True
        stalled = _STALLED.match(text)
        if stalled is not None:
            body.stalled.add(int(stalled[1]))
        if body.address is None:
            address = _ADDRESS.search(text) or (_CR2.search(text) if len(body.headers) <= 1 else None)
            if address is not None:
                body.address = int(address[1], 16)

    def _pointer(self, pointer: Frame) -> None:
        if self._open is not None and self._open.frames:
            # The registers inside a trace: what lies outside was interrupted there.
            self._open.frames.append(msgspec.structs.replace(pointer, section=self._section))
            return
        if self._header.ip is None:
            self._header.ip = pointer
        if self.body.ip is None:
            self.body.ip = pointer

    def _cpu(self, found: re.Match[str]) -> None:
        self._close()
        groups = found.groupdict()
        nmi = self._header.nmi and not self._header.process
        cpu = groups.get("cpu")
        pid = groups.get("pid")
        self._header = Trace(
            "",
            cpu=None if cpu is None else int(cpu),
            pid=None if pid is None else int(pid),
            process=groups.get("process"),
            nmi=nmi,
        )
        body = self.body
        body.headers.append(self._header)
        if body.release is None:
            body.release = groups["release"]
            body.tainted = taint_letters(groups["taint"])
        if groups.get("hardware"):
            body.hardware = body.hardware or groups["hardware"]

    def _modules(self, names: str) -> None:
        for name, flags in _MODULE.findall(names.partition("[")[0]):
            if len(self.body.modules) < _MODULES_KEPT:
                self.body.modules.setdefault(name, flags)
                if not _OUT_OF_TREE.isdisjoint(flags):
                    self.body.external.add(name)

    def _registers(self, text: str) -> None:
        if len(self.body.headers) > 1 or ":" not in text:
            return
        for name, value in _REGISTER.findall(text):
            self.body.registers.setdefault(name, int(value, 16))


def read_body(lines: Iterable[LogLine]) -> Body:
    """Read the lines of a report, its heading included. Never raises on content."""
    reader = _Reader()
    for line in lines:
        reader.take(line)
    return reader.body
