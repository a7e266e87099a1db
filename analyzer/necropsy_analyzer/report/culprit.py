"""Whom to blame. In: a heading, its match, the report's body, the frame model. Out: the function, and the
stack.

The function that reports is not the one at fault, nor are list, lock, copy and allocation helpers that it
called with bad arguments: the culprit is the innermost function outside the classes that the frame model
passes over for this kind of report. A stall is sampled at a random function of whatever loops; its culprit is
the operation, which is what a dispatcher (system call entry, work queue, timer, protocol input) called.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from msgspec import structs

from necropsy_analyzer.report.body import Body, Trace
from necropsy_analyzer.report.formats.heading import Heading
from necropsy_analyzer.report.frames import FrameModel
from necropsy_analyzer.report.report import Frame, LogLine
from necropsy_analyzer.report.stack import plain_name

_DETAIL_LINES: Final = 60
_SYSCALL: Final = re.compile(r"__(?:x64|ia32|arm64|riscv|s390x?|se|do)_(?:compat_)?sys_(\w+)")
# mm/kmsan/report.c and mm/kfence/report.c print the access's trace without `Call Trace:`.
_OWN: Final = re.compile(r"^BUG: K|\b(?:[Rr]ead|[Ww]rite|access|free|corruption) (?:at|of) 0x")
_REPORTERS: Final = "report"


class Blamed(NamedTuple):
    """The function blamed (None: the report names none), its module, its frame, the stack and its trace."""

    function: str | None
    module: str | None
    frame: Frame | None
    stack: tuple[Frame, ...]
    trace: Trace | None


def blame(
    heading: Heading,
    found: re.Match[str],
    lines: Sequence[LogLine],
    body: Body,
    frames: FrameModel,
) -> Blamed:
    """Choose the culprit of a report."""
    if heading.use == "stall":
        return _stalled(body, frames)
    trace = _main(body)
    stack = _stack(heading, trace, body)
    if heading.mechanism == "stack_overflow":
        operation = _recursive(stack) or _operation(_recursion(stack), frames)
        if operation is not None:
            return Blamed(syscall(operation.function), operation.module, operation, stack, trace)
    if heading.use == "none" and heading.blame == "stack":
        return Blamed(None, None, None, stack, trace)
    passed = _none if heading.use == "none" else frames.passed_over(heading.use)
    if heading.trace is not None:
        told = next((other for other in body.traces if heading.trace.search(other.title)), None)
        frame = None if told is None else _first(told.frames, passed)
        if frame is not None:
            return Blamed(syscall(frame.function), frame.module, frame, stack, trace)
    named = _named(heading, found, lines)
    if named is not None and not passed(named):
        frame = next((frame for frame in stack if frame.function == named), None)
        return Blamed(syscall(named), frame.module if frame else _module_of(named, body), frame, stack, trace)
    frame = _first(stack, passed)
    if frame is None and heading.mechanism == "deadlock":
        # The lock is a work item's or a timer's own: who waits for it stands in the chain of dependencies.
        waits = frames.passed_over("lockdep")
        found_in = (_first(other.frames, waits) for other in body.traces if other is not trace)
        frame = next((known for known in found_in if known is not None), None)
    if frame is None and named is not None and not frames.belongs(named, _REPORTERS):
        return Blamed(syscall(named), None, None, stack, trace)
    if frame is None:
        frame = _first(stack, frames.passed_over("bare"))
    if frame is None:
        return Blamed(None, None, None, stack, trace)
    return Blamed(syscall(frame.function), frame.module, frame, stack, trace)


def syscall(function: str) -> str:
    """Give a system call's entry the name it has on every architecture: `__x64_sys_read` → `sys_read`."""
    found = _SYSCALL.fullmatch(function)
    return function if found is None else f"sys_{found[1]}"


def _is_entry(function: str) -> bool:
    return (
        function.startswith(("sys_", "SyS_", "compat_sys_", "compat_SyS_")) or syscall(function) != function
    )


def _module_of(function: str, body: Body) -> str | None:
    return next(
        (frame.module for trace in body.traces for frame in trace.frames if frame.function == function), None
    )


def _named(heading: Heading, found: re.Match[str], lines: Sequence[LogLine]) -> str | None:
    if heading.blame == "named":
        raw = found.groupdict().get("function")
        if raw:
            return plain_name(raw)
    if heading.detail is not None:
        for line in lines[:_DETAIL_LINES]:
            detail = heading.detail.search(line.text)
            if detail is not None:
                raw = detail.groupdict().get("function")
                return plain_name(raw) if raw else None
    return None


def _main(body: Body) -> Trace | None:
    """Choose the reporting CPU's own trace: what a checker prints below its heading, the first under a `Call
    Trace:`, else the first.
    """
    if body.traces and _OWN.search(body.traces[0].title):
        return body.traces[0]
    return next((trace for trace in body.traces if trace.main), body.traces[0] if body.traces else None)


def _stack(heading: Heading, trace: Trace | None, body: Body) -> tuple[Frame, ...]:
    frames = list(trace.frames) if trace is not None else []
    pointer = trace.ip if trace is not None else None
    if pointer is None and heading.blame == "pointer":
        pointer = body.ip
    if pointer is None or body.jumped:
        return tuple(frames)
    if heading.blame != "pointer" and any(frame.function == pointer.function for frame in frames):
        return tuple(frames)
    reliable = [frame for frame in frames if frame.reliable]
    if reliable and reliable[0].function == pointer.function:
        return tuple(frames)
    outer = _interrupted(frames, pointer)
    section = next((frame.section for frame in outer if frame.section != "exception"), pointer.section)
    return (structs.replace(pointer, section=section), *outer)


def _interrupted(frames: list[Frame], pointer: Frame) -> list[Frame]:
    """Leave out what the trap itself put on the stack, where the trace shows it again down to the pointer."""
    for place, frame in enumerate(frames):
        if frame.function == pointer.function and frame.offset == pointer.offset and frame.reliable:
            return frames[place + 1 :]
    return frames


def _first(stack: Sequence[Frame], passed: Callable[[str], bool]) -> Frame | None:
    """Give the innermost frame that is not passed over, `?` entries only where there is no other."""
    reliable = [frame for frame in stack if frame.reliable]
    for frames in (reliable, stack):
        for frame in frames:
            if not passed(frame.function):
                return frame
        if len(reliable) > 2:
            return None
    return None


def _none(_: str) -> bool:
    return False


def _recursive(stack: tuple[Frame, ...]) -> Frame | None:
    """Give the one function that calls itself without an end, where no other takes part."""
    reliable = [frame for frame in stack if frame.reliable]
    again = {inner.function for inner, outer in pairwise(reliable) if inner.function == outer.function}
    repeated = {function for function, count in Counter(f.function for f in reliable).items() if count > 2}
    if len(again) != 1 or repeated != again:
        return None
    return next(frame for frame in reliable if frame.function in again)


def _recursion(stack: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Give what lies outside the functions that call themselves again: at an overflow the innermost is any of
    them.
    """
    counts = Counter(frame.function for frame in stack if frame.reliable)
    again = {function for function, count in counts.items() if count > 2}
    last = max((place for place, frame in enumerate(stack) if frame.function in again), default=-1)
    return tuple(frame for frame in stack[last + 1 :] if frame.reliable)


def _stalled(body: Body, frames: FrameModel) -> Blamed:
    """Blame the operation that a stalled CPU was at: of several traces the first that tells one."""
    candidates = sorted(body.traces, key=lambda trace: body.stalled and trace.cpu not in body.stalled)
    fallback: Blamed | None = None
    for trace in candidates:
        stack = _running(trace, body, frames)
        if not stack or _waits(stack, frames):
            continue
        operation = _external(stack, body, frames) or _operation(stack, frames)
        blamed = Blamed(
            None if operation is None else syscall(operation.function),
            None if operation is None else operation.module,
            operation,
            stack,
            trace,
        )
        if operation is not None:
            return blamed
        fallback = fallback or blamed
    return fallback or Blamed(None, None, None, (), None)


def _external(stack: tuple[Frame, ...], body: Body, frames: FrameModel) -> Frame | None:
    """Give the innermost function outside locks and the like, where an out-of-tree module has it.

    Such a module is small, and all of its functions are its maker's: nothing is gained by going outwards.
    """
    frame = _first(stack, frames.passed_over("stall"))
    return frame if frame is not None and frame.module in body.external else None


def _waits(stack: tuple[Frame, ...], frames: FrameModel) -> bool:
    """Say whether a task sleeps, so that it cannot be what stalls: the RCU kthread's own stack dump."""
    first = next((frame for frame in stack if frame.reliable), None)
    return first is not None and frames.belongs(first.function, "sleep")


def _running(trace: Trace, body: Body, frames: FrameModel) -> tuple[Frame, ...]:
    """Give what the CPU ran when the watchdog's interrupt came: the frames outside that interrupt."""
    stack = [frame for frame in trace.frames if frame.reliable] or trace.frames
    pointer = trace.ip or (body.ip if trace.main and len(body.traces) == 1 else None)
    reporting = False
    for place, frame in enumerate(stack):
        if frames.belongs(frame.function, "interrupt_entry"):
            if not reporting:
                break
            end = place
            while end < len(stack) and frames.belongs(stack[end].function, "interrupt_entry"):
                end += 1
            return tuple(stack[end:])
        reporting = reporting or frames.belongs(frame.function, _REPORTERS)
    if pointer is not None and not reporting:
        if stack and stack[0].function == pointer.function:
            return tuple(stack)
        return (pointer, *stack)
    return tuple(stack)


def _outside_page_fault(stack: tuple[Frame, ...], frames: FrameModel) -> int:
    """Give the place from which on the stack tells what took a page fault in the kernel: 0 where nothing
    did.
    """
    last = 0
    for place, frame in enumerate(stack[1:], 1):
        inner = stack[place - 1].function
        if frames.belongs(inner, "page_fault_entry") and not frames.belongs(
            frame.function, "page_fault_entry"
        ):
            last = place
    return last


def _operation(stack: tuple[Frame, ...], frames: FrameModel) -> Frame | None:
    """Walk outwards to the first dispatcher; what it called is the operation."""
    passed = frames.passed_over("stall")
    inner: Frame | None = None
    waiting = True
    for frame in stack[_outside_page_fault(stack, frames) :]:
        if waiting and frames.belongs(frame.function, "cross_call"):
            return frame  # it waits for other CPUs, and whatever asked for that is not at fault
        if frames.belongs(frame.function, "dispatch"):
            return frame if inner is None or passed(inner.function) else inner
        if _is_entry(frame.function):
            return frame
        if frames.belongs(frame.function, "interrupt_entry"):
            if inner is not None and not passed(inner.function):
                return inner
            inner = None
            continue
        waiting = waiting and passed(frame.function)
        inner = frame
    return _first(stack, passed)
