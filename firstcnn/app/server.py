"""The drawing pad as a page: a small server for one computer, or for a class.

Nothing of a drawing is stored or logged. What comes in is bounded in size, in time and in
how much of it is held at once, since anyone who reaches the page may send anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import ipaddress
import socket
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from firstcnn import handwriting, reader
from firstcnn.app import AppError, reading

__all__ = ["application", "run"]

PORT = 8000
"""Where the page is when no port is asked for; the next free one if it is taken."""

MAX_BYTES = 16_000_000
"""A larger file is refused while it comes in."""

SMALL = 200_000
"""A drawing is far below this; of larger bodies only `MAX_LARGE` are held at once."""

MAX_LARGE = 6

BODY_SECONDS = 20.0
"""A body that has not come by then is given up."""

THREADS = 2
"""How many pictures are read at once: one more than a class needs, so that none waits long."""

MAX_CONNECTIONS = 400

STATIC = Path(__file__).parent / "static"

_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; "
     b"frame-ancestors 'none'"),
    (b"cache-control", b"no-cache"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]  # fmt: skip


def application(predict: Callable, name: str = "", *, hosts: tuple[str, ...] = ("*",)) -> Starlette:
    """Make the ASGI application: the page, its files, and ``POST /read``.

    Parameters
    ----------
    predict : callable
        Maps float32 (1, 28, 28, 1) to (1, 10); see :func:`firstcnn.app.reading.predictor`.
    name : str, optional
        What the page calls the network.
    hosts : tuple of str, optional
        The names by which the server may be addressed. For a server on this computer name
        them: else any web site could read from it, under a name of its own that resolves
        to 127.0.0.1.

    Returns
    -------
    starlette.applications.Starlette
    """

    async def page(request: Request):
        return FileResponse(STATIC / "index.html")

    async def health(request: Request):
        return JSONResponse({"status": "ok", "network": name})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/health", health),
            Route("/read", _Reader(predict).answer, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )


class _Reader:
    """Take pictures in and answer them, as many at once as memory and cores allow."""

    def __init__(self, predict: Callable):
        self._predict = predict
        self._large = asyncio.Semaphore(MAX_LARGE)
        self._threads = anyio.CapacityLimiter(THREADS)

    async def answer(self, request: Request) -> JSONResponse:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A web site elsewhere can make a browser send forms and text here, but no other type.
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(
                415,
                "Send the picture file itself as the body, and its type as Content-Type, "
                "such as image/png.",
            )
        async with contextlib.AsyncExitStack() as held:
            picture = io.BytesIO(await self._body(request, held))
            try:
                answer = await anyio.to_thread.run_sync(
                    partial(reading.read, picture, self._predict), limiter=self._threads
                )
            except handwriting.PictureError as error:
                raise HTTPException(400, str(error)) from None
        return JSONResponse(answer)

    async def _body(self, request: Request, held: contextlib.AsyncExitStack) -> bytearray:
        """Take the body in, whatever its Content-Length says."""
        body, is_large = bytearray(), False
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise HTTPException(
                            413,
                            f"The file is larger than {MAX_BYTES // 10**6} MB: "
                            "make the picture smaller and try again.",
                        )
                    if len(body) > SMALL and not is_large:
                        is_large = True
                        await held.enter_async_context(self._large)
        except TimeoutError:
            raise HTTPException(
                408,
                f"The picture did not arrive within {BODY_SECONDS:.0f} seconds: try again.",
                {"connection": "close"},
            ) from None
        except ClientDisconnect:
            raise HTTPException(400, "The picture broke off.") from None
        return body


class _Headers:
    """Send what browsers need to know to every answer: all comes from here, and stays here."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_more(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self.app(scope, receive, send_more)


async def _refuse(request: Request, problem: HTTPException) -> JSONResponse:
    return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)


async def _fail(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(
        {"error": "Something went wrong while reading. The server goes on: try another picture."},
        500,
    )


# ---- from the command line ------------------------------------------------------------------


def run(
    model: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    open_browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the pad until Ctrl-C.

    Parameters
    ----------
    model : pathlib.Path, optional
        A network that ``model.save("NAME.keras")`` wrote; by default the course's own.
    host : str, default "127.0.0.1"
        The address to listen on; ``"0.0.0.0"`` for everyone on the network.
    port : int, optional
        By default `PORT`, or the next one that is free.
    open_browser : bool, default True
        Open the page in the browser.
    say : callable, optional
        Is given each line for the terminal.

    Raises
    ------
    AppError
        If there is no such model, if it is not one for pictures of digits, or if the address
        or the port cannot be used.
    """
    if model is not None and not model.is_file():
        raise AppError(f"There is no file {str(model)!r}: model.save('NAME.keras') writes one.")
    with contextlib.suppress(KeyboardInterrupt), _listen(host, port) as listener:
        predict = reading.predictor(_load(model))
        name = "the course's own" if model is None else model.name
        address = _address(listener)

        def tell():
            say(f"The drawing pad is at {address} (network: {name}). Ctrl-C stops it.")
            if open_browser:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        app = application(predict, name, hosts=_hosts(listener))
        _Server(app, on_start=tell).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn, set so that it logs no drawing, and calling back once it handles Ctrl-C."""

    def __init__(self, app: Starlette, on_start: Callable[[], None]):
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=2,
            )
        )
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._on_start()


def _load(path: Path | None):
    try:
        return reader.load(path)
    except reader.ModelError as error:
        raise AppError(str(error)) from None


def _listen(host: str, port: int | None) -> socket.socket:
    """Take the port, so that a second server cannot take it while the network is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(PORT, PORT + 50) if port is None else [port]:
        try:
            listener = socket.create_server((host, candidate), family=family)
        except OSError as error:
            problem = error
            if error.errno != errno.EADDRINUSE:
                break
        else:
            # An answer goes out in two parts; else the second waits 40 ms for the first's receipt.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener
    if problem.errno == errno.EADDRINUSE:
        raise AppError(f"Port {candidate} is taken. Try another: --port {candidate + 1}")
    reason = problem.strerror.partition(" (")[0]  # the rest is the address again
    raise AppError(f"The server cannot listen on {host}, port {candidate}: {reason}.")


def _hosts(listener: socket.socket) -> tuple[str, ...]:
    """Return the names by which a server that listens there may be addressed."""
    return ("127.0.0.1", "localhost", "[::1]") if _bound(listener).is_loopback else ("*",)


def _address(listener: socket.socket) -> str:
    """Return the page's address, as others on the network need it if they may come."""
    bound, port = _bound(listener), listener.getsockname()[1]
    host = f"[{bound}]" if bound.version == 6 else str(bound)
    return f"http://{socket.gethostname() if bound.is_unspecified else host}:{port}/"


def _bound(listener: socket.socket) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(listener.getsockname()[0])
