"""The shipped configuration: the files of `deploy/`, of which a native server may change a few declared keys only.

What is tested is what is shipped. So a native server reads the file that docker compose mounts, and `REPLACED` is the
whole list of what it may put in its place: addresses, ports, data directories, and how fast a killed Kafka broker is
let in again.
"""

import re
from collections.abc import Mapping
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"

REPLACED: Mapping[str, frozenset[str]] = {
    "mosquitto/mosquitto.conf": frozenset({"listener", "persistence_location"}),
    "mosquitto/wall.conf": frozenset(
        {"listener 1883", "listener 8883", "persistence_location", "password_file", "acl_file", "certfile", "keyfile"}
    ),
    "kafka/server.properties": frozenset(
        {
            "listeners",
            "advertised.listeners",
            "controller.quorum.voters",
            "log.dirs",
            "broker.session.timeout.ms",
            "broker.heartbeat.interval.ms",
        }
    ),
    "influxdb/influxdb.conf": frozenset(
        {"bind-address", "http.bind-address", "meta.dir", "data.dir", "data.wal-dir"},
    ),
    "iotcore/rumqttd.toml": frozenset({"v5.1.listen"}),
}

_SECTION = re.compile(r"\s*\[(?P<name>[^\[\]]+)\]\s*(#.*)?")
_SETTING = re.compile(r"(?P<head>\s*(?P<key>[\w.-]+)(\s*=\s*|\s+))(?P<value>.*)")


def configuration(name: str, values: Mapping[str, str]) -> str:
    """Read a file of `deploy/` and replace declared keys.

    Parameters
    ----------
    name : str
        The file below `deploy/`, a key of `REPLACED`.
    values : mapping
        New values as they are to stand in the file, quotes included; a key in a TOML section is `section.key`.

    Raises
    ------
    ValueError
        A key is not declared in `REPLACED`, or is not in the file exactly once.
    """
    if undeclared := values.keys() - REPLACED[name]:
        raise ValueError(f"{name}: {sorted(undeclared)} must stay as shipped")
    return replace((DEPLOY / name).read_text(encoding="utf-8"), values)


def replace(text: str, values: Mapping[str, str]) -> str:
    r"""Replace values in a text of lines `key value` or `key = value`, sections in brackets, and keep the other lines.

    A key that is there more than once is named with its value: `listener 8883`.

    Raises
    ------
    ValueError
        A key is not in the text exactly once: replacing nothing, or half, would start a server we did not ask for.

    Examples
    --------
    >>> replace("listener 1883\nallow_anonymous true\n", {"listener": "20001 127.0.0.1"})
    'listener 20001 127.0.0.1\nallow_anonymous true\n'
    >>> replace("listener 1883\nlistener 8883\n", {"listener 8883": "20003"})
    'listener 1883\nlistener 20003\n'
    >>> replace('[http]\nbind-address = ":8086"\n', {"http.bind-address": '"127.0.0.1:20002"'})
    '[http]\nbind-address = "127.0.0.1:20002"\n'
    """
    section, lines, replaced = "", [], []
    for line in text.splitlines():
        if heading := _SECTION.fullmatch(line):
            section = heading["name"] + "."
        setting = _SETTING.fullmatch(line)
        key = section + setting["key"] if setting else ""
        key = line if line in values else key  # of a key that is there twice: this one
        if setting and key in values:
            replaced.append(key)
            lines.append(setting["head"] + values[key])
        else:
            lines.append(line)
    if sorted(replaced) != sorted(values):
        raise ValueError(f"to replace: {sorted(values)}, in the file: {sorted(replaced)}")
    return "\n".join(lines) + "\n"
