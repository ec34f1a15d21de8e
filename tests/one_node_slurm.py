"""A Slurm of one node, for tests: its daemons run as this user, on free ports, in a folder of their own.

It takes the programs `munged`, `slurmctld` and `slurmd` (Debian: slurm-wlm and munge), but no root.
Without them the tests that ask for it are skipped. A module of tests imports the fixture `slurm`.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where daemons are
_CPUS = 2  # whatever the machine has: two tasks can run at once
_MEMORY = 4_000  # MB
_START_SECONDS = 30
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """Start a Slurm with the partition "cpu", and yield the environment in which its commands reach it."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    if missing:
        pytest.skip(f"no Slurm here: {', '.join(missing)} not installed (Debian: slurm-wlm, munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # short: a socket's path has at most 107 characters
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield _started(folder, stack)


def _started(folder: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    (folder / "key").write_bytes(secrets.token_bytes(128))
    (folder / "key").chmod(0o600)
    (folder / "spool").mkdir()
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = free_ports(2)
    settings = {"host": host, "controller_port": controller_port, "node_port": node_port, "folder": folder}
    settings |= {"user": getpass.getuser(), "cpus": _CPUS, "memory": _MEMORY}
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(**settings))
    environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}-file={folder / name}" for name in ("key", "log", "pid", "seed")]
    munged = ["munged", "--foreground", "--force", "--num-threads=2", f"--socket={folder / 'munge'}", *munge]
    for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
        _start(command, folder, environment, stack)
        if command is munged:
            _wait(lambda: (folder / "munge").exists(), folder)
    stack.callback(subprocess.run, ["scancel", f"--user={settings['user']}"], env=environment)
    _wait(lambda: "idle" in _state(environment), folder)
    return environment


def _start(command: list[str], folder: Path, environment: dict[str, str], stack: contextlib.ExitStack) -> None:
    log = stack.enter_context((folder / f"{command[0]}.output").open("wb"))
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)


def _state(environment: dict[str, str]) -> str:
    """Return the states of the nodes; "" while the controller does not answer."""
    return subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True).stdout


def _wait(condition: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in folder.glob("*.output"))
            pytest.fail(f"Slurm did not start in {_START_SECONDS} s:\n{logs}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
