"""Trains a language model from raw text, or resumes the training: `python launch.py CONFIG`."""

import argparse
import json
import logging
import shlex
import signal
import sys
import traceback
from pathlib import Path

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import Config
from llm60_jax.errors import Failure, printable

EXAMPLES = """examples:
  python launch.py configs/quickstart.toml              the embedded default, all three phases
  python launch.py configs/quickstart.toml              again: goes on where it stopped
  python launch.py configs/llm60.toml --dry-run         check everything and print the plan
  python launch.py configs/llm60.toml --set phase.grammar.tokens=204800 --workdir runs/short

exit codes:
  0 done   2 bad input or configuration   3 a gate did not pass   4 damaged data or checkpoint
  5 disk, memory or device   6 training stopped itself   129, 130, 143 interrupted, state saved   1 internal error
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    logger = logging.getLogger("llm60_jax")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False  # what a person should see is printed; the rest is for log.txt
    try:
        options = _parse(arguments)
        overrides = options.set + ([f"workdir={_quoted(options.workdir)}"] if options.workdir else [])
        config = config_module.load(options.config, overrides)
        if options.dry_run:
            _dry_run(config)
        else:
            _run(
                config, shlex.join(["python", *sys.argv] if arguments is None else ["python", "launch.py", *arguments])
            )
        return 0
    except Failure as failure:
        logger.error("%s", failure)
        print(f"launch.py: {printable(str(failure))}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        print("launch.py: interrupted before training began; run the same command to start again", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            print("launch.py: out of memory; choose a smaller train.micro_batch or a smaller model", file=sys.stderr)
            return 5
        logger.error("%s", traceback.format_exc())
        print(
            f"launch.py: internal error: {type(error).__name__}: {printable(str(error))[:500]}\n"
            "  The traceback is in log.txt of the run directory; please report it",
            file=sys.stderr,
        )
        return 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG", help="a TOML file; see configs/")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override any field, for example seed=1 or phase.grammar.tokens=204800; may be repeated",
    )
    parser.add_argument("--workdir", metavar="DIR", help="the run directory, instead of the configuration's")
    parser.add_argument("--dry-run", action="store_true", help="validate everything, print the plan, train nothing")
    return parser.parse_args(arguments)


def _dry_run(config: Config) -> None:
    from llm60_jax import console
    from llm60_jax.data import sources
    from llm60_jax.workdir import WorkDir

    stage_plan = plan.build(config)
    WorkDir(Path(config.workdir)).check_identity(config)
    for phase in config.phase:
        for source in phase.sources:
            sources.inputs(source)
    console.say(console.plan_table(plan.to_rows(stage_plan, config)))
    console.say(
        f"{stage_plan.steps:,} steps of {stage_plan.tokens_per_step:,} tokens, {stage_plan.tokens:,} in all; "
        f"{config.model.parameter_count:,} parameters. The configuration is valid and its sources are there"
    )


def _run(config: Config, command: str) -> None:
    from llm60_jax.interrupts import Interrupts

    interrupts = Interrupts()
    interrupts.install()
    # The heavy imports come after the configuration is known to be good.
    from llm60_jax import loop

    loop.run(config, interrupts, command)


def _quoted(text: str) -> str:
    """A TOML string: the value of --workdir is always text, whatever it looks like."""
    return json.dumps(text)


if __name__ == "__main__":
    sys.exit(main())
