"""Native kernels or XLA: the choice never fails unless it is asked to, says why, and is recorded."""

import ctypes
import json
import logging
from pathlib import Path

import pytest
from conftest import metrics

from llm60_jax import config as config_module
from llm60_jax.errors import InputError, MachineError
from llm60_jax.kernels import building, choice, library, processor
from llm60_jax.kernels.choice import Choice

NO_COMPILER = "no C++ compiler was found; install one"


@pytest.fixture(autouse=True)
def anew():
    """Each test decides anew."""
    for function in (choice._built, choice._buildable):
        function.cache_clear()
    yield
    for function in (choice._built, choice._buildable):
        function.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    """A machine with AVX-512 and a compiler, whose library can be loaded; returns the calls of the compiler."""
    built = []

    def built_library(variant):
        built.append(variant.name)
        return Path(f"/cache/{variant.name}-0123456789abcdef.so")

    variants = processor.runnable("x86_64", processor.named("avx512").features)
    monkeypatch.setattr(processor, "here", lambda: variants)
    monkeypatch.setattr(building, "require_compiler", lambda: None)
    monkeypatch.setattr(building, "library", built_library)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: None)
    return built


def fails(error):
    def function(*arguments):
        raise error

    return function


def test_the_best_kernels_are_chosen_and_compiled_once(machine):
    for wanted in ("auto", "native", "auto"):
        found = choice.chosen(wanted, "cpu")
        assert (found.kernels, found.variant.name, found.lacks) == ("native", "avx512", "")
        assert found.reason == "the native kernels for avx512 are used"
        assert found.name == "native avx512-0123456789abcdef"
    assert machine == ["avx512"]


def test_who_wants_xla_gets_it_without_a_compiler_being_asked(machine):
    found = choice.chosen("xla", "cpu")
    assert (found.kernels, found.name, found.variant, found.lacks) == ("xla", "xla", None, "")
    assert found.reason == "XLA is used because train.kernels asks for it"
    assert machine == []


@pytest.mark.parametrize("ask", [choice.chosen, choice.expected])
def test_other_devices_use_xla(machine, ask):
    found = ask("auto", "gpu")
    assert (found.kernels, found.lacks) == ("xla", "")
    assert found.reason == "XLA is used because the native kernels need a CPU, and the device is gpu"
    assert machine == []
    with pytest.raises(MachineError, match=r"train\.kernels is 'native', but the native kernels need a CPU"):
        ask("native", "gpu")


def no_compiler(patch):
    patch.setattr(building, "require_compiler", fails(building.Unavailable(NO_COMPILER)))
    return NO_COMPILER


def broken_source(patch):
    patch.setattr(building, "library", fails(building.Unavailable("cannot be compiled: error: x")))
    return "cannot be compiled: error: x"


def not_loadable(patch):
    patch.setattr(ctypes, "CDLL", fails(OSError("failed to map segment")))
    return "the native kernels cannot be loaded: failed to map segment"


def old_processor(patch):
    patch.setattr(processor, "here", lambda: ())
    return "this processor is not known to have one of the instruction sets amx, avx512, avx512f, avx2, neon"


@pytest.mark.parametrize("fault", [no_compiler, broken_source, not_loadable, old_processor])
def test_auto_falls_back_to_xla_and_native_does_not(machine, monkeypatch, fault):
    why = fault(monkeypatch)
    found = choice.chosen("auto", "cpu")
    assert (found.kernels, found.name, found.library) == ("xla", "xla", None)
    assert found.reason == f"XLA is used because {why}"
    assert found.lacks == ("" if fault is old_processor else why)
    with pytest.raises(MachineError) as caught:
        choice.chosen("native", "cpu")
    assert str(caught.value).startswith(f"train.kernels is 'native', but {why}. With --set train.kernels=auto")


def test_what_is_expected_is_known_without_compiling(machine, monkeypatch):
    assert choice.expected("auto").name == "native"
    assert machine == []
    choice._buildable.cache_clear()
    no_compiler(monkeypatch)
    assert choice.expected("auto").reason == f"XLA is used because {NO_COMPILER}"


# --- In a run --------------------------------------------------------------------------------------------------------


def test_the_configuration_says_which_kernels(tree):
    del tree["train"]["kernels"]
    assert config_module.parse(tree, "x").train.kernels == "auto"
    tree["train"]["kernels"] = "nativ"
    with pytest.raises(InputError, match=r"train\.kernels"):
        config_module.parse(tree, "x")


def with_kernels(tree, wanted):
    return tree | {"train": tree["train"] | {"kernels": wanted}}


def test_a_run_records_its_kernels_and_a_change_is_said(tuning, train, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO, "llm60_jax")
    found = Choice("xla", f"XLA is used because {NO_COMPILER}", lacks=NO_COMPILER)
    monkeypatch.setattr(choice, "chosen", lambda *arguments: found)
    # Nothing is loaded: this model's heads are too narrow for the kernels.
    monkeypatch.setattr(library, "activate", lambda chosen: monkeypatch.setattr(library, "_active", chosen))
    workdir = train(with_kernels(tuning, "auto"), 2)
    assert f"note: XLA is used because {NO_COMPILER}" in capsys.readouterr().out
    record = json.loads((workdir / "config.json").read_text())["kernels"]
    assert record == {"name": "xla", "reason": found.reason, "lacks": NO_COMPILER}
    assert json.loads((workdir / "checkpoints/2/meta.json").read_text())["versions"]["kernels"] == "xla"

    found = Choice("native", "the native kernels for avx2 are used", processor.named("avx2"), Path("/c/avx2-01.so"))
    train(with_kernels(tuning, "native"))
    said = capsys.readouterr().out
    assert "so not bit for bit as before: kernels xla -> native avx2-01\n" in said
    assert found.reason not in said  # nothing to do about it
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["kernels"] == {"name": "native avx2-01", "reason": found.reason, "lacks": ""}
    assert stored["changes"][0]["train.kernels"] == ["xla", "native"]
    assert metrics(workdir)[-1]["step"] == 4


def test_a_run_that_insists_on_native_kernels_ends_before_its_text_is_prepared(tree, train, monkeypatch, machine):
    no_compiler(monkeypatch)
    tree["model"]["heads"] = 1  # which the kernels claim
    with pytest.raises(MachineError, match="but no C\\+\\+ compiler was found"):
        train(with_kernels(tree, "native"))
    assert not (Path(tree["workdir"]) / "config.json").exists()
