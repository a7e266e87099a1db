"""Which boots of a host died. In: all evidence of one host. Out: deaths, and what speaks of each.

No I/O and no memory: the same evidence gives the same deaths whatever the order in which it came. The rules:

1. A crash record or vmcore that names the boot it is of is evidence of that boot's death.
2. One that knows only when it was made belongs to the boot that ran then: if the next boot after that moment
   names the one before it and saw it alive until about then, that one; else the last boot that began before.
   So a record made since the running boot began is of a fault which that boot survived.
3. One that knows neither was found by a boot, and belongs to the one before it, if that ended uncleanly.
4. What cannot be placed is a death of a boot without a name; records made within five minutes of each other
   are of one death.
5. A boot that began after an unclean end is evidence of a death, even if nothing else tells of it. An end
   that was clean or unknown makes none; the boot is then only added to a death that others tell of.
6. A fault window of a kernel log, and a fatal hardware event, speak of the boot they were seen in (or name).
   Other hardware events are added to the death of their boot, and make none.
"""

import re
from collections import defaultdict
from typing import Final, Literal

import msgspec

from necropsy_agent.wire import Boot, Event

Role = Literal["record", "vmcore", "log", "hardware", "boot"]

SLACK_NS: Final = 300 * 10**9
"""How far two clocks' stories of one death may be apart: flushing, capture kernel, firmware."""


_LATEST_NS: Final = (1 << 63) - 1
_BOOT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,127}")  # no colon: that marks an unknown boot's name
_KNOWS_MORE: Final = ("unknown", "clean", "unclean")


class _Told(msgspec.Struct, frozen=True):
    """The few fields of a body that tell where it belongs; texts are passed over."""

    died_wall_ns: int | None = None
    crash_wall_ns: int | None = None
    severity: str = ""

    @property
    def died_ns(self) -> int | None:
        return _moment(self.died_wall_ns) or _moment(self.crash_wall_ns)


class Member(msgspec.Struct, frozen=True):
    """One piece of evidence in its role."""

    row: int
    id: str
    role: Role


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """One boot that died, or lived through a fault.

    `boot` is its id, or says how an unknown one is known: `before:BOOT`, `found:BOOT`, `died:SECONDS`.
    `died_ns` is the time of death as the evidence tells it. Members stand in the order they were made.
    """

    boot: str
    died_ns: int | None
    members: tuple[Member, ...]


class _Start(msgspec.Struct, frozen=True):
    """A boot that began, as its event tells."""

    boot: str
    row: int
    id: str
    body: Boot

    @property
    def before(self) -> str:
        previous = self.body.previous or ""
        return previous if _BOOT.fullmatch(previous) else f"before:{self.boot}"

    @property
    def began_ns(self) -> int | None:
        return _moment(self.body.started_wall_ns)

    @property
    def seen_ns(self) -> int | None:
        return _moment(self.body.previous_seen_wall_ns)


KINDS: Final[dict[str, Role]] = {
    "crash.record": "record",
    "vmcore.report": "vmcore",
    "kernel.log": "log",
    "hardware.event": "hardware",
    "boot": "boot",
}
"""The kinds of events that tell of deaths."""

READ: Final = ("crash.record", "vmcore.report", "hardware.event", "boot")
"""Those of them whose bodies `deaths` wants to see."""


def deaths(events: list[tuple[int, Event]]) -> tuple[Death, ...]:
    """Tell which boots died, each event with its row in the store. Bodies that do not fit their kind are
    placed by what stands around them.
    """
    starts = _starts(events)
    places: dict[str, list[Member]] = defaultdict(list)
    loose: list[tuple[int, Member]] = []
    times: dict[str, list[int]] = defaultdict(list)
    passive: list[tuple[str, Member]] = []
    for row, event in sorted(events, key=lambda item: (item[1].seq, item[1].id)):
        role = KINDS.get(event.kind)
        if role is None or role == "boot":
            continue
        member = Member(row, event.id, role)
        told = _told(event)
        died_ns = told.died_ns
        if role == "hardware" and told.severity != "fatal":
            passive.append((event.of_boot or event.boot, member))
            continue
        if event.of_boot is not None:
            place: str | None = event.of_boot
        elif role in ("log", "hardware"):
            place = event.boot
        else:
            place = _place(event.boot, died_ns, starts)
        if place is None:
            loose.append((died_ns or 0, member))
            continue
        places[place].append(member)
        if died_ns:
            times[place].append(died_ns)
    for name, died_ns, members in _together(loose):
        places[name].extend(members)
        times[name].append(died_ns)
    for start in starts.values():
        before = start.before
        if start.body.end == "unclean" or before in places:
            places[before].append(Member(start.row, start.id, "boot"))
    for boot, member in passive:
        if boot in places:
            places[boot].append(member)
    return tuple(
        Death(
            boot=name,
            died_ns=max(times[name]) if times[name] else _last_seen(name, starts),
            members=tuple(members),
        )
        for name, members in places.items()
    )


def _starts(events: list[tuple[int, Event]]) -> dict[str, _Start]:
    """Give each boot one start, in the order of their times.

    An agent that lost its memory tells of a boot again and knows less of the one before: what tells most
    counts, of equals the first. So more evidence never takes a death back.
    """
    found: dict[str, _Start] = {}
    for row, event in sorted(events, key=lambda item: (item[1].wall_ns, item[1].id)):
        if event.kind != "boot":
            continue
        try:
            start = _Start(event.boot, row, event.id, msgspec.json.decode(event.body, type=Boot))
        except (msgspec.DecodeError, RecursionError):
            continue
        known = found.get(event.boot)
        if known is None or _knows(start) > _knows(known):
            found[event.boot] = start
    return dict(sorted(found.items(), key=lambda item: (item[1].began_ns or 0, item[1].id)))


def _knows(start: _Start) -> tuple[int, bool]:
    return _KNOWS_MORE.index(start.body.end), not start.before.startswith("before:")


def _moment(told_ns: int | None) -> int | None:
    """Take a time as a host told it; None for one that no clock shows."""
    return told_ns if told_ns is not None and 0 < told_ns <= _LATEST_NS else None


def _told(event: Event) -> _Told:
    try:
        return msgspec.json.decode(event.body, type=_Told)
    except (msgspec.DecodeError, RecursionError):
        return _Told()


def _place(found_in: str, died_ns: int | None, starts: dict[str, _Start]) -> str | None:
    """Name the boot that a record belongs to; None where that boot has no name."""
    finder = starts.get(found_in)
    if died_ns is None:
        if finder is None:
            return f"before:{found_in}"
        return f"found:{found_in}" if finder.body.end == "clean" else finder.before
    timed = [(start.began_ns, start) for start in starts.values() if start.began_ns is not None]
    after = next((start for began_ns, start in timed if began_ns > died_ns), None)
    if after is not None and after.body.end != "clean":
        alive = after.seen_ns is not None and died_ns >= after.seen_ns - SLACK_NS
        if alive or (after.seen_ns is None and not after.before.startswith("before:")):
            return after.before
    last = next((start for began_ns, start in reversed(timed) if began_ns <= died_ns), None)
    if last is not None:
        return last.boot
    if after is None and finder is not None and finder.body.end == "unclean":
        return finder.before  # a boot whose start has no time: a clock that was never set
    return None


def _together(loose: list[tuple[int, Member]]) -> list[tuple[str, int, list[Member]]]:
    """Put records without a boot together by their times: name, time of death, records."""
    groups: list[tuple[str, int, list[Member]]] = []
    last_ns = 0
    for died_ns, member in sorted(loose, key=lambda item: (item[0], item[1].id)):
        if groups and died_ns - last_ns <= SLACK_NS:
            name, _, members = groups.pop()
            groups.append((name, died_ns, [*members, member]))
        else:
            groups.append((f"died:{died_ns // 10**9}", died_ns, [member]))
        last_ns = died_ns
    return groups


def _last_seen(name: str, starts: dict[str, _Start]) -> int | None:
    """Tell when a boot that left nothing was last seen alive."""
    return next((start.seen_ns for start in starts.values() if start.before == name), None)
