"""Check on one GPU or TPU, in at most 8 minutes, that this project computes rightly there, and how
fast."""

import argparse
import contextlib
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from llm60_jax import config as config_module
from llm60_jax.config import Config
from llm60_jax.errors import InputError, MachineError
from llm60_jax.machine import cli, environment, shipped, terminal
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Noise, StepKey, flops

EXAMPLES = """examples:
  # all of it, as a table; the report stays in a file
  python tools/gpu_check.py --json > gpu.json
  # two parts of it
  python tools/gpu_check.py --parts numbers,resume
  # without a GPU: the same code on a CPU, with small models; no check of a GPU
  python tools/gpu_check.py --rehearse

The parts, in this order:
  numbers     fused attention against its definition, forward and backward; whether float32 products
              are float32; whether sums over repeated rows are right and repeatable
  resume      a training that is killed (SIGKILL) and resumed, against an undisturbed one, bit for bit
  letter      tokens a second, MFU and memory of the five stages of configs/llm60.toml as it stands
  whole       the same with a step in one micro-batch and nothing computed twice, which is what the
              tuner tries first
  quickstart  the first phase of configs/quickstart.toml
  auto        the tuner's answer for configs/llm60.toml, and the five stages with it

Each part is a process of its own, which has the device alone. A part that takes too long is ended,
and the report says so. The exit code is 0 if all parts that were asked for are done and right,
else 1; it is 5 without a GPU or TPU.
"""
# Seconds at most of each part on a device, and of all together.
_LIMITS = {"numbers": 90, "resume": 150, "letter": 150, "whole": 120, "quickstart": 150, "auto": 250}
SECONDS, REHEARSAL_SECONDS = 470.0, 3600.0
_TOOLS = Path(__file__).resolve().parents[1]
_PROBE = "numbers"  # the part that this script runs itself, and that finds the device
# 1e12 operations a second of dense bfloat16 products, by a part of the device's name; data sheets of NVIDIA and Google.
_SHEETS = {"H200": 989, "H100 80GB HBM3": 989, "A100": 312, "L40S": 362, "L4": 121, "v5 lite": 197, "v6 lite": 918}
# Largest errors, relative to the largest value: bfloat16 has 8 bits, float32 has 24, TF32 has 11.
_ATTENTION_ERROR, _FLOAT32_ERROR = 2e-2, 1e-5
_GRACE = 10.0  # seconds for a process that is asked to end


class Training(NamedTuple):
    """A training of a shipped configuration."""

    config: str
    settings: Sequence[str] = ()

    def load(self) -> Config:
        """Return its configuration."""
        return config_module.load(shipped.configs()[self.config], self.settings)


class Trainings(NamedTuple):
    """The trainings that the parts run."""

    timed: Training
    whole_step: str  # its `train.micro_batch` for a step in one micro-batch
    quickstart: Training
    killed: Training


_FIRST_PHASE = ("phase.vocabulary=", "phase.fine_tune=", 'tokenizer.phases=["grammar"]')  # of three
_FULL = Trainings(
    timed=Training("llm60"),
    whole_step="[[128,32],[256,16],[512,8]]",
    quickstart=Training("quickstart", _FIRST_PHASE),
    # a context of 128 tokens, as fused attention needs it
    killed=Training(
        "tiny",
        (
            *_FIRST_PHASE, "model.dim=128", "model.hidden_dim=256", "model.max_context=128",
            "train.tokens_per_step=512", "train.micro_batch=[[128,2]]", "phase.grammar.context=[[0.0,128]]",
            "phase.grammar.freeze=[[0.0,0],[0.5,2]]",
        ),
    ),
)  # fmt: skip
_TINY = Training("tiny", (*_FIRST_PHASE, "phase.grammar.context=[[0.0,32]]", "phase.grammar.freeze=[[0.0,0],[0.5,4]]"))
_REHEARSAL = Trainings(timed=_TINY, whole_step="[[32,4]]", quickstart=_TINY, killed=_TINY)


# --- Numbers ---------------------------------------------------------------------------------------------------------


def numbers(rehearse: bool) -> dict[str, Any]:
    """Return what this process's device is, and how exactly it computes."""
    import jax

    from llm60_jax.machine import facts, memory

    environment.settle(trains_on="auto")
    versions = facts.versions()
    backend = jax.default_backend()
    if backend == "cpu" and not rehearse:
        raise MachineError(
            f"JAX finds no GPU or TPU here, only {versions['device']} ({facts.variables()}); on a GPU, install "
            "the extra: pip install -e '.[cuda]'. --rehearse runs the code of this check on a CPU"
        )
    stats = jax.local_devices()[0].memory_stats() or {}
    report = {
        "backend": backend,
        "versions": versions,
        "device_memory_bytes": stats.get("bytes_limit"),
        "repeatable": environment.is_repeatable(backend),
        "attention": [_attention_error(context, rehearse) for context in ((128,) if rehearse else (128, 256, 512))],
        "float32_error": _float32_error(256 if rehearse else 2048),
        "scatter": _scatter(1000 if rehearse else 32_000),
    }
    return report | {"peak_bytes": memory.peak()}


def _attention_error(context: int, rehearse: bool) -> dict[str, Any]:
    """Compare the fused kernel with the definition of attention in float32, on packed rows of `context` tokens.

    The errors of the output and of the gradients of q, k and v are relative to the largest value.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from llm60_jax.model import attention

    rows, heads = (1, 1) if rehearse else (8, 5)
    kernel: Callable[..., Any] = attention.FUSED_KERNELS.get(
        jax.default_backend(), functools.partial(attention.on_gpu, interpret=True)
    )
    rng = np.random.default_rng(context)
    q, k, v, g = (jnp.asarray(rng.standard_normal((rows, heads, context, 64)), jnp.bfloat16) for _ in range(4))
    ends = np.sort(rng.integers(1, context, (rows, 3)))  # of two documents, and of a third before the padding
    segments = (1 + (np.arange(context)[None, None] >= ends[..., None]).sum(1)) % 4
    seen = attention.sight(jnp.asarray(segments, jnp.int32))
    float32 = jnp.dtype(jnp.float32)

    def results(function: Callable[..., Any], *operands: Any) -> list[Any]:
        value, pull = jax.vjp(function, *operands)
        return [value, *pull(g.astype(value.dtype))]

    fused = jax.jit(lambda *x: results(lambda *y: kernel(*y, seen), *x))
    ours, again = fused(q, k, v), fused(q, k, v)
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    defined = functools.partial(attention.plain, mask=seen.mask_B1TS, dtype=float32)
    right = jax.jit(lambda *x: results(defined, *x))(*wide)
    errors = {
        name: float(jnp.abs(got.astype(jnp.float32) - want).max() / jnp.abs(want).max())
        for name, got, want in zip(("output", "dq", "dk", "dv"), ours, right, strict=True)
    }
    repeats = all(bool((a == b).all()) for a, b in zip(ours, again, strict=True))
    return {"context": context, "errors": errors, "repeats": repeats}


def _float32_error(size: int) -> float:
    """Return the largest error of a product in float32, relative to the largest value."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from llm60_jax.model.matmul import matmul

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    right = a.astype(np.float64) @ b.astype(np.float64)
    ours = np.asarray(jax.jit(lambda a, b: matmul(a, b, jnp.dtype(jnp.float32)))(a, b))
    return float(np.abs(ours - right).max() / np.abs(right).max())


def _scatter(vocabulary: int) -> dict[str, Any]:
    """Compare the gradient of an embedding, a sum over repeated rows, with NumPy's, and with itself."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)
    tokens = (rng.zipf(1.3, 4096) % vocabulary).astype(np.int32)
    g = rng.standard_normal((len(tokens), 320)).astype(np.float32)
    right = np.zeros((vocabulary, 320))
    np.add.at(right, tokens, g)
    # All as arguments, because the compiler would compute a sum of constants itself.
    gradient = jax.jit(lambda table, tokens, g: jax.vjp(lambda table: table[tokens], table)[1](g)[0])
    runs = [np.asarray(gradient(jnp.zeros((vocabulary, 320)), tokens, g)) for _ in range(3)]
    error = float(np.abs(runs[0] - right).max() / np.abs(right).max())
    return {"error": error, "repeats": all((run == runs[0]).all() for run in runs)}


def faults_of_numbers(report: dict[str, Any]) -> list[str]:
    """Return what is wrong with the numbers of a device."""
    wrong = []
    for row in report["attention"]:
        wrong += [
            f"attention over {row['context']} tokens: the error of {name} is {error:.1e}, above {_ATTENTION_ERROR:.0e}"
            for name, error in row["errors"].items()
            if not error <= _ATTENTION_ERROR
        ]
        if report["repeatable"] and not row["repeats"]:
            wrong.append(f"attention over {row['context']} tokens: two calls give different bits")
    for name, error in (("a float32 product", report["float32_error"]), ("a scatter", report["scatter"]["error"])):
        if not error <= _FLOAT32_ERROR:
            wrong.append(f"the error of {name} is {error:.1e}, above {_FLOAT32_ERROR:.0e}: it is not in float32")
    if report["repeatable"] and not report["scatter"]["repeats"]:
        wrong.append(f"sums over repeated rows give different bits each time, in spite of {environment.DETERMINISM}")
    return wrong


# --- Parts -----------------------------------------------------------------------------------------------------------


class Ended(Exception):
    """A process of a part failed or took too long.

    `exit_code` is that of the process, None if the time was over; `said` are its messages.
    """

    def __init__(self, message: str, exit_code: int | None = None, said: str = ""):
        super().__init__(message)
        self.exit_code, self.said = exit_code, said


class Parts:
    """The parts by name, each a method that returns its report. A part raises `Ended`.

    `_run` starts the processes, in the folder of this check.
    """

    until = 0.0  # by time.monotonic(), the end of the part under way

    def __init__(self, folder: Path, trainings: Trainings, rehearse: bool, interrupts: Interrupts):
        self._folder, self._trainings, self._rehearse, self._interrupts = folder, trainings, rehearse, interrupts
        self._settings = [f"data_dir={folder / 'data'}", "train.kernels=xla"]

    def numbers(self) -> dict[str, Any]:
        """Run `numbers` in a process of its own."""
        mode = "rehearse" if self._rehearse else "check"
        try:
            report = json.loads(self._run([str(Path(__file__).resolve()), "--part", mode]))
        except Ended as ended:
            if ended.exit_code == MachineError.exit_code:  # there is nothing to check
                raise MachineError(ended.said.partition(": ")[2]) from None
            raise
        return report | {"faults": faults_of_numbers(report)}

    def resume(self) -> dict[str, Any]:
        """Kill a training at a random moment, and compare every checkpoint with an undisturbed training's."""
        options = ["--kills", "2", "--no-controls", "--steps", "10", "--folder", str(self._folder / "resume"), "--json"]
        report = json.loads(self._tool("trials/verify_resume.py", self._trainings.killed, options, may_fail=True))
        return {**report, "faults": report["kills"]["faults"]}

    def letter(self) -> dict[str, Any]:
        """Time the stages as the configuration has them."""
        return self._speed(self._trainings.timed)

    def whole(self) -> dict[str, Any]:
        """Time the stages with a step in one micro-batch."""
        timed, sizes = self._trainings.timed, f"train.micro_batch={self._trainings.whole_step}"
        return self._speed(timed._replace(settings=(*timed.settings, sizes, "train.remat=none")))

    def quickstart(self) -> dict[str, Any]:
        """Train the first phase of the quickstart, from raw text to its gate."""
        workdir, start = self._folder / "quickstart", time.monotonic()
        options = ["--workdir", str(workdir)]
        self._tool("../launch.py", self._trainings.quickstart, options, may_fail=True)
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        ends = [row["stage_end"] for row in rows if "stage_end" in row]
        losses = [row["validation_loss"] for row in rows if "validation_loss" in row]
        (gate,) = (json.loads(path.read_text(encoding="utf-8")) for path in (workdir / "gates").glob("*.json"))
        return {
            "seconds": time.monotonic() - start,
            "tokens_per_second": [end["tokens_per_second"] for end in ends],
            "compile_seconds": sum(end["compile_seconds"] for end in ends),
            "peak_bytes": max(end["peak_resident_bytes"] for end in ends),
            "held_out_losses": [losses[0], losses[-1]],
            "gate_passed": gate["passed"],
            "faults": [] if losses[-1] < losses[0] else [f"the held-out loss went from {losses[0]} to {losses[-1]}"],
        }

    def auto(self) -> dict[str, Any]:
        """Let the tuner choose, and time the stages with its answer."""
        timed = self._trainings.timed
        # The phases of a configuration have the same programs, so one phase is enough.
        first, *others = timed.load().phase_names
        alone = [*(f"phase.{name}=" for name in others), f'tokenizer.phases=["{first}"]']
        auto = timed._replace(settings=(*timed.settings, *alone, "train.micro_batch=auto", "train.remat=auto"))
        answer = json.loads(self._tool("tune.py", auto, ["--rounds", "1", "--json"]))
        return {"tuned": answer, **self._speed(auto)}

    def _speed(self, training: Training) -> dict[str, Any]:
        options = ["--rounds", "2", "--foreign-percent", "100000", "--json"]
        report = json.loads(self._tool("bench/bench.py", training, options))
        rows = [row | {"model_flops": self._model_flops(row)} for row in report["stages"]]
        return {"stages": rows, "faults": []}

    def _model_flops(self, row: dict[str, Any]) -> int:
        """Return the operations of a step without those that a remat policy repeats."""
        model = self._trainings.timed.load().model
        key = StepKey(
            row["context"], row["micro_batch"], row["tokens"] // row["context"] // row["micro_batch"], row["frozen"],
            False, "none", Noise(),
        )  # fmt: skip
        return flops.step_flops(model, key)

    def _tool(self, script: str, training: Training, options: Sequence[str], may_fail: bool = False) -> str:
        """Run a script of tools/ on a training, and return its output."""
        sets = [item for setting in (*self._settings, *training.settings) for item in ("--set", setting)]
        config = str(shipped.configs()[training.config])
        return self._run([str((_TOOLS / script).resolve()), config, *sets, *options], may_fail)

    def _run(self, command: Sequence[str], may_fail: bool = False) -> str:
        """Run a Python script and return what it prints. Raise Ended if it fails, or the time is over.

        `may_fail` allows the exit codes 1 and 3, with which a script reports a result that it does not like.
        """
        start = time.monotonic()
        with (self._folder / "messages.txt").open("a+", encoding="utf-8") as errors:
            place = errors.tell()
            process = subprocess.Popen(
                [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                text=True, start_new_session=True,
            )  # fmt: skip
            try:
                out = self._output(process)
            finally:
                _end(process)
            if out is None:
                raise Ended(f"ended after {time.monotonic() - start:.0f} s, because the time was over")
            if process.returncode not in ((0, 1, 3) if may_fail else (0,)):
                errors.seek(place)
                code, said = process.returncode, errors.read()[-1500:].strip()
                raise Ended(f"{Path(command[0]).name}: exit code {code}: {said}", code, said)
            return out

    def _output(self, process: "subprocess.Popen[str]") -> str | None:
        """Wait for a process and return its output; None if the time is over before."""
        while True:
            left = self.until - time.monotonic()
            if left <= 0:
                return None
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=min(1.0, left))[0]
            self._interrupts.check()


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process if it still runs, and all that it has started: they would keep the device from the next part."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)  # some in sessions of their own
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE)
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil compares its start, so it is no other process
            child.kill()
    process.kill()
    process.communicate()


# --- Report ----------------------------------------------------------------------------------------------------------


def check(parts: Parts, names: Sequence[str], seconds: float, rehearse: bool) -> dict[str, Any]:
    """Run parts in turn and return the report. Raise MachineError if there is no device to check."""
    end = time.monotonic() + seconds
    report: dict[str, Any] = {"is_check_of_a_device": not rehearse, "parts": {}}
    for name in names:
        start = time.monotonic()
        parts.until = end if rehearse else min(end, start + _LIMITS[name])
        terminal.say(f"{name} ...")
        try:
            part = getattr(parts, name)()
        except Ended as ended:
            part = {"faults": [f"not done: {ended}"]}
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            part = {"faults": [f"not done: its report cannot be read: {type(error).__name__}: {error}"]}
        report["parts"][name] = part | {"wall_seconds": round(time.monotonic() - start, 1)}
    device = report["parts"].get(_PROBE, {}).get("versions", {}).get("device")
    report["device"], report["sheet_flops_per_second"] = device, sheet_flops(device or "")
    report["passed"] = not any(part["faults"] for part in report["parts"].values())
    return report


def sheet_flops(device: str) -> float | None:
    """Return the dense bfloat16 operations a second of a device by its data sheet; None for an unknown one."""
    return next((1e12 * tera for part, tera in _SHEETS.items() if part.lower() in device.lower()), None)


def as_text(report: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"device: {report['device'] or 'not asked'}"]
    for name, part in report["parts"].items():
        lines.append(f"\n{name}: {'FAILED' if part['faults'] else 'done'} in {part['wall_seconds']:.0f} s")
        lines += [f"  {fault}" for fault in part["faults"]]
        if part["faults"] and "stages" not in part and "attention" not in part:
            continue
        if name == "numbers":
            lines += _numbers_as_text(part)
        elif name == "resume":
            kills = part["kills"]
            lines.append(
                f"{kills['disturbed']} processes killed, {kills['while_saving']} of them while saving, and resumed: "
                "equal to the undisturbed run, bit for bit"
            )
        elif name == "quickstart":
            first, last = part["held_out_losses"]
            lines.append(
                f"{part['seconds']:.0f} s in all, {part['compile_seconds']:.0f} of them compiling; "
                f"{statistics.median(part['tokens_per_second']):,.0f} tokens/s; held-out loss {first:.3f} to "
                f"{last:.3f}; gate {'passed' if part['gate_passed'] else 'not passed'}; "
                f"peak {part['peak_bytes'] / 2**20:,.0f} MiB"
            )
        else:
            lines.append(_speeds_as_text(part["stages"], report["sheet_flops_per_second"]))
    if report["is_check_of_a_device"]:
        lines.append(f"\nverdict: {'right' if report['passed'] else 'FAILED'}")
    else:
        what = "the code of the check runs" if report["passed"] else "the code of the check FAILED"
        lines.append(f"\nverdict: a rehearsal on a CPU: {what}. It says nothing about a GPU")
    return "\n".join(lines)


def _numbers_as_text(part: dict[str, Any]) -> list[str]:
    rows = [
        (str(row["context"]), *(f"{row['errors'][name]:.1e}" for name in ("output", "dq", "dk", "dv")))
        for row in part["attention"]
    ]
    memory = f"{part['device_memory_bytes'] / 2**30:.1f} GiB" if part["device_memory_bytes"] else "not counted"
    return [
        terminal.columns(("attention over", "output", "dq", "dk", "dv"), rows),
        f"float32 product {part['float32_error']:.1e}, scatter {part['scatter']['error']:.1e}; "
        f"repeatable: {part['scatter']['repeats']}; memory of the device: {memory}",
    ]


def _speeds_as_text(rows: Sequence[dict[str, Any]], sheet: float | None) -> str:
    """Return the stages as a table. MFU is the model's operations, none counted twice, over the data sheet's."""
    headings = ("stage", "context", "frozen", "sequences", "remat", "tokens/s", "MFU", "of ceiling", "compile s", "MiB")
    cells = [
        (
            *(str(row[name]) for name in ("stage", "context", "frozen", "micro_batch", "remat")),
            f"{row['tokens_per_second']:,.0f}",
            f"{row['model_flops'] / row['step_seconds'] / sheet:.1%}" if sheet else "-",
            f"{row['model_flops'] / row['step_seconds'] / row['ceiling_flops_per_second']:.1%}",
            f"{row['compile_seconds']:.1f}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
        )
        for row in rows
    ]
    return terminal.columns(headings, cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("--parts", default=",".join(_LIMITS), metavar="P,P", help="parts to run (default: all)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=f"for all parts together (default {SECONDS:.0f}, and {REHEARSAL_SECONDS:.0f} for a rehearsal)",
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="run the code on a CPU too, with small models; no check of a GPU"
    )
    parser.add_argument("--part", choices=["check", "rehearse"], help=argparse.SUPPRESS)  # a process of this check
    parser.add_argument("--json", action="store_true", help="print one JSON object; the table is on stderr")
    results: list[bool] = []

    def body(options: argparse.Namespace, interrupts: Interrupts) -> None:
        if options.part:
            print(json.dumps(numbers(rehearse=options.part == "rehearse")))
            return
        names = [name for name in options.parts.split(",") if name]
        if not names or not set(names) <= set(_LIMITS):
            raise InputError(f"--parts: {options.parts!r}, but it must be some of {', '.join(_LIMITS)}")
        seconds = options.seconds or (REHEARSAL_SECONDS if options.rehearse else SECONDS)
        if not seconds > 0:
            raise InputError(f"--seconds: {seconds:g}, but it must be above 0")
        names = [name for name in _LIMITS if name in names or name == _PROBE]  # that finds the device
        trainings = _REHEARSAL if options.rehearse else _FULL
        with tempfile.TemporaryDirectory(prefix="gpu_check") as place, terminal.hushed(options.json):
            parts = Parts(Path(place), trainings, options.rehearse, interrupts)
            report = check(parts, names, seconds, options.rehearse)
        results.append(report["passed"])
        if options.json:
            print(json.dumps(report, indent=1))
            print(as_text(report), file=sys.stderr)
        else:
            terminal.say(as_text(report))

    return cli.run_tool("gpu_check.py", parser, arguments, body) or int(not all(results))


if __name__ == "__main__":
    sys.exit(main())
