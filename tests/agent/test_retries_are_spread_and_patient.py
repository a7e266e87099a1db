"""When the shipper comes again: full jitter, doubling, never before the analyzer's Retry-After."""

from email.utils import formatdate
from pathlib import Path

import pytest

from necropsy_agent.config import Server, ShipConfig
from necropsy_agent.delivery import Delivery, pause_s
from necropsy_agent.outbox import Contact
from necropsy_agent.shipper import DENIED, LATER, RETRY_AFTER_MOST_S, Job, retry_after_s

NOW_S = 1_795_000_000.0
DRAWS = (0.0, 0.1, 0.5, 0.9, 0.999)


def _pauses(failures: int, *, denied: bool = False, retry_after_s: float | None = None) -> list[float]:
    return [pause_s(failures, denied=denied, retry_after_s=retry_after_s, draw=draw) for draw in DRAWS]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("99999999999999999999", RETRY_AFTER_MOST_S),
        (formatdate(NOW_S + 90, usegmt=True), 90.0),
        (formatdate(NOW_S - 90, usegmt=True), 0.0),
        (formatdate(NOW_S + 10**6, usegmt=True), RETRY_AFTER_MOST_S),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, NOW_S) == expected


def test_pauses_are_drawn_from_a_range_that_doubles() -> None:
    for failures in range(1, 8):
        now, later = _pauses(failures), _pauses(failures + 1)
        assert min(now) < 0.5, "some come early, so that not all come at once"
        assert max(later) == pytest.approx(2 * max(now))


def test_pauses_end_growing() -> None:
    assert max(_pauses(10_000)) <= 300
    assert max(_pauses(10_000, denied=True)) <= 900


def test_what_a_person_has_to_mend_is_asked_less_often() -> None:
    assert max(_pauses(1, denied=True)) > max(_pauses(1))


@pytest.mark.parametrize("asked_s", [0.0, 1.0, 60.0, 3600.0])
@pytest.mark.parametrize("failures", [1, 5, 50])
def test_nobody_comes_before_the_analyzer_wants(asked_s: float, failures: int) -> None:
    pauses = _pauses(failures, retry_after_s=asked_s)
    assert min(pauses) >= asked_s
    assert max(pauses) <= max(asked_s * 1.25, asked_s + 1)
    assert len(set(pauses)) == len(DRAWS), "they do not come as one"


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return Delivery(
        Job(state_dir=str(tmp_path), host="h", server=Server(), ship=ShipConfig(routine_wait_s=60.0))
    )


def test_crash_evidence_goes_at_once_and_routine_waits(delivery: Delivery) -> None:
    delivery.wanted("routine", 100.0)
    assert delivery.due_s == 160.0
    delivery.wanted("fault", 110.0)
    assert delivery.due_s == 111.0
    delivery.wanted("crash", 110.5)
    assert delivery.due_s == 110.5
    delivery.wanted("routine", 110.5)
    assert delivery.due_s == 110.5


def test_new_evidence_does_not_shorten_a_wait(delivery: Delivery) -> None:
    delivery.came_back(LATER, Contact(failures=1, why="503", retry_after_s=120.0), 100.0)
    assert 220.0 <= delivery.due_s <= 250.0
    planned = delivery.due_s
    delivery.wanted("crash", 101.0)
    assert delivery.due_s == planned


def test_failures_before_a_restart_count(delivery: Delivery) -> None:
    long_away = Contact(failures=40, why="refused")
    planned = set()
    for _ in range(30):
        delivery.came_back(LATER, long_away, 0.0)
        planned.add(delivery.due_s)
    assert max(planned) > 30.0


def test_why_it_failed_is_said_once(delivery: Delivery, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        delivery.came_back(DENIED, Contact(failures=1, why="the analyzer answers 401: no such token"), 0.0)
    assert capsys.readouterr().err.count("401") == 1
    assert "401" in delivery.why
