"""A configuration that cannot be used is refused in one line that names the file and the key."""

from pathlib import Path

import pytest

from necropsy_agent.config import Config, ConfigError, load, token_of

SOURCES = ("boots", "pstore", "kmsg")
GOOD = '[server]\nurl = "https://analyzer:8470"\ntoken_file = "token"\n'


def _load(folder: Path, text: str, drop_ins: dict[str, str] | None = None, **environ: str) -> Config:
    path = folder / "agent.toml"
    path.write_text(text)
    for name, content in (drop_ins or {}).items():
        (folder / "agent.d").mkdir(exist_ok=True)
        (folder / "agent.d" / name).write_text(content)
    return load(path, sources=SOURCES, environ=environ)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("agent.toml", "server.url is missing")),
        ('[server]\nurl = "https://a"\n', ("server.token_file is missing", "enroll")),
        ("stat_dir = 1\n", ("unknown key stat_dir", "did you mean state_dir?")),
        ('[sever]\nurl = "https://a"\n', ("unknown key sever", "did you mean server?")),
        ("[server]\ntokenfile = 1\n", ("unknown key server.tokenfile", "did you mean token_file?")),
        ("[server]\nzzz = 1\n", ("unknown key server.zzz", "there are: url, token_file")),
        ("[server]\nurl = 7\n", ("server.url: expected `str`, got `int`",)),
        ('server = "https://a"\n', ("server: expected `object`",)),
        ("[outbox]\nlimit_bytes = 5\n", ("outbox.limit_bytes: expected `int` >= 16777216",)),
        ("health_every_s = -1\n", ("health_every_s: expected",)),
        ('[sources]\noff = ["kmgs"]\n', ("sources.off: there is no source kmgs", "did you mean kmsg?")),
        ('[sources]\noff = "kmsg"\n', ("sources.off: expected `array`",)),
        ('state_dir = "state"\n', ("state_dir: give an absolute path",)),
        ("a = = b\n", ("not TOML", "line 1")),
        (GOOD.replace("https", "http"), ("http:// would send the token in the clear", "allow_plain_http")),
        (GOOD.replace("https://analyzer:8470", "analyzer:8470"), ("no https:// address",)),
        (GOOD.replace("https://analyzer:8470", "https://"), ("no https:// address",)),
        (GOOD.replace("https://analyzer:8470", "https://a:port"), ("server.url",)),
        (GOOD.replace("https://analyzer", "https://user:secret@analyzer"), ("the token has its own file",)),
        (GOOD.replace(":8470", ":8470/?x=1"), ("only scheme, host, port and path",)),
        (GOOD + 'cert_file = "cert"\n', ("server.cert_file and server.key_file belong together",)),
    ],
)
def test_what_is_wrong_is_told(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        _load(tmp_path, text)
    line = str(told.value)
    assert str(tmp_path / "agent.toml") in line
    assert "\n" not in line
    assert "secret" not in line
    assert [word for word in words if word not in line] == [], line


def test_a_complaint_names_the_drop_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.d/20-own\.toml: unknown key outbox\.limit"):
        _load(tmp_path, GOOD, {"10-fine.toml": "", "20-own.toml": "[outbox]\nlimit = 1\n"})


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 2"):
        load(tmp_path / "latin.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path / "folder.toml")


def test_defaults_are_those_of_a_host(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD)
    assert (config.root, config.state_dir) == ("/", "/var/lib/necropsy-agent")
    assert config.sources.kmsg_path == "/dev/kmsg"
    assert config.outbox.limit_bytes == 256 << 20
    assert not config.sources.pstore_clear


def test_drop_ins_are_merged_in_name_order(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        GOOD + "[outbox]\nlimit_bytes = 17000000\n",
        {
            "20-later.toml": "[outbox]\nlimit_bytes = 19000000\n",
            "10-early.toml": '[outbox]\nlimit_bytes = 18000000\n[sources]\noff = ["kmsg"]\n',
            "ignored.conf": "not = = toml",
        },
    )
    assert config.outbox.limit_bytes == 19_000_000
    assert config.sources.off == ("kmsg",)
    assert config.server.url == "https://analyzer:8470"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8470", "http://localhost", "http://[::1]:1/prefix"])
def test_plain_http_is_taken_for_loopback(url: str, tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD.replace("https://analyzer:8470", url)).server.url == url


def test_plain_http_is_taken_where_it_is_allowed(tmp_path: Path) -> None:
    text = GOOD.replace("https", "http") + "allow_plain_http = true\n"
    assert _load(tmp_path, text).server.url == "http://analyzer:8470"


def test_files_are_looked_for_beside_the_configuration_or_among_credentials(tmp_path: Path) -> None:
    text = GOOD + 'ca_file = "/etc/ca.pem"\n'
    beside = _load(tmp_path, text).server
    assert (beside.token_file, beside.ca_file) == (str(tmp_path / "token"), "/etc/ca.pem")
    given = _load(tmp_path, text, CREDENTIALS_DIRECTORY="/run/credentials/a.service").server
    assert given.token_file == "/run/credentials/a.service/token"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words\n", b"caf\xc3\xa9\n", b"bad\x00\n"])
def test_a_token_file_holds_one_token(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError, match="must hold the token") as told:
        token_of(_load(tmp_path, GOOD).server)
    assert "words" not in str(told.value)


def test_a_token_is_read_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"  abc-DEF_123\n")
    assert token_of(_load(tmp_path, GOOD).server) == "abc-DEF_123"
