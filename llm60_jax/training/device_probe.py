"""What a device computes, as numbers to compare with the CPU's.

`python -m llm60_jax.training.device_probe MODULE ...` prints them as one JSON object, with the plug-ins of those
modules left out. It is a process of its own, because a plug-in can crash or hang (machine/devices.py).
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

_TREE = {
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
_KEYS = (StepKey(128, 2, 2, 0, False, "full", Noise(mlp=0.1)), StepKey(128, 2, 2, 2, False, "none", Noise()))


def bfloat16_product() -> list[float]:
    """Some elements of a product of bfloat16 matrices with float32 accumulation."""
    rng = np.random.default_rng(1)
    a, b = (jnp.asarray(rng.standard_normal((256, 256), np.float32), jnp.bfloat16) for _ in range(2))
    product = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))(a, b)
    return np.asarray(product)[::64, ::64].ravel().tolist()


def training() -> list[list[float]]:
    """Losses and gradient norms of some train steps of a tiny model, with dropout and remat, then with frozen blocks:
    twice the same."""
    config = config_module.parse(_TREE, "probe")
    rng, shape = np.random.default_rng(0), (2, 2, 128)
    batch = {name: rng.integers(4, 512, shape, np.int32) for name in ("tokens", "targets")}
    batch |= {"segments": np.ones(shape, np.int32), "weights": np.ones(shape, np.float32)}
    rate = jnp.float32(1e-3)
    programs = [jax.jit(lambda state, key=key: step.train_step(config, key, state, batch, rate)) for key in _KEYS]
    found: list[list[float]] = [[], []]
    for numbers in found:
        state = step.init(config)
        for program in programs:
            for _ in range(2):
                state, metrics = program(state)
                numbers += [float(metrics.loss), float(metrics.grad_norm)]
    return found


def main() -> int:
    devices.leave_out(sys.argv[1:])
    found: dict[str, object] = {"device": jax.devices()[0].device_kind}
    try:
        found["bfloat16"] = bfloat16_product()
    except Exception as error:
        found["without_bfloat16"] = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps(found))
        return 0
    first, second = training()
    print(json.dumps({**found, "training": first, "repeats": first == second}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
