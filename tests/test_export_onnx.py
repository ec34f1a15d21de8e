"""The ONNX graph computes what the model computes, with and without its cache, and damage is seen."""

import json
from pathlib import Path

import export as tool
import numpy as np
import pytest
from exports import VARIANTS, files_of, judged_copy, source_of, variant

from llm60_jax import checkpoint
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import onnx

package = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")
pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    return judged_copy(base, tmp_path_factory)


@pytest.mark.parametrize("name", ["gelu", "all"])
def test_the_graph_computes_the_model(run, name):
    """By onnx's own evaluator: one row and a shorter one, at once and in three parts with a cache."""
    source = source_of(variant(run, name))
    model = onnx.graph(source.trained.model, source.weights)
    package.checker.check_model(model, full_check=True)
    difference, largest = compared(source.trained, model)
    assert difference <= onnx.TOLERANCE * largest
    wrong = source.weights._replace(norm=source.weights.norm._replace(bias_D=0 * source.weights.norm.bias_D))
    difference, largest = compared(source.trained, onnx.graph(source.trained.model, wrong))
    assert difference > onnx.TOLERANCE * largest


def compared(trained, model) -> tuple[float, float]:
    evaluator = package.reference.ReferenceEvaluator(model)
    return onnx.compare(trained, lambda inputs: evaluator.run(None, inputs))


@pytest.mark.parametrize("name", VARIANTS)
def test_inputs_and_outputs_have_the_names_that_transformers_js_knows(run, name):
    source = source_of(variant(run, name))
    graph = onnx.graph(source.trained.model, source.weights).graph
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    H, K = source.trained.model.heads, source.trained.model.head_dim
    parts = [f"{i}.{part}" for i in range(6) for part in ("key", "value")]
    assert shapes == {
        "input_ids": ["batch_size", "sequence_length"],
        "attention_mask": ["batch_size", "total_sequence_length"],
        "position_ids": ["batch_size", "sequence_length"],
        **{f"past_key_values.{part}": ["batch_size", H, "past_sequence_length", K] for part in parts},
        "logits": ["batch_size", "sequence_length", 360],
        **{f"present.{part}": ["batch_size", H, "total_sequence_length", K] for part in parts},
    }
    assert len({node.name for node in graph.node}) == len(graph.node)


def test_damage_is_seen(run, tmp_path):
    source = source_of(variant(run, "gelu"))
    onnx.write(source, tmp_path)
    lines = onnx.verify(source, tmp_path)
    assert "arrays are equal bit for bit" in lines[1]
    path = tmp_path / onnx.PATH
    model = package.load_model(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "blocks.2.qkv")
    array = package.numpy_helper.to_array(tensor).copy()
    array[1, 1] = np.nextafter(array[1, 1], np.float32(9))
    tensor.CopyFrom(package.numpy_helper.from_array(array, tensor.name))
    package.save_model(model, path)
    with pytest.raises(DamageError, match=r"blocks\.2\.qkv differs"):
        onnx.verify(source, tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DamageError, match="not a valid ONNX graph"):
        onnx.verify(source, tmp_path)


def test_a_wrong_graph_of_right_weights_is_seen(run, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    source = source_of(variant(run, "gelu"))
    assert "in onnxruntime differ" in onnx.verify_logits(source.trained, written(source, tmp_path / "right"))
    real = onnx._Graph._add

    def without_mask(self, operator, inputs, outputs=(), **attributes):
        operator = "Less" if operator == "LessOrEqual" else operator
        return real(self, operator, inputs, outputs, **attributes)

    monkeypatch.setattr(onnx._Graph, "_add", without_mask)
    path = written(source, tmp_path / "wrong")
    with pytest.raises(DamageError, match="logits differ"):
        onnx.verify_logits(source.trained, path)


def written(source, folder: Path) -> Path:
    folder.mkdir()
    onnx.write(source, folder)
    return folder / onnx.PATH


def test_more_than_two_gigabytes_are_refused(run):
    source = source_of(checkpoint.open_(run))
    large = np.broadcast_to(np.float32(0), (2**20, 2**9))
    with pytest.raises(InputError, match="one ONNX file holds at most"):
        onnx.refuse(source._replace(weights=source.weights._replace(embedding_VD=large)))


def test_a_missing_package_is_named(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--to onnx needs the package onnx: pip install .*\[export\]"):
        onnx.refuse(source_of(checkpoint.open_(run)))


def test_the_tool_writes_a_folder_that_transformers_js_loads(run, tmp_path):
    out = tmp_path / "out"
    assert tool.main([str(run), "--to", "onnx", "--out", str(out)]) == 0
    assert set(files_of(out)) == {
        "README.md", "config.json", "generation_config.json", "onnx/model.onnx", "special_tokens_map.json",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    }  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert config["transformers.js_config"] == {"dtype": "fp32"}
    assert config["model_type"] == "starcoder2"
    assert config["dtype"] == "float32"
    home = [str(path).encode() for path in (run, tmp_path, Path.home())]
    assert not [name for name, content in files_of(out).items() for place in home if place in content]
    assert tool.main([str(run), "--to", "onnx", "--dtype", "bfloat16", "--out", str(tmp_path / "b")]) == 2
