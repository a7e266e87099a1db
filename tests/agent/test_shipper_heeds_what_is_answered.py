"""What the shipper does with each answer, against a real HTTP server on loopback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from necropsy_agent import shipper
from necropsy_agent.config import Server, ShipConfig
from necropsy_agent.outbox import Outbox
from necropsy_agent.shipper import DENIED, EMPTY, LATER, Job

from .conftest import MIB, ORIGIN, Peer, Reply, Sent, crash, problem, routine

FOREIGN = {"content-type": "text/html"}


class Shipping:
    """An outbox, and the shipper's runs over it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        token = folder / "token"
        token.write_text("s3cret-token\n")
        self.server = Server(url=url, token_file=str(token), timeout_s=5.0)
        self.ship = ShipConfig()
        self.outbox = Outbox.open(folder / "state", 16 * MIB, ORIGIN)

    def run(self) -> int:
        """Run the shipper once, as its process does; give its exit status."""
        return shipper.run(
            Job(state_dir=str(self.folder / "state"), host=ORIGIN.host, server=self.server, ship=self.ship)
        )

    def waiting(self) -> int:
        """Count what is left."""
        return self.outbox.fill().events


@pytest.fixture
def shipping(tmp_path: Path, peer: Peer) -> Iterator[Shipping]:
    opened = Shipping(tmp_path, peer.url)
    yield opened
    opened.outbox.close()


def test_a_batch_arrives_as_the_wire_says(shipping: Shipping, peer: Peer) -> None:
    shipping.outbox.take("pstore", [crash("k1")])
    shipping.outbox.take("kmsg", [routine(), routine()])
    assert shipping.run() == EMPTY
    [sent] = peer.sent
    assert sent.path == "/v1/batches"
    assert sent.headers["authorization"] == "Bearer s3cret-token"
    assert sent.headers["content-type"] == "application/x-ndjson"
    assert sent.headers["content-encoding"] == "zstd"
    assert [event.keep for event in sent.events] == ["crash", "routine", "routine"]
    assert shipping.waiting() == 0
    assert shipping.outbox.contact().reached_wall_ns > 0


def test_an_empty_outbox_calls_nobody(shipping: Shipping, peer: Peer) -> None:
    assert shipping.run() == EMPTY
    assert peer.sent == []


@pytest.mark.parametrize(
    ("reply", "status", "retry_after_s", "words"),
    [
        pytest.param(problem(503, "full", retry_after="60"), LATER, 60.0, "503: full", id="full"),
        pytest.param(problem(429, "slow", retry_after="7"), LATER, 7.0, "429: slow", id="too many"),
        pytest.param(problem(408, "slow"), LATER, None, "408", id="too slow"),
        pytest.param(problem(500, "own error"), LATER, None, "500: own error", id="broken"),
        pytest.param(Reply(502, b"<html>", FOREIGN), LATER, None, "502", id="gateway"),
        pytest.param(Reply(503, b"", {"retry-after": "99999999"}), LATER, 3600.0, "503", id="for years"),
        pytest.param(problem(401, "no such token"), DENIED, None, "401: no such token", id="token"),
        pytest.param(problem(403, "another host's"), DENIED, None, "403: another host's", id="host"),
        pytest.param(Reply(404, b"<html>", FOREIGN), DENIED, None, "404", id="elsewhere"),
        pytest.param(
            Reply(301, b"", {"location": "http://192.0.2.1/"}), DENIED, None, "redirection", id="moved"
        ),
        pytest.param(Reply(200, b"<html>welcome", FOREIGN), DENIED, None, "not an analyzer's", id="portal"),
        pytest.param(Reply(200, b'{"batch": "other", "accepted": 3}'), DENIED, None, "200", id="other batch"),
        pytest.param(Reply(204), DENIED, None, "204", id="no content"),
        pytest.param(Reply(400, b"plain HTTP sent to TLS", FOREIGN), DENIED, None, "400", id="proxy's 400"),
        pytest.param(Reply(422, b"{}", {"content-type": "application/json"}), DENIED, None, "422", id="422"),
        pytest.param(problem(415, "coding"), DENIED, None, "415: coding", id="coding"),
    ],
)
def test_nothing_is_lost_by_an_answer(
    shipping: Shipping, peer: Peer, reply: Reply, status: int, retry_after_s: float | None, words: str
) -> None:
    shipping.outbox.take("pstore", [crash("k1"), crash("k2")])
    peer.answers.append(reply)
    assert shipping.run() == status
    contact = shipping.outbox.contact()
    assert words in contact.why
    assert "s3cret" not in contact.why
    assert (contact.failures, contact.retry_after_s) == (1, retry_after_s)
    assert len(peer.sent) == 1, "it does not insist"
    assert shipping.outbox.fill().refused == 0
    assert shipping.run() == EMPTY
    first, again = peer.sent
    assert (again.batch, [e.id for e in again.events]) == (first.batch, [e.id for e in first.events])
    assert shipping.waiting() == 0


def test_failures_are_counted_until_one_succeeds(shipping: Shipping, peer: Peer) -> None:
    shipping.outbox.take("pstore", [crash("k1")])
    peer.answers += [problem(503), problem(503), problem(503)]
    for _ in range(3):
        shipping.run()
    assert shipping.outbox.contact().failures == 3
    shipping.run()
    assert shipping.outbox.contact().failures == 0


def test_an_analyzer_that_is_away_and_back(shipping: Shipping, peer: Peer, tmp_path: Path) -> None:
    shipping.outbox.take("pstore", [crash("k1")])
    there, shipping.server = (
        shipping.server,
        Server(url="http://127.0.0.1:9", token_file=shipping.server.token_file),
    )
    assert shipping.run() == LATER
    assert "refused" in shipping.outbox.contact().why
    assert shipping.waiting() == 1
    shipping.server = there
    assert shipping.run() == EMPTY
    assert len(peer.arrived) == 1


def _too_large(most: int) -> Callable[[Sent], Reply | None]:
    return lambda sent: Reply(413, b"", FOREIGN) if len(sent.events) > most else None


def test_a_batch_that_is_too_large_is_split(shipping: Shipping, peer: Peer) -> None:
    shipping.outbox.take("kmsg", [routine(f"4,{n},1,-;line") for n in range(50)])
    peer.always = _too_large(7)
    assert shipping.run() == EMPTY
    taken = [sent for sent in peer.sent if len(sent.events) <= 7]
    seqs = [event.seq for sent in taken for event in sent.events]
    assert sorted(seqs) == list(range(1, 51)), "each arrives once"
    assert len({sent.batch for sent in peer.sent}) == len(peer.sent), "other events, another id"


def test_an_event_that_is_too_large_by_itself_does_not_block_the_rest(shipping: Shipping, peer: Peer) -> None:
    huge = "x" * 300_000
    shipping.outbox.take("pstore", [crash("k1"), crash("k2", huge), crash("k3")])
    peer.always = lambda sent: (
        problem(413, "too large") if any(len(event.body) > 100_000 for event in sent.events) else None
    )
    assert shipping.run() == EMPTY
    fill = shipping.outbox.fill()
    assert (fill.events, fill.refused) == (1, 1)
    assert "413 too large" in fill.refused_why
    assert fill.shipped == {"crash": 2}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("poison", [{3}, {1, 40}, {17, 18, 19}])
def test_a_poisoned_batch_gives_up_only_its_poison(
    shipping: Shipping, peer: Peer, status: int, poison: set[int]
) -> None:
    shipping.outbox.take("kmsg", [routine(f"4,{n},1,-;line") for n in range(1, 41)])
    peer.always = lambda sent: (
        problem(status, "no name") if any(event.seq in poison for event in sent.events) else None
    )
    assert shipping.run() == EMPTY
    fill = shipping.outbox.fill()
    assert (fill.events, fill.refused) == (len(poison), len(poison)), "set aside, and not lost"
    assert f"{status} no name" in fill.refused_why
    assert shipping.run() == EMPTY
    shipping.outbox.reconsider()
    peer.always = None
    assert shipping.run() == EMPTY, "another analyzer takes them"
    assert shipping.waiting() == 0


def test_an_analyzer_that_refuses_everything_is_not_fed_the_whole_outbox(
    shipping: Shipping, peer: Peer
) -> None:
    shipping.outbox.take("kmsg", [routine(f"4,{n},1,-;line") for n in range(500)])
    peer.always = lambda _: problem(400, "wire version 0")
    assert shipping.run() == DENIED
    assert shipping.outbox.fill().refused <= 20
    assert "refuses one event after the other" in shipping.outbox.contact().why


def test_a_batch_id_that_is_taken_is_changed(shipping: Shipping, peer: Peer) -> None:
    shipping.outbox.take("pstore", [crash("k1"), crash("k2")])
    peer.answers.append(problem(409, "sent before with other events"))
    assert shipping.run() == EMPTY
    first, again = peer.sent
    assert again.batch != first.batch
    assert [event.id for event in again.events] == [event.id for event in first.events]


def test_an_answer_without_end_is_cut(shipping: Shipping, peer: Peer) -> None:
    shipping.outbox.take("pstore", [crash("k1")])
    peer.answers.append(Reply(200, b'{"batch": "' + b"x" * 5_000_000, {}))
    assert shipping.run() == DENIED
    assert shipping.waiting() == 1


def test_an_answer_that_never_ends_is_given_up(shipping: Shipping, peer: Peer, tmp_path: Path) -> None:
    import socket
    import threading

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        shipping.server = Server(
            url=f"http://127.0.0.1:{server.getsockname()[1]}",
            token_file=shipping.server.token_file,
            timeout_s=0.2,
        )
        shipping.outbox.take("pstore", [crash("k1")])
        assert shipping.run() == LATER
        stop.set()
        thread.join()
    assert "no answer within" in shipping.outbox.contact().why
    assert shipping.waiting() == 1


def test_a_token_that_is_not_there_is_told_and_nothing_is_sent(shipping: Shipping, peer: Peer) -> None:
    Path(shipping.server.token_file).unlink()
    shipping.outbox.take("pstore", [crash("k1")])
    assert shipping.run() == DENIED
    assert shipping.server.token_file in shipping.outbox.contact().why
    assert peer.sent == []


def test_a_second_shipper_leaves_the_first_alone(
    shipping: Shipping, peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses: list[int] = []
    shipping.outbox.take("pstore", [crash("k1")])
    peer.answers.append(lambda _: statuses.append(shipping_again(shipping)))
    assert shipping.run() == EMPTY
    assert statuses == [LATER]
    assert len(peer.sent) == 1


def shipping_again(shipping: Shipping) -> int:
    """Run a shipper in another process, as after a kill of the daemon whose own is still at work."""
    from necropsy_agent.delivery import start

    return start(
        Job(
            state_dir=str(shipping.folder / "state"),
            host=ORIGIN.host,
            server=shipping.server,
            ship=shipping.ship,
        )
    ).wait(30)


def test_a_line_damaged_on_disk_is_set_aside(shipping: Shipping, peer: Peer) -> None:
    shipping.outbox.take("pstore", [crash("k1"), crash("k2", "x" * 5000), crash("k3")])
    shipping.outbox._db.execute("UPDATE events SET line = substr(line, 1, 40) WHERE seq = 2")
    assert shipping.run() == EMPTY
    assert [event.seq for event in peer.arrived] == [1, 3]
    fill = shipping.outbox.fill()
    assert (fill.events, fill.refused) == (1, 1)
    assert "damaged" in fill.refused_why
