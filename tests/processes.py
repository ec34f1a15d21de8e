"""Several processes of one run on this computer, for tests: a really small run, its start, and its end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from conftest import PROJECT, tiny_tree, to_toml, write_corpus
from one_node_slurm import free_ports

HEARTBEAT = 4  # seconds


def small_config(folder: Path, steps: int = 48, **train: object) -> Path:
    """Write a configuration with one phase of one stage, and its text; return its path."""
    write_corpus(folder / "text", 40, 0)
    tree = tiny_tree(folder)
    phase = tree["phase"][0] | {"tokens": 128 * steps, "context": [[0.0, 16]], "freeze": [[0.0, 0]], "mlp_dropout": 0.1}
    phase["learning_rate"] = [1e-2, 1e-3]
    phase["sources"] = [{"kind": "folder", "path": str(folder / "text")}]
    tree |= {"phase": [phase], "tokenizer": {"phases": ["grammar"]}}
    tree["model"] |= {"layers": 2, "stacks": [1, 1], "max_context": 16}
    tree["train"] |= {"micro_batch": [[16, 2]], "evaluate_every": 1000, "save_every": 12, "slots": 4} | train
    tree["train"].pop("devices")
    path = folder / "small.toml"
    path.write_text(to_toml(tree), encoding="utf-8")
    return path


class Together:
    """The processes of a run under way."""

    def __init__(
        self, config: Path, processes: int, *options: str, each: dict[int, list[str]] | None = None, **environ: str
    ):
        port, self._folder = free_ports(1)[0], config.parent
        self.processes = []
        for number in range(processes):
            command = [sys.executable, str(PROJECT / "tests" / "quick_launch.py"), str(config), *options]
            command += ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes), "--process", str(number)]
            command += ["--heartbeat", str(HEARTBEAT), *(each or {}).get(number, [])]
            with self._output(number).open("w") as output:
                self.processes.append(
                    subprocess.Popen(command, stdout=output, stderr=output, cwd=config.parent, env=os.environ | environ)
                )

    def output(self, number: int) -> str:
        return self._output(number).read_text(encoding="utf-8", errors="replace")

    def codes(self, seconds: float = 240) -> list[int]:
        """Wait for all to end; return their exit codes."""
        limit = time.monotonic() + seconds
        try:
            return [process.wait(max(0.1, limit - time.monotonic())) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def wait_for_step(self, step: int, seconds: float = 240) -> None:
        """Wait until a step is logged."""
        limit = time.monotonic() + seconds
        while all(row.get("step", 0) < step or "loss" not in row for row in rows(self._folder / "run")):
            assert time.monotonic() < limit
            assert all(process.poll() is None for process in self.processes), [self.output(n) for n in (0, 1)]
            time.sleep(0.05)

    def _output(self, number: int) -> Path:
        return self._folder / f"output-{number}.txt"


def alone(config: Path, *options: str) -> None:
    """Run a configuration to its end in one process."""
    command = [sys.executable, str(PROJECT / "tests" / "quick_launch.py"), str(config), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=config.parent, check=False)
    assert done.returncode == 0, done.stderr


def rows(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def losses(run: Path) -> list[tuple[int, float, float]]:
    """The loss and the gradient norm of every step."""
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows(run) if "loss" in row]


def digests(run: Path) -> dict[str, str]:
    """The digest of every checkpoint's state."""
    return {
        f"{path.parent.parent.name}/{path.parent.name}": json.loads(path.read_text())["state_sha256"]
        for path in run.glob("*/*/meta.json")
    }
