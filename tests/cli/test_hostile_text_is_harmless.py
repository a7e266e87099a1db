"""Whatever stands in a log or a name, a terminal gets text: no control characters, markup, endless lines."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from necropsy_analyzer.cli.render import render
from necropsy_analyzer.cli.terminal import LINE_CHARACTERS, safe
from necropsy_analyzer.evidence.rule import Action
from necropsy_analyzer.store import hosts
from necropsy_analyzer.store.store import Store, sqlite_url
from necropsy_analyzer.verdict.verdict import Culprit, Kernel, Proof, Ranked, Verdict

STYLE = re.compile(r"\x1b\[[0-9;]*m")  # what the console itself writes
HOSTILE = st.text() | st.sampled_from(
    [
        "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x9b31m", "a\rb", "a\x08b", "\u202eabc\u2066", "\x00", "\x7f",
        "[red]x[/red]", "[/]", "[link=file:///etc/passwd]x[/link]", ":skull:", "line\nbreak", "\udc80",
        "\ufeff", "\x1b[" * 2000, "x" * 1_000_000, "\t", "\x85", "\u2028",
    ]
)  # fmt: skip
OPTIONAL = st.none() | HOSTILE
VERDICTS = st.builds(
    Verdict,
    input=HOSTILE, error=OPTIONAL, crashed=st.booleans(), fatal=st.booleans(), title=OPTIONAL,
    cause=HOSTILE, confidence=st.floats(0, 1),
    ranking=st.tuples(st.builds(Ranked, HOSTILE, st.just(0.5))) | st.just(()),
    culprit=st.builds(Culprit, frame=OPTIONAL, module=OPTIONAL, device=OPTIONAL, process=OPTIONAL),
    kernel=st.builds(Kernel, release=OPTIONAL, tainted=OPTIONAL, hardware=OPTIONAL),
    evidence=st.lists(
        st.builds(Proof, rule=HOSTILE, line=st.integers(0, 9), text=HOSTILE, title=HOSTILE, source=OPTIONAL,
                  count=st.integers(1, 3), supports=st.just({}) | st.just({"x": 1.0})), max_size=9,
    ).map(tuple),
    action=st.builds(Action, HOSTILE, st.lists(HOSTILE, max_size=3).map(tuple)),
    damage=st.lists(HOSTILE, max_size=3).map(tuple),
)  # fmt: skip


def _written(verdict: Verdict, **console: Any) -> str:
    out = io.StringIO()
    render(verdict, Console(file=out, highlight=False, soft_wrap=True, **console))
    return out.getvalue()


@given(verdict=VERDICTS)
@settings(max_examples=200, deadline=None)
def test_a_verdict_is_written_without_what_a_terminal_obeys(verdict: Verdict) -> None:
    plain = _written(verdict, width=10_000)
    coloured = _written(
        verdict, width=80, force_terminal=True, color_system="truecolor", legacy_windows=False
    )
    for text in (plain, STYLE.sub("", coloured)):
        lines = text.split("\n")
        assert all(line.isprintable() for line in lines)
        assert max(map(len, lines)) < 6 * LINE_CHARACTERS
        assert text.encode("utf-8")
    assert verdict.error is not None or "What" in plain


@given(text=st.text(alphabet=st.characters(), max_size=LINE_CHARACTERS))
def test_what_prints_stays_as_it_is_and_the_rest_can_be_told(text: str) -> None:
    shown = safe(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()


def test_a_long_line_says_how_long_it_is() -> None:
    assert safe("x" * 1000).startswith("x" * LINE_CHARACTERS)
    assert "600 characters more" in safe("x" * 1000)
    assert len(safe("\x1b" * 1000)) < 5 * LINE_CHARACTERS


def test_a_log_full_of_escapes_reaches_no_terminal(
    tmp_path: Path, on_terminal: Callable[..., str], necropsy: Callable[..., Any]
) -> None:
    log = tmp_path / "evil\x1b]0;x\x07.log"
    log.write_text(
        "[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000018\x1b]0;owned\x07\n"
        "[    1.0] Oops: 0000 [#1] SMP\n[    1.0] CPU: 0 PID: 1 Comm: \x1b[2J[red]evil Not tainted 6.1.0 #1\n"
        "[    1.0] Hardware name: \u202eevil\x9b2J, BIOS\n[    1.0] RIP: 0010:f\x1b[31m+0x1/0x2 [m]\n"
        "[    1.0] Kernel panic - not syncing: \x1b[5mFatal exception " + "y" * 100_000 + "\n"
    )
    seen = on_terminal("triage", log)
    assert "NULL pointer" in seen
    assert STYLE.sub("", seen).replace("\r\n", "").isprintable()
    answer = on_terminal("triage", "--format", "json", log)
    assert answer.replace("\r\n", "").isprintable()
    assert json.loads(answer)["input"] == str(log)
    assert necropsy("triage", log).stdout.replace("\n", "").isprintable()


def test_names_that_hosts_give_themselves_are_text(
    state: Path, necropsy: Callable[..., Any], on_terminal: Callable[..., str]
) -> None:
    store = Store.open(sqlite_url(state))
    with store.write() as connection:
        hosts.enroll(connection, "node1", labels={"[red]k": "\x1b[2Jv\x9b"}, now_ns=1)
        hosts.seen(connection, 1, machine="a" * 32, agent="[bold]1.0\x1b]0;x\x07", now_ns=2)
    store.close()
    for text in (
        on_terminal("hosts", "list", "--state-dir", state),
        on_terminal("hosts", "list", "--state-dir", state, "--format", "json"),
        necropsy("hosts", "list", "--state-dir", state).stdout,
    ):
        assert STYLE.sub("", text).replace("\r\n", "").replace("\n", "").isprintable()
        assert "[red]k" in text
