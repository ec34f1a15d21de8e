"""Arithmetic of a program, counted from the program itself, in all and by part of the model.

XLA's own cost analysis counts the body of a loop once, whatever its trip count, so it says nothing about scanned
layers. This counts matrix products in the traced program and multiplies by the lengths of the scans around them.
"""

import collections
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

# The scopes that model and step name (jax.named_scope); what lies outside all of them is OTHER.
PARTS = ("embedding", "norm", "attention", "mlp", "head", "gradients", "optimizer")
OTHER = "other"
_PART = re.compile(rf"\b({'|'.join(PARTS)})\b")


def part_of(path: str, default: str = OTHER) -> str:
    """The innermost part that a path of scopes names, as JAX writes it: `jvp(while)/body/attention/dot_general`."""
    found = _PART.findall(path)
    return found[-1] if found else default


def matmul_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Floating-point operations of all matrix products that one call of `function` performs.

    Args:
      function: a jax function.
      arguments: arrays or `jax.ShapeDtypeStruct`; nothing is computed.

    Raises:
      ValueError: the program has a loop whose trip count is not known before it runs.
    """
    return count(jax.make_jaxpr(function)(*arguments))


def count(traced: Any) -> int:
    """The same for a program that is traced already (a closed jaxpr)."""
    return sum(by_part(traced).values())


def by_part(traced: Any) -> dict[str, int]:
    """Operations of a traced program's matrix products by the part of the model that they belong to."""
    return dict(_count(traced.jaxpr, OTHER))


def _count(jaxpr: Any, outside: str) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        part = part_of(str(equation.source_info.name_stack), outside)
        if name == "dot_general":
            total[part] += _dot_flops(equation)
            continue
        if name == "pallas_call":  # its products lie inside loops over blocks
            continue
        inner = [_count(one, part) for one in _inner(equation)]
        if name == "while" and any(one.total() for one in inner):
            raise ValueError("a while loop with matrix products has no trip count to multiply by")
        if name == "cond":
            inner = [max(inner, key=collections.Counter.total)]
        repeats = equation.params["length"] if name == "scan" else 1
        if name == "shard_map":  # every device does as much
            repeats = equation.params["mesh"].size
        for one in inner:
            total.update({found: repeats * flops for found, flops in one.items()})
    return total


def _dot_flops(equation: Any) -> int:
    """Two operations for each multiplication of [batch, m, k] with [batch, k, n]."""
    (contract, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contract)


def _inner(equation: Any) -> Iterator[Any]:
    """The programs inside an equation: bodies of loops, branches, called functions."""
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(item, "jaxpr"):
                yield item.jaxpr
            elif hasattr(item, "eqns"):
                yield item
