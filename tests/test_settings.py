"""A wrong setting is one line that names it."""

from pathlib import Path

import pytest

from spineloop import on_faust, wiring
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
        ("SPINELOOP_LOG_URL", "kafka://x[::1]", "SPINELOOP_LOG_URL: 'kafka://x[::1]': Invalid IPv6 URL"),
        ("SPINELOOP_LOG_URL", "kafka://a,[::1]x:1", "SPINELOOP_LOG_URL: 'kafka://a,[::1]x:1': Invalid IPv6 URL"),
        ("SPINELOOP_LOG_URL", "kafka:9092", "SPINELOOP_LOG_URL: expected kafka://host:port, got 'kafka:9092'"),
        ("SPINELOOP_LOG_URL", "kafka://k:abc", "SPINELOOP_LOG_URL: 'kafka://k:abc': Port could not be cast"),
        ("SPINELOOP_LOG_URL", "kafka://a:1,b:x", "SPINELOOP_LOG_URL: 'kafka://a:1,b:x': Port could not be cast"),
        ("SPINELOOP_LOG_URL", "kafka://a:1,", "SPINELOOP_LOG_URL: 'kafka://a:1,' names no place"),
        ("SPINELOOP_LOG_URL", "kafka://a:", "SPINELOOP_LOG_URL: 'kafka://a:' names no port"),
        ("SPINELOOP_MQTT_URL", "mqtt://", "SPINELOOP_MQTT_URL: 'mqtt://' names no place"),
        ("SPINELOOP_MQTT_URL", "mqtt://:1883", "SPINELOOP_MQTT_URL: 'mqtt://:1883' names no place"),
        ("SPINELOOP_MQTT_URL", "mqtt:1883", "SPINELOOP_MQTT_URL: expected mqtt://host:port, got 'mqtt:1883'"),
        ("SPINELOOP_MQTT_URL", "mqtt://h:99999", "SPINELOOP_MQTT_URL: 'mqtt://h:99999': Port out of range 0-65535"),
        ("SPINELOOP_MQTT_URL", "mqtt://h:0", "SPINELOOP_MQTT_URL: 'mqtt://h:0' names no port"),
        ("SPINELOOP_HISTORY_URL", "http:8086", "SPINELOOP_HISTORY_URL: expected http://host:port, got 'http:8086'"),
        ("SPINELOOP_LOG_FORMAT", "xml", "SPINELOOP_LOG_FORMAT: Invalid enum value 'xml'"),
        ("SPINELOOP_PARTITION", "1", "SPINELOOP_PARTITION: no such setting"),
        ("SPINELOOP_MQTT_URL", "mqtt://me:pass@b", "SPINELOOP_MQTT_URL: no credentials here"),
        ("SPINELOOP_MQTT_URL", "mqtt://me:pa[ss@b", "SPINELOOP_MQTT_URL: no credentials here"),
        ("SPINELOOP_HISTORY_URL", "http://h:8086/?u=me&p=pass", "SPINELOOP_HISTORY_URL: nothing behind a ? or # here"),
        ("SPINELOOP_LOG_URL", "kafka://k:9092#pass", "SPINELOOP_LOG_URL: nothing behind a ? or # here"),
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


@pytest.mark.parametrize("setting", ["SPINELOOP_INGEST_TENANT", "SPINELOOP_INGEST_SITE"])
@pytest.mark.parametrize("value", ["", "Acme", "acme/north", "#", "acme+", "acme\n"])
def test_a_bridge_is_for_all_or_for_a_name_that_a_topic_can_have(setting: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=rf"^{setting}: Expected `str` matching regex.*$"):
        Settings.read({setting: value})
    assert Settings.read({setting: "+"}) == Settings()
    assert Settings.read({setting: "clinic-1"}) != Settings()


@pytest.mark.parametrize("role", ["INGEST", "DOWNLINK", "REFLEX"])
@pytest.mark.parametrize("value", ["", "a/b", "a+b", "#", "$a", "a b", "a\n"])
def test_a_client_id_that_no_broker_takes_is_named(role: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=rf"^SPINELOOP_{role}_CLIENT_ID: Expected `str` matching regex.*$"):
        Settings.read({f"SPINELOOP_{role}_CLIENT_ID": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_URL", "kafka://one:9092,two:9092"),
        ("LOG_URL", "kafka://one,[::1]:9092"),
        ("LOG_URL", "sqlite:///srv/clinic@home"),
        ("MQTT_URL", "mqtts://broker.clinic.example"),
        ("MQTT_URL", "mqtt://[::1]:1883/"),
        ("HISTORY_URL", "https://influx.example/behind/a/proxy"),
    ],
)
def test_every_way_to_name_a_server_is_taken(name: str, value: str) -> None:
    assert getattr(Settings.read({f"SPINELOOP_{name}": value}), name.lower()) == value


def test_kafka_is_asked_at_every_server_that_is_named() -> None:
    settings = Settings.read({"SPINELOOP_LOG_URL": "kafka://one,[::1]:9092/"})
    assert on_faust.place(settings, "plan").bootstrap == "one,[::1]:9092"
    assert not wiring.is_sqlite(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"foo = 1", "'foo': no such setting"),
        (b"partitions = [", "Invalid"),
        (b'log_url = "\xff"', "'utf-8' codec can't decode"),
    ],
)
def test_what_is_wrong_with_the_file_names_the_file(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "spineloop.toml"
    file.write_bytes(text)
    with pytest.raises(WrongSetting) as wrong:
        Settings.read({"SPINELOOP_CONFIG": str(file)})
    assert str(wrong.value).startswith(f"SPINELOOP_CONFIG: {file}: {said}")
    assert "\n" not in str(wrong.value)


def test_an_authority_is_for_tls_whichever_broker_a_command_names(tmp_path: Path) -> None:
    authority = {"SPINELOOP_MQTT_CA_FILE": str(tmp_path / "ca.crt")}
    with pytest.raises(WrongSetting, match=r"^SPINELOOP_MQTT_CA_FILE: needs mqtts://, and SPINELOOP_MQTT_URL is"):
        Settings.read(authority | {"SPINELOOP_MQTT_URL": "mqtt://broker"})
    assert Settings.read(authority | {"SPINELOOP_MQTT_URL": "mqtts://broker"}).mqtt_ca_file
    with pytest.raises(WrongSetting, match=r"^SPINELOOP_MQTT_CA_FILE: needs mqtts://"):
        wiring.connect(Settings.read(authority), "c")
    with pytest.raises(WrongSetting, match=r"^SPINELOOP_MQTT_CA_FILE: needs mqtts://, and --mqtt is 'mqtt://broker'$"):
        Settings.read(authority).at_broker("mqtt://broker")
    assert Settings.read(authority).at_broker("mqtts://broker").mqtt_url == "mqtts://broker"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_was_never_chosen_is_refused_and_not_shown(name: str, tmp_path: Path) -> None:
    setting = f"SPINELOOP_{name.upper()}"
    file = tmp_path / "secret"
    file.write_text("replace-me-with-another-one\n", encoding="utf-8")
    for environment in ({setting: file.read_text().strip()}, {f"{setting}_FILE": str(file)}):
        with pytest.raises(WrongSetting) as wrong:
            Settings.read(environment)
        assert str(wrong.value) == f"{setting}: still begins with replace-me, as in deploy/env.example"
