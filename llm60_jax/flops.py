"""Arithmetic of a program, counted from the program itself.

XLA's own cost analysis counts the body of a loop once, whatever its trip count, so it says nothing about scanned
layers. This counts matrix products in the traced program and multiplies by the lengths of the scans around them.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


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
    return _count(traced.jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            total += _dot_flops(equation)
        elif name == "pallas_call":  # its products lie inside loops over blocks
            continue
        elif name == "while" and any(_count(inner) for inner in _inner(equation)):
            raise ValueError("a while loop with matrix products has no trip count to multiply by")
        elif name == "cond":
            total += max(_count(inner) for inner in _inner(equation))
        else:
            repeats = equation.params["length"] if name == "scan" else 1
            if name == "shard_map":  # every device does as much
                repeats = equation.params["mesh"].size
            total += repeats * sum(_count(inner) for inner in _inner(equation))
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
