"""A machine in forty-seven lines and its imports: one repetition, and an answer to every command.

    spineloop serve --data ./data &
    python examples/machine.py localhost 1883 acme/north/row-1

It has no motor: it stops when it is told to, and refuses everything else. docs/for-device-makers.md has every duty.
"""

import itertools
import json
import math
import os
import struct
import sys
import time
from base64 import b64encode
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

HOST, PORT, MACHINE, SECONDS = sys.argv[1], int(sys.argv[2]), sys.argv[3], float([*sys.argv, "30"][4])
TOPIC, BOOT, SESSION = f"spineloop/v1/{MACHINE}/", f"boot-{time.time_ns()}", f"s-{time.time_ns()}"
seqs, answers, connected, commands = itertools.count(), dict[str, Any](), Event(), SimpleQueue[Any]()
CAN = {"model": "row-1", "exercise": "seated_row", "position_unit": "m", "load_min_N": 20.0, "load_max_N": 1500.0,
       "load_step_N": 5.0, "travel_lo": 0.0, "travel_hi": 0.75}  # fmt: skip

# Counts of 0.1 mm and 0.1 N at 100 Hz: rest, one second up, one second down, rest. Real ones come from the sensors.
position = [0] * 60 + [round(2_000 - 2_000 * math.cos(math.pi * n / 100)) for n in range(200)] + [0] * 60
force = [3_000] * len(position)


def say(stream: str, type_: str, **told: Any) -> None:  # noqa: ANN401 - any JSON value
    """Say something in order, and return when the broker has it; until then it is kept, and sent again."""
    told = {"type": type_, "boot_id": BOOT, "seq": next(seqs), "t_us": time.monotonic_ns() // 1_000, **told}
    client.publish(TOPIC + stream, json.dumps(told), qos=1).wait_for_publish(60.0)


def packed(counts: list[int]) -> str:
    """Write samples as little-endian int16 in base64."""
    return b64encode(struct.pack(f"<{len(counts)}h", *counts)).decode()


def answer(command: dict[str, Any]) -> None:
    """Act on a command once; one that comes again gets the answer that it got before."""
    stop = "command_applied", {"load_N": CAN["load_min_N"]}  # ramp down first, then say so
    no = "command_rejected", {"reason": "not_kept" if command["action"] == "resend" else "not_supported"}
    type_, told = answers.setdefault(command["command_id"], stop if command["action"] == "stop" else no)
    say("ack", type_, command_id=command["command_id"], **told)


def greet(client: mqtt.Client, *_: object) -> None:
    """Say on every connection who is there, and listen."""
    client.subscribe(TOPIC + "command", qos=1)
    client.publish(presence, json.dumps({"type": "online", "boot_id": BOOT, "capabilities": CAN}), qos=1, retain=True)
    connected.set()


presence, offline = TOPIC + "presence", json.dumps({"type": "offline", "boot_id": BOOT})
client = mqtt.Client(CallbackAPIVersion.VERSION2, MACHINE.replace("/", "."), protocol=mqtt.MQTTv5)
if "MQTT_PASSWORD" in os.environ:  # a broker that asks who one is: the user name is the machine, and TLS goes with it
    client.username_pw_set(MACHINE, os.environ["MQTT_PASSWORD"])
    client.tls_set(os.environ["MQTT_CA_FILE"])
client.will_set(presence, offline, qos=1, retain=True)  # what the broker says for us when we vanish
client.on_connect, client.on_message = greet, lambda *heard: commands.put(json.loads(heard[2].payload))
client.connect(HOST, PORT, keepalive=30, clean_start=False)
client.loop_start()
connected.wait(60.0)

of_set = {"session": SESSION, "set_number": 1}
of_both = {"exercise": CAN["exercise"], "settings": "seat4", "intent": "max"}
say("event", "session_started", session=SESSION, patient=f"{MACHINE.split('/')[0]}/p-1", **of_both)
say("event", "set_started", **of_set, load_N=300.0)
say("rep", "rep", **of_set, **of_both, rep_number=1, load_N=300.0, fs_hz=100.0, samples=len(position),
    force=packed(force), force_scale_N=0.1, position=packed(position), position_scale=1e-4)  # fmt: skip
say("event", "set_ended", **of_set, reps_done=1)
until = time.monotonic() + SECONDS
while time.monotonic() < until:
    try:
        answer(commands.get(timeout=min(5.0, SECONDS)))
    except Empty:
        say("event", "heartbeat")
say("event", "session_ended", session=SESSION)
client.publish(presence, offline, qos=1, retain=True).wait_for_publish(60.0)
client.disconnect()
client.loop_stop()  # or the goodbye stays here, and the broker says the will
