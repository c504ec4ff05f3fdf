"""Broker process: what the embedded broker's child runs. A file of its own because it imports nothing of ours.

python broker_process.py CONFIGURATION
"""

import logging
import os
import sys
import threading

from iotcore import Broker


def serve(configuration: str) -> None:
    """Be the broker until the parent's end of our standard input closes, which it does however the parent ends."""
    # rumqttd tells Python's logging about every packet, as an error
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    Broker(config_path=configuration).run_forever()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # the broker's own threads can't be asked to end


if __name__ == "__main__":
    serve(sys.argv[1])
