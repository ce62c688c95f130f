"""Settings: which source wins, and what is said of a wrong one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy.engine import URL

from orchestrator import Orchestrator
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings, SettingsArguments, load

OTHER: dict[str, tuple[Any, Any, Any]] = {
    "database_url": ("sqlite:///a.db", "sqlite:///e.db", "sqlite:///f.db"),
    "direct_url": ("sqlite:///a.db", "sqlite:///e.db", "sqlite:///f.db"),
    "script_location": ("a", "e", "f"),
    "version_locations": (("a",), ("e", "e2"), ("f",)),
    "alembic_config": ("a.ini", "e.ini", "f.ini"),
    "alembic_section": ("a", "e", "f"),
    "app": ("a:a", "e:e", "f:f"),
    "target": ("aa", "ee", "ff"),
    "mode": ("follow", "migrate", "follow"),
    "bootstrap": ("create", "upgrade", "create"),
    "unversioned": ("adopt", "refuse", "adopt"),
    "unrecognised": ("accept", "refuse", "accept"),
    "interrupted": ("retry", "refuse", "retry"),
    "galera": ("one-node", "refuse", "one-node"),
    "lock_timeout_seconds": (1.5, 2.5, 3.5),
    "connect_timeout_seconds": (1.5, 2.5, math.inf),
    "ddl_lock_timeout_seconds": (1.5, 2.5, 0),
    "ddl_retry_seconds": (1.5, 2.5, 0),
    "on_peer_failure": ("retry", "fail", "retry"),
    "transaction": ("run", "revision", "off"),
    "state_dir": ("a", "e", "f"),
    "journal": ("a.jsonl", "e.jsonl", "off"),
    "journal_max_bytes": (1, 2, 0),
    "log": ("json", "console", "off"),
    "telemetry": ("otel", "off", "prometheus"),
    "release": ("a", "e", "f"),
    "accepted_differences": ("a.txt", "e.txt", "f.txt"),
    "tag": ("a", "e", "f"),
    "warm_start": ("off", "on", "off"),
    "x_args": (("a=1",), ("e=1", "e=2"), ("f=1",)),
}
"""For each setting a value as argument, in the environment and in a file."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has no configuration, unless a test writes one."""
    monkeypatch.chdir(tmp_path)


def as_toml(value: Any) -> str:
    return repr(value) if isinstance(value, (float, int)) else json.dumps(value)


def as_variable(value: Any) -> str:
    return json.dumps(value) if isinstance(value, tuple) else str(value)


def shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    return str(value) if isinstance(value, Path) else value


def test_every_setting_is_tested_here() -> None:
    """A new setting gets its rank tested, too."""
    assert set(OTHER) == set(Settings.model_fields)


def test_a_type_checker_knows_every_setting() -> None:
    """As an argument of `Settings(…)`, of `load(…)` and of `from_config(…)`."""
    assert list(SettingsArguments.__annotations__) == list(Settings.model_fields)


def test_a_path_and_a_url_are_taken_as_they_are() -> None:
    """A `Path` where a text is kept, a SQLAlchemy `URL` with its password."""
    url = URL.create("postgresql", "user", "p@ss", "host", database="db")
    settings = Settings(
        database_url=url, script_location=Path("a/b"), version_locations=[Path("c"), "d"]
    )

    assert settings.database_url == "postgresql://user:p%40ss@host/db"
    assert settings.script_location == "a/b"
    assert settings.version_locations == ("c", "d")


def test_of_variables_that_differ_in_case_the_one_in_capitals_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever comes first in the environment."""
    for variable, release in (("orchestrator_release", "a"), ("ORCHESTRATOR_RELEASE", "b")):
        monkeypatch.setenv(variable, release)
    monkeypatch.setenv("ORCHESTRATOR_TAG", "b")
    monkeypatch.setenv("Orchestrator_Tag", "a")

    assert (load().release, load().tag) == ("b", "b")


@pytest.mark.parametrize("text", ["a=b", '{"a": 1}', "[1"])
def test_a_list_in_the_environment_is_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is none is told with its variable."""
    monkeypatch.setenv("ORCHESTRATOR_X_ARGS", text)

    with pytest.raises(ConfigurationError, match="ORCHESTRATOR_X_ARGS is wrong: a list") as caught:
        load()

    assert caught.value.source == "ORCHESTRATOR_X_ARGS"
    assert caught.value.setting == "x_args"


@pytest.mark.parametrize("name", OTHER)
def test_arguments_over_environment_over_file_over_defaults(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each setting, taking the first source away shows the next."""
    argument, variable, file_value = OTHER[name]
    file = tmp_path / "o.toml"
    file.write_text(f"{name} = {as_toml(file_value)}\n")
    monkeypatch.setenv(f"ORCHESTRATOR_{name.upper()}", as_variable(variable))

    assert shown(load(file, **{name: argument}), name) == argument
    assert shown(Settings(**{name: argument}), name) == argument
    assert shown(load(file), name) == variable
    assert shown(Settings(), name) == variable
    monkeypatch.delenv(f"ORCHESTRATOR_{name.upper()}")
    assert shown(load(file), name) == file_value
    assert shown(Settings(), name) == Settings.model_fields[name].default
    assert shown(load(None, **{name: None}), name) == Settings.model_fields[name].default


def test_the_defaults_are_those_of_the_design() -> None:
    """Without any source."""
    assert load().model_dump(exclude_none=True) == {
        "alembic_section": "alembic",
        "target": "heads",
        "mode": "migrate",
        "bootstrap": "upgrade",
        "unversioned": "refuse",
        "unrecognised": "refuse",
        "interrupted": "refuse",
        "galera": "refuse",
        "lock_timeout_seconds": 300.0,
        "connect_timeout_seconds": 30.0,
        "ddl_lock_timeout_seconds": 2.0,
        "ddl_retry_seconds": 120.0,
        "on_peer_failure": "fail",
        "transaction": "env",
        "log": "auto",
        "telemetry": "off",
        "version_locations": (),
        "journal_max_bytes": 50_000_000,
        "warm_start": "on",
        "x_args": (),
    }


def test_pyproject_in_the_working_directory_is_read(tmp_path: Path) -> None:
    """Its table `[tool.orchestrator]`, and nothing else of it."""
    (tmp_path / "pyproject.toml").write_text(
        'target = "x"\n[tool.other]\nport = 1\n[tool.orchestrator]\nrelease = "1.2"\n'
    )

    assert load().release == "1.2"
    assert load().target == "heads"
    assert Settings().release is None  # only `load` reads files


def test_a_pyproject_without_the_table_is_passed_over(tmp_path: Path) -> None:
    """Every Python project has one."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")

    assert load() == Settings()


def test_the_named_file_is_read_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument names it, else ORCHESTRATOR_CONFIG; pyproject.toml is then not read."""
    (tmp_path / "pyproject.toml").write_text('[tool.orchestrator]\nrelease = "p"\ntarget = "p"\n')
    (tmp_path / "a.toml").write_text('release = "a"\n')
    (tmp_path / "b.toml").write_text('release = "b"\n')
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", "a.toml")

    assert load().release == "a"
    assert load().target == "heads"
    assert load("b.toml").release == "b"


def test_a_pyproject_that_is_named_is_read_as_one(tmp_path: Path) -> None:
    """Elsewhere too, its settings stand under `[tool.orchestrator]`."""
    other = tmp_path / "other" / "pyproject.toml"
    other.parent.mkdir()
    other.write_text('[tool.orchestrator]\nrelease = "1.2"\n')

    assert load(other).release == "1.2"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("o.toml", None, "o.toml cannot be read: No such file or directory"),
        ("o.toml", "= =", "o.toml is not TOML"),
        ("o.toml", b"\xff\xfe", "o.toml is not TOML"),
        ("pyproject.toml", "tool = 3", "`tool` is not a table"),
        ("pyproject.toml", "[tool]\norchestrator = 3", "`orchestrator` is not a table"),
        ("o.toml", "bootstrp = 'create'", "o.toml: There is no setting `bootstrp`. Did you mean"),
        ("o.toml", "[tool.orchestrator]\nmode = 'follow'", "o.toml: There is no setting `tool`"),
        (
            "o.toml",
            "bootstrap = 'creat'",
            "o.toml: The value of the key `bootstrap` is wrong: it must be upgrade",
        ),
        ("o.toml", "bootstrap = 3", "must be upgrade or create"),
        ("o.toml", "target = 3", "o.toml: The value of the key `target` is wrong"),
        ("o.toml", "target = ''", "must be heads, head, a revision or a label"),
        ("o.toml", "target = '+1'", "is for a single command"),
        ("o.toml", "target = 'base'", "is for a single command"),
        ("o.toml", "lock_timeout_seconds = 'long'", "must be a number of seconds, or inf"),
        ("o.toml", "lock_timeout_seconds = -1", "must be 0 or more seconds, or inf"),
        ("o.toml", "lock_timeout_seconds = nan", "must be 0 or more seconds, or inf"),
        ("o.toml", "journal_max_bytes = '50 MB'", "must be a whole number of bytes"),
        ("o.toml", "journal_max_bytes = [1]", "must be a whole number of bytes"),
        ("o.toml", "journal_max_bytes = 1.5", "must be a whole number of bytes"),
        ("o.toml", "journal_max_bytes = inf", "must be a whole number of bytes"),
        ("o.toml", "journal_max_bytes = -1", "must be 0 or more bytes"),
        ("o.toml", "state_dir = 3", "must be a path"),
        ("pyproject.toml", "[tool.orchestrator]\nmod = 'x'", "Did you mean `mode`?"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(
    name: str, content: str | bytes | None, words: str, tmp_path: Path
) -> None:
    """A missing file, one that is not TOML, an unknown key, a wrong value."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ConfigurationError) as caught:
        load(file)

    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.source == str(file)


def test_a_directory_is_not_a_configuration_file(tmp_path: Path) -> None:
    """It is said to be one."""
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("make", [Settings, load], ids=["Settings", "load"])
def test_an_unknown_argument_suggests_the_nearest_name(make: Callable[..., Settings]) -> None:
    """In code as in a file."""
    with pytest.raises(ConfigurationError, match="Did you mean `lock_timeout_seconds`") as caught:
        make(lock_timeout=3)

    assert caught.value.setting == "lock_timeout"
    assert caught.value.allowed == ("lock_timeout_seconds",)


def test_a_wrong_argument_says_that_it_is_one() -> None:
    """And names what would be allowed."""
    with pytest.raises(ConfigurationError, match="argument `mode` is wrong") as caught:
        Settings(mode="lead")

    assert caught.value.source == "argument"
    assert caught.value.allowed == ("migrate", "follow", "require")


@pytest.mark.parametrize("variable", ["ORCHESTRATOR_MODE", "orchestrator_mode"])
def test_a_wrong_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written in the environment."""
    monkeypatch.setenv(variable, "lead")

    with pytest.raises(ConfigurationError, match=f"environment variable {variable}") as caught:
        load()

    assert caught.value.source == variable


def test_the_source_that_is_blamed_is_the_one_that_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a wrong value in each, it is the argument's, then the variable's, then the file's."""
    file = tmp_path / "o.toml"
    file.write_text("mode = 'f'\n")
    monkeypatch.setenv("ORCHESTRATOR_MODE", "e")

    with pytest.raises(ConfigurationError, match="argument"):
        load(file, mode="a")
    with pytest.raises(ConfigurationError, match="ORCHESTRATOR_MODE"):
        load(file)
    monkeypatch.delenv("ORCHESTRATOR_MODE")
    with pytest.raises(ConfigurationError, match="key `mode`"):
        load(file)


def test_a_wrong_value_in_a_file_does_not_matter_where_it_does_not_count(tmp_path: Path) -> None:
    """What is overruled is not looked at."""
    (tmp_path / "o.toml").write_text("mode = 'f'\n")

    assert load("o.toml", mode="follow").mode == "follow"


@pytest.mark.parametrize("name", ["PORT", "SERVICE_HOST", "PORT_80_TCP", "BOOTSTRP", "CONFIG"])
def test_variables_that_are_no_settings_are_ignored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Platforms inject names such as ORCHESTRATOR_PORT for a service called orchestrator."""
    (tmp_path / "x").touch()
    monkeypatch.setenv(f"ORCHESTRATOR_{name}", "x")

    assert load() == Settings() == Settings.model_construct()


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files write variables that are not set."""
    monkeypatch.setenv("ORCHESTRATOR_MODE", "")
    monkeypatch.setenv("ORCHESTRATOR_LOCK_TIMEOUT_SECONDS", "")

    assert load() == Settings.model_construct()


def test_for_ever_is_written_inf(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment and in TOML."""
    monkeypatch.setenv("ORCHESTRATOR_LOCK_TIMEOUT_SECONDS", "inf")

    assert load().lock_timeout_seconds == math.inf


def test_settings_cannot_be_changed() -> None:
    """A run reads them more than once."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().mode = "follow"  # type: ignore[misc] # the point of the test


def test_neither_repr_nor_str_shows_the_url() -> None:
    """It may hold a password, and settings are printed by debuggers and by mistake."""
    settings = Settings(database_url="sqlite:///a.db?password=hunter2")

    for text in (repr(settings), str(settings), f"{settings!s}", str(Orchestrator(settings))):
        assert "hunter2" not in text


def test_an_error_about_a_url_does_not_show_it(tmp_path: Path) -> None:
    """Not even one about its type."""
    (tmp_path / "o.toml").write_text('database_url = ["postgresql://user:hunter2@host/db"]\n')

    with pytest.raises(ConfigurationError, match="database_url") as caught:
        load("o.toml")

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


# What is not set falls back to what the project says already


def url_of(**arguments: Any) -> str:
    return Orchestrator.from_config(**arguments).resources.database.shown_url


def test_the_url_falls_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, ORCHESTRATOR_DATABASE_URL, file, DATABASE_URL, then Alembic's sqlalchemy.url."""
    (tmp_path / "alembic.ini").write_text("[alembic]\nsqlalchemy.url = sqlite:///ini.db\n")
    (tmp_path / "o.toml").write_text('database_url = "sqlite:///file.db"\n')
    monkeypatch.setenv("DATABASE_URL", "sqlite:///fallback.db")
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "sqlite:///own.db")

    assert url_of(file="o.toml", database_url="sqlite:///arg.db") == "sqlite:///arg.db"
    assert url_of(file="o.toml") == "sqlite:///own.db"
    monkeypatch.delenv("ORCHESTRATOR_DATABASE_URL")
    assert url_of(file="o.toml") == "sqlite:///file.db"
    assert url_of() == "sqlite:///fallback.db"
    monkeypatch.delenv("DATABASE_URL")
    assert url_of() == "sqlite:///ini.db"


def test_alembic_ini_is_read_as_alembic_reads_it(tmp_path: Path) -> None:
    """`%(here)s` is its directory, and `%%` a percent sign."""
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nsqlalchemy.url = sqlite:///%(here)s/100%%.db\n"
    )

    assert url_of() == f"sqlite:///{tmp_path}/100%.db"


def test_a_named_alembic_config_is_read_instead(tmp_path: Path) -> None:
    """`alembic_config` overrules what lies in the working directory."""
    (tmp_path / "alembic.ini").write_text("[alembic]\nsqlalchemy.url = sqlite:///ini.db\n")
    other = tmp_path / "etc" / "other.ini"
    other.parent.mkdir()
    other.write_text("[alembic]\nsqlalchemy.url = sqlite:///other.db\n")

    assert url_of(alembic_config="etc/other.ini") == "sqlite:///other.db"


def test_another_section_is_read_instead(tmp_path: Path) -> None:
    """`alembic_section` names it; `[tool.alembic]` is asked for what it lacks, as Alembic does."""
    sections = (
        "[alembic]\nsqlalchemy.url = sqlite:///a.db\n[two]\nsqlalchemy.url = sqlite:///2.db\n"
    )
    (tmp_path / "alembic.ini").write_text(f"{sections}[three]\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.alembic]\n"sqlalchemy.url" = "sqlite:///t.db"\n'
    )

    assert url_of() == "sqlite:///a.db"
    assert url_of(alembic_section="two") == "sqlite:///2.db"
    assert url_of(alembic_section="three") == "sqlite:///t.db"


@pytest.mark.parametrize("section", ["", "DEFAULT"])
def test_a_section_is_one_that_alembic_can_read(section: str) -> None:
    """Alembic takes neither."""
    with pytest.raises(ConfigurationError, match="`alembic_section` is wrong: it must be the name"):
        Settings(alembic_section=section)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[alembic]\nsqlalchemy.url = sqlite:///100%.db\n", "`%%`"),
        ("sqlalchemy.url = sqlite:///a.db\n", "MissingSectionHeaderError"),
    ],
)
def test_an_alembic_config_that_cannot_be_read_is_named(
    content: str, words: str, tmp_path: Path
) -> None:
    """A lone `%` is the usual reason, and the message says so."""
    (tmp_path / "alembic.ini").write_text(content)

    with pytest.raises(ConfigurationError, match=r"alembic\.ini cannot be read") as caught:
        url_of()

    assert words in str(caught.value)


def test_an_alembic_config_that_does_not_exist_is_named() -> None:
    """Only where it was asked for."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.ini does not exist"):
        url_of(alembic_config="nowhere.ini")


def test_no_url_at_all_says_how_to_give_one() -> None:
    """The message names every way."""
    with pytest.raises(ConfigurationError) as caught:
        url_of()

    for way in ("database_url", "--database-url", "ORCHESTRATOR_DATABASE_URL", "DATABASE_URL"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("alembic.ini", "[alembic]\nscript_location = %(here)s/scripts\n"),
        ("pyproject.toml", '[tool.alembic]\nscript_location = "%(here)s/scripts"\n'),
        ("pyproject.toml", '[tool.orchestrator]\nscript_location = "scripts"\n'),
    ],
)
def test_the_script_location_falls_back_to_alembics(
    file: str, content: str, tmp_path: Path
) -> None:
    """`alembic.ini`, or `[tool.alembic]` of `pyproject.toml`, in the working directory."""
    (tmp_path / "scripts" / "versions").mkdir(parents=True)
    (tmp_path / "scripts" / "env.py").write_text("")
    (tmp_path / file).write_text(content)

    orchestrator = Orchestrator.from_config(database_url="sqlite:///a.db")

    assert Path(orchestrator.resources.scripts().directory.dir).resolve() == tmp_path / "scripts"
