"""`necropsy rules check` and `rules test`: what is wrong with own rules, for people and programs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RULE = """\
- id: site-widget
  title: our widget broke
  origin: "our own driver"
  match: 'site_widget: lost its (?P<device>\\w+)'
  supports: {driver.external: 2.0}
  culprit: {device: device}
  examples:
    - text: 'site_widget: lost its head'
      gives: {device: head}
  counterexamples:
    - text: 'site_widget: ready'
      because: start-up
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules.d"
    folder.mkdir()
    (folder / "site.yaml").write_text(RULE)
    return folder


def _necropsy(tmp_path: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from necropsy_analyzer.cli import main; main()", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )


def _json(tmp_path: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done = _necropsy(tmp_path, *arguments, "--format", "json")
    answer: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, answer


def test_good_rules_are_counted(tmp_path: Path, rules: Path) -> None:
    status, without = _json(tmp_path, "rules", "check")
    assert (status, without["complaints"]) == (0, [])
    status, answer = _json(tmp_path, "rules", "check", "--rules", rules)
    assert (status, answer["complaints"]) == (0, [])
    assert answer["rules"] == without["rules"] + 1
    done = _necropsy(tmp_path, "rules", "check", "--rules", rules)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{answer['rules']} rules: nothing to complain about\n"


def test_a_bad_rule_is_told_by_file_and_line(tmp_path: Path, rules: Path) -> None:
    (rules / "site.yaml").write_text(RULE.replace("driver.external", "driver.extern"))
    status, answer = _json(tmp_path, "rules", "check", "--rules", rules)
    assert status == 1
    (complaint,) = answer["complaints"]
    assert (complaint["file"], complaint["line"], complaint["rule"]) == (
        f"{rules}/site.yaml",
        5,
        "site-widget",
    )
    done = _necropsy(tmp_path, "rules", "check", "--rules", rules)
    assert done.returncode == 1
    assert done.stdout.startswith(
        f"{rules}/site.yaml:5: site-widget: supports: no such cause: driver.extern\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("lost its head", "found its head", 8, "does not hit its example"),
        ("{device: head}", "{device: heart}", 8, "capture `device` is 'head'"),
        ("site_widget: ready", "site_widget: lost its way", 11, "hits a counterexample: start-up"),
    ],
)
def test_an_example_that_does_not_hold_is_told(
    tmp_path: Path, rules: Path, old: str, new: str, line: int, words: str
) -> None:
    (rules / "site.yaml").write_text(RULE.replace(old, new))
    assert _json(tmp_path, "rules", "check", "--rules", rules)[0] == 0
    status, answer = _json(tmp_path, "rules", "test", "--rules", rules)
    assert status == 1
    (failure,) = answer["complaints"]
    assert (failure["file"], failure["line"]) == (f"{rules}/site.yaml", line)
    assert words in failure["message"]


def test_examples_that_hold_are_counted(tmp_path: Path, rules: Path) -> None:
    status, answer = _json(tmp_path, "rules", "test", "--rules", rules)
    assert (status, answer["complaints"]) == (0, [])
    assert answer["examples"] > 2 * 80


def test_ones_own_rule_takes_part_in_a_verdict_and_a_broken_one_is_told(tmp_path: Path, rules: Path) -> None:
    (rules / "broken.yaml").write_text("- id: broken\n")
    log = tmp_path / "dmesg"
    log.write_text("[    5.000000] site_widget: lost its head\n")
    for _ in range(2):  # made anew, then from the cache
        done = _necropsy(tmp_path, "triage", "--format", "jsonl", "--rules", rules, log)
        verdict = json.loads(done.stdout)
        assert verdict["cause"] == "driver.external"
        assert verdict["culprit"]["device"] == "head"
        assert f"{rules}/broken.yaml:1" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    for command in ("check", "test"):
        done = _necropsy(tmp_path, "rules", command, "--rules", tmp_path / "nowhere")
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr == f"necropsy: {tmp_path}/nowhere: no such folder of rules; check --rules\n"


def test_usage_is_told(tmp_path: Path) -> None:
    done = _necropsy(tmp_path, "rules", "check", "--format", "xml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
