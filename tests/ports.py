"""Ports for servers that tests start a while after they have chosen the port."""

from __future__ import annotations

import random
import socket

# Below those that systems hand out: nobody who asks for any port gets one of these meanwhile.
_FIRST, _LAST = 15_000, 32_000


def free_port() -> int:
    """Return a port of this machine that is free, and very likely stays so until it is used."""
    choose = random.SystemRandom()
    while True:
        port = choose.randrange(_FIRST, _LAST)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
