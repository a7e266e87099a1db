"""`necropsy triage` as other programs use it: one object a path, in order, whatever stands there."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CRASH = ROOT / "fixtures" / "crashes" / "null-deref@6.1"
HEALTHY = (
    "[    0.000000] Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org)\n[    1.0] Run /init\n"
)


def _triage(*arguments: str | Path, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from necropsy_analyzer.cli import main; main()",
            "triage",
            *map(str, arguments),
        ],
        input=given,
        capture_output=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )


def _objects(done: "subprocess.CompletedProcess[bytes]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_object_a_path_in_the_order_given(tmp_path: Path) -> None:
    healthy = tmp_path / "healthy.log"
    healthy.write_text(HEALTHY)
    paths = [healthy, CRASH / "console.log.zst", tmp_path / "absent", CRASH / "host/sys/fs/pstore"]
    done = _triage("--format", "jsonl", *paths)
    verdicts = _objects(done)
    assert done.returncode == 1
    assert [verdict["input"] for verdict in verdicts] == list(map(str, paths))
    assert [verdict["crashed"] for verdict in verdicts] == [False, True, False, True]
    assert [verdict["error"] is not None for verdict in verdicts] == [False, False, True, False]
    assert "\n" not in verdicts[2]["error"]


def test_the_object_has_every_field_of_the_contract() -> None:
    (verdict,) = _objects(_triage("--format", "jsonl", CRASH / "console.log.zst"))
    assert verdict["schema"] == "necropsy.verdict/1"
    assert verdict["mechanism"] == "null_deref"
    assert verdict["culprit"].keys() >= {
        "frame", "module", "device", "dimm", "cpu", "process", "filesystem",
    }  # fmt: skip
    assert verdict["kernel"].keys() >= {"release", "tainted", "hardware"}
    assert verdict["ranking"][0] == {"cause": verdict["cause"], "probability": verdict["confidence"]}
    assert verdict["stack"]
    assert verdict["fingerprint"]
    assert verdict["evidence"][0].keys() >= {"rule", "line", "text", "supports"}
    assert verdict["action"]["summary"]
    assert verdict["action"]["steps"]


def test_the_same_crash_has_one_fingerprint_from_console_and_pstore() -> None:
    done = _triage("--format", "jsonl", CRASH / "console.log.zst", CRASH / "host/sys/fs/pstore")
    console, pstore = _objects(done)
    assert console["fingerprint"] == pstore["fingerprint"]
    assert console["title"] == pstore["title"]


def test_a_compressed_log_on_standard_input(tmp_path: Path) -> None:
    done = _triage("--format", "jsonl", "-", given=gzip.compress(HEALTHY.encode()))
    (verdict,) = _objects(done)
    assert done.returncode == 0
    assert verdict["input"] == "-"
    assert not verdict["crashed"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", b""),
        ("zeroes", bytes(4096)),
        ("cut UTF-8", "[    1.0] café".encode()[:-1]),
        ("a cut gzip", gzip.compress(HEALTHY.encode() * 100)[:-20]),
        ("not a gzip", b"\x1f\x8b\x08" + b"\xff" * 40),
        ("a line without an end", b"x" * 3_000_000),
    ],
)
def test_damaged_input_is_answered_without_a_crash(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    done = _triage("--format", "jsonl", path)
    (verdict,) = _objects(done)
    assert done.returncode == 0
    assert done.stderr == b""
    assert not verdict["crashed"]
    assert verdict["cause"] == "unknown.silent"
    assert verdict["confidence"] < 0.5


def test_text_says_cause_proof_and_action_with_line_numbers() -> None:
    done = _triage(CRASH / "console.log.zst")
    text = done.stdout.decode()
    assert "driver.external" in text
    assert "line " in text
    assert "kernel NULL pointer dereference" in text
    assert "What to do" in text
    assert "\x1b[" not in text, "no colour into a pipe"


def test_json_of_one_path_is_one_object_and_of_two_a_list() -> None:
    one = json.loads(_triage("--format", "json", CRASH / "console.log.zst").stdout)
    two = json.loads(_triage("--format", "json", CRASH / "console.log.zst", CRASH / "console.log.zst").stdout)
    assert two == [one, one]


@pytest.mark.parametrize("arguments", [[], ["--format", "xml", "x"], ["--no-such-option", "x"]])
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str]) -> None:
    done = _triage(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
