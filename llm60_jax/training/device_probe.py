"""Compute numbers on a device, to compare them with the CPU's.

`python -m llm60_jax.training.device_probe MODULE ...` prints them as one JSON object and leaves
out the plug-ins of those modules. machine/devices.py starts it as a process, because a plug-in can
crash or hang.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from llm60_jax import config as config_module
from llm60_jax.machine import devices
from llm60_jax.plan import Noise, StepKey
from llm60_jax.training import step

_CONFIG = {
    "workdir": "none",
    "model": {
        "vocab_size": 512, "layers": 4, "stacks": [2, 2], "dim": 64, "heads": 2, "hidden_dim": 128,
        "max_context": 128,
    },
    "tokenizer": {"phases": ["probe"]},
    "train": {"tokens_per_step": 512, "micro_batch": [[128, 2]]},
    "phase": [
        {
            "name": "probe", "tokens": 512, "context": [[0.0, 128]], "freeze": [[0.0, 0]],
            "learning_rate": [1e-3, 1e-3], "sources": [{"kind": "folder", "path": "none"}],
        }
    ],
}  # fmt: skip
# dropout and remat; then frozen blocks
_KEYS = (StepKey(128, 2, 2, 0, False, "full", Noise(mlp=0.1)), StepKey(128, 2, 2, 2, False, "none", Noise()))


def bfloat16_product() -> list[float]:
    """Return 16 elements of a product of bfloat16 matrices with float32 accumulation."""
    rng = np.random.default_rng(1)
    a, b = (jnp.asarray(rng.standard_normal((256, 256), np.float32), jnp.bfloat16) for _ in range(2))
    product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))(a, b)
    return np.asarray(product)[::64, ::64].ravel().tolist()


def training() -> list[list[float]]:
    """Train a tiny model twice from one start; return losses and gradient norms of both runs."""
    config = config_module.parse(_CONFIG, "probe")
    rng, shape = np.random.default_rng(0), (2, 2, 128)
    batch = {name: rng.integers(4, 512, shape, np.int32) for name in ("tokens", "targets")}
    batch |= {"segments": np.ones(shape, np.int32), "weights": np.ones(shape, np.float32)}
    rate = jnp.float32(1e-3)
    programs = [jax.jit(lambda state, key=key: step.train_step(config, key, state, batch, rate)) for key in _KEYS]
    runs: list[list[float]] = [[], []]
    for numbers in runs:
        state = step.init(config)
        for program in programs:
            for _ in range(2):
                state, metrics = program(state)
                numbers += [float(metrics.loss), float(metrics.grad_norm)]
    return runs


def main() -> int:
    """Print the numbers as JSON; without bfloat16 products, print the reason instead."""
    devices.leave_out(sys.argv[1:])
    report: dict[str, object] = {"device": jax.devices()[0].device_kind}
    try:
        report["bfloat16"] = bfloat16_product()
    except Exception as error:
        report["without_bfloat16"] = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps(report))
        return 0
    first, second = training()
    print(json.dumps({**report, "training": first, "repeats": first == second}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
