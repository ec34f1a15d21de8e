"""Count the matrix products of a traced program, by part of the model.

XLA's cost analysis counts a loop's body once, whatever its trip count, so it misses scanned layers.
This module reads the traced program and multiplies by the length of every scan. A while loop counts
only in the scope `mesh.ONCE`, once. plan/flops.py predicts the same count by formula, and proof.py
compares the two.
"""

import collections
import math
import re
from collections.abc import Iterator
from typing import Any

from llm60_jax.training import mesh

# The scopes (jax.named_scope) of model and step; "blocks" is a whole stack on the native kernels, and OTHER is outside
# all of them.
PARTS = ("embedding", "norm", "attention", "mlp", "blocks", "head", "gradients", "optimizer")
OTHER = "other"
_PART = re.compile(rf"\b({'|'.join(PARTS)})\b")


def part_of(path: str, default: str = OTHER) -> str:
    """Return the innermost part in a path of scopes: `jvp(while)/body/attention/dot_general`."""
    parts = _PART.findall(path)
    return parts[-1] if parts else default


def by_part(traced: Any) -> dict[str, int]:
    """Return the operations of a traced program's matrix products, by part of the model.

    Products inside Pallas kernels are left out.

    Args:
      traced: a closed jaxpr.

    Raises:
      ValueError: a while loop has matrix products and no known trip count.
    """
    return dict(_count(traced.jaxpr, OTHER))


def _count(jaxpr: Any, outside: str) -> collections.Counter[str]:
    """Count a program's operations; those without a scope of their own belong to `outside`."""
    total: collections.Counter[str] = collections.Counter()
    for equation in jaxpr.eqns:
        primitive = equation.primitive.name
        part = part_of(str(equation.source_info.name_stack), outside)
        if primitive == "dot_general":
            total[part] += _dot_flops(equation)
            continue
        if primitive == "pallas_call":  # skip: its products are in loops over blocks
            continue
        counts = [_count(body, part) for body in bodies(equation)]
        scopes = str(equation.source_info.name_stack).split("/")
        if primitive == "while" and scopes[-1] != mesh.ONCE and any(count.total() for count in counts):
            raise ValueError(
                f"a while loop has matrix products in part '{part}', and its trip count is unknown; use jax.lax.scan"
            )
        if primitive == "cond":
            counts = [max(counts, key=collections.Counter.total)]
        repeats = equation.params["length"] if primitive == "scan" else 1
        if primitive == "shard_map":  # every device does the same work
            repeats = equation.params["mesh"].size
        for count in counts:
            total.update({name: repeats * flops for name, flops in count.items()})
    return total


def _dot_flops(equation: Any) -> int:
    """Return two operations for each multiplication of [batch, m, k] with [batch, k, n]."""
    (contract, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contract)


def bodies(equation: Any) -> Iterator[Any]:
    """Yield the programs inside an equation: loop bodies, branches, called functions."""
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "jaxpr"):
                yield item.jaxpr
            elif hasattr(item, "eqns"):
                yield item
