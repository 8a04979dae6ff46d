"""Measure how long the drawing pad's server takes to read a drawing, with one client and with ten.

Run ``python benchmarks/app.py --help``. The server is ``firstcnn app`` in a process of its own;
the clients send the ten digits as the page does: PNG, 280 x 280 pixels, one after another.
The table has milliseconds: what a client waits for one reading, and the server's CPU time for it,
which says more than waiting does when other programs run.
"""

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from firstcnn import strokes


def drawn(digit):
    """Return a digit as the pad sends it."""
    file = io.BytesIO()
    Image.fromarray(strokes.draw(digit, size=180, width=18)).save(file, "PNG")
    return file.getvalue()


def measure(url, clients, requests):
    """Let clients at once ask for so many readings each; return the ms of each, and the wrong."""
    pictures = [drawn(digit) for digit in range(10)]
    start = threading.Barrier(clients)
    waited, wrong = [], []

    def ask(first):
        with httpx.Client(timeout=60) as client:
            start.wait()
            for number in range(first, first + requests):
                digit = number % 10
                headers = {"Content-Type": "image/png"}
                began = time.perf_counter()
                answer = client.post(f"{url}/read", content=pictures[digit], headers=headers)
                waited.append(1000 * (time.perf_counter() - began))
                if answer.json()["digit"] != digit:
                    wrong.append(digit)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waited, len(wrong)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a network of yours; otherwise the course's own")
    parser.add_argument("--requests", type=int, default=1000, help="in a row, by one client")
    options = parser.parse_args()
    command = [Path(sys.executable).with_name("firstcnn"), "app", "--port=0", "--no-browser"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command + ([options.model] if options.model else []), stdout=subprocess.PIPE, text=True
    )
    try:
        url = re.search(r"http://[\w.]+:\d+", process.stdout.readline())[0]
        started = time.perf_counter() - began
        table = Table(title=f"{os.cpu_count()} cores, started in {started:.1f} s")
        for name in ("clients", "readings", "median", "95 %", "most", "CPU", "wrong", "MB"):
            table.add_column(name, justify="right")
        measure(url, 1, 20)  # the first ones are slower
        server = psutil.Process(process.pid)
        for clients, requests in ((1, options.requests), (10, options.requests // 10)):
            before = sum(server.cpu_times()[:2])
            waited, wrong = measure(url, clients, requests)
            cpu = 1000 * (sum(server.cpu_times()[:2]) - before) / len(waited)
            table.add_row(
                str(clients),
                f"{len(waited):,}",
                *(f"{np.percentile(waited, share):.0f}" for share in (50, 95, 100)),
                f"{cpu:.0f}",
                str(wrong),
                f"{server.memory_info().rss / 2**20:.0f}",
            )
        Console().print(table)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


if __name__ == "__main__":
    main()
