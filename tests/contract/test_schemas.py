"""Contracts: what is published is what the code does. Schemas against the decoder, the document against AsyncAPI."""

import copy
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from adaptors import downlink, history
from ingest import bridge
from ingest.arrival import MQTT_TOPIC, to_dead_letter, to_record
from loadtest import machine, programme
from spineloop import contracts
from spineloop.contract_of_log import IN_LOG
from spineloop.contracts import PAGE, SCHEMAS, STREAMS
from spineloop.pages import DOCS, reasons
from spineloop.schemas import BEYOND, schema
from spineloop.specimens import SPECIMENS
from streams.core import boots, codec, topics
from streams.core.catalogue import METRICS, Level
from streams.core.codec import KINDS, type_name
from streams.core.controller import Controller
from streams.core.dead_letters import dead_letter, reason_of
from streams.core.errors import Malformed
from streams.core.measure import FLAGS_IN_ORDER, INVALID_IN_ORDER
from streams.core.outputs import to_records
from streams.core.planning import Planner
from streams.core.records import NewRecord, Record
from streams.core.topics import LOG_TOPICS, METRIC, PATIENT, RECORD_BYTES, TELEMETRY, MachineTopic, Stream, parse_mqtt
from tests.contract.messages import MACHINE, any_message

ROOT = Path(__file__).parents[2]
OFFICIAL = Draft7Validator(json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text(encoding="utf-8")))
TOPIC_OF: Mapping[str, Stream] = {name: stream for stream, names in STREAMS.items() for name in names}
ANY_TYPE = pytest.mark.parametrize("name", KINDS)
LAW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@cache
def validators(name: str) -> tuple[Draft202012Validator, Draft7Validator]:
    """Return what reads a schema as it says it is, and what reads it as AsyncAPI tools do."""
    published = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return Draft202012Validator(published), Draft7Validator(published)


def is_allowed(name: str, told: Any) -> bool:
    """Tell what a schema says, and that draft-07 says the same, unless it can't see the places of a tuple."""
    newer, older = validators(name)
    allowed = newer.is_valid(told)
    assert older.is_valid(told) == allowed or (not allowed and "prefixItems" in json.dumps(newer.schema))
    return allowed


def why_refused(name: str, payload: bytes) -> str | None:
    """Return why the decoder refuses a message of this type, None if it takes it."""
    try:
        read = decoded(name, payload)
    except Malformed as error:
        return error.reason
    return None if type_name(read) == name else "other_type"


def decoded(name: str, payload: bytes) -> Any:
    """Read a message where it belongs: on its machine's stream and then in the log, or on its topic of the log."""
    if TOPIC_OF.get(name, "command") != "command":
        codec.decode_up(MachineTopic(MACHINE, TOPIC_OF[name]), payload)
        return codec.decode_telemetry(MACHINE, payload)
    if name == "command":
        return codec.decode_command(payload)
    if name in IN_LOG[METRIC]:
        return codec.decode_metric(payload)
    return codec.decode_patient_fact(payload) if name in IN_LOG[PATIENT] else codec.decode_telemetry(MACHINE, payload)


def written(message: Any) -> Any:
    return json.loads(codec.encode(message, "json"))


# What stands in docs/


@pytest.mark.parametrize("path", contracts.files(), ids=lambda path: path.name)
def test_a_file_of_the_contract_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == contracts.files()[path], "run scripts/contracts"


def test_no_schema_is_left_of_a_message_that_is_gone() -> None:
    assert {path.stem for path in SCHEMAS.iterdir()} == set(KINDS) == set(SPECIMENS)


def test_writing_twice_gives_the_same_bytes() -> None:
    assert contracts.files() == contracts.files()


# Schemas and the decoder


@ANY_TYPE
def test_a_schema_is_a_schema_in_both_dialects(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    Draft7Validator.check_schema(schema(name))


@ANY_TYPE
def test_the_example_of_a_type_is_allowed_and_understood(name: str) -> None:
    (example,) = schema(name)["examples"]
    assert is_allowed(name, example)
    payload = json.dumps(example).encode().replace(b"acme/north/row-1", MACHINE.encode())
    assert why_refused(name, payload) is None


LEVELS: Mapping[str, Level] = {
    "rep_measured": "rep",
    "set_summarised": "set",
    "session_summarised": "session",
    "patient_assessed": "patient",
}


@pytest.mark.parametrize("name", LEVELS)
def test_the_example_of_a_result_has_metrics_and_reasons_of_the_catalogue(name: str) -> None:
    (example,) = schema(name)["examples"]
    known = {row.name: row for row in METRICS if row.level == LEVELS[name]}
    assert set(example["values"]) <= known.keys()
    for undefined, why in example["undefined"].items():
        assert why in reasons(known[undefined]), undefined


@ANY_TYPE
def test_every_message_that_can_be_written_is_allowed_and_understood(name: str) -> None:
    @LAW
    @given(message=any_message(name))
    def law(message: Any) -> None:
        assert is_allowed(name, written(message))
        assert decoded(name, codec.encode(message, "json")) == message
        assert decoded(name, codec.encode(message)) == message

    law()


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the way to every value of a message."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.sampled_from([-1, 0, 1, 2, 11]),
    st.floats(-1e15, 1e15).filter(lambda value: value != int(value)),  # 1.0 has a test of its own
    st.text(max_size=5),
    st.sampled_from(["", "YQ", "YQ==", "YWJj", "Not A Name", "x\ty", "a/b/c"]),
)
ODD = st.one_of(LEAVES, st.lists(LEAVES, max_size=5), st.dictionaries(st.text(max_size=3), LEAVES, max_size=2))


ONLY_ONE = {("command", ("type",)), ("plan_made", ("command", "type"))}
"""Where nothing but a command can stand, the decoder needs no `type` to know it; the schema asks for it anyway."""


@st.composite
def broken(draw: st.DrawFn, name: str) -> Any:
    """Take a message and put something else in one place, or nothing, or something unknown beside it."""
    told = written(draw(any_message(name)))
    at = [place for place in places(told) if (name, place) not in ONLY_ONE]
    *way, last = draw(st.sampled_from(at))
    parent = told
    for key in way:
        parent = parent[key]
    if draw(st.booleans()) or isinstance(parent, list):
        parent[last] = draw(ODD)
    elif draw(st.booleans()):
        del parent[last]
    else:
        parent["unheard_of"] = draw(ODD)
    return told


CHECKED_BEYOND = {"bad_samples", "foreign_machine", "foreign_patient"}


@ANY_TYPE
def test_schema_and_decoder_allow_and_refuse_the_same(name: str) -> None:
    @LAW
    @given(told=broken(name))
    def law(told: Any) -> None:
        reason = why_refused(name, json.dumps(told).encode())
        if reason not in CHECKED_BEYOND:
            assert is_allowed(name, told) == (reason is None), reason

    law()


def change(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda told: told.update(fields)


BROKEN: Mapping[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "a type that nobody knows": ("heartbeat", change(type="hartbeat"), "unknown_type"),
    "no type": ("rep", lambda told: told.pop("type"), "unknown_type"),
    "another version": ("rep", change(schema_version=2), "unknown_version"),
    "no seq": ("rep", lambda told: told.pop("seq"), "bad_value"),
    "a seq below zero": ("rep", change(seq=-1), "bad_value"),
    "a seq beyond 63 bits": ("rep", change(seq=2**63), "bad_value"),
    "a number as text": ("rep", change(load_N="300"), "bad_value"),
    "a load beyond all machines": ("set_started", change(load_N=50_001.0), "bad_value"),
    "a sample rate of nothing": ("rep", change(fs_hz=0.0), "bad_value"),
    "a scale of nothing": ("rep", change(position_scale=0.0), "bad_value"),
    "samples without padding": ("rep", change(force="uAvCC8wLuAs"), "bad_value"),
    "samples in the other alphabet": ("rep", change(force="uAvCC8wLu_s="), "bad_value"),
    "samples as numbers": ("rep", change(force=[3000, 3010]), "bad_value"),
    "three marks": ("rep", change(marks=[0, 1, 2]), "bad_value"),
    "a side that no body has": ("rep", change(side="middle"), "bad_value"),
    "a sign of two": ("rep", change(concentric_sign=2), "bad_value"),
    "a velocity without its scale": ("rep", change(velocity="uAvCC8wLuAs="), "bad_samples"),
    "a scale without its velocity": ("rep", change(velocity_scale=0.001), "bad_samples"),
    "a pain of eleven": ("symptom_reported", change(pain_nrs=11), "bad_value"),
    "a pain of one and a half": ("symptom_reported", change(pain_nrs=1.5), "bad_value"),
    "a patient's real name": ("session_started", change(patient="Jane Doe"), "bad_value"),
    "a patient without a tenant": ("session_started", change(patient="p-0042"), "bad_value"),
    "no capabilities": ("online", lambda told: told.pop("capabilities"), "bad_value"),
    "an empty command id": ("command_applied", change(command_id=""), "bad_value"),
    "an action that no machine knows": ("command", change(action="raise_load"), "bad_value"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_the_decoder_refuses_the_schema_refuses(case: str) -> None:
    name, spoil, reason = BROKEN[case]
    told = written(SPECIMENS[name])
    assert is_allowed(name, told)
    spoil(told)
    assert why_refused(name, json.dumps(told).encode()) == reason
    assert not is_allowed(name, told)


SAID_BEYOND: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "a sample too few": change(force="uAvCC8wL"),
    "marks out of order": change(marks=[0, 2, 1, 3]),
    "marks beyond the end": change(marks=[0, 1, 2, 4]),
}


@pytest.mark.parametrize("case", SAID_BEYOND)
def test_what_a_schema_cannot_say_its_description_says(case: str) -> None:
    told = written(SPECIMENS["rep"])
    SAID_BEYOND[case](told)
    assert is_allowed("rep", told)
    assert why_refused("rep", json.dumps(told).encode()) == "bad_samples"
    assert "bad_samples" in BEYOND["rep"]
    assert BEYOND["rep"] in schema("rep")["description"]


def test_the_one_difference_is_a_whole_number_with_a_point_and_the_description_says_so() -> None:
    told = written(SPECIMENS["heartbeat"]) | {"seq": 17.0}
    assert is_allowed("heartbeat", told)
    assert why_refused("heartbeat", json.dumps(told).encode()) == "bad_value"
    assert "1.0" in schema("heartbeat")["description"]


@ANY_TYPE
def test_an_unknown_field_is_ignored(name: str) -> None:
    told = written(SPECIMENS[name]) | {"of_a_later_day": [1]}
    assert is_allowed(name, told)
    payload = json.dumps(told).encode().replace(b"acme/north/row-1", MACHINE.encode())
    assert why_refused(name, payload) is None


# The AsyncAPI document


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(PAGE.read_text(encoding="utf-8"))
    return document


def test_the_document_is_asyncapi(told: dict[str, Any]) -> None:
    assert [error.message for error in OFFICIAL.iter_errors(told)] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("asyncapi",), "2.6.0"),
        (("operations", "send.command", "action"), "shout"),
        (("operations", "hear.rep", "bindings", "mqtt", "qos"), 3),
        (("channels", "rep", "colour"), "blue"),
        (("channels", METRIC, "bindings", "kafka", "partitions"), 0),
    ],
)
def test_a_document_that_is_not_asyncapi_is_refused(told: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    spoilt = copy.deepcopy(told)
    parent = spoilt
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    assert not OFFICIAL.is_valid(spoilt)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from references(one)


def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    found = set(references(told))
    assert len(found) > 100
    for reference in found:
        path, _, pointer = reference.partition("#/")
        if path:
            assert (PAGE.parent / path).is_file()
        node = told
        for key in filter(None, pointer.split("/")):
            node = node[key]


def test_every_message_has_its_channels_and_every_topic_is_one(told: dict[str, Any]) -> None:
    by_channel = {name: set(channel["messages"]) for name, channel in told["channels"].items()}
    assert set().union(*by_channel.values()) - {"state", "letter"} == set(KINDS)
    assert set(by_channel) == set(STREAMS) | set(LOG_TOPICS)
    for stream in STREAMS:
        address = told["channels"][stream]["address"].format(tenant="acme", site="north", machine="m1")
        assert parse_mqtt(address) == MachineTopic(MACHINE, stream)


def test_a_machine_finds_the_port_that_a_clinics_broker_opens_and_what_it_asks_for(told: dict[str, Any]) -> None:
    wall = (ROOT / "deploy" / "mosquitto" / "wall.conf").read_text(encoding="utf-8")
    clinic = told["servers"]["clinic"]
    _, _, port = clinic["host"].partition(":")
    _, _, of_machines = wall.partition(f"\nlistener {port}\n")
    assert "certfile" in of_machines
    assert (clinic["protocol"], [one["$ref"] for one in clinic["security"]]) == (
        "secure-mqtt",
        ["#/components/securitySchemes/secret"],
    )
    for stream in STREAMS:
        assert {"$ref": "#/servers/clinic"} in told["channels"][stream]["servers"]


@pytest.mark.parametrize("name", [name for name in STREAMS if name != "command"])
def test_what_a_channel_of_machines_lists_is_what_the_decoder_takes_there(name: Stream) -> None:
    for kind, specimen in SPECIMENS.items():
        payload = codec.encode(specimen, "json").replace(b"acme/north/row-1", MACHINE.encode())
        try:
            taken = type_name(codec.decode_up(MachineTopic(MACHINE, name), payload)) == kind
        except Malformed:
            taken = False
        assert taken == (kind in STREAMS[name])


# What device makers are told

FOR_DEVICE_MAKERS = (DOCS / "for-device-makers.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`.*?`) \|", re.MULTILINE)


def listed(heading: str) -> set[str]:
    """Return what the first column of the tables under a heading names."""
    _, _, rest = FOR_DEVICE_MAKERS.partition(f"\n### {heading}\n")
    part = re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]
    return {name for row in ROW.findall(part) for name in re.findall(r"`(\w+)`", row)}


def test_every_reason_for_a_dead_letter_is_explained() -> None:
    sources = [inspect.getsource(module) for module in (codec, topics, bridge, boots)]
    raised = {name for source in sources for name in re.findall(r'Malformed\("(\w+)"', source)}
    told_by_decoder = set(re.findall(r'"(unknown_\w+|bad_value)"', inspect.getsource(codec)))
    assert listed("The message can't be understood") == raised | told_by_decoder
    assert len(raised | told_by_decoder) >= 10


def test_every_reason_of_a_repetition_is_explained() -> None:
    told = listed("The repetition does not count")
    assert told - {"load_N", "concentric_sign"} == {*INVALID_IN_ORDER, *FLAGS_IN_ORDER}


def test_every_reason_of_the_simulated_machine_is_listed() -> None:
    sources = [inspect.getsource(module) for module in (machine, programme)]
    given = set(re.findall(r'(?:reason = .*|return )"(\w+)"$', "".join(sources), re.MULTILINE))
    _, _, rest = FOR_DEVICE_MAKERS.partition("its reasons are\n")
    told = set(re.findall(r"`(\w+)`", rest.partition(".\n")[0])) - {"prescribe"}
    assert {"not_kept", "declined"} <= given
    assert told == {*programme.REFUSALS, *given} - {"expired"}


def test_every_notice_that_is_explained_exists() -> None:
    core = "".join(path.read_text(encoding="utf-8") for path in Path(codec.__file__).parent.glob("*.py"))
    names = listed("Notices") - {"notice"}
    assert len(names) >= 7
    assert [name for name in names if f'"{name}"' not in core] == []


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_put_aside_whole_by_the_bridge_and_by_a_stage(version: int) -> None:
    payload = json.dumps(written(SPECIMENS["heartbeat"]) | {"schema_version": version}).encode()
    message = Message(f"spineloop/v1/{MACHINE}/event", payload)
    with pytest.raises(Malformed) as refused:
        to_record(MachineTopic(MACHINE, "event"), message, 5)
    letter = to_dead_letter(message, refused.value, 5)
    assert (letter.value, reason_of(letter)) == (payload, "unknown_version")
    shown = headers(letter)["__connect.errors.exception.message"]
    assert f"__connect.errors.exception.message: {shown}".replace(f" {version} ", " 2 ") in FOR_DEVICE_MAKERS
    (in_log,) = Controller().prepare([Record(TELEMETRY, 0, 0, MACHINE.encode(), payload, 5)])
    assert isinstance(in_log, Malformed)
    assert in_log.reason == "unknown_version"


# Headers of records


class Message(msgspec.Struct, frozen=True):
    """A message as the bridge gets it."""

    topic: str
    payload: bytes
    user_properties: tuple[tuple[str, str], ...] = ()


def headers(record: NewRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def headers_allowed(name: str, topic: str, document: dict[str, Any]) -> list[Draft7Validator]:
    message = document["components"]["messages"][f"{topic}.{name}"]
    trait = document["components"]["messageTraits"][topic]
    return [Draft7Validator(message["headers"]), Draft7Validator(trait["headers"])]


@pytest.mark.parametrize("name", [*IN_LOG[METRIC], *IN_LOG[PATIENT], "command", "plan_made"])
def test_what_a_stage_writes_has_the_headers_that_are_published(name: str, told: dict[str, Any]) -> None:
    for record in to_records(SPECIMENS[name], 5):  # type: ignore[arg-type]  # every output, one by one
        for validator in headers_allowed(name, record.topic, told):
            validator.validate(headers(record))
        assert name in IN_LOG[record.topic]


@pytest.mark.parametrize("name", ["rep", "heartbeat", "online", "command_applied"])
def test_what_the_bridge_writes_has_the_headers_that_are_published(name: str, told: dict[str, Any]) -> None:
    topic = MachineTopic(MACHINE, TOPIC_OF[name])
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = Message("", codec.encode(SPECIMENS[name], "json"), (("traceparent", trace),))
    record = to_record(topic, message, 5)
    assert headers(record)["traceparent"] == trace
    for validator in headers_allowed(name, record.topic, told):
        validator.validate(headers(record))
        assert not validator.is_valid(headers(record) | {"ce_type": "com.example.other"})


def test_a_dead_letter_has_the_headers_that_are_published(told: dict[str, Any]) -> None:
    published = told["components"]["messages"]["spineloop.dead-letter.v1.letter"]["headers"]
    validator, known = Draft7Validator(published), set(published["properties"])
    from_ingest = to_dead_letter(Message("spineloop/v1/A/b/c/rep", b"?"), Malformed("bad_topic", "no"), 5)
    from_stage = dead_letter(Record("t", 1, 2, b"k", b"?", 5), stage="control", reason="r", detail="d", trace="at")
    cut = dead_letter(Record("t", 1, 2, b"k", bytes(RECORD_BYTES), 5), stage="control", reason="r", detail="d")
    for letter in (from_ingest, from_stage, cut):
        validator.validate(headers(letter))
    assert headers(from_ingest).keys() | headers(from_stage).keys() | headers(cut).keys() == known
    assert MQTT_TOPIC in headers(from_ingest)


def test_the_stages_that_are_published_are_those_that_stand_in_dead_letters(told: dict[str, Any]) -> None:
    published = told["components"]["messages"]["spineloop.dead-letter.v1.letter"]["headers"]["properties"]
    from_ingest = headers(to_dead_letter(Message("spineloop/v1/A/b/c/rep", b"?"), Malformed("bad_topic", "no"), 5))
    stages = (from_ingest["__connect.errors.stage"], Controller.name, Planner.name, history.STAGE, downlink.STAGE)
    assert published["__connect.errors.stage"]["description"].endswith(f": {', '.join(stages)}.")
