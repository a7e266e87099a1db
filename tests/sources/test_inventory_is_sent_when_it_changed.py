"""What the host is made of is told at the start and after a change, without what names it alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sources.conftest import BOOT, Tree, look

from necropsy_agent.sources import Host
from necropsy_agent.sources.inventory import Inventory
from necropsy_agent.wire import HostInventory, pack

HOST_FILES = {
    "proc/sys/kernel/hostname": "web-7\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "proc/sys/kernel/tainted": "4097\n",
    "proc/cmdline": "root=/dev/vda1 quiet\n",
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\nmicrocode\t: 0x1\n\n"
    "processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: other\n",
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n',
    "sys/class/dmi/id/product_name": "Standard PC\n",
    "sys/class/dmi/id/product_serial": "SECRET\n",
    "sys/class/dmi/id/product_uuid": "SECRET\n",
    "etc/machine-id": "SECRET\n",
}


def test_inventory_says_what_the_host_is_and_no_serial_number(tree: Tree) -> None:
    (found,) = look(Inventory(), tree.write(HOST_FILES).host())
    assert isinstance(found.body, HostInventory)
    assert (found.body.hostname, found.body.release, found.body.architecture) == (
        "web-7",
        "6.1.0-test",
        "x86_64",
    )
    assert found.body.facts == {
        "kernel.cmdline": "root=/dev/vda1 quiet",
        "kernel.tainted": "4097",
        "cpu.vendor": "GenuineIntel",
        "cpu.name": "Xeon",
        "cpu.microcode": "0x1",
        "os.id": "debian",
        "os.version_id": "12",
        "os.pretty_name": "Debian GNU/Linux 12",
        "dmi.product_name": "Standard PC",
    }
    assert b"SECRET" not in pack(found.body)


def test_inventory_is_sent_again_when_it_changed_and_only_then(tree: Tree) -> None:
    inventory = Inventory()
    (found,) = look(inventory, tree.write(HOST_FILES).host())
    assert inventory.open(tree.host(), found.cursor) is None  # after a restart of the agent
    assert list(inventory.read(lambda key: False)) == []
    tree.write({"proc/sys/kernel/tainted": "4225\n"})  # D: the kernel has died a little
    (changed,) = inventory.read(lambda key: False)
    assert changed.cursor != found.cursor
    assert list(inventory.read(lambda key: False)) == []


def test_host_that_tells_no_release_is_a_failure_not_an_empty_inventory(tmp_path: Path) -> None:
    inventory = Inventory()
    assert inventory.open(Host(tmp_path, BOOT), None) is None
    with pytest.raises(OSError, match="osrelease"):
        list(inventory.read(lambda key: False))


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.sampled_from(sorted(HOST_FILES)), st.binary(max_size=300)))
def test_no_content_makes_the_inventory_fail(
    content: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    (found,) = look(Inventory(), Tree(tmp_path_factory.mktemp("host")).write(content).host())
    pack(found.body)


def test_recorded_hosts_are_looked_at(recorded_host: Host) -> None:
    (found,) = look(Inventory(), recorded_host)
    assert isinstance(found.body, HostInventory)
    assert found.body.release == recorded_host.path("/proc/sys/kernel/osrelease").read_text().strip()
    assert found.body.facts["kernel.cmdline"]
