"""The drawing pad: its server under friendly and hostile clients, its command, its widget."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest
from drawing_pad import RunningPad, drawn, png
from keras import layers
from PIL import Image

from firstcnn import app, handwriting, reader, strokes
from firstcnn.app import reading, server, widget

STATIC = Path(server.STATIC)
FIRSTCNN = Path(sys.executable).with_name("firstcnn")
PNG = {"Content-Type": "image/png"}
PATIENCE = 300  # seconds; only what hangs takes so long


@pytest.fixture(scope="module")
def network():
    return reader.load()


@pytest.fixture(scope="module")
def predict(network):
    return reading.predictor(network)


@pytest.fixture(scope="module")
def running(predict):
    with RunningPad(predict) as running:
        yield running


@pytest.fixture
def client(running):
    """Return a client of the server, which still reads a 3 when the test is over."""
    with httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        yield client
        assert client.post("/read", content=drawn(3), headers=PNG).json()["digit"] == 3


def ask(url: str, picture: bytes, kind: str = "image/png") -> httpx.Response:
    return httpx.post(
        f"{url}/read", content=picture, headers={"Content-Type": kind}, timeout=PATIENCE
    )


# ---- the page -------------------------------------------------------------------------------


def test_page_and_its_files(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    files = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(files) == 4
    for file in [*files, "static/pad.js"]:
        answer = client.get(f"/{file}")
        assert answer.status_code == 200
        assert re.match("text/(css|javascript)|image/svg", answer.headers["content-type"])


def test_nothing_comes_from_elsewhere():
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "//" not in re.sub(r"(^|\s)// ", "", text, flags=re.MULTILINE), path.name
        assert "@import" not in text


def test_health_names_the_network(client):
    assert client.get("/health").json() == {"status": "ok", "network": "test.keras"}


@pytest.mark.parametrize("path", ["/", "/health", "/static/pad.js", "/read", "/none"])
def test_browsers_are_told_that_all_comes_from_here(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers
    assert "access-control-allow-origin" not in headers


# ---- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("digit", range(10))
def test_a_drawn_digit(client, digit):
    picture = drawn(digit)
    answer = client.post("/read", content=picture, headers=PNG).json()
    assert answer["digit"] == digit
    assert len(answer["probabilities"]) == 10
    assert sum(answer["probabilities"]) == pytest.approx(1)
    assert np.argmax(answer["probabilities"]) == digit
    assert answer["sure"] == (max(answer["probabilities"]) >= handwriting.SURE)
    assert str(digit) in answer["statement"]
    seen = np.array(answer["image"]) / 255
    assert np.abs(seen - handwriting.prepare(io.BytesIO(picture))).max() < 0.003
    assert answer["milliseconds"] > 0


def test_it_says_what_it_is_unsure_of(client):
    noise = reading.predictor(answering([0, 0, 0, 0.5, 0, 0.45, 0, 0.05, 0, 0]))
    with RunningPad(noise) as unsure:
        answer = ask(unsure.url, drawn(3)).json()
    assert answer["sure"] is False
    assert re.search(r"perhaps a 3 .*perhaps a 5", answer["statement"])


def answering(values: list[float]) -> keras.Model:
    """Return a model that gives the same answer to every picture."""
    numbers = keras.layers.Dense(10, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), numbers])
    numbers.bias.assign(values)
    return model


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (png(np.full((280, 280), 255, np.uint8)), "blank"),
        (png(np.hstack([strokes.draw(2, size=180), strokes.draw(7, size=180)])), "more than one"),
    ],
    ids=["blank", "two digits"],
)
def test_no_digit_is_no_error(client, picture, message):
    answer = client.post("/read", content=picture, headers=PNG)
    assert answer.status_code == 200
    assert answer.json()["digit"] is None
    assert message in answer.json()["statement"]


def test_an_animation_is_read_by_its_first_frame(client):
    first, *others = (Image.fromarray(strokes.draw(digit, size=180, width=18)) for digit in (4, 7))
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=50 * others)
    answer = client.post("/read", content=file.getvalue(), headers={"Content-Type": "image/webp"})
    assert answer.json()["digit"] == 4


# ---- what is not a picture of a digit -------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that unpacks to `side` x `side` pixels."""
    packer, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def icon_bomb(side: int) -> bytes:
    inner = png_bomb(side)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner


def file(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


HOSTILE = {
    "empty": lambda: b"",
    "text": lambda: b"seven",
    "PNG, truncated": lambda: drawn(3)[:700],
    "PNG, flipped bits": lambda: bytes(b ^ (i % 97 == 96) for i, b in enumerate(drawn(3))),
    "PNG bomb": lambda: png_bomb(20_000),
    "PNG that says 50,000 x 50,000": lambda: b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 6, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(100)))
    + chunk(b"IEND", b""),
    "GIF bomb": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "TIFF bomb": lambda: file(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4"),
    "icon with a bomb in it": lambda: icon_bomb(9000),
    "WebP bomb": lambda: file(
        Image.new("L", (7000, 7000)), "WEBP", lossless=True, quality=0, method=0
    ),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "PDF": lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
    "gzip": lambda: zlib.compress(bytes(10_000_000)),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pictures_are_refused_in_words(client, kind):
    answer = client.post("/read", content=HOSTILE[kind](), headers=PNG)
    assert answer.status_code == 400
    assert re.search("try again|million pixels|smaller", answer.json()["error"])


def test_a_picture_of_as_many_pixels_as_may_be(client):
    answer = client.post("/read", content=png_bomb(6300), headers=PNG)
    assert answer.status_code == 200
    assert answer.json()["digit"] is None


def test_a_model_that_fails_is_not_the_end(predict):
    answers = iter([lambda batch: np.full((1, 10), np.nan), predict])

    def fail_once(batch):
        return next(answers)(batch)

    with RunningPad(fail_once) as pad:
        answer = ask(pad.url, drawn(3))
        assert answer.status_code == 500
        assert "Something went wrong" in answer.json()["error"]
        assert ask(pad.url, drawn(3)).json()["digit"] == 3


# ---- requests that are not what they should be ----------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_wrong_method(client, method):
    answer = client.request(method, "/read")
    assert answer.status_code == 405
    assert answer.json() == {"error": "Method Not Allowed"}


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]
)
def test_what_a_form_elsewhere_could_send_is_refused(client, kind):
    answer = client.post("/read", content=drawn(3), headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 415
    assert "image/png" in answer.json()["error"]


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG; a=b", "application/octet-stream"])
def test_any_type_of_picture_is_taken(client, kind):
    answer = client.post("/read", content=drawn(3), headers={"Content-Type": kind})
    assert answer.json()["digit"] == 3


def test_names_of_the_server(predict):
    with socket.create_server(("127.0.0.1", 0)) as local:
        hosts = server._hosts(local)
    with RunningPad(predict, hosts=hosts) as pad, httpx.Client(base_url=pad.url) as client:
        for name in ("127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"):
            assert client.get("/health", headers={"Host": name}).status_code == 200
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""):
            assert client.get("/health", headers={"Host": name}).status_code == 400


def raw(running, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are; return the status, and all that came."""
    answer = b""
    # A server that has refused a request hangs up, also on what is still on its way to it.
    with running.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith(b"HTTP/1.1 ")
    return int(answer[9:12]), answer


def still_serves(running):
    answer = ask(running.url, drawn(7))
    assert answer.json()["digit"] == 7


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static/....//server.py",
        "/static//etc/passwd",
        "/static/%00",
        "/../../pyproject.toml",
    ],
)
def test_only_the_pads_own_files_are_served(running, path):
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    status, answer = raw(running, request.encode())
    assert status in (400, 404)
    assert b"import" not in answer
    still_serves(running)


POST = b"POST /read HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 1e9\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 9\r\n\r\nabc",
        b"Content-Length: 3\r\n\r\nabcdefgh",
        b"Content-Length: 0\r\n\r\n",
        b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"X: " + 100_000 * b"x" + b"\r\n\r\n",
    ],
)
def test_lengths_that_are_not_true(running, headers):
    assert raw(running, POST + headers)[0] == 400
    still_serves(running)


def test_a_request_that_breaks_off(running):
    with running.connect() as connection:
        connection.sendall(POST + b"Content-Length: 5000\r\n\r\n" + drawn(3)[:50])
    still_serves(running)


def test_a_huge_file(running):
    answer = ask(running.url, bytes(server.MAX_BYTES + 1))
    assert answer.status_code == 413
    assert "16 MB" in answer.json()["error"]
    assert ask(running.url, bytes(server.MAX_BYTES)).status_code == 400
    still_serves(running)


def test_a_huge_file_that_does_not_say_how_large_it_is(running):
    def endless():
        for _ in range(2 * server.MAX_BYTES // 100_000):
            yield bytes(100_000)

    answer = httpx.post(f"{running.url}/read", content=endless(), headers=PNG, timeout=PATIENCE)
    assert answer.status_code == 413
    still_serves(running)


def test_a_body_that_does_not_come(running, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 0.2)
    status, answer = raw(running, POST + b"Content-Length: 5000\r\n\r\nabc")
    assert status == 408
    assert b"did not arrive" in answer
    monkeypatch.undo()
    still_serves(running)


def test_large_files_do_not_hold_up_drawings(running, monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS", 600.0)  # nothing is given back by giving up
    head = POST + b"Content-Length: 9000000\r\n\r\n" + bytes(server.SMALL + 65536)
    stalled = [running.connect() for _ in range(server.MAX_LARGE + 4)]
    for connection in stalled:
        connection.sendall(head)
    still_serves(running)
    for connection in stalled:
        connection.close()
    # All that was held is given back: as many large files again are read, one after another.
    noise = png(np.random.default_rng(0).integers(0, 255, (600, 600), np.uint8))
    assert len(noise) > server.SMALL
    for _ in range(server.MAX_LARGE + 1):
        assert ask(running.url, noise).status_code == 200


def test_a_prediction_does_not_stop_the_server(predict):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(batch):
        begun.release()
        assert go_on.wait(PATIENCE)
        return predict(batch)

    with RunningPad(slow) as pad, ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, pad.url, drawn(5)) for _ in range(5)]
        assert begun.acquire(timeout=PATIENCE)
        assert httpx.get(f"{pad.url}/health", timeout=PATIENCE).json()["status"] == "ok"
        go_on.set()
        assert [answer.result().json()["digit"] for answer in answers] == 5 * [5]


# ---- many requests --------------------------------------------------------------------------


def test_a_thousand_requests_in_a_row_take_no_more_memory(running):
    pictures = [drawn(digit, side=112) for digit in range(10)]
    peaks = []
    with httpx.Client(timeout=PATIENCE) as client:
        for number in range(1000):
            digit = number % 10
            answer = client.post(f"{running.url}/read", content=pictures[digit], headers=PNG)
            assert answer.json()["digit"] == digit
            if number in (199, 999):
                gc.collect()
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (peaks[1] - peaks[0]) * unit < 60_000_000


def test_ten_clients_at_once_each_get_their_own_answer(running):
    start = threading.Barrier(10)

    def client(digit):
        start.wait(PATIENCE)
        with httpx.Client(timeout=PATIENCE) as client:
            for seed in range(30):
                picture = drawn(digit, side=112, seed=seed % 3)
                answer = client.post(f"{running.url}/read", content=picture, headers=PNG).json()
                image = handwriting.prepare(io.BytesIO(picture))
                assert np.array_equal(answer["image"], np.rint(255 * image))
        return digit

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(client, range(10))) == list(range(10))


# ---- models ---------------------------------------------------------------------------------


def test_logits_will_do():
    predict = reading.predictor(answering([0, 0, 0, 9, 0, 0, 0, 0, 0, 0]))
    assert reading.read(io.BytesIO(drawn(1)), predict)["digit"] == 3


@pytest.mark.parametrize(
    ("shape", "units", "message"),
    [
        ((32, 32, 3), 10, r"takes \(None, 32, 32, 3\)"),
        ((784,), 10, r"takes \(None, 784\)"),
        ((28, 28, 1), 5, r"answers with shape \(1, 5\)"),
    ],
)
def test_a_model_for_something_else(shape, units, message, tmp_path):
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(units)])
    with pytest.raises(app.AppError, match=message):
        app.pad(model)
    model.save(tmp_path / "other.keras")
    with pytest.raises(app.AppError, match=message):
        server.run(tmp_path / "other.keras", port=0, open_browser=False)


def test_a_model_that_answers_with_no_numbers():
    with pytest.raises(app.AppError, match="finite"):
        reading.predictor(answering([np.nan] * 10))


# ---- the command ----------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """Let servers start and stop at once; return what was said, opened and served."""
    seen = {"said": [], "opened": [], "hosts": []}

    def start(self, sockets):
        seen["hosts"] = self.config.app.user_middleware[1].kwargs["allowed_hosts"]
        self._on_start()

    class Now:
        def __init__(self, target, args, daemon):
            self.start = lambda: target(*args)

    monkeypatch.setattr(server._Server, "run", start)
    monkeypatch.setattr(server.threading, "Thread", Now)
    monkeypatch.setattr(server.webbrowser, "open", seen["opened"].append)
    return seen


@pytest.fixture
def saved(network, tmp_path):
    network.save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def test_it_says_where_it_is_and_opens_the_browser(started, saved):
    server.run(saved, port=0, say=started["said"].append)
    (line,) = started["said"]
    address = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
    assert "mine.keras" in line
    assert started["opened"] == [address]
    server.run(port=0, open_browser=False, say=started["said"].append)
    assert "the course's own" in started["said"][1]
    assert started["opened"] == [address]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_for_this_computer_has_no_other_name(started, host):
    server.run(host=host, port=0, open_browser=False, say=started["said"].append)
    assert started["hosts"] == ("127.0.0.1", "localhost", "[::1]")


def test_a_server_for_the_network(started):
    server.run(host="0.0.0.0", port=0, open_browser=False, say=started["said"].append)
    assert started["hosts"] == ("*",)
    assert socket.gethostname() in started["said"][0]


def test_the_next_port_if_none_was_asked_for(started, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "PORT", port)
        server.run(open_browser=False, say=started["said"].append)
        found = int(re.search(r":(\d+)/", started["said"][0])[1])
        assert port < found < port + 50
        with pytest.raises(app.AppError, match=f"Port {port} is taken. Try another: --port"):
            server.run(port=port)


def test_an_address_that_is_not_here():
    with pytest.raises(app.AppError, match=r"cannot listen on 192\.0\.2\.1, port 8000: [^(]*\.$"):
        server.run(host="192.0.2.1")


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(app.AppError, match=r"text\.keras' is not a Keras model"):
        server.run(tmp_path / "text.keras", port=0)


def test_a_model_with_code_in_it_is_not_run(tmp_path):
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "code.keras")
    with pytest.raises(app.AppError, match="is not a Keras model"):
        server.run(tmp_path / "code.keras", port=0)


def test_command_without_such_a_file():
    done = subprocess.run(
        [FIRSTCNN, "app", "none.keras"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "firstcnn: There is no file 'none.keras': model.save('NAME.keras') writes one.\n"
    )


def test_command_from_start_to_ctrl_c(saved):
    process = subprocess.Popen(
        [FIRSTCNN, "app", saved, "--port=0", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
    )
    try:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert ask(url, drawn(2)).json()["digit"] == 2
        assert ask(url, b"no picture").status_code == 400
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as odd:
            odd.sendall(b"no HTTP\r\n\r\n")
            assert b"400" in odd.recv(100)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


# ---- the widget -----------------------------------------------------------------------------


@pytest.fixture
def pad(network, monkeypatch):
    pad = app.pad(network)
    pad.sent = []
    monkeypatch.setattr(type(pad), "send", lambda self, message: self.sent.append(message))
    return pad


def test_widget_answers_a_picture_under_its_number(pad):
    for number, digit in enumerate((4, 9)):
        pad._handle_custom_msg({"id": number}, [memoryview(drawn(digit))])
    assert [(sent["id"], sent["digit"]) for sent in pad.sent] == [(0, 4), (1, 9)]
    json.dumps(pad.sent)


@pytest.mark.parametrize("buffers", [[], [b""], [b"no picture"]])
def test_widget_says_what_is_wrong(pad, buffers):
    pad._handle_custom_msg({"id": 1}, buffers)
    (sent,) = pad.sent
    assert sent["id"] == 1
    assert "is not a picture" in sent["error"]


def test_widget_says_when_there_is_no_digit(pad):
    pad._handle_custom_msg({"id": 1}, [png(np.full((280, 280), 255, np.uint8))])
    assert pad.sent[0]["digit"] is None
    assert "blank" in pad.sent[0]["statement"]


def test_front_end_of_the_widget_needs_no_other_file(pad):
    assert pad._esm == (STATIC / "pad.js").read_text(encoding="utf-8")
    assert not re.search(r"^\s*import\b|\bimport\(", pad._esm, re.MULTILINE)
    assert "export default { render }" in pad._esm
    assert pad._css == (STATIC / "pad.css").read_text(encoding="utf-8")


def test_widget_leaves_a_still_picture(pad, shown, monkeypatch):
    views = []
    monkeypatch.setattr(widget, "display", lambda bundle, raw: views.append(bundle))
    pad._ipython_display_()
    assert views == [
        {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": pad.model_id,
            }
        }
    ]
    ((still, words),) = shown
    assert Image.open(io.BytesIO(still)).size[0] > 600
    assert "still picture" in words
    assert "This is a 3" in words
