"""Units, users and default configuration are accepted by systemd and by the programs, and kept tight."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
import typer.testing

from necropsy_agent import config
from necropsy_agent.sources import SOURCES

FOLDER = Path(__file__).parents[2] / "systemd"
README = (FOLDER / "README.md").read_text()
UNITS = {"necropsy-agent.service": 3.0, "necropsy-analyzer.service": 1.5}
"""Each unit, and the exposure that it must not exceed."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)


def run(*argv: object) -> str:
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings_of(unit: str) -> dict[str, list[str]]:
    """Read a unit's settings: each name, all its values."""
    told: dict[str, list[str]] = defaultdict(list)
    for line in (FOLDER / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            told[name].append(value)
    return told


def install(unit: str, folder: Path) -> Path:
    """Put a unit where systemd-analyze looks at it, with programs that are there."""
    for program in ("necropsy", "necropsy-agent"):
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    text = (FOLDER / unit).read_text().replace("/opt/necropsy/bin/", f"{folder}/")
    (folder / unit).write_text(text)
    return folder / unit


# systemd's own opinion


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_say_against_the_unit(unit: str, tmp_path: Path) -> None:
    assert run("systemd-analyze", "verify", "--man=no", install(unit, tmp_path)) == ""


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_low_and_the_one_that_is_quoted(unit: str, tmp_path: Path) -> None:
    told = run("systemd-analyze", "security", "--offline=yes", "--no-pager", install(unit, tmp_path))
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told)
    assert found is not None
    assert float(found[1]) <= UNITS[unit]
    kind = unit.removeprefix("necropsy-").removesuffix(".service")
    quoted = re.search(rf"(?:the|and the) {kind} (\d\.\d)", README)
    assert quoted is not None
    # Other versions of systemd weigh a little differently.
    assert float(found[1]) == pytest.approx(float(quoted[1]), abs=0.3)


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="there is no systemd-sysusers")
def test_users_are_accepted(tmp_path: Path) -> None:
    told = run("systemd-sysusers", f"--root={tmp_path}", "--dry-run", FOLDER / "necropsy.sysusers")
    assert "necropsy-agent" in told


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="there is no systemd-tmpfiles")
def test_folders_are_made_and_the_token_is_closed(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    (tmp_path / "etc/necropsy").mkdir()
    (tmp_path / "etc/necropsy/token").write_text("t")
    done = subprocess.run(
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(FOLDER / "necropsy.tmpfiles")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "not permitted" in done.stderr:
        pytest.skip("only root can make root's folders")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "etc/necropsy/rules.d").is_dir()
    assert (tmp_path / "etc/necropsy/token").stat().st_mode & 0o777 == 0o600


# What the units must and must not say


def test_agent_can_read_what_it_must() -> None:
    told = settings_of("necropsy-agent.service")
    capabilities = {"CAP_SYSLOG", "CAP_DAC_READ_SEARCH"}
    assert set(told["CapabilityBoundingSet"][0].split()) == capabilities
    assert set(told["AmbientCapabilities"][0].split()) == capabilities
    # Any of these hides /dev/kmsg, the host's files or /proc/stat from it.
    assert {told[name][0] for name in ("ProtectKernelLogs", "PrivateDevices", "PrivateUsers")} == {"no"}
    assert told["ProcSubset"] == ["all"]
    assert "/dev/kmsg r" in told["DeviceAllow"]
    hidden = " ".join(told["InaccessiblePaths"]).split()
    read = (
        "/sys",
        "/proc",
        "/dev",
        "/var/crash",
        "/var/log",
        "/var/lib/systemd",
        "/etc/machine-id",
        "/etc/kdump.conf",
    )
    assert not [path for path in hidden if path.lstrip("-").startswith(read)]
    assert all(path.startswith("-") for path in hidden)  # none of them need exist


def test_agent_is_watched_and_bounded() -> None:
    told = settings_of("necropsy-agent.service")
    assert told["Type"] == ["notify"]
    for name in ("WatchdogSec", "MemoryMax", "CPUQuota", "TasksMax", "StateDirectory", "LoadCredential"):
        assert told[name], name
    assert told["OOMPolicy"] == ["continue"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("setting", "value"),
    [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("ProtectHome", "yes"), ("UMask", "0077"),
     ("MemoryDenyWriteExecute", "yes"), ("RestrictNamespaces", "yes"), ("SystemCallArchitectures", "native")],
)  # fmt: skip
def test_no_unit_does_without(unit: str, setting: str, value: str) -> None:
    assert settings_of(unit)[setting] == [value]


@pytest.mark.parametrize("unit", UNITS)
def test_every_relaxation_has_its_reason_above_it(unit: str) -> None:
    explained = False
    for line in (FOLDER / unit).read_text().splitlines():
        if line.startswith("#"):
            explained = explained or line.startswith("# Relaxation: ")
        elif not line.strip():
            explained = False
        elif line.endswith("=no") or line.startswith(("ProcSubset=all", "CapabilityBoundingSet=CAP_")):
            assert explained, line


@pytest.mark.parametrize("unit", UNITS)
def test_user_is_made_and_its_program_is_installed(unit: str) -> None:
    told = settings_of(unit)
    assert re.search(rf"^u +{told['User'][0]} ", (FOLDER / "necropsy.sysusers").read_text(), re.MULTILINE)
    assert told["StateDirectory"] == told["User"]
    program = Path(told["ExecStart"][0].split()[0]).name
    assert (Path(sys.executable).parent / program).exists()


# The defaults


def test_default_configuration_is_taken_by_the_agent(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "agent.toml", tmp_path)
    (tmp_path / "token").write_text("ncr_token\n")
    told = run(
        Path(sys.executable).parent / "necropsy-agent", "check-config", "--config", tmp_path / "agent.toml"
    )
    assert "the configuration can be used" in told


def test_values_that_the_default_configuration_shows_are_the_defaults(tmp_path: Path) -> None:
    text = (FOLDER / "agent.toml").read_text()
    shown = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    shown = re.sub(r'^(ca_file|cert_file|key_file) = ".*"\n', "", shown, flags=re.MULTILINE)
    assert shown.count(" = ") >= text.count("\n# ") / 5
    loaded = []
    for name, content in (("given", text), ("shown", shown)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.toml").write_text(content)
        environ = {"CREDENTIALS_DIRECTORY": "/run/credentials/necropsy-agent.service"}
        sources = [source for source, _ in SOURCES]
        loaded.append(config.load(tmp_path / name / "agent.toml", sources=sources, environ=environ))
    assert loaded[0] == loaded[1]
    assert loaded[0].server.token_file == "/run/credentials/necropsy-agent.service/token"
    named = re.search(r"left alone: (.*)\.", text)
    assert named is not None
    assert re.findall(r'"(\w+)"', named[1]) == [name for name, _ in SOURCES]


def test_state_folder_is_the_one_that_the_unit_makes() -> None:
    assert (
        config.Config().state_dir == "/var/lib/" + settings_of("necropsy-agent.service")["StateDirectory"][0]
    )
    assert str(config.DEFAULT) in settings_of("necropsy-agent.service")["ExecStart"][0]


def test_options_that_the_analyzers_defaults_name_exist() -> None:
    from necropsy_analyzer.cli.serve import serve

    app = typer.Typer()
    app.command()(serve)
    told = typer.testing.CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    named = re.findall(r"--[a-z-]+", (FOLDER / "analyzer.env").read_text() + README)
    named += re.findall(r"--[a-z-]+", settings_of("necropsy-analyzer.service")["ExecStart"][0])
    ours = {"--listen", "--tls-cert", "--tls-key", "--client-ca", "--state-dir"}
    assert ours <= set(named)
    assert [option for option in ours if option not in told] == []


# The steps


def test_every_file_is_named_with_its_place() -> None:
    for path in FOLDER.iterdir():
        if path.name != "README.md":
            assert f"`systemd/{path.name}`" in README


def test_files_that_the_steps_install_are_there() -> None:
    steps = re.findall(r"^ +install .*?/opt/necropsy/share/necropsy/(systemd/\S+)", README, re.MULTILINE)
    assert len(steps) >= 6
    assert [name for name in steps if not (FOLDER.parent / name).is_file()] == []
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {"systemd": "share/necropsy/systemd"}


def test_commands_of_the_agent_that_the_steps_use_exist() -> None:
    told = run(Path(sys.executable).parent / "necropsy-agent", "--help")
    used = re.findall(r"bin/necropsy-agent ([a-z-]+)", README)
    assert used
    assert [command for command in used if command not in told] == []


def test_commands_of_the_analyzer_that_the_steps_use_exist() -> None:
    used = set(re.findall(r"necropsy hosts ([a-z]+)", README))
    told = run(Path(sys.executable).parent / "necropsy", "hosts", "--help")
    assert used >= {"enroll", "list", "revoke"}
    assert [command for command in used if command not in told] == []
