"""The lines of one report → who was running, where, and the stack traces in it. In: messages. Out: a `Body`.

Headers are those of show_regs_print_info() and dump_stack_print_info() (lib/dump_stack.c), sched_show_task()
(kernel/sched/core.c), arch/*/kernel/process*.c; the traces' own headings are the kernel's words before them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from necropsy_analyzer.report.report import Frame, LogLine, Section
from necropsy_analyzer.report.stack import frame_of, pointer_of, section_of

_CPU: Final = re.compile(
    r"\s*CPU: (?P<cpu>\d+) (?:UID: \d+ )?PID: (?P<pid>\d+) Comm: (?P<process>.{1,64}?) "
    r"(?P<taint>Not tainted|Tainted: [A-Z ]+?)\s+\(?(?P<release>\d+\.[^\s)]+)"
)
_OLD_PID: Final = re.compile(
    r"Pid: (?P<pid>\d+), comm: (?P<process>.{1,64}?) (?P<taint>Not tainted|Tainted: [A-Z ]+?)\s+"
    r"\(?(?P<release>\d+\.[^\s)]+)(?:\s+#\S+(?:\s+(?P<hardware>\S.*))?)?"
)
_CPU_ONLY: Final = re.compile(
    r"CPU: (?P<cpu>\d+)\s+(?P<taint>Not tainted|Tainted: [A-Z ]+?)\s+\(?(?P<release>\d+\.[^\s)]+)"
)
_TASK: Final = re.compile(
    r"(?:task:(?P<process>.+?)\s+state:[A-Z]|(?P<old>\S.{0,15}?)\s{1,16}[A-Z] (?:running task  |[0-9a-f]{8,16}|\s{4,})"
    r"[ 0-9a-fx]*)\s.*?(?:pid:\s*(?P<pid>\d+))?"
)
_HARDWARE: Final = re.compile(r"\s*Hardware name: (?P<name>.+?)(?:, BIOS .*)?$")
_WORKQUEUE: Final = re.compile(r"\s*Workqueue: (?P<queue>.+?)\s*$")
_NMI_BACKTRACE: Final = re.compile(
    r"NMI backtrace for cpu (?P<cpu>\d+)|(?:Task dump|Backtrace) for CPU (?P<of>\d+)"
)
_BACKTRACE_SKIPPED: Final = re.compile(r"NMI backtrace for cpu \d+ skipped")
_TRACE: Final = re.compile(
    r"\s*(?:Call [Tt]race|Backtrace|stack backtrace|Stack trace)\s*:?\s*(?:\([^)]*\))?\s*:?\s*$"
)
_CALL: Final = re.compile(r"\s*(?:Call [Tt]race|Backtrace) ?:")
_STALLED: Final = re.compile(r"(?:rcu: )?\s*(\d{1,5})-[.\-!?a-zA-Z0-9]{1,6}: \(\d+ (?:ticks|GPs)")
_MODULES: Final = re.compile(r"\s*Modules linked in:(?P<names>.*)")
_MODULE: Final = re.compile(r"([\w-]+)(?:\(([A-Z+-]+)\))?(?=\s|$|\])")
_REGISTER: Final = re.compile(r"\b([A-Zx][A-Z0-9]{1,3}|x\d{1,2}|R\d\d|lr|sp|pc) ?: ?([0-9a-f]{16})\b")
_ADDRESS: Final = re.compile(
    r"(?:address:? |virtual address |paging request at |dereference at |non-canonical address )(?:0x)?([0-9a-f]{8,16})\b"
)
_CR2: Final = re.compile(r"CR2: ([0-9a-f]{16})")
_USER_MODE: Final = re.compile(r"\s*RIP: (?:0033|0023|0073):|\s*EIP: (?:0x)?[0-9a-f]+\s*$")
_ENDS_TRACE: Final = re.compile(
    r"\s*(?:Modules linked in:|---\[ end trace|Sending NMI|Kernel Offset|Dumping ftrace|Rebooting in)"
)
# Words before a trace that is not the reporter's own: KASAN, KFENCE, KMSAN, KCSAN, lockdep, kmemleak, page owner, RCU.
_TITLE: Final = re.compile(
    r"(?:Allocated|Freed|[Aa]llocated|freed|created|stored to memory|originated|registered|by task|on cpu \d+|dependency"
    r"|at|backtrace(?: \(.*\))?|dump|trace|usage|creation|->[ #]+\d+.*|holding.*|[Ll]ast .*|free|context|scheduled) ?"
    r"(?:\d+ ?)?(?:by .*|at .*|in .*|on .*|via .*|task \d+.*)?:$|^-> #\d+|^the existing dependency|^\.\.\. acquired at:"
)
_INTERRUPTED: Final = re.compile(
    r"\s*(?:RIP|EIP|IP|NIP|pc|PC)\s?:| *R[A-Z0-9]{2}: | *[A-Z]{2,3}: +[0-9a-f]{8}"
)


@dataclass(slots=True)
class Trace:
    """One stack trace of a report.

    `title` is the kernel's line before it, `ip` the instruction pointer that its header names. `nmi`: another CPU
    was asked for it.
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
    """What the lines of one report tell; the fields without a trace are those of the first header."""

    traces: list[Trace] = field(default_factory=list)
    ip: Frame | None = None
    cpu: int | None = None
    pid: int | None = None
    process: str | None = None
    tainted: str | None = None
    release: str | None = None
    hardware: str | None = None
    workqueue: str | None = None
    address: int | None = None
    registers: dict[str, int] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    stalled: set[int] = field(default_factory=set)
    headers: int = 0


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
        self._since = 0
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
            frame = Frame(
                function=frame.function,
                raw=frame.raw,
                offset=frame.offset,
                size=frame.size,
                module=frame.module,
                reliable=frame.reliable,
                section=section,
                line=frame.line,
            )
        if self._open is None:
            self._open = Trace(
                self._title,
                ip=self._header.ip,
                cpu=self._header.cpu,
                pid=self._header.pid,
                process=self._header.process,
                nmi=self._header.nmi,
                main=_TRACE.match(self._title) is not None,
            )
            self.body.traces.append(self._open)
        self._open.frames.append(frame)

    def _close(self) -> None:
        self._open = None
        self._section = "task"

    def _header_line(self, text: str, line: LogLine) -> None:
        body = self.body
        if self._in_modules and text[:1] == " " and ":" not in text:
            self._modules(text)
            return
        self._in_modules = False
        if _CALL.match(text):
            self._close()
            self._title = "Call Trace:"
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
        backtrace = _NMI_BACKTRACE.match(text)
        if backtrace is not None and not _BACKTRACE_SKIPPED.match(text):
            self._close()
            number = int(backtrace["cpu"] or backtrace["of"])
            self._header = Trace("", cpu=number, nmi=True)
            self._title = text.strip()
            return
        if "state:" in text or " R  running task" in text or "running task  " in text:
            task = _TASK.match(text)
            if task is not None:
                self._close()
                pid = task["pid"]
                process = (task["process"] or task["old"] or "").strip()
                self._header = Trace("", process=process, pid=None if pid is None else int(pid))
                self._title = text.strip()
                return
        modules = _MODULES.match(text)
        if modules is not None:
            self._close()
            self._modules(modules["names"])
            self._in_modules = True
            return
        self._fact(text)
        stripped = text.strip()
        if _TITLE.search(stripped) is not None:
            self._close()
            self._title = stripped
        elif self._open is None:
            self._title = stripped
        if not body.registers or len(body.registers) < 40:
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
        stalled = _STALLED.match(text)
        if stalled is not None:
            body.stalled.add(int(stalled[1]))
        if body.address is None:
            address = _ADDRESS.search(text) or (_CR2.search(text) if body.headers <= 1 else None)
            if address is not None:
                body.address = int(address[1], 16)

    def _pointer(self, pointer: Frame) -> None:
        if self._open is not None and self._open.frames:
            # The registers inside a trace: what lies outside was interrupted there.
            self._open.frames.append(
                Frame(
                    function=pointer.function,
                    raw=pointer.raw,
                    offset=pointer.offset,
                    size=pointer.size,
                    module=pointer.module,
                    section=self._section,
                    line=pointer.line,
                )
            )
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
        body.headers += 1
        if body.release is None:
            body.release = groups.get("release")
            body.tainted = taint_letters(groups["taint"])
            body.cpu = self._header.cpu
            body.pid = self._header.pid
            body.process = self._header.process
        if groups.get("hardware"):
            body.hardware = body.hardware or groups["hardware"]

    def _modules(self, names: str) -> None:
        for name, flags in _MODULE.findall(names.split("[last unloaded")[0]):
            if len(self.body.modules) < 1000:
                self.body.modules.setdefault(name, flags)

    def _registers(self, text: str) -> None:
        if self.body.headers > 1 or ":" not in text:
            return
        for name, value in _REGISTER.findall(text):
            self.body.registers.setdefault(name, int(value, 16))


def read_body(lines: Iterable[LogLine]) -> Body:
    """Read the lines of a report, its heading included. Never raises on content."""
    reader = _Reader()
    for line in lines:
        reader.take(line)
    return reader.body
