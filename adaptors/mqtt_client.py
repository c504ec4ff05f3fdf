"""Client: who connects to which broker, and what the broker says and keeps for it when it is away."""

import asyncio
import ssl
from urllib.parse import urlsplit

import mqtt5
import msgspec

from adaptors.mqtt_connection import Connection
from adaptors.mqtt_inbox import Inbox
from adaptors.mqtt_link import MAX_PACKET_BYTES, ConnectionLost

CONNACK_LIMIT_S = 10.0
"""Longest wait for the connection and the broker's answer to CONNECT."""

_NOT_IN_CLIENT_IDS = frozenset("/+#$")
"""iotcore 0.4 refuses them, and at the second try from such a client it refuses everybody until it is restarted."""

_PORTS = {"mqtt": 1_883, "mqtts": 8_883}


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes for us, retained and with QoS 1, when we vanish without a goodbye."""

    topic: str
    payload: bytes


async def connect(
    url: str,
    *,
    client_id: str,
    keep_alive_s: int = 30,
    session_expiry_s: int = 0,
    receive_maximum: int = 1_000,
    will: Will | None = None,
    username: str | None = None,
    password: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Connection:
    """Connect to a broker and resume the session of `client_id`, if it has one.

    Parameters
    ----------
    url : str
        `mqtt://host:port`, or `mqtts://host:port` for TLS with the system's authorities.
    client_id : str
        Whose session it is, without `/`, `+`, `#` or `$`. A second connection with the same id ends the first.
    keep_alive_s : int
        Longest silence in s before either side gives the other up, at least 1; the broker may ask for less.
    session_expiry_s : int
        How long the broker keeps subscriptions and messages while we are away, in s.
    receive_maximum : int
        Messages that the broker may send before the first ack; reading pauses at twice as many.
    will : Will, optional
        What the broker says when we vanish.
    username, password : str, bytes, optional
        Credentials.
    tls : ssl.SSLContext, optional
        For another authority, or a certificate of our own.

    Raises
    ------
    ConnectionLost
        The broker is away, or does not answer in 10 s.
    Busy
        It has no room for us now.
    Refused
        It does not let us in.
    """
    if keep_alive_s < 1 or _NOT_IN_CLIENT_IDS.intersection(client_id):
        raise ValueError(f"not a client id, or not a keep-alive of at least 1 s: {client_id!r}, {keep_alive_s}")
    scheme, host, port = address(url)
    packet = mqtt5.ConnectPacket(
        client_id,
        clean_start=False,  # iotcore keeps a session only if already the first connect asked to resume it
        keep_alive=keep_alive_s,
        session_expiry_interval=session_expiry_s,
        receive_max=receive_maximum,
        max_packet_size=MAX_PACKET_BYTES,
        will=None
        if will is None
        else mqtt5.Will(will.topic, payload=will.payload, qos=mqtt5.QoS.AT_LEAST_ONCE, retain=True),
        username=username,
        password=password,
    )
    if scheme == "mqtts":
        tls = tls or ssl.create_default_context()
    elif tls is not None:
        raise ValueError(f"{url}: an authority is named, so TLS is wanted, and this is not mqtts://")
    connection = Connection(Inbox(2 * receive_maximum))
    try:
        async with asyncio.timeout(CONNACK_LIMIT_S):
            await connection.open(host, port, packet, tls)
    except OSError as error:  # TimeoutError is one, and says nothing
        raise ConnectionLost(f"{host}:{port}: {str(error) or 'no answer'}") from error
    return connection


def trusting(ca_file: str) -> ssl.SSLContext:
    """Trust the authorities of a file and no others; names are checked, and TLS is 1.2 at least. Raises OSError."""
    tls = ssl.create_default_context(cafile=ca_file)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    return tls


def address(url: str) -> tuple[str, str, int]:
    """Take a broker's URL apart: scheme, host, port. Raises ValueError.

    Examples
    --------
    >>> address("mqtt://127.0.0.1:20001"), address("mqtts://broker.clinic.example")
    (('mqtt', '127.0.0.1', 20001), ('mqtts', 'broker.clinic.example', 8883))
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or parts.hostname is None:
        raise ValueError(f"not mqtt://host:port or mqtts://host:port: {url}")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
