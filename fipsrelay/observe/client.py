"""What the running relay says of itself, asked on the first port of its configuration.

Loads no OpenSSL, as ``http.client`` would: some of those who ask have yet to pass the gate.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from fipsrelay.config.model import Config

_TIMEOUT = 10.0
_LARGEST = 16 * 1024 * 1024


def ask(config: Config, path: str) -> dict[str, Any] | None:
    """A document of the running relay, or None when nobody listens on its first port.

    Args:
        config: says where that is.
        path: ``/status`` or ``/evidence.json``.

    Raises:
        OSError: it does not answer.
        ValueError: it answers something else.
    """
    host, port = config.listen.addresses[0], config.listen.port_range_start
    # What listens on every address is asked on this host's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        connection = socket.create_connection((host, port), _TIMEOUT)
    except ConnectionRefusedError:
        return None
    with connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while len(answer) <= _LARGEST and (data := connection.recv(1 << 16)):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0] or b"application/json" not in head:
        raise ValueError(f"what listens on {host} port {port} is no relay that has {path}")
    document = json.loads(body)
    if not isinstance(document, dict) or document.get("program", {}).get("name") != "fipsrelay":
        raise ValueError(f"what listens on {host} port {port} is no fipsrelay")
    return document
