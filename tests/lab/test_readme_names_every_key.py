"""The recorder's guide names every key of a scenario and every file of a recording."""

import dataclasses
import re

import yaml

from crashlab.recording import FIXTURES
from crashlab.scenario import ENDS, OPTIONAL_TRUTH, Action, Disk, Scenario

README = (FIXTURES / "README.md").read_text()


def test_every_key_of_a_scenario_is_described() -> None:
    keys = {field.name for of in (Scenario, Disk, Action) for field in dataclasses.fields(of)} - {"name"}
    assert [key for key in sorted({*keys, *ENDS, *OPTIONAL_TRUTH}) if f"`{key}" not in README] == []


def test_every_kind_of_file_of_a_recording_is_named() -> None:
    kinds = {path.name for folder in FIXTURES.glob("*/*@*") for path in folder.iterdir()}
    assert [kind for kind in sorted(kinds) if f"`{kind}" not in README] == []


def test_scenario_that_is_shown_is_the_one_that_is_there() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    text = re.sub(r"^   ", "", shown[1], flags=re.MULTILINE)
    given = yaml.safe_load(text)
    real = yaml.safe_load((FIXTURES / "lab/scenarios/null-deref.yaml").read_text())
    assert set(given.pop("evidence")) <= set(real.pop("evidence"))
    assert given == real
