"""A verdict that says something new is a new revision; none is ever changed, also where incidents merge."""

from typing import Any

from necropsy_analyzer.store import hosts, incidents
from necropsy_analyzer.store.store import Store
from necropsy_analyzer.verdict.verdict import Verdict

FIRST = Verdict(input="node1, boot a", cause="unknown.silent", confidence=0.4, fatal=True)
SECOND = Verdict(input="node1, boot a", cause="kernel.bug", confidence=0.8, fatal=True, title="ein Fehler")


def _revise(store: Store, number: int, verdict: Verdict, made_of: list[str]) -> int | None:
    with store.write() as connection:
        digest = incidents.digest(made_of, "m1", "a")
        return incidents.revise(connection, number, verdict, made_of=made_of, digest=digest, now_ns=7)


def _opened(store: Store, *boots: str) -> list[int]:
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={}, now_ns=1)
        return [
            incidents.create(connection, 1, boot, died_ns=n or None, now_ns=5) for n, boot in enumerate(boots)
        ]


def test_a_new_verdict_is_a_revision_and_the_same_again_is_none(store: Store) -> None:
    (number,) = _opened(store, "a")
    with store.read() as connection:
        assert incidents.considered(connection, number) is None
    assert _revise(store, number, FIRST, ["e1"]) == 1
    assert _revise(store, number, SECOND, ["e2", "e1"]) == 2
    assert _revise(store, number, SECOND, ["e1", "e2"]) is None
    assert _revise(store, number, SECOND, ["e1", "e2", "e3"]) == 3
    with store.read() as connection:
        one = incidents.one(connection, number)
        kept = incidents.every_revision(connection, number)
        considered = incidents.considered(connection, number)
    assert one is not None
    assert (one.revision, one.verdict) == (3, SECOND)
    assert [(item.n, item.verdict, item.made_of) for item in kept] == [
        (1, FIRST, ("e1",)),
        (2, SECOND, ("e1", "e2")),
        (3, SECOND, ("e1", "e2", "e3")),
    ]
    assert considered == incidents.digest(["e3", "e2", "e1"], "m1", "a"), "what was looked at is remembered"
    assert considered != incidents.digest(["e1", "e2", "e3"], "m2", "a"), "other rules look again"


def test_a_merged_incident_leads_to_the_other_and_keeps_its_own_revisions(store: Store) -> None:
    first, second, third = _opened(store, "a", "before:b", "died:7")
    _revise(store, second, FIRST, ["e1"])
    with store.write() as connection:
        incidents.merge(connection, third, second)
        incidents.merge(connection, second, first)
    with store.read() as connection:
        for number in (first, second, third):
            one = incidents.one(connection, number)
            assert one is not None
            assert one.id == first
        assert [one.id for one in incidents.listed(connection)] == [first]
        assert len(incidents.every_revision(connection, second)) == 1


def test_incidents_are_listed_by_their_death_the_last_one_first(store: Store) -> None:
    _, second, third = _opened(store, "a", "b", "c")
    with store.write() as connection:
        hosts.enroll(connection, "node2", labels={}, now_ns=1)
        other = incidents.create(connection, 2, "a", died_ns=40, now_ns=5)
        unseen = incidents.create(connection, 2, "b", died_ns=None, now_ns=30)

    def listed(**which: Any) -> list[int]:
        with store.read() as connection:
            return [one.id for one in incidents.listed(connection, **which)]

    assert listed(limit=2) == [other, unseen]
    assert listed(host="node2") == [other, unseen]
    assert listed(host="node1", since_ns=1) == [1, third, second]
    assert listed(since_ns=31) == [other]
    assert listed(host="nobody") == []
    with store.read() as connection:
        assert incidents.one(connection, 99) is None
