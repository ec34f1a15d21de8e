"""Run the same model and train step in PyTorch, in a process that tools/bench.py times, one JSON
object a line.

Not for use by itself. It needs the extra torch: pip install -e '.[torch]'
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from worker_process import serve

from llm60_jax.errors import InputError
from llm60_jax.machine import cli, files
from llm60_jax.machine.signals import Interrupts


def _serve(options: argparse.Namespace, interrupts: Interrupts) -> None:
    try:
        import torch
        from torch_side import TorchWorker
    except ImportError:
        raise InputError("PyTorch is not installed; pip install -e '.[torch]'") from None
    facts = json.loads(files.read_text(options.facts))
    serve(TorchWorker(facts, np.load(facts["weights"], allow_pickle=False)), torch.__version__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until bench.py closes the pipe."""
    parser = cli.parser(__doc__, "")
    parser.add_argument("facts", type=Path, metavar="FACTS", help="a JSON file that bench.py writes")
    return cli.run_tool("bench_torch.py", parser, arguments, _serve)


if __name__ == "__main__":
    sys.exit(main())
