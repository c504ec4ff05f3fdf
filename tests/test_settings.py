"""A wrong setting is one line that names it."""

from pathlib import Path

import pytest

from spineloop.settings import SECRETS, Settings, WrongSetting


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SPINELOOP_PARTITIONS", "0", "SPINELOOP_PARTITIONS: Expected `int` >= 1"),
        ("SPINELOOP_LOG_URL", "redis://x", "SPINELOOP_LOG_URL: expected kafka:// or sqlite://..., got 'redis://x'"),
        ("SPINELOOP_LOG_URL", "sqlite://data", "SPINELOOP_LOG_URL: expected a path from the root, sqlite:///..., got"),
        ("SPINELOOP_HISTORY_URL", "sqlite:data", "SPINELOOP_HISTORY_URL: expected a path from the root, sqlite:///"),
        ("SPINELOOP_HISTORY_URL", "sqlite:///", "SPINELOOP_HISTORY_URL: 'sqlite:///' names no place"),
        ("SPINELOOP_LOG_URL", "kafka://[x", "SPINELOOP_LOG_URL: 'kafka://[x': Invalid IPv6 URL"),
        ("SPINELOOP_MQTT_URL", "mqtt://", "SPINELOOP_MQTT_URL: 'mqtt://' names no place"),
        ("SPINELOOP_LOG_FORMAT", "xml", "SPINELOOP_LOG_FORMAT: Invalid enum value 'xml'"),
        ("SPINELOOP_PARTITION", "1", "SPINELOOP_PARTITION: no such setting"),
        ("SPINELOOP_MQTT_URL", "mqtt://me:pass@b", "SPINELOOP_MQTT_URL: no credentials here"),
        (
            "SPINELOOP_HTTP_HOST",
            "192.168.1.4",
            "SPINELOOP_HTTP_TOKEN: needed for a listener of /metrics on 192.168.1.4",
        ),
        ("SPINELOOP_HTTP_TOKEN", "short", "SPINELOOP_HTTP_TOKEN: at least 16 characters"),
        ("SPINELOOP_MQTT_PASSWORD_FILE", "/nowhere/at.all", "SPINELOOP_MQTT_PASSWORD_FILE: [Errno 2]"),
        ("SPINELOOP_MQTT_URL_FILE", "/x", "SPINELOOP_MQTT_URL_FILE: no such setting"),
        ("SPINELOOP_CONFIG", "/nowhere/at.all", "SPINELOOP_CONFIG: [Errno 2]"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(name: str, value: str, said: str) -> None:
    with pytest.raises(WrongSetting) as wrong:
        Settings.read({name: value})
    assert str(wrong.value).startswith(said)
    assert "\n" not in str(wrong.value)


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "spineloop.toml"
    file.write_text('partitions = 3\nhistory_database = "clinic"\n', encoding="utf-8")
    settings = Settings.read({"SPINELOOP_CONFIG": str(file), "SPINELOOP_PARTITIONS": "5"})
    assert (settings.partitions, settings.history_database) == (5, "clinic")


def test_a_policy_out_of_its_bounds_is_refused_with_the_parameter(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("vl_stop_pct = 50\n", encoding="utf-8")
    with pytest.raises(WrongSetting, match=r"SPINELOOP_POLICY_FILE: bad_policy: .*vl_stop_pct"):
        Settings.read({"SPINELOOP_POLICY_FILE": str(file)}).policy()


def test_a_secret_can_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hush-hush-hush-hush\n", encoding="utf-8")
    settings = Settings.read({f"SPINELOOP_{name.upper()}_FILE": str(file) for name in SECRETS})
    assert {getattr(settings, name) for name in SECRETS} == {"hush-hush-hush-hush"}
    assert "hush" not in f"{settings} {settings!r}"
    assert "mqtt_password='(secret)'" in repr(settings)


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("one", encoding="utf-8")
    with pytest.raises(WrongSetting, match="SPINELOOP_MQTT_PASSWORD is set as well"):
        Settings.read({"SPINELOOP_MQTT_PASSWORD_FILE": str(file), "SPINELOOP_MQTT_PASSWORD": "two"})
