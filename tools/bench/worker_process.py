"""Run one side of a comparison in a process of its own, which answers one JSON object a line."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from llm60_jax.config import Config, Phase
from llm60_jax.errors import InputError, MachineError

_FOLDER = Path(__file__).parent
# First touches of fresh pages cost up to a quarter of a step on Linux; both sides get this.
_ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class WorkerProcess:
    """A process that does one task for each request."""

    def __init__(self, script: str, *arguments: str):
        command = [sys.executable, str(_FOLDER / script), *arguments]
        environment = _ALLOCATOR | os.environ
        # A session of its own: Ctrl-C reaches this process alone, which then ends the worker.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._script = script
        self.version = self._answer()["ready"]

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Return the answer to a request. Raises MachineError when the process has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far, on all cores."""
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise MachineError(f"{self._script} ended with exit code {code}; its messages are above")
        return json.loads(line)

    def close(self) -> None:
        """End the process and close its pipes."""
        self._process.kill()
        self._process.communicate()


def serve(worker: Any, version: str) -> None:
    """Answer the requests of a `WorkerProcess`: call the method that each one names, until the pipe
    closes."""
    print(json.dumps({"ready": version}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(worker, request.pop("do"))(**request)), flush=True)


def facts_of(config: Config, phase: Phase) -> dict[str, Any]:
    """Return what PyTorch's side needs of a configuration."""
    names = ("vocab_size", "dim", "layers", "heads", "hidden_dim", "rope_base", "embedding_scale")
    return {
        "model": {name: getattr(config.model, name) for name in names},
        "seed": config.seed,
        "dropout": phase.mlp_dropout,
        "learning_rate": phase.learning_rate[1],
        "optimizer": {name: getattr(config.optimizer, name) for name in ("weight_decay", "clip_rms", "decay_exponent")},
        "tokens_per_step": config.train.tokens_per_step,
    }


def torch_worker(config: Config, phase: Phase, folder: Path, weights: str) -> WorkerProcess:
    """Start PyTorch's process, with the model of a configuration and stored weights."""
    facts = facts_of(config, phase) | {"weights": weights}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return WorkerProcess("bench_torch.py", str(folder / "facts.json"))


def require_torch(config: Config, phase: Phase, option: str) -> None:
    """Raise InputError if PyTorch is missing, or its side lacks a feature of the configuration."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(f"{option}: PyTorch is not installed; pip install -e '.[torch]'")
    if config.model.enhancements or phase.lora or phase.deep_supervision:
        raise InputError(f"{option}: PyTorch's side has the plain model only, without enhancements")
    if config.optimizer.name != "adafactor":
        raise InputError(
            f"{option}: PyTorch's side has Adafactor only, and optimizer.name is {config.optimizer.name}; "
            "--set optimizer.name=adafactor, with rates for it"
        )
