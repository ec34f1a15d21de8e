"""Texts that a run writes with its checkpoints: `samples/<step>.json`, the same prompts and seeds every time."""

from llm60_jax import generate
from llm60_jax.config import Phase
from llm60_jax.generate import Choice, Written
from llm60_jax.machine import files
from llm60_jax.machine.terminal import say
from llm60_jax.run.session import Session
from llm60_jax.training import phase_groups


def keep(session: Session, phase: Phase) -> Written:
    """Writes the texts of the step at which a session stands, keeps them, and returns them."""
    config, words = session.config, session.data.tokenizer
    params = phase_groups.merged(session.state.params, phase.lora)
    choice = Choice.of(config.sampling, words.eos)
    wanted = generate.requests(config.sampling, config.seed, config.model.max_context)
    written = generate.write(config.model, params, words, wanted, choice, session.interrupts.check)
    record = {
        "step": session.step,
        "phase": phase.name,
        "choice": choice._asdict(),
        "tokens_per_second": round(written.tokens_per_second, 1),
        "texts": [
            {**text._asdict(), "seed": one.seed, "kind": "short" if one.tokens == config.sampling.tokens else "long"}
            for text, one in zip(written.texts, wanted, strict=True)
        ],
    }
    session.workdir.write(f"samples/{session.step:08}.json", files.dump(record))
    return written


def show(written: Written, phase: Phase) -> None:
    """Prints the short ones."""
    say(f"samples at the end of phase {phase.name}, written at {written.tokens_per_second:,.0f} tokens/s:")
    for text in written.texts[: len(written.texts) // 2]:
        say("  | " + text.text.replace("\n", " "))
