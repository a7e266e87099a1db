"""A store with incidents in it, and the command as people and programs call it."""

import os
import pty
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import BIN

from necropsy_analyzer.store.store import Store, sqlite_url


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder with an empty store."""
    Store.open(sqlite_url(tmp_path / "state")).close()
    return tmp_path / "state"


@pytest.fixture
def necropsy(tmp_path: Path) -> Callable[..., Any]:
    """Run `necropsy` into pipes."""

    def run(*arguments: object, **environment: str) -> Any:
        done = subprocess.run(
            [BIN / "necropsy", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), **environment},
        )  # fmt: skip
        assert done.stdout or not {"json", "jsonl"} & set(map(str, arguments)), (done.returncode, done.stderr)
        return done

    return run


@pytest.fixture
def on_terminal(tmp_path: Path) -> Callable[..., str]:
    """Run `necropsy` on a terminal and give what appears there."""

    def run(*arguments: object, **environment: str) -> str:
        ours, its = pty.openpty()
        child = subprocess.Popen(
            [BIN / "necropsy", *map(str, arguments)], stdin=its, stdout=its, stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "XDG_CACHE_HOME": str(tmp_path), **environment},
        )  # fmt: skip
        os.close(its)
        seen = b""
        with closing(os.fdopen(ours, "rb", buffering=0)) as terminal, suppress(OSError):  # EIO: it has ended
            while chunk := terminal.read(65536):
                seen += chunk
        assert child.wait(timeout=60) == 0, ascii(seen)
        return seen.decode()

    return run
