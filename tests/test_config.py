"""Settings: where they come from, and what is said about the ones that do not fit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentdur.config import TABLE, Settings, load_settings, settings_page, shown
from agentdur.core.catalog import HandlerOptions
from agentdur.core.errors import BadSetting

PAGE = Path(__file__).parents[1] / "docs/reference/settings.md"


def written(folder: Path, text: str) -> Path:
    (folder / "agentdur.toml").write_text(text, encoding="utf-8")
    return folder


# Sources


def test_without_a_word_the_defaults_hold(tmp_path: Path):
    loaded = load_settings(environ={}, folder=tmp_path)
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}


def test_an_argument_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path):
    folder = written(tmp_path, "ingress-port = 1\nadmin-port = 2\nhost = 'from.file'\n")
    environ = {"AGENTDUR_INGRESS_PORT": "3", "AGENTDUR_ADMIN_PORT": "4"}
    loaded = load_settings({"ingress_port": 5}, environ=environ, folder=folder)
    settings = loaded.settings
    assert (settings.ingress_port, settings.admin_port, settings.host) == (5, 4, "from.file")
    assert settings.store == Settings().store
    assert {name: loaded.sources[name] for name in ("ingress_port", "admin_port", "host", "store")} == {
        "ingress_port": "argument",
        "admin_port": "AGENTDUR_ADMIN_PORT",
        "host": "agentdur.toml",
        "store": "default",
    }


def test_what_was_not_given_does_not_count(tmp_path: Path):
    loaded = load_settings({"ingress_port": None}, environ={"AGENTDUR_ADMIN_PORT": ""}, folder=tmp_path)
    assert loaded.settings == Settings()


def test_a_table_of_the_file_is_a_common_beginning(tmp_path: Path):
    folder = written(tmp_path, "[default-retry-policy]\nmax-attempts = 5\nmax-interval = '2s'\n")
    settings = load_settings(environ={}, folder=folder).settings
    assert settings.default_retry_policy_max_attempts == 5
    assert settings.default_retry_policy_max_interval == timedelta(seconds=2)


def test_another_file_can_be_named(tmp_path: Path):
    other = tmp_path / "other.toml"
    other.write_text("host = '::1'", encoding="utf-8")
    loaded = load_settings(environ={}, file=other, folder=written(tmp_path, "nonsense = 1"))
    assert loaded.settings.host == "::1"
    assert loaded.sources["host"] == "other.toml"


def test_variables_that_are_no_setting_are_reported(tmp_path: Path):
    loaded = load_settings(environ={"AGENTDUR_HOTS": "x", "HOME": "y"}, folder=tmp_path)
    assert loaded.strangers == ("AGENTDUR_HOTS",)


# Values


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("inactivity_timeout", "1m 30s", timedelta(seconds=90)),
        ("abort_timeout", "PT1H", timedelta(hours=1)),
        ("shutdown_timeout", "0", timedelta(0)),
        ("request_size_limit", "1 KiB", 1024),
        ("request_size_limit", "2mb", 2_000_000),
        ("entry_size_limit", "77", 77),
        ("journal_length_limit", "500", 500),
        ("default_retry_policy_max_attempts", "unlimited", None),
        ("default_retry_policy_exponentiation_factor", "1.5", 1.5),
        ("default_retry_policy_on_max_attempts", "KILL", "kill"),
        ("log_format", "json", "json"),
        ("ingress_port", "0", 0),
        ("store", " memory:// ", "memory://"),
        ("allowed_hosts", "A.example, b.example,", ("a.example", "b.example")),
        ("admin_origins", "none", ()),
        ("cors_origins", "https://a.example:8443", ("https://a.example:8443",)),
        ("cors_origins", "*", ("*",)),
    ],
)
def test_values_are_read_as_people_write_them(name: str, raw: str, value: Any):
    assert getattr(load_settings({name: raw}, environ={}).settings, name) == value


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("ingress_port", "http"), ("ingress_port", 70_000), ("ingress_port", True), ("ingress_port", -1),
        ("inactivity_timeout", 60), ("inactivity_timeout", "60"), ("inactivity_timeout", "-1s"),
        ("inactivity_timeout", "9999999 weeks"), ("cleanup_interval", "0s"), ("request_size_limit", "big"),
        ("request_size_limit", 0), ("request_size_limit", "9999 GiB"), ("journal_length_limit", 0),
        ("default_retry_policy_max_attempts", 0), ("default_retry_policy_exponentiation_factor", 0.5),
        ("default_retry_policy_exponentiation_factor", "nan"),
        ("default_retry_policy_exponentiation_factor", "two"), ("log_level", "loud"), ("log_format", 1),
        ("store", "  "), ("host", None.__class__), ("concurrent_requests_limit", -1),
        ("allowed_hosts", "https://a.example"), ("allowed_hosts", 1), ("admin_origins", "*"),
        ("admin_origins", "a.example"), ("cors_origins", ["https://a.example/"]), ("cors_origins", [1]),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_names_setting_source_and_what_it_takes(name: str, raw: Any):
    with pytest.raises(BadSetting) as caught:
        load_settings({name: raw}, environ={})
    detail = caught.value.detail
    assert detail.startswith(f"{name} = {raw!r} (argument): takes {TABLE[name].kind.takes}")


def test_the_source_of_a_bad_value_is_named(tmp_path: Path):
    with pytest.raises(BadSetting, match="AGENTDUR_INGRESS_PORT"):
        load_settings(environ={"AGENTDUR_INGRESS_PORT": "x"}, folder=tmp_path)
    with pytest.raises(BadSetting, match=r"\(agentdur\.toml\)"):
        load_settings(environ={}, folder=written(tmp_path, "ingress-port = 'x'"))


@pytest.mark.parametrize("text", ["ingres-port = 1", "ingress_port = 1", "[ingress]\nprot = 1"])
def test_an_unknown_name_in_the_file_is_refused_with_the_nearest_one(tmp_path: Path, text: str):
    with pytest.raises(BadSetting, match="did you mean 'ingress-port'"):
        load_settings(environ={}, folder=written(tmp_path, text))


def test_an_unknown_argument_is_refused_too():
    with pytest.raises(BadSetting, match="did you mean 'admin_port'"):
        load_settings({"admin_prot": 1}, environ={})


@pytest.mark.parametrize("text", ["a = ", "\x00"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str):
    with pytest.raises(BadSetting, match="cannot be read"):
        load_settings(environ={}, folder=written(tmp_path, text))


def test_a_named_file_must_be_there(tmp_path: Path):
    with pytest.raises(BadSetting, match=r"nowhere\.toml cannot be read"):
        load_settings(environ={}, file=tmp_path / "nowhere.toml")


def test_settings_made_in_python_are_checked_too():
    with pytest.raises(BadSetting, match="ingress_port"):
        Settings(ingress_port=-1)
    with pytest.raises(BadSetting, match="inactivity_timeout"):
        Settings(inactivity_timeout="1m")  # type: ignore[arg-type]  # the point


# Meaning


def test_the_defaults_are_those_of_the_engine():
    assert Settings().handler_options() == HandlerOptions()


def test_retry_and_retention_settings_reach_the_handlers():
    options = Settings(
        default_retry_policy_max_attempts=None,
        default_retry_policy_on_max_attempts="kill",
        default_journal_retention=timedelta(0),
        inactivity_timeout=timedelta(microseconds=1500),
    ).handler_options()
    assert options.retry.attempts_max is None
    assert options.retry.on_exhausted == "kill"
    assert options.journal_retention_ms == 0
    assert options.inactivity_timeout_ms == 1


def test_every_value_can_be_shown_and_read_back():
    default = Settings()
    for name in TABLE:
        text = shown(name, getattr(default, name))
        if name != "concurrent_requests_limit":
            assert getattr(load_settings({name: text}, environ={}).settings, name) == getattr(default, name)


def test_passwords_are_not_shown():
    assert shown("approval_link_key", "secret") == "***"
    assert shown("approval_webhook", "https://ada:secret@hooks/told") == "https://ada:***@hooks/told"
    assert shown("store", "postgresql://ada:secret@db/agentdur") == "postgresql://ada:***@db/agentdur"


# The reference


def test_the_page_of_settings_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "write it anew: python -m agentdur.config > docs/reference/settings.md"
    )


def test_the_page_names_every_setting_once():
    page = settings_page()
    for name in TABLE:
        assert page.count(f"| `{name.replace('_', '-')}` |") == 1
