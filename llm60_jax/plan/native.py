"""What the native kernels claim. No jax.

One place refuses: what is not claimed here runs as plain XLA, and the reason is said. The kernels also
need a CPU and a compiler; `kernels/choice.py` sees to that.
"""

from llm60_jax.config import Model
from llm60_jax.plan.step_key import StepKey

HEAD_DIMS = (32, 64, 128)
WIDTH = 32  # widths of the residual stream are multiples; others are padded to one
BLOCK = 32  # positions of a block of queries or keys in attention


def unclaimed(model: Model) -> str | None:
    """Return why the kernels do not claim an architecture, for scoring and writing; None if they do."""
    if model.dim % WIDTH:
        return f"model.dim is {model.dim}, and the native kernels take multiples of {WIDTH}"
    if model.head_dim not in HEAD_DIMS:
        return f"heads have a width of {model.head_dim}, and the native kernels take {', '.join(map(str, HEAD_DIMS))}"
    return None


def unclaimed_step(model: Model, key: StepKey) -> str | None:
    """Return why the kernels do not claim a train step; None if they do."""
    if key.lora is not None:
        return "adapters train in plain XLA"
    if key.devices > 1:
        return f"train.devices is {key.devices}, and the native kernels use all cores as one device"
    unknown = [name for name in ("attention", "drop_path", "activation") if getattr(key.noise, name)]
    if unknown:
        names = {"attention": "attention_dropout", "drop_path": "drop_path", "activation": "activation_noise"}
        return f"{', '.join(names[name] for name in unknown)} trains in plain XLA"
    return unclaimed(model)


def padded(width: int) -> int:
    """Round a width up to what the kernels compute."""
    return -(-width // WIDTH) * WIDTH
