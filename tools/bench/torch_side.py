"""The same model and train step in PyTorch, for bench_torch.py; not a command.

It does what a careful user of PyTorch would write: attention under the same document mask, bfloat16
autocast, the frozen blocks under no_grad, gradients accumulated over the same micro-batches,
Adafactor in its multi-tensor form. `VARIANTS` are the forms of the blocks and the head.
"""

import contextlib
import functools
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHUNK = 128  # queries at most of one chunk of `written_attention`
HEAD_CHUNK = 256  # tokens of one chunk of `WrittenHead`


class Variant(NamedTuple):
    """A form of the blocks and the head."""

    remat: bool = False  # non-reentrant checkpointing of every live block
    compiled: bool = False  # by torch.compile
    written: bool = False  # `written_attention` and `WrittenHead` in the place of PyTorch's own functions


VARIANTS = {
    "eager": Variant(),
    "remat": Variant(remat=True),
    "compiled": Variant(compiled=True),
    "written": Variant(compiled=True, written=True),
}


def rope_tables(length: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, float32 [length, head_dim / 2]."""
    angles = torch.arange(length)[:, None] * base ** (-torch.arange(0, head_dim, 2) / head_dim)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply RoPE."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def written_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Return attention by its definition, in chunks of queries that meet only the keys up to their end.

    On a CPU its compiled backward pass is faster than that of scaled_dot_product_attention.

    Args:
      bias: float32, added to the scores; -inf hides a key.
    """
    length, mixed = q.shape[2], []
    size = min(CHUNK, -(-length // 2))
    for start in range(0, length, size):
        stop = min(start + size, length)
        scores = (q[:, :, start:stop] @ k[:, :, :stop].mT).float() / math.sqrt(q.shape[-1])
        weights = torch.softmax(scores + bias[:, :, start:stop, :stop], -1)
        mixed.append(weights.to(v.dtype) @ v[:, :, :stop])
    return torch.cat(mixed, 2)


class WrittenHead(torch.autograd.Function):
    """The sum of the cross-entropies under the tied head, with logits in chunks of tokens.

    The forward pass forms the logits' gradient, bfloat16. So the logits never exist at once in
    float32, and their product runs only once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        x, narrow, loss, d_logits = x.to(torch.bfloat16), table.to(torch.bfloat16), x.new_zeros(()), []
        for x_chunk, targets_chunk in zip(x.split(HEAD_CHUNK), targets.split(HEAD_CHUNK), strict=True):
            logits = (x_chunk @ narrow.T).float()
            log_total = torch.logsumexp(logits, 1, keepdim=True)
            counts, wanted = (targets_chunk >= 0)[:, None], targets_chunk.clamp(min=0)[:, None]
            loss = loss + ((log_total - logits.gather(1, wanted)) * counts).sum()
            hits = (torch.arange(len(table)) == wanted).float()
            d_logits.append(((torch.exp(logits - log_total) - hits) * counts).to(torch.bfloat16))
        d_whole = torch.cat(d_logits)
        ctx.save_for_backward(d_whole @ narrow, d_whole.T @ x)
        return loss

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        d_x, d_table = ctx.saved_tensors
        return g * d_x.float(), g * d_table.float(), None


class TorchBlock(nn.Module):
    """Pre-LN: attention, then an MLP with GELU in its tanh form."""

    def __init__(self, dim: int, heads: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, hidden_dim, bias=False), nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, written: bool) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        mixed = (written_attention if written else F.scaled_dot_product_attention)(q, k, v, mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, D))
        hidden = F.gelu(self.up(self.mlp_norm(x)), approximate="tanh")
        return x + self.down(F.dropout(hidden, self.dropout, self.training))


class TorchTransformer(nn.Module):
    """A decoder with a tied head; its forward pass ends in the sum of the cross-entropies."""

    def __init__(self, model: dict[str, Any], dropout: float):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(model["vocab_size"], model["dim"]))
        self.embedding_scale = model["embedding_scale"]
        sizes = model["dim"], model["heads"], model["hidden_dim"], dropout
        self.blocks = nn.ModuleList(TorchBlock(*sizes) for _ in range(model["layers"]))
        self.norm = nn.LayerNorm(model["dim"])

    def forward(self, tokens, segments, targets, rope, frozen: int, variant: Variant) -> Tensor:
        run_block, head = compiled() if variant.compiled else (_run_block, _head)
        T = tokens.shape[1]
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        mask = ((segments[:, :, None] == segments[:, None, :]) & causal)[:, None]
        if variant.written:
            mask = torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
        rest = *rope, mask, variant.written
        with torch.no_grad() if frozen else contextlib.nullcontext():
            x = self.embedding_scale * F.embedding(tokens, self.embedding)
            for block in self.blocks[:frozen]:
                x = run_block(block, x, *rest)
        for block in self.blocks[frozen:]:
            x = checkpoint(block, x, *rest, use_reentrant=False) if variant.remat else run_block(block, x, *rest)
        return head(self.norm, self.embedding, x, targets, variant.written)

    def take(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set the parameters, by the names of `bench_jax.flat`."""
        with torch.no_grad():
            for name, parameters in self.places().items():
                values = weights[name] if name.startswith("blocks.") else weights[name][None]
                for place, value in zip(parameters, values, strict=True):
                    place.copy_(torch.tensor(value.T if name.endswith("kernel") else value))

    def give(self) -> dict[str, np.ndarray]:
        """Return the parameters in the form that `take` reads."""
        arrays = {}
        for name, parameters in self.places().items():
            values = [place.detach().T if name.endswith("kernel") else place.detach() for place in parameters]
            arrays[name] = torch.stack(values).numpy() if name.startswith("blocks.") else values[0].numpy()
        return arrays

    def places(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters behind each name: one for each block, bottom first, or a single
        one."""
        names = {
            "attention_norm.scale": "attention_norm.weight", "attention_norm.bias": "attention_norm.bias",
            "mlp_norm.scale": "mlp_norm.weight", "mlp_norm.bias": "mlp_norm.bias",
            "attention.qkv.kernel": "qkv.weight", "attention.out.kernel": "out.weight",
            "mlp.up.kernel": "up.weight", "mlp.down.kernel": "down.weight",
        }  # fmt: skip
        blocks = [dict(block.named_parameters()) for block in self.blocks]
        stacked = {f"blocks.{name}": [block[place] for block in blocks] for name, place in names.items()}
        single = {"embedding": self.embedding, "norm.scale": self.norm.weight, "norm.bias": self.norm.bias}
        return stacked | {name: [parameter] for name, parameter in single.items()}


def _run_block(block: TorchBlock, *arguments: Any) -> Tensor:
    return block(*arguments)


def _head(norm: nn.LayerNorm, table: Tensor, x: Tensor, targets: Tensor, written: bool) -> Tensor:
    if written:
        return WrittenHead.apply(norm(x).flatten(0, 1), table, targets.flatten())
    logits = F.linear(norm(x), table)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")


@functools.cache
def compiled() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Return a block's run and the head, compiled by torch.compile.

    It goes block by block, as PyTorch advises for repeated layers: the blocks share one program.
    Compiling the whole model of 60 blocks took more than seven minutes for two stages.
    """
    return torch.compile(_run_block), torch.compile(_head)


class Adafactor:
    """Adafactor with absolute rates and a bound on each matrix's update, the rule of
    llm60_jax/training/optim.py.

    torch.optim's Adafactor scales its rate by the size of the parameter. Compared trainings need
    one rule.
    """

    def __init__(self, parameters: list[nn.Parameter], weight_decay: float, clip_rms: float, decay_exponent: float):
        self.parameters, self.rate, self.steps = parameters, 0.0, 0
        self.weight_decay, self.clip_rms, self.decay_exponent = weight_decay, clip_rms, decay_exponent
        self.means: dict[tuple[int, str], Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for number, p in enumerate(self.parameters):
            assert p.grad is not None
            squared = p.grad.square() + 1e-30
            if p.ndim == 2 and min(p.shape) >= 32:
                row, column = self._mean(number, "row", squared.mean(1)), self._mean(number, "column", squared.mean(0))
                update = p.grad * (row / row.mean()).rsqrt()[:, None] * column.rsqrt()
            else:
                update = p.grad * self._mean(number, "whole", squared).rsqrt()
            update /= max(1.0, float(update.square().mean().sqrt()) / self.clip_rms)
            if p.ndim == 2:
                update.add_(p, alpha=self.weight_decay)
            p.sub_(update, alpha=self.rate)

    def zero_grad(self, set_to_none: bool) -> None:
        for p in self.parameters:
            p.grad = None

    def _mean(self, number: int, name: str, value: Tensor) -> Tensor:
        """Return the running mean of a value; the first value counts whole."""
        keep = 1 - self.steps**-self.decay_exponent
        old = self.means.setdefault((number, name), torch.zeros_like(value))
        return old.mul_(keep).add_(value, alpha=1 - keep)


class TorchWorker:
    """Answers the requests of bench.py."""

    def __init__(self, facts: dict[str, Any], weights: Mapping[str, np.ndarray]):
        torch.manual_seed(facts["seed"])
        self.facts = facts
        self.model = TorchTransformer(facts["model"], facts["dropout"])
        self.model.take(weights)

    def stage(self, context: int, frozen: int, micro_batch: int) -> dict[str, Any]:
        """Set a stage up, without a step."""
        trained = self._set_up(context, frozen)
        self.optimizer: Any = torch.optim.Adafactor(trained, lr=self.facts["learning_rate"], foreach=True)
        shape = self.facts["tokens_per_step"] // (context * micro_batch), micro_batch, context
        self.batch = [torch.randint(4, self.facts["model"]["vocab_size"], shape) for _ in range(2)]
        # Three documents in each row, like costs.documents on the other side.
        self.batch.append((1 + torch.arange(context) // -(-context // 3)).expand(shape))
        return {}

    def _set_up(self, context: int, frozen: int) -> list[nn.Parameter]:
        """Freeze the blocks as a stage needs them, and return the parameters that train."""
        torch._dynamo.reset()  # earlier stages' programs
        block: Any
        for number, block in enumerate(self.model.blocks):
            block.requires_grad_(number >= frozen)
            block.dropout = 0.0 if number < frozen else self.facts["dropout"]
        self.frozen, self.rope = frozen, self._rope(context)
        return [p for p in self.model.parameters() if p.requires_grad]

    def _rope(self, length: int) -> tuple[Tensor, Tensor]:
        model = self.facts["model"]
        return rope_tables(length, model["dim"] // model["heads"], model["rope_base"])

    def warm_up(self, variant: str) -> dict[str, Any]:
        """Do a step of one micro-batch, which compiles if the variant does."""
        start = time.perf_counter()
        self._step([x[:1] for x in self.batch], VARIANTS[variant])
        return {"compile_seconds": time.perf_counter() - start}

    def step(self, variant: str) -> dict[str, Any]:
        """Time one whole step that follows another, as bench_jax does."""
        self._step(self.batch, VARIANTS[variant])
        start = time.perf_counter()
        total = self._step(self.batch, VARIANTS[variant])
        return {"seconds": time.perf_counter() - start, "loss": total, "peak_bytes": peak_bytes()}

    def _step(self, batch: Sequence[Tensor], variant: Variant) -> float:
        """Do one step over tokens, targets and segments [G, B, T], and return the mean loss of the
        targets that count."""
        tokens, targets, segments = batch
        self.model.train()
        total, count = 0.0, int((targets >= 0).sum())
        for micro in zip(tokens, segments, targets, strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                part = self.model(*micro, self.rope, self.frozen, variant)
            part = part / count
            part.backward()
            total += float(part.detach())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def restore(self, weights: str) -> dict[str, Any]:
        """Set the stored weights."""
        self.model.take(np.load(weights, allow_pickle=False))
        return {}

    def train(
        self, rows: str, variant: str, seconds: float, rates: list[float], warmup: float, weights: str
    ) -> dict[str, Any]:
        """Train on stored batches for `seconds`, nothing frozen and compilation not counted, and
        save the weights.

        The rate warms up and then falls along a cosine, both by the share of the time that has
        passed.
        """
        stored = np.load(rows, allow_pickle=False)
        batches = [torch.from_numpy(stored[name]) for name in ("tokens", "targets", "segments")]
        form, trained = VARIANTS[variant], self._set_up(batches[0].shape[-1], 0)
        before = self.model.give()
        self.optimizer = Adafactor(trained, **self.facts["optimizer"])
        self._step([x[0].long() for x in batches], form)  # compiles; its rate is 0
        self.model.take(before)
        self.optimizer = Adafactor(trained, **self.facts["optimizer"])
        peak, final = rates
        start, done, total = time.perf_counter(), 0, 0.0
        while (passed := (time.perf_counter() - start) / seconds) < 1:
            falling = final + (peak - final) * 0.5 * (1 + math.cos(math.pi * (passed - warmup) / (1 - warmup)))
            self.optimizer.rate = peak * passed / warmup if passed < warmup else falling
            total = self._step([x[done % len(x)].long() for x in batches], form)
            done += 1
        np.savez(weights, **self.model.give())  # type: ignore[arg-type]
        return {"seconds": time.perf_counter() - start, "steps": done, "loss": total}

    def loss(self, batch: str, variant: str = "eager") -> dict[str, Any]:
        """Return the mean cross-entropy of a stored batch, without noise."""
        stored = np.load(batch, allow_pickle=False)
        tokens, targets, segments = (torch.from_numpy(stored[n]).long() for n in ("tokens", "targets", "segments"))
        rope = self._rope(tokens.shape[1])
        self.model.train(False)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            total = self.model(tokens, segments, targets, rope, 0, VARIANTS[variant])
        return {"loss": float(total) / targets.numel()}


def peak_bytes() -> int:
    """Return the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
