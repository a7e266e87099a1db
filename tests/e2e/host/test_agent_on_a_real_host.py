"""The agent on a Debian that boots, dies and comes back: installed by the README, its unit as shipped."""

import re

import pytest
from tests.e2e.host.conftest import NAME, Installed

pytestmark = pytest.mark.guest


def test_readmes_steps_leave_a_service_that_is_well(installed: Installed) -> None:
    status = installed.printed["status of the service"]
    assert "Active: active (running)" in status, status
    assert "enabled" in status
    assert re.search(r'Status: "all is well"', status), status
    assert installed.printed["warnings"] == ""
    assert "the configuration can be used" in installed.printed["Configure"]
    agent = installed.printed["status of the agent"]
    assert re.search(r"^analyzer  last reached \d{4}-", agent, re.M), agent
    assert "failed  " not in agent, agent
    assert re.search(rf"{NAME}\s+active", installed.printed["hosts list"])
