"""Sources are made in their order from the settings, and each keeps the promises of `Source`."""

import pytest
from tests.sources.conftest import Tree, never

from necropsy_agent.sources import SOURCES, Host, Settings, make


def test_all_are_made_in_the_order_of_looking() -> None:
    assert [source.name for source in make(Settings())] == [name for name, _ in SOURCES]
    assert [name for name, _ in SOURCES][:2] == ["boots", "inventory"]


def test_those_that_are_off_are_not_made() -> None:
    assert "kmsg" not in [source.name for source in make(Settings(), off=("kmsg", "journal"))]


@pytest.mark.parametrize("name", [name for name, _ in SOURCES])
def test_source_on_an_empty_host_is_off_or_finds_nothing_and_closes_twice(name: str, tree: Tree) -> None:
    (source,) = make(Settings(), off=[other for other, _ in SOURCES if other != name])
    why = source.open(tree.host(), None)
    if why is None:
        assert all(item.body is not None for item in source.read(never))
        assert source.fileno() is not None or source.interval_s is not None
    else:
        assert "\n" not in why
    source.acknowledged("a key of another agent's")
    source.close()
    source.close()
    assert list(source.read(never)) == []


def test_recorded_host_gives_its_boot_inventory_and_whatever_it_left(recorded_host: Host) -> None:
    settings = Settings(crash_quiet_s=0)
    kinds: list[str] = []
    for source in make(settings, off=("journal",)):
        if source.open(recorded_host, None) is None:
            kinds += [type(item.body).__name__ for item in source.read(never)]
        source.close()
    assert kinds[:2] == ["Boot", "HostInventory"]
    store = recorded_host.path("/sys/fs/pstore")
    assert ("CrashRecord" in kinds) == (store.is_dir() and any(store.iterdir()))
