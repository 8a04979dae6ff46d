"""Grade on machines that SSH reaches: python deploy/over_ssh.py HOST [HOST ...] -- [LESSON ...].

Run it after ``. deploy/tls.sh``. Each host has a checkout at the same place, with its .venv, and
the certificate in the same folder. The first one, which may be this machine, runs the scheduler
too. Whatever stands behind ``--`` goes to ``firstcnn grade``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from distributed import SSHCluster

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"
#: Kernels that run at the same time share the cores.
ONE_CORE_EACH = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def start(hosts: list[str], workers: int, **connect: Any) -> SSHCluster:
    """Start a scheduler on the first host, and workers on all of them.

    Parameters
    ----------
    hosts : list of str
        Names or addresses.
    workers : int
        Submissions at a time on each.
    **connect
        More for `asyncssh.connect`.
    """
    return SSHCluster(
        [hosts[0], *hosts],
        connect_options=connect,
        remote_python=str(BIN / "python"),
        scheduler_options={"protocol": "tls", "port": 0, "dashboard": False},
        # nbgrader grades one submission at a time in each process; its sandbox has limits of its
        # own, so that Dask need not watch memory.
        worker_options={
            "protocol": "tls",
            "nthreads": 1,
            "n_workers": workers,
            "memory_limit": 0,
            "env": ONE_CORE_EACH,
        },
    )


def main(arguments: list[str]) -> int:
    """Start the machines, grade, stop them."""
    hosts, _, lessons = " ".join(arguments).partition("--")
    if not hosts.split():
        raise SystemExit(__doc__)
    workers = int(os.environ.get("WORKERS_EACH", "2"))
    with start(hosts.split(), workers) as cluster:
        grade = [BIN / "firstcnn", "grade", "--scheduler", cluster.scheduler_address]
        return subprocess.run([*grade, *lessons.split()]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
