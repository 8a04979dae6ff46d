"""A drawing pad that runs, and pictures to give it."""

from __future__ import annotations

import io
import socket
import threading

import numpy as np
from PIL import Image

from firstcnn import strokes
from firstcnn.app import server


def png(picture: np.ndarray) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def drawn(digit: int, *, side: int = 280, seed: int | None = None) -> bytes:
    """Return a digit as the pad sends it: thick black lines on white."""
    size, width = 0.65 * side, side / 16
    return png(strokes.draw(digit, side=side, size=size, width=width, seed=seed))


class RunningPad:
    """A server in a thread of its own, on a free port; use it in a ``with`` statement.

    Parameters
    ----------
    predict : callable
        As `firstcnn.app.server.application` takes it.
    port : int, optional
        By default one that is free.
    hosts : tuple of str, optional
        The names by which it may be addressed.

    Attributes
    ----------
    port : int
    url : str
        ``http://127.0.0.1:PORT``.
    """

    def __init__(self, predict, port: int = 0, hosts: tuple[str, ...] = ("127.0.0.1",)):
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._started = threading.Event()
        app = server.application(predict, "test.keras", hosts=hosts)
        self._server = server._Server(app, self._started.set)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(300)
        return self

    def __exit__(self, *problem):
        self._server.should_exit = True
        self._thread.join(300)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        """Return a connection to write whatever comes to mind."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=300)
