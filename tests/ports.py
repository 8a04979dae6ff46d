"""Ports for servers that tests start a while after they have chosen the port."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket

# Below those that systems hand out: nobody who asks for any port gets one of these meanwhile. And
# to each process that runs tests at the same time, others.
_FIRST, _EACH = 15_000, 2_000
_WORKER = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % 8
_turn = itertools.count(random.SystemRandom().randrange(_EACH))


def free_port() -> int:
    """Return a port of this machine that is free, and stays so until it is used."""
    for _ in range(_EACH):
        port = _FIRST + _WORKER * _EACH + next(_turn) % _EACH
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise RuntimeError("there is no free port")
