"""What docs/clusters.md tells to do with other machines, as far as it can be done on one."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from distributed import Client, Security
from distributed.cli import dask_scheduler, dask_worker
from notebooks import ROOT
from test_classroom import wait_until

from firstcnn.grading import sandbox

DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def accepts(command, arguments):
    """Have one of Dask's commands read its arguments, as when it is run."""
    return command.main.make_context("dask", [str(one) for one in arguments]).params


# ---- the certificate ---------------------------------------------------------------------------


def certificate(folder):
    """Make a certificate as the page says."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    command = ["sh", str(DEPLOY / "certificate.sh")]
    return subprocess.run(
        command,
        env={**os.environ, "FIRSTCNN_TLS": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "certificate"
    assert certificate(folder).returncode == 0
    return folder


def with_tls(folder):
    """Return the environment that tls.sh leaves."""
    done = subprocess.run(
        ["sh", "-c", f". {shlex.quote(str(DEPLOY / 'tls.sh'))} && env -0"],
        env={**os.environ, "FIRSTCNN_TLS": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == ""
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def security(folder):
    pair = {"cert": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
    return Security(
        tls_ca_file=pair["cert"], tls_client_cert=pair["cert"], tls_client_key=pair["key"],
        require_encryption=True,
    )  # fmt: skip


def test_the_certificate_is_for_its_owner_and_is_not_replaced(tmp_path):
    folder = tmp_path / "a b"
    assert certificate(folder).returncode == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    key = (folder / "key.pem").read_bytes()
    again = certificate(folder)
    assert again.returncode == 1
    assert "There is one in" in again.stderr
    assert (folder / "key.pem").read_bytes() == key


def test_a_shell_without_the_certificate_is_told(tmp_path):
    done = subprocess.run(
        ["sh", "-c", f". {shlex.quote(str(DEPLOY / 'tls.sh'))}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    missing = f"There is no certificate in {tmp_path}/.first-cnn-tls that can be read.\n"
    assert done.stderr == missing


@pytest.fixture(scope="module")
def scheduler(tls, tmp_path_factory):
    """Start a scheduler and a worker with the commands of the page; return the address."""
    place = tmp_path_factory.mktemp("dask")
    file = place / "scheduler.json"
    environment = with_tls(tls)
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        ["worker", "--nworkers", "1", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"],
    ]
    started = []
    try:
        for command in commands:
            command += ["--scheduler-file", str(file)]
            log = (place / f"{command[0]}.log").open("wb")
            started.append(
                subprocess.Popen(
                    [BIN / "dask", *command], env=environment, cwd=place, stdout=log, stderr=log
                )
            )
        wait_until(lambda: address_in(file) or started[0].poll() is not None)
        address = address_in(file)
        assert address, (place / "scheduler.log").read_text()
        with Client(address, security=security(tls), timeout=300) as client:
            client.wait_for_workers(1, timeout=300)
            yield client.scheduler.address
    finally:
        for one in reversed(started):
            one.terminate()
            one.wait(300)


def address_in(file):
    """Return the address in a scheduler's file, if it is whole already."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(file.read_text())["address"]


def test_with_the_certificate_one_is_let_in(scheduler, tls):
    assert scheduler.startswith("tls://127.0.0.1:")
    with Client(scheduler, security=security(tls), timeout=300) as client:
        told = client.submit(os.getenv, "TF_NUM_INTRAOP_THREADS").result(300)
        # Not scheduler_info(), in whose answer the client's own calls may put no workers.
        info = client.sync(client.scheduler.identity, n_workers=-1)
        (worker,) = info["workers"].items()
    assert told == "1"
    assert worker[0].startswith("tls://")
    assert (worker[1]["nthreads"], worker[1]["memory_limit"]) == (1, 0)


def test_without_the_certificate_one_is_not(scheduler, tmp_path):
    with pytest.raises(OSError, match=r"Timed out|closed|connect"):
        Client(scheduler.replace("tls://", "tcp://"), timeout=5)
    other = tmp_path / "other"
    certificate(other)
    with pytest.raises(OSError, match="TLS certificate does not match"):
        Client(scheduler, security=security(other), timeout=300)  # refused at once


# ---- SSH and SLURM -----------------------------------------------------------------------------


SERVER = """
import asyncio
import asyncssh

class Anyone(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False

async def copy(source, target):
    while some := await source.read(4096):
        target.write(some)

async def run(process):
    # No redirect(): a command that ended while it was set up lost its output, or the connection.
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_shell(
        process.command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    await asyncio.gather(copy(started.stdout, process.stdout),
                         copy(started.stderr, process.stderr))
    process.exit(await started.wait())

async def main():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=Anyone,
                                   server_host_keys=[key], process_factory=run,
                                   encoding=None)
    print(server.get_port(), flush=True)
    await server.wait_closed()

asyncio.run(main())
"""


@pytest.fixture
def ssh_server():
    """Start an SSH server that runs commands, on a port of this machine; return the port."""
    pytest.importorskip("asyncssh")
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with server:
        yield server.stdout.readline().strip()
        server.terminate()


START = """
import sys
sys.path.insert(0, sys.argv[1])
import over_ssh
from distributed import Client
with over_ssh.start(["127.0.0.1"], 2, port=int(sys.argv[2]), known_hosts=None) as cluster:
    with Client(cluster.scheduler_address) as client:
        client.wait_for_workers(2, timeout=600)
        workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
        print(sorted((name[:6], one["nthreads"], one["memory_limit"])
                     for name, one in workers.items()))
"""


def test_over_ssh(ssh_server, tls):
    done = subprocess.run(
        [sys.executable, "-c", START, str(DEPLOY), ssh_server],
        env=with_tls(tls),
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.stdout.splitlines()[-1:] == ["[('tls://', 1, 0), ('tls://', 1, 0)]"], done.stderr


def test_over_ssh_says_how_it_is_used():
    command = [sys.executable, str(DEPLOY / "over_ssh.py"), "--", "01_convolution"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "HOST [HOST ...] -- [LESSON ...]" in done.stderr


def test_job_script_for_slurm(tls, tmp_path):
    pytest.importorskip("dask_jobqueue")
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "on_slurm.py"), "--show"],
        env={**with_tls(tls), "PARTITION": "teaching", "MNIST_DIR": "/data/mnist set"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    script = done.stdout.strip()
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    lines = script.splitlines()
    options = {line for line in lines if line.startswith("#SBATCH")}
    assert {
        "#SBATCH -J first-cnn",
        "#SBATCH -p teaching",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=16G",
        "#SBATCH -t 02:00:00",
    } <= options
    *exports, worker = [line for line in lines if line and not line.startswith("#")]
    assert exports == [
        f"export FIRSTCNN_TLS={tls}",
        "export MNIST_DIR='/data/mnist set'",
        f". {DEPLOY / 'tls.sh'}",
    ]
    python, *arguments = shlex.split(worker)
    assert python == str(ROOT / ".venv" / "bin" / "python")
    assert arguments[:2] == ["-m", "distributed.cli.dask_worker"]
    told = accepts(dask_worker, arguments[2:])
    assert told["scheduler"].startswith("tls://")
    assert (told["n_workers"], told["nthreads"]) == ("4", 1)
    assert told["tls_cert"] == str(tls / "certificate.pem")
    assert told["dashboard"] is False


SUBMIT = """#!/bin/sh
for script; do :; done
cp "$script" "$0.script"  # it is gone when this has returned
setsid bash "$0.script" > "$0.log" 2>&1 &
echo $! >> "$0.jobs"
echo "Submitted batch job $!"
"""
CANCEL = """#!/bin/sh
for job; do kill -- "-$job"; done
"""
JOB = """
import sys
sys.path.insert(0, sys.argv[1])
import on_slurm
from distributed import Client
with on_slurm.cluster() as nodes:
    nodes.scale(jobs=1)
    with Client(nodes.scheduler_address) as client:
        client.wait_for_workers(4, timeout=600)
        workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
        print(sorted((name[:6], one["nthreads"]) for name, one in workers.items()))
"""


def test_jobs_for_slurm_start_workers(tls, tmp_path):
    """With programs in the place of SLURM's that start a job on this machine."""
    pytest.importorskip("dask_jobqueue")
    for name, script in (("sbatch", SUBMIT), ("scancel", CANCEL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    environment = with_tls(tls)
    environment["PATH"] = os.pathsep.join([str(tmp_path), environment["PATH"]])
    try:
        done = subprocess.run(
            [sys.executable, "-c", JOB, str(DEPLOY)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.stdout.splitlines() == [str([("tls://", 1)] * 4)], done.stderr
    finally:
        jobs = tmp_path / "sbatch.jobs"
        for job in jobs.read_text().split() if jobs.exists() else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(job), signal.SIGKILL)


# ---- Kubernetes --------------------------------------------------------------------------------


class Strict(yaml.SafeLoader):
    """Reads YAML as Kubernetes does: a name that is there twice is an error."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(name) for name, _ in node.value]
        assert len(names) == len(set(names)), f"twice in {node.start_mark}: {names}"
        return super().construct_mapping(node, deep)


def read(name):
    text = (DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.load_all(text, Strict)}


NETWORK, GRADERS, OPERATOR = map(read, ["network.yaml", "graders.yaml", "dask-operator.yaml"])
CLUSTER = OPERATOR["DaskCluster", "first-cnn"]["spec"]
PODS = {
    "worker": GRADERS["Deployment", "worker"]["spec"]["template"]["spec"],
    "scheduler": GRADERS["Deployment", "scheduler"]["spec"]["template"]["spec"],
    "operator's worker": CLUSTER["worker"]["spec"],
    "operator's scheduler": CLUSTER["scheduler"]["spec"],
}


def container(pod):
    (one,) = PODS[pod]["containers"]
    return one


def variables(pod):
    return {one["name"]: one["value"] for one in container(pod).get("env", [])}


@pytest.mark.parametrize("pod", PODS)
def test_pods_have_no_rights_that_they_do_not_need(pod):
    spec, only = PODS[pod], container(pod)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    rights = only["securityContext"]
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert not rights.get("privileged")
    assert only["resources"]["limits"]["memory"]
    assert [one["mountPath"] for one in only["volumeMounts"]] == ["/tmp"]
    (volume,) = spec["volumes"]
    assert volume["name"] == only["volumeMounts"][0]["name"]
    assert set(volume) == {"name", "emptyDir"}
    assert only["image"] == container("worker")["image"]


@pytest.mark.parametrize("pod", PODS)
def test_dask_takes_what_pods_tell_it(pod):
    command, *arguments = container(pod)["args"]
    if command == "scheduler":
        told = accepts(dask_scheduler, arguments)
        assert str(told["port"]) == "8786"
    else:
        told = accepts(dask_worker, arguments)
        assert (told["n_workers"], told["nthreads"], told["memory_limit"]) == ("1", 1, "0")
        assert told["local_directory"] == "/tmp"
        assert told["dashboard"] is False


def test_the_sandbox_can_be_made_in_a_worker_and_is_not_left_out():
    spec = PODS["worker"]
    assert spec["hostUsers"] is False
    assert spec["securityContext"]["seccompProfile"]["type"] == "Unconfined"
    assert spec["securityContext"]["appArmorProfile"]["type"] == "Unconfined"
    assert container("worker")["securityContext"]["procMount"] == "Unmasked"
    assert sandbox.TRUST_VARIABLE not in variables("worker")
    level = NETWORK["Namespace", "first-cnn"]["metadata"]["labels"]
    assert level == {"pod-security.kubernetes.io/enforce": "privileged"}


def test_a_pod_in_place_of_the_sandbox_says_so():
    assert variables("operator's worker")[sandbox.TRUST_VARIABLE] == "1"
    for pod in ("scheduler", "operator's worker", "operator's scheduler"):
        assert PODS[pod]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"


def test_pods_find_each_other():
    service = GRADERS["Service", "scheduler"]["spec"]
    labels = GRADERS["Deployment", "scheduler"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == labels
    assert [one["port"] for one in service["ports"]] == [8786]
    assert (
        f"tcp://{GRADERS['Service', 'scheduler']['metadata']['name']}:8786"
        in (container("worker")["args"])
    )
    for name in ("scheduler", "worker"):
        spec = GRADERS["Deployment", name]["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    # The operator gives its pods these labels.
    assert CLUSTER["scheduler"]["service"]["selector"] == labels
    ports = {one["name"] for one in container("operator's scheduler")["ports"]}
    assert {one["targetPort"] for one in CLUSTER["scheduler"]["service"]["ports"]} == ports
    spaces = {one["metadata"].get("namespace") for one in (GRADERS | OPERATOR).values()}
    assert spaces == {"first-cnn"}


def test_pods_reach_each_other_and_a_name_server_only():
    policy = NETWORK["NetworkPolicy", "graders"]["spec"]
    assert NETWORK["NetworkPolicy", "graders"]["metadata"]["namespace"] == "first-cnn"
    assert policy["podSelector"] == {}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    own = {"podSelector": {"matchLabels": {"dask.org/cluster-name": "first-cnn"}}}
    assert policy["ingress"] == [{"from": [own]}]
    to_own, to_names = policy["egress"]
    assert to_own == {"to": [own]}
    assert [one["port"] for one in to_names["ports"]] == [53, 53]
    assert set(to_names["to"][0]) == {"namespaceSelector", "podSelector"}


def test_schemas_of_kubernetes():
    """Unknown fields are refused, where the API server would drop them."""
    validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.33.0", validate.latest_version()):
        for one in (NETWORK | GRADERS).values():
            validate.validate(one, version, strict=True)


def test_schema_of_the_dask_operator():
    operator = pytest.importorskip("dask_kubernetes")
    jsonschema = pytest.importorskip("jsonschema")
    (place,) = Path(operator.__file__).parent.rglob("crds/daskcluster.yaml")
    (version,) = yaml.safe_load(place.read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}

    def close(part):
        if isinstance(part, dict):
            if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
                part.setdefault("additionalProperties", False)
            if part.get("x-kubernetes-int-or-string"):
                part["type"] = ["integer", "string"]
        for each in part.values() if isinstance(part, dict) else part:
            if isinstance(each, dict | list):
                close(each)

    close(schema)
    jsonschema.validate(OPERATOR["DaskCluster", "first-cnn"], schema)
    other = deepcopy(OPERATOR["DaskCluster", "first-cnn"])
    other["spec"]["worker"]["spec"]["hostUsers"] = False
    with pytest.raises(jsonschema.ValidationError, match="hostUsers"):  # as the page says
        jsonschema.validate(other, schema)


# ---- the image ---------------------------------------------------------------------------------


def instructions():
    """Return the instructions of the Dockerfile, each in one line."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def copied():
    return [
        name
        for kind, rest in instructions()
        if kind == "COPY"
        for name in rest.split()[:-1]
    ]  # fmt: skip


def test_the_image_runs_as_nobody_and_has_the_sandbox():
    told = dict(instructions())
    assert told["USER"] == "1000:1000"
    assert told["ENTRYPOINT"] == '["dask"]'
    assert any("bubblewrap" in rest for kind, rest in instructions() if kind == "RUN")
    assert "--require-hashes" in " ".join(rest for kind, rest in instructions() if kind == "RUN")


def test_docker_is_given_what_it_copies_and_nothing_else():
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    assert allowed == set(copied())
    for name in allowed - {"data/mnist"}:
        assert (ROOT / name).exists(), name


def test_the_package_is_made_from_what_is_copied(tmp_path):
    for name in set(copied()) - {"data/mnist"}:
        place = tmp_path / "image" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(tmp_path / "image")], check=True, timeout=900
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("firstcnn/grading/keeper.py", "firstcnn/reports/page.css"):
        assert name in inside


# ---- the page ----------------------------------------------------------------------------------

BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, flags=re.M | re.S)


def test_commands_of_the_page_are_commands():
    assert len(BLOCKS) >= 8
    for block in BLOCKS:
        done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
    dasks = re.findall(r"\bdask (worker|scheduler) ([^\n#']+)", "\n".join(BLOCKS))
    assert len(dasks) == 4
    for command, arguments in dasks:
        module = dask_worker if command == "worker" else dask_scheduler
        accepts(module, shlex.split(arguments))
    for name in re.findall(r"\bdeploy/[\w./-]+\w", PAGE):
        assert (ROOT / name).exists(), name


def test_the_command_that_tells_whether_there_can_be_a_sandbox(sandbox_here):
    (block,) = [one for one in BLOCKS if "A sandbox can be made here" in one]
    block = block.replace(".venv/bin/python", shlex.quote(sys.executable))
    done = subprocess.run(["bash", "-c", block], capture_output=True, text=True, timeout=600)
    assert done.stdout == "A sandbox can be made here.\n", done.stderr


def test_what_the_page_explains_is_what_is_said():
    source = Path(sandbox.__file__).read_text(encoding="utf-8")
    for words in ("chmod -R o+rX is missing there", "The sandbox for students' code needs Linux"):
        assert words in source
        assert words in PAGE
    for name in re.findall(r"\bFIRSTCNN_LIMIT_(\w+)", PAGE):
        assert name.lower() in sandbox.Limits.__dataclass_fields__
