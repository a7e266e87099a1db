"""What tests of evidence need: the shipped knowledge, and knowledge of a few rules with the shipped rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from necropsy_analyzer.cli.knowledge import rule_folders
from necropsy_analyzer.evidence.knowledge import Knowledge, load_knowledge, read_knowledge, read_texts

REST = ("causes.yaml", "mechanisms.yaml", "features.yaml", "fusion.yaml")


@pytest.fixture(scope="session")
def shipped() -> Knowledge:
    """Give the shipped knowledge, made anew."""
    return load_knowledge(rule_folders()[:1], None)


@pytest.fixture(scope="session")
def rest() -> dict[str, str]:
    """Give the shipped texts that are no rules, by file name."""
    texts = read_texts(rule_folders()[0])
    return {name: text for name, text in texts.items() if name in REST or name.startswith("frames/")}


@pytest.fixture(scope="session")
def know(rest: dict[str, str]) -> Callable[[str], Knowledge]:
    """Give knowledge whose only rules are those of a text."""
    return lambda rules: read_knowledge(["shipped"], [rest | {"own.yaml": rules}], "0" * 32)


@pytest.fixture
def folder(tmp_path: Path, rest: dict[str, str]) -> Path:
    """Give a folder with the shipped rest, to put rules into."""
    place = tmp_path / "shipped"
    for name, text in rest.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place
