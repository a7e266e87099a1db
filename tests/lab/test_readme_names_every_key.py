"""The recorder's guide names every key of a scenario, every file of a recording and no other."""

import dataclasses
import re

import yaml

from crashlab.recording import FIXTURES
from crashlab.scenario import OPTIONAL_TRUTH, Action, Disk, Scenario

README = (FIXTURES / "README.md").read_text()


def test_every_key_is_described_and_every_described_key_exists() -> None:
    keys = {field.name for field in dataclasses.fields(Scenario)} - {"name"}
    table = README[README.index("| key | meaning |") :].split("\n\n")[0]
    rows = re.findall(r"^ *\| (`.*?`) \| (.*) \|$", table, re.MULTILINE)
    assert {key for names, _ in rows for key in re.findall(r"`(\w+)`", names)} == keys
    inner = {field.name for of in (Disk, Action) for field in dataclasses.fields(of)} | set(OPTIONAL_TRUTH)
    described = {word for _, text in rows for word in re.findall(r"`(\w+)`", text)}
    assert inner <= described


def test_every_kind_of_file_of_a_recording_is_named() -> None:
    kinds = {path.name for folder in FIXTURES.glob("*/*@*") for path in folder.iterdir()}
    named = set(re.findall(r"^\| `([\w.-]+)/?` \|", README, re.MULTILINE))
    assert kinds <= named


def test_scenario_that_is_shown_is_the_one_that_is_there() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    text = re.sub(r"^   ", "", shown[1], flags=re.MULTILINE)
    given = yaml.safe_load(text)
    real = yaml.safe_load((FIXTURES / "lab/scenarios/null-deref.yaml").read_text())
    assert set(given.pop("evidence")) <= set(real.pop("evidence"))
    assert given == real
