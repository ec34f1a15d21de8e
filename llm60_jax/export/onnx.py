"""ONNX with a cache of keys and values, for onnxruntime and transformers.js.

The graph is written with base operators of opset 20. Its inputs and outputs have the names that
transformers.js and optimum use. `onnx/model.onnx` lies beside the small files of a Hugging Face
folder, and `config.json` says that it is float32, so transformers.js loads the folder unchanged.

Names of values end in their dimensions: B sequences, S new positions, T all positions (cached and
new), D model width, F MLP width, V vocabulary, H heads, K head width.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm60_jax.checkpoint import Trained
from llm60_jax.config import Model
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import agreement, browser, huggingface, tokenizer
from llm60_jax.export.source import Source, require_packages
from llm60_jax.export.weights import Block, Norm, Weights
from llm60_jax.machine import files
from llm60_jax.model import layers

BITS = {"float32": 32.0}  # int8 lost accuracy and gained no speed
PATH = Path("onnx") / "model.onnx"
TOLERANCE = 1e-4  # of the largest logit, or of 1: between two programs' float32
_OPSET = 20  # the first with LayerNormalization and Gelu
_IR_VERSION = 10  # what readers of opset 20 know
_MOST_BYTES = 2**31 - 2**20  # of one file: protobuf's limit, less the graph
_NO_SCORE = float(np.finfo(np.float32).min)  # of a position that a query must not see


def refuse(source: Source) -> None:
    """Raise InputError if a package is missing, the weights do not fit into one file, or the page
    that is asked for cannot be made."""
    require_packages("onnx", "onnx", *huggingface.PACKAGES)
    weights = source.weights
    size = 4 * sum(array.size for _, array in weights._replace(head_VD=None).arrays())  # one table is stored
    if size > _MOST_BYTES:
        raise InputError(
            f"--to onnx: {size:,} bytes of weights, but one ONNX file holds at most {_MOST_BYTES:,}; "
            "take --to huggingface or --to gguf"
        )
    if source.page is not None:
        browser.package(source.page)


def write(source: Source, folder: Path) -> None:
    """Write the graph, the small files of a Hugging Face folder, and the page if it is asked for."""
    import onnx

    huggingface.write_small_files(source, folder)
    path = folder / huggingface.CONFIG
    config = json.loads(files.read_text(path))
    # Without it transformers.js looks for a quantised file.
    config["transformers.js_config"] = {"dtype": "fp32"}
    path.write_text(files.dump(config), encoding="utf-8")
    (folder / PATH).parent.mkdir()
    onnx.save_model(graph(source.trained.model, source.weights), folder / PATH)
    if source.page is not None:
        browser.write(source, folder, browser.package(source.page))


def verify(source: Source, folder: Path) -> list[str]:
    """Read the file back and return lines that say what was compared.

    Raises DamageError if the graph is not valid, a weight differs in a bit, or onnxruntime (where
    it is installed) computes other logits than this project, with or without the cache.
    """
    import onnx

    path = folder / PATH
    try:
        model = onnx.load_model(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # many types: a foreign file, or a graph that does not fit together
        raise DamageError(f"{path}: not a valid ONNX graph: {str(error)[:200]}") from None
    expected = _Graph(source.trained.model, source.weights).constants
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    if stored.keys() != expected.keys():
        raise DamageError(f"{path}: weights are missing or foreign: {sorted(stored.keys() ^ expected.keys())[:5]}")
    for name, array in expected.items():
        if stored[name].dtype != array.dtype or stored[name].tobytes() != array.tobytes():
            raise DamageError(f"{path}: {name} differs from the model")
    trained = source.trained
    return [
        f"{PATH}: a valid graph of {len(model.graph.node):,} nodes",
        f"{PATH}: {len(expected):,} arrays are equal bit for bit",
        *([verify_logits(trained, path)] if can_run() else []),
        *tokenizer.verify(trained.tokenizer, folder, trained.config.sampling.prompts),
        *(browser.verify(folder, browser.package(source.page)) if source.page is not None else ()),
    ]


def can_run() -> bool:
    """Whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def verify_logits(trained: Trained, path: Path) -> str:
    """Compare the logits of onnxruntime with this project's. Raise DamageError if they differ."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    difference, largest = compare(trained, lambda inputs: session.run(None, inputs))
    if not difference <= TOLERANCE * max(1.0, largest):
        raise DamageError(f"{path}: its logits differ from the checkpoint's by {difference:.2g}")
    return f"{PATH}: its logits in onnxruntime differ from the checkpoint's by at most {difference:.2g}"


def compare(trained: Trained, run: Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]) -> tuple[float, float]:
    """Return the largest difference between a graph's logits and this project's in float32, and the
    largest logit.

    Two rows go through the graph at once, then in three parts with a cache. The second row is
    shorter and padded on the left.

    Args:
      run: takes the named inputs, returns the outputs in the order of the graph.
    """
    model, text_BS = trained.model, agreement.tokens(trained)
    length = text_BS.shape[1]
    pad = length // 4
    tokens_BS = np.concatenate([text_BS, np.roll(text_BS, pad, 1)]).astype(np.int64)
    mask_BS = np.ones_like(tokens_BS)
    mask_BS[1, :pad] = 0
    rows = [tokens_BS[:1], tokens_BS[1:, pad:]]
    own = [agreement.logits(model, trained.plain_params, row_BS.astype(np.int32))[0] for row_BS in rows]

    past = _no_cache(model, 2)
    whole_BSV, *_ = run(_inputs(tokens_BS, mask_BS, past, slice(0, length)))
    half, parts = length // 2, []
    for part in (slice(0, half), slice(half, length - 1), slice(length - 1, length)):
        logits_BSV, *present = run(_inputs(tokens_BS, mask_BS, past, part))
        parts.append(logits_BSV)
        past = dict(zip(past, present, strict=True))
    difference = max(
        float(np.abs(logits_BSV[row, start:] - own[row]).max())
        for logits_BSV in (whole_BSV, np.concatenate(parts, 1))
        for row, start in ((0, 0), (1, pad))
    )
    return difference, float(np.abs(own[0]).max())


def _inputs(tokens_BS: np.ndarray, mask_BS: np.ndarray, past: dict[str, np.ndarray], part: slice) -> dict[str, Any]:
    """Return a graph's inputs for some positions of rows, after a cache of the positions before."""
    positions_BS = np.maximum(np.cumsum(mask_BS, 1) - 1, 0)
    return {
        "input_ids": tokens_BS[:, part],
        "attention_mask": mask_BS[:, : part.stop],
        "position_ids": positions_BS[:, part],
        **past,
    }


def _no_cache(model: Model, rows: int) -> dict[str, np.ndarray]:
    empty = np.zeros((rows, model.heads, 0, model.head_dim), np.float32)
    return {f"past_key_values.{i}.{part}": empty for i in range(model.layers) for part in ("key", "value")}


# --- The graph ------------------------------------------------------------------------------------


def graph(model: Model, weights: Weights) -> Any:
    """Return the model as an ONNX graph, `onnx.ModelProto`."""
    from onnx import TensorProto, helper, numpy_helper

    parts = _Graph(model, weights)
    cached: list[str | int | None] = ["batch_size", model.heads, "past_sequence_length", model.head_dim]
    present = [*cached[:2], "total_sequence_length", cached[3]]
    names = [f"{i}.{part}" for i in range(model.layers) for part in ("key", "value")]
    new: list[str | int | None] = ["batch_size", "sequence_length"]
    everything: list[str | int | None] = ["batch_size", "total_sequence_length"]
    value = helper.make_tensor_value_info
    ids = (("input_ids", new), ("attention_mask", everything), ("position_ids", new))
    inputs = [value(name, TensorProto.INT64, shape) for name, shape in ids]
    inputs += [value(f"past_key_values.{name}", TensorProto.FLOAT, cached) for name in names]
    outputs = [value("logits", TensorProto.FLOAT, [*new, model.vocab_size])]
    outputs += [value(f"present.{name}", TensorProto.FLOAT, present) for name in names]
    constants = [numpy_helper.from_array(array, name) for name, array in parts.constants.items()]
    return helper.make_model(
        helper.make_graph(parts.nodes, "llm60_jax", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="llm60_jax",
    )


class _Graph:
    """The nodes and constants of a model, in order of computation."""

    def __init__(self, model: Model, weights: Weights):
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._model = model
        self._tables()
        # The embedding is also the head; it is stored once.
        table_VD = weights.embedding_VD if weights.head_VD is None else weights.head_VD
        x_BSD = self._add("Gather", [self._constant("embedding", table_VD), "input_ids"])
        if weights.head_VD is not None:
            x_BSD = self._add("Mul", [x_BSD, self._constant("embedding_scale", model.embedding_scale)])
        for number, block in enumerate(weights.blocks):
            x_BSD = self._block(f"blocks.{number}", number, block, x_BSD)
        x_BSD = self._norm("norm", weights.norm, x_BSD)
        head_DV = self._add("Transpose", ["embedding"], perm=[1, 0])
        self._add("MatMul", [x_BSD, head_DV], ["logits"])

    def _add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add a node and return its first output. Values without a given name are numbered."""
        from onnx import helper

        names = list(outputs) or [f"{operator}.{len(self.nodes)}"]
        self.nodes.append(helper.make_node(operator, inputs, names, f"{operator}.{len(self.nodes)}", **attributes))
        return names[0]

    def _constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.ascontiguousarray(value, dtype)
        return name

    def _tables(self) -> None:
        """Add what all blocks share: rotary positions, and which position may see which."""
        model, integer = self._model, np.int64
        tables = layers.rope_tables(model.max_context, model.head_dim, model.rope_base)
        for name, table_TK in zip(("cosines", "sines"), tables, strict=True):
            rows_BSK = self._add("Gather", [self._constant(f"{name}_table", table_TK), "position_ids"])
            self._add("Unsqueeze", [rows_BSK, self._constant("axis_1", [1], integer)], [name])
        self._constant("split_heads", [0, 0, 3 * model.heads, model.head_dim], integer)
        self._constant("merge_heads", [0, 0, model.dim], integer)
        self._constant("scale", model.head_dim**-0.5)
        self._constant("no_score", _NO_SCORE)
        zero, one = self._constant("zero", 0, integer), self._constant("one", 1, integer)
        total = self._add("Gather", [self._add("Shape", ["attention_mask"]), one])
        new = self._add("Gather", [self._add("Shape", ["input_ids"]), one])
        keys_T = self._add("Range", [zero, total, one])
        queries_S = self._add("Range", [self._add("Sub", [total, new]), total, one])
        queries_S1 = self._add("Unsqueeze", [queries_S, "axis_1"])
        causal_ST = self._add("LessOrEqual", [keys_T, queries_S1])
        is_text_BT = self._add("Cast", ["attention_mask"], to=9)  # bool
        is_text_B11T = self._add("Unsqueeze", [is_text_BT, self._constant("axes_1_2", [1, 2], integer)])
        self._add("And", [is_text_B11T, causal_ST], ["seen"])

    def _norm(self, place: str, norm: Norm, x_BSD: str) -> str:
        scale = self._constant(f"{place}.scale", norm.scale_D)
        bias = self._constant(f"{place}.bias", norm.bias_D)
        return self._add("LayerNormalization", [x_BSD, scale, bias], axis=-1, epsilon=1e-5)

    def _matmul(self, name: str, x: str, *matrices_OI: np.ndarray) -> str:
        """Multiply by some matrices side by side."""
        kernel_IO = np.concatenate([matrix_OI.T for matrix_OI in matrices_OI], 1)
        return self._add("MatMul", [x, self._constant(name, kernel_IO)])

    def _split(self, x: str, axis: int, sizes: Sequence[int]) -> list[str]:
        parts = [f"{x}.{number}" for number in range(len(sizes))]
        name = self._constant("sizes_" + "_".join(map(str, sizes)), sizes, np.int64)
        self._add("Split", [x, name], parts, axis=axis)
        return parts

    def _block(self, place: str, number: int, block: Block, x_BSD: str) -> str:
        normed_BSD = self._norm(f"{place}.attention_norm", block.attention_norm, x_BSD)
        x_BSD = self._add("Add", [x_BSD, self._attention(place, number, block, normed_BSD)])
        normed_BSD = self._norm(f"{place}.mlp_norm", block.mlp_norm, x_BSD)
        if block.gate_OI is None:
            hidden_BSF = self._matmul(f"{place}.up", normed_BSD, block.up_OI)
            hidden_BSF = self._add("Gelu", [hidden_BSF], approximate="tanh")
        else:
            both_BSF = self._matmul(f"{place}.gate_up", normed_BSD, block.gate_OI, block.up_OI)
            gate_BSF, up_BSF = self._split(both_BSF, -1, [len(block.up_OI)] * 2)
            silu_BSF = self._add("Mul", [gate_BSF, self._add("Sigmoid", [gate_BSF])])
            hidden_BSF = self._add("Mul", [silu_BSF, up_BSF])
        return self._add("Add", [x_BSD, self._matmul(f"{place}.down", hidden_BSF, block.down_OI)])

    def _attention(self, place: str, number: int, block: Block, normed_BSD: str) -> str:
        H, K = self._model.heads, self._model.head_dim
        qkv_BSE = self._matmul(f"{place}.qkv", normed_BSD, block.query_OI, block.key_OI, block.value_OI)
        qkv_BHSK = self._add("Transpose", [self._add("Reshape", [qkv_BSE, "split_heads"])], perm=[0, 2, 1, 3])
        both_BHSK, value_BHSK = self._split(qkv_BHSK, 1, [2 * H, H])
        low, high = self._split(both_BHSK, -1, [K // 2, K // 2])
        low_cos, low_sin, high_cos, high_sin = (
            self._add("Mul", [half, table]) for half in (low, high) for table in ("cosines", "sines")
        )
        rotated = [self._add("Sub", [low_cos, high_sin]), self._add("Add", [high_cos, low_sin])]
        query_BHSK, key_BHSK = self._split(self._add("Concat", rotated, axis=-1), 1, [H, H])
        key_BHTK, value_BHTK = (
            self._add("Concat", [f"past_key_values.{number}.{part}", new], [f"present.{number}.{part}"], axis=2)
            for part, new in (("key", key_BHSK), ("value", value_BHSK))
        )
        key_BHKT = self._add("Transpose", [key_BHTK], perm=[0, 1, 3, 2])
        scores_BHST = self._add("MatMul", [self._add("Mul", [query_BHSK, "scale"]), key_BHKT])
        share_BHST = self._add("Softmax", [self._add("Where", ["seen", scores_BHST, "no_score"])], axis=-1)
        merged_BSHK = self._add("Transpose", [self._add("MatMul", [share_BHST, value_BHTK])], perm=[0, 2, 1, 3])
        return self._matmul(f"{place}.out", self._add("Reshape", [merged_BSHK, "merge_heads"]), block.out_OI)
