"""What the documents say exists: links lead somewhere, named files and commands are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from necropsy_analyzer.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
PLACES = ("agent", "analyzer", "rules", "systemd", "tests", "fixtures", "docs", ".ci")


def _text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = _text(document)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    named = re.findall(rf"`((?:{'|'.join(map(re.escape, PLACES))})/[\w./@-]+)`", text)
    missing += [name for name in named if "/x." not in name and not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_commands_exist(document: Path) -> None:
    text = _text(document)
    commands = set(re.findall(r"(?:`|^ *\$? ?)necropsy ([a-z]+)", text, re.MULTILINE))
    assert commands <= set(COMMANDS)
    targets = set(re.findall(r"`make ([a-z0-9]+)", text))
    assert targets <= set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from necropsy_analyzer.cli import main; main()", command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert command in done.stdout
    assert "--" in done.stdout


def test_the_verdict_shown_first_is_the_real_one() -> None:
    """What README shows is what the command prints today, after the line that names the path."""
    shown = _text(ROOT / "README.md").split("```\n$ necropsy triage ", 1)[1].split("\n```", 1)[0]
    path, expected = shown.split("\n", 1)
    done = subprocess.run(
        [sys.executable, "-c", "from necropsy_analyzer.cli import main; main()", "triage", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.split("\n", 1)[1].rstrip() == expected
