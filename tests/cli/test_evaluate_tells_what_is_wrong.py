"""`necropsy evaluate` as a rule's author uses it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CRASHES = Path(__file__).parents[2] / "fixtures" / "crashes"
OOPS = """\
[   62.100000] BUG: kernel NULL pointer dereference, address: 0000000000000018
[   62.100010] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   62.100020] CPU: 0 PID: 812 Comm: mount Not tainted 6.1.0-18-amd64 #1  Debian 6.1.76-1
[   62.100030] RIP: 0010:ext4_put_super+0x1c/0x40 [ext4]
[   62.100040] Call Trace:
[   62.100050]  generic_shutdown_super+0x7d/0x110
[   62.100060] Kernel panic - not syncing: Fatal exception
"""


def _evaluate(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from necropsy_analyzer.cli import main; main()",
            "evaluate",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _cases(path: Path, *cases: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return path


def test_json_has_the_figures_and_the_misses(tmp_path: Path) -> None:
    cases = _cases(
        tmp_path / "cases.jsonl",
        {"id": "right", "log": OOPS, "cause": "kernel.bug", "mechanism": "null_deref", "crash": True},
        {"id": "wrong", "log": OOPS, "cause": "resource.oom", "frames": ["elsewhere"], "note": "not read"},
    )
    done = _evaluate(cases, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert figures["cases"] == 2
    assert figures["top1"] == {"hits": 1, "of": 2}
    assert figures["confusion"] == [["resource.oom", "kernel.bug", 1]]
    assert {(miss["case"], miss["what"]) for miss in figures["misses"]} == {
        ("wrong", "cause"),
        ("wrong", "frame"),
    }


def test_text_names_causes_confusion_and_as_many_misses_as_asked(tmp_path: Path) -> None:
    wrong = {"log": OOPS, "cause": "resource.oom"}
    done = _evaluate(_cases(tmp_path / "cases.jsonl", wrong, wrong), "--misses", 1)
    assert done.returncode == 0
    assert "true cause" in done.stdout
    assert "cases.jsonl:1: cause is resource.oom, said kernel.bug" in done.stdout
    assert "cases.jsonl:2" not in done.stdout
    assert "and 1 more" in done.stdout


def test_a_recorded_crash_is_judged_by_all_that_it_left() -> None:
    done = _evaluate(CRASHES / "null-deref@6.1", "--format", "json")
    figures = json.loads(done.stdout)
    assert figures["cases"] == 2, "the console, and pstore"
    assert figures["top1"] == figures["frame"] == {"hits": 2, "of": 2}
    assert figures["misses"] == []


def test_what_is_no_case_is_said_in_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "cases.jsonl"
    damaged.write_text('{"log": "x"}\n{"log": 7}\n')
    empty = tmp_path / "folder"
    empty.mkdir()
    for path, words in ((damaged, "line 2 is no case"), (empty, "holds no case")):
        done = _evaluate(path)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert _evaluate(tmp_path / "absent").returncode == 2
