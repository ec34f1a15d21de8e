"""Texts that a run writes with its checkpoints: `samples/<step>.json`, the same prompts and seeds every time."""

from llm60_jax import generate
from llm60_jax.config import Phase
from llm60_jax.generate import Choice, Written
from llm60_jax.machine import files, together
from llm60_jax.machine.terminal import say
from llm60_jax.model.groups import Params
from llm60_jax.run.state import Run
from llm60_jax.training import phase_groups

_SHOWN = 2  # texts on the terminal


def keep(run: Run, phase: Phase, *, show: bool = False) -> None:
    """Write the texts of the step at which a run stands, and keep them; print some if asked to."""
    params = run.whole().params

    def work() -> None:
        written = _kept(run, phase, phase_groups.merged(params, phase.lora))
        if show:
            _show(written, phase)

    together.on_first(work)


def _kept(run: Run, phase: Phase, params: Params) -> Written:
    config, tokenizer = run.config, run.data.tokenizer
    choice = Choice.of(config.sampling, tokenizer.eos)
    requests = generate.requests(config.sampling, config.seed, config.model.max_context)
    written = generate.write(run.model, params, tokenizer, requests, choice, run.interrupts.check)
    record = {
        "step": run.step,
        "phase": phase.name,
        "choice": choice._asdict(),
        "tokens_per_second": round(written.tokens_per_second, 1),
        "texts": [
            {
                **text._asdict(),
                "seed": request.seed,
                "kind": "short" if request.tokens == config.sampling.tokens else "long",
            }
            for text, request in zip(written.texts, requests, strict=True)
        ],
    }
    run.workdir.write(f"samples/{run.step:08}.json", files.dump(record))
    return written


def _show(written: Written, phase: Phase) -> None:
    """Print some of the short texts; the others are in the file."""
    say(f"samples at the end of phase {phase.name}:")
    for text in written.texts[: min(_SHOWN, len(written.texts) // 2)]:
        say("  | " + text.text.replace("\n", " "))
