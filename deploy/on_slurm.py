"""Grade on a SLURM cluster: python deploy/on_slurm.py [LESSON ...], after ``. deploy/tls.sh``.

It runs on a node that submits jobs. The checkout and the certificate are on a file system that all
nodes share. What stands at the top is for this cluster to set. ``--show`` prints the script of a
job, and submits none.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed import Security

PARTITION = os.environ.get("PARTITION")  # by default the cluster's own
JOBS = int(os.environ.get("JOBS", "4"))
CORES = 4  # of a job, and submissions at a time in it
MEMORY = 4 * CORES  # GiB: a submission may take 3, and its judge needs some
HOURS = 2

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv" / "bin"


def cluster() -> SLURMCluster:
    """Return the cluster, with its scheduler started and no job submitted yet."""
    return SLURMCluster(
        queue=PARTITION,
        cores=CORES,
        processes=CORES,  # nbgrader grades one submission at a time in each
        memory=f"{MEMORY}GiB",
        walltime=f"{HOURS:02}:00:00",
        job_name="first-cnn",
        python=str(BIN / "python"),
        local_directory="/tmp",
        log_directory=str(ROOT / "build" / "slurm"),
        job_script_prologue=_exports(),
        worker_extra_args=["--no-dashboard"],
        scheduler_options={"dashboard": False},
        security=Security(),  # as tls.sh has set it
        protocol="tls://",
    )


def _exports() -> list[str]:
    """Return what jobs begin with: where certificate and MNIST are, and one core for each."""
    given = [name for name in ("FIRSTCNN_TLS", "MNIST_DIR") if name in os.environ]
    lines = [f"export {name}={shlex.quote(os.path.abspath(os.environ[name]))}" for name in given]
    return [*lines, f". {shlex.quote(str(ROOT / 'deploy' / 'tls.sh'))}"]


def main(arguments: list[str]) -> int:
    """Submit the jobs, grade, cancel them."""
    with cluster() as nodes:
        if arguments == ["--show"]:
            print(nodes.job_script())
            return 0
        nodes.scale(jobs=JOBS)
        grade = [BIN / "firstcnn", "grade", "--scheduler", nodes.scheduler_address]
        return subprocess.run([*grade, *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
