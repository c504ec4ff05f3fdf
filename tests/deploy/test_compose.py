"""docker-compose.yml: accepted, images pinned, everything watched, and configured by the files that the tests use."""

import re
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest import native, shipped
from spineloop.settings import PLACEHOLDER, Settings, WrongSetting

ROOT = shipped.DEPLOY.parent

IMAGES = {
    "mosquitto": "eclipse-mosquitto:2.0.22",
    "kafka": "apache/kafka:4.3.1",
    "influxdb": "influxdb:2.9.1",
    "grafana": "grafana/grafana:12.4.5",
}

ROLES = {"ingest", "control", "plan", "history", "downlink", "reflex", "page"}

METRICS_PORT = 9464

FOLDER = Path("/folder")

ADDRESSES_AND_DATA = {
    "mosquitto/mosquitto.conf": {"listener", "persistence_location"},
    "mosquitto/wall.conf": {"listener", "persistence_location", "password_file", "acl_file", "certfile", "keyfile"},
    "kafka/server.properties": {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"},
    "influxdb/influxdb.conf": {"bind-address", "http.bind-address", "meta.dir", "data.dir", "data.wal-dir"},
    "iotcore/rumqttd.toml": {"v5.1.listen"},
}

SESSION_OF_A_KILLED_BROKER = {"broker.session.timeout.ms", "broker.heartbeat.interval.ms"}

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*)|:\?(?P<missing>[^}]*))?\}")

COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "deploy/env.example").read_text(encoding="utf-8")
OPTIONAL = {"SMTP_PASSWORD"}  # without mail, alerts are on the page
SECRET = re.compile(r"\w*(PASSWORD|TOKEN)")

SETTING = re.compile(r"(?P<key>[\w.]+)(?:=|\s+)(?P<value>.*)")


def line_settings(text: str) -> set[tuple[str, str]]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {(match["key"], match["value"]) for match in map(SETTING.fullmatch, lines) if match}


def toml_settings(text: str) -> set[tuple[str, str]]:
    def flat(table: Mapping[str, Any], prefix: str = "") -> set[tuple[str, str]]:
        pairs: set[tuple[str, str]] = set()
        for key, value in table.items():
            pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {(prefix + key, repr(value))}
        return pairs

    return flat(tomllib.loads(text))


def filled(environment: Mapping[str, str]) -> dict[str, str]:
    """Put in the place of each variable its default, or a value that tells it from others."""

    def value(match: re.Match[str]) -> str:
        return match["default"] if match["default"] is not None else f"the value of {match['name']}"

    return {name: VARIABLE.sub(value, text) for name, text in environment.items()}


def datasource() -> dict[str, Any]:
    provisioned = ROOT / "dashboards/grafana/provisioning/datasources/influx.yaml"
    (source,) = yaml.safe_load(provisioned.read_text(encoding="utf-8"))["datasources"]
    return dict(source)


def composed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["docker-compose", *arguments, "-f", "docker-compose.yml", "config"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return services


def variables() -> dict[str, re.Match[str]]:
    """Return what the compose file takes from .env, by name."""
    return {match["name"]: match for match in VARIABLE.finditer(COMPOSE)}


def secrets() -> set[str]:
    return {name for name in variables() if SECRET.fullmatch(name)} - OPTIONAL


def test_docker_compose_accepts_the_file_and_the_example_names_every_secret() -> None:
    done = composed("--env-file", "deploy/env.example")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_variable_is_a_secret_that_must_be_set_or_has_a_default() -> None:
    assert {name for name, match in variables().items() if match["missing"] == f"set {name} in .env"} == secrets()
    assert {name for name, match in variables().items() if match["default"] is None} == secrets()


def test_the_example_has_every_variable_and_no_secret_that_a_role_would_take() -> None:
    told = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert told.keys() == variables().keys()
    assert {name for name, value in told.items() if value.startswith(PLACEHOLDER)} == secrets()


@pytest.mark.parametrize("secret", sorted(secrets()))
def test_a_secret_that_is_missing_stops_docker_compose(secret: str, tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.write_text(re.sub(rf"^{secret}=.*$", f"{secret}=", EXAMPLE, flags=re.MULTILINE), encoding="utf-8")
    done = composed("--env-file", str(env))
    assert done.returncode != 0
    assert f"set {secret} in .env" in done.stderr


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_refuses_the_secrets_of_the_example(services: Mapping[str, Any], role: str) -> None:
    told = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    environment = {
        name: VARIABLE.sub(lambda match: told[match["name"]], text)
        for name, text in services[role]["environment"].items()
    }
    with pytest.raises(WrongSetting, match="still begins with replace-me"):
        Settings.read(environment)


def test_the_images_are_the_pinned_ones(services: Mapping[str, Any]) -> None:
    assert {name: service["image"] for name, service in services.items() if "build" not in service} == IMAGES


def test_our_image_is_built_on_the_pinned_python() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert {line.split()[1] for line in lines if line.startswith("FROM ")} == {"python:3.11-slim"}


def test_the_kafka_of_the_tests_is_the_kafka_of_the_image() -> None:
    pom = (shipped.DEPLOY / "kafka" / "pom.xml").read_text(encoding="utf-8")
    version = IMAGES["kafka"].rpartition(":")[2]
    assert f"<kafka.version>{version}</kafka.version>" in pom
    assert native.KLIB.parts[-2] == f"kafka-{version}"


def test_the_page_is_there_for_whoever_asks_for_it_and_wants_a_token(services: Mapping[str, Any]) -> None:
    assert {name for name, service in services.items() if "profiles" in service} == {"page"}
    assert Settings.read(filled(services["page"]["environment"])).page_token
    assert services["page"]["ports"] == ["127.0.0.1:8480:8480"]


def test_every_role_is_a_service_of_its_own(services: Mapping[str, Any]) -> None:
    assert {name: service["command"] for name, service in services.items() if "build" in service} == {
        "topics": ["topics", "create"],
        **{role: [role] for role in ROLES},
    }


@pytest.mark.parametrize("role", sorted(ROLES | {"topics"}))
def test_the_settings_of_a_role_are_ones_that_exist(services: Mapping[str, Any], role: str) -> None:
    settings = Settings.read(filled(services[role]["environment"]))
    assert settings.log_url == "kafka://kafka:19092"
    assert settings.http_port == METRICS_PORT


def test_history_writes_where_grafana_reads_and_influxdb_is_set_up(services: Mapping[str, Any]) -> None:
    settings = Settings.read(filled(services["history"]["environment"]))
    influxdb = filled(services["influxdb"]["environment"])
    source = datasource()
    assert influxdb["DOCKER_INFLUXDB_INIT_BUCKET"] == f"{settings.history_database}/{settings.history_retention}"
    assert influxdb["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN"] == settings.history_password
    assert (source["uid"], source["url"]) == ("influx", settings.history_url)
    assert source["jsonData"]["dbName"] == settings.history_database
    assert source["secureJsonData"] == {"httpHeaderValue1": "Token $INFLUX_TOKEN"}
    assert filled(services["grafana"]["environment"])["INFLUX_TOKEN"] == settings.history_password
    assert "./dashboards/grafana/provisioning:/etc/grafana/provisioning:ro" in services["grafana"]["volumes"]
    assert "./dashboards/grafana/boards:/etc/grafana/boards:ro" in services["grafana"]["volumes"]


def test_the_roles_at_the_broker_have_credentials_of_their_own_and_metrics_a_token(services: Mapping[str, Any]) -> None:
    named = {role: Settings.read(filled(services[role]["environment"])) for role in ("ingest", "downlink", "reflex")}
    assert {role: settings.mqtt_username for role, settings in named.items()} == {
        "ingest": "ingest-0",
        "downlink": "downlink-0",
        "reflex": "reflex-0",
    }
    assert len({settings.mqtt_password for settings in named.values()}) == 3
    assert all(Settings.read(filled(services[role]["environment"])).http_token for role in ROLES)


def test_every_role_writes_its_meters_where_history_writes(services: Mapping[str, Any]) -> None:
    there = Settings.read(filled(services["history"]["environment"]))
    for role in ROLES:
        settings = Settings.read(filled(services[role]["environment"]))
        assert (settings.history_url, settings.history_password) == (there.history_url, there.history_password)
        assert settings.meters_s > 0.0


def test_grafana_finds_its_boards_where_they_are_mounted() -> None:
    path = ROOT / "dashboards/grafana/provisioning/dashboards/spineloop.yaml"
    (provider,) = yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]
    assert (provider["type"], provider["options"], provider["folderUid"]) == (
        "file",
        {"path": "/etc/grafana/boards"},
        "spineloop",
    )
    assert provider["allowUiUpdates"] is False


def test_every_service_that_stays_is_restarted_and_has_a_health_check(services: Mapping[str, Any]) -> None:
    staying = {name: service for name, service in services.items() if name != "topics"}
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in staying.values())
    assert all(service["restart"] == "unless-stopped" for service in staying.values())
    assert all(f"http://127.0.0.1:{METRICS_PORT}/readyz" in services[role]["healthcheck"]["test"][-1] for role in ROLES)


@pytest.mark.parametrize("name", sorted(ROLES | {"mosquitto"}))
def test_who_takes_connections_has_files_for_them_whatever_the_engine_gives(
    services: Mapping[str, Any], name: str
) -> None:
    assert services[name]["ulimits"] == {"nofile": 8192}


def test_a_role_waits_for_the_topics_and_for_the_servers_it_talks_to(services: Mapping[str, Any]) -> None:
    def awaited(role: str) -> dict[str, str]:
        return {name: state["condition"] for name, state in services[role]["depends_on"].items()}

    topics = {"topics": "service_completed_successfully"}
    assert {role: awaited(role) for role in ROLES} == {
        "ingest": topics | {"mosquitto": "service_healthy"},
        "control": topics,
        "plan": topics,
        "history": topics | {"influxdb": "service_healthy"},
        "downlink": topics | {"mosquitto": "service_healthy"},
        "reflex": {"mosquitto": "service_healthy"},
        "page": topics,
    }
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}


def test_only_the_walled_port_can_be_published_beyond_this_machine(services: Mapping[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    others = [port for port in published if not port.startswith("127.0.0.1:")]
    assert others == ["${MQTT_BIND:-127.0.0.1}:8883:8883"]


def test_the_wall_has_every_limit_of_the_open_broker_and_lets_nobody_in_unnamed() -> None:
    opened = line_settings((shipped.DEPLOY / "mosquitto/mosquitto.conf").read_text(encoding="utf-8"))
    walled = line_settings((shipped.DEPLOY / "mosquitto/wall.conf").read_text(encoding="utf-8"))
    assert opened - walled == {("allow_anonymous", "true")}
    assert {("allow_anonymous", "false"), ("use_username_as_clientid", "true")} <= walled


def test_the_brokers_memory_is_bounded_from_outside_and_not_by_its_own_count(services: Mapping[str, Any]) -> None:
    assert services["mosquitto"]["mem_limit"] == "2g"
    assert services["mosquitto"]["restart"] == "unless-stopped"
    for name in ("mosquitto/mosquitto.conf", "mosquitto/wall.conf"):
        settings = line_settings((shipped.DEPLOY / name).read_text(encoding="utf-8"))
        assert "memory_limit" not in {key for key, _ in settings}  # it counts wrongly, and then serves nobody


def test_the_port_for_services_has_room_for_many_clinics() -> None:
    wall = (shipped.DEPLOY / "mosquitto/wall.conf").read_text(encoding="utf-8")
    inside = wall.partition("listener 1883\n")[2].partition("listener 8883\n")[0]
    room, clinics, downlinks = 1_024, 200, 12
    assert f"max_connections {room}\n" in inside
    assert 4 * clinics + downlinks <= room


def test_the_mounted_configuration_files_are_those_of_the_native_servers(services: Mapping[str, Any]) -> None:
    volumes = [volume for service in services.values() for volume in service.get("volumes", [])]
    mounted = {volume.split(":")[0].removeprefix("./deploy/") for volume in volumes if volume.startswith("./deploy/")}
    logging = "kafka/log4j2.properties"
    assert mounted == {"mosquitto/wall.conf", "kafka/server.properties", logging}
    assert mounted - {logging} <= shipped.REPLACED.keys()  # read by native.py with these keys replaced, see below
    assert f"-Dlog4j2.configurationFile={shipped.DEPLOY / logging}" in native.JVM


def test_only_addresses_data_directories_and_a_killed_brokers_session_are_declared_as_replaced() -> None:
    declared = {name: set(keys) for name, keys in shipped.REPLACED.items()}
    declared["kafka/server.properties"] -= SESSION_OF_A_KILLED_BROKER
    declared["mosquitto/wall.conf"] = {key.partition(" ")[0] for key in declared["mosquitto/wall.conf"]}
    assert declared == ADDRESSES_AND_DATA


@pytest.mark.parametrize(
    ("name", "text", "read", "replaced"),
    [
        (
            "mosquitto/mosquitto.conf",
            native.mosquitto_conf(20_000, FOLDER),
            line_settings,
            ADDRESSES_AND_DATA["mosquitto/mosquitto.conf"],
        ),
        (
            "mosquitto/wall.conf",
            native.wall_conf(20_000, 20_001, FOLDER),
            line_settings,
            ADDRESSES_AND_DATA["mosquitto/wall.conf"],
        ),
        (
            "kafka/server.properties",
            native.kafka_properties(20_000, 20_001, FOLDER),
            line_settings,
            ADDRESSES_AND_DATA["kafka/server.properties"],
        ),
        (
            "kafka/server.properties",
            native.kafka_properties(20_000, 20_001, FOLDER, session_timeout_ms=2_000),
            line_settings,
            ADDRESSES_AND_DATA["kafka/server.properties"] | SESSION_OF_A_KILLED_BROKER,
        ),
        (
            "influxdb/influxdb.conf",
            native.influxdb_conf(20_000, 20_001, FOLDER),
            toml_settings,
            ADDRESSES_AND_DATA["influxdb/influxdb.conf"],
        ),
    ],
    ids=["mosquitto", "mosquitto's wall", "kafka", "kafka in a kill test", "influxdb"],
)
def test_a_native_server_differs_from_the_shipped_one_in_nothing_else(
    name: str, text: str, read: Callable[[str], set[tuple[str, str]]], replaced: set[str]
) -> None:
    shipped_settings = read((shipped.DEPLOY / name).read_text(encoding="utf-8"))
    assert {key for key, _ in shipped_settings ^ read(text)} == replaced
    assert len(shipped_settings) == len(read(text))


def test_another_key_must_stay_as_shipped() -> None:
    with pytest.raises(ValueError, match=r"mosquitto\.conf: \['max_queued_messages'\] must stay as shipped"):
        shipped.configuration("mosquitto/mosquitto.conf", {"max_queued_messages": "1"})


@pytest.mark.parametrize("text", ["allow_anonymous true\n", "listener 1883\nlistener 1884\n"])
def test_a_key_that_is_not_there_exactly_once_is_not_replaced(text: str) -> None:
    with pytest.raises(ValueError, match="to replace"):
        shipped.replace(text, {"listener": "20000"})
