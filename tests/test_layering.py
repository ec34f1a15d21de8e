"""Imports point down only (design: the house). A new module has to be given its floor here."""

import ast

from conftest import PROJECT

# From the top down; a module may import from the floors below its own, not from its own.
FLOORS = [
    {"launch", "tools"},
    {"loop", "trial"},
    {"closing", "feed", "privacy"},
    {"measures", "checkpoint", "samples", "profiling"},
    {"session", "report"},
    {"ancestry", "console", "clock", "doctor", "tuning"},
    {"gates", "history", "speed", "probe"},
    {
        "generate",
        "evaluate",
        "store",
        "workdir",
        "prefix_cache",
        "proof",
        "compilation_cache",
        "events",
        "programs",
        "devices",
    },
    {"data", "phase_groups"},
    {"step", "plasticity", "depth", "interrupts", "memory"},
    {"model", "losses", "optim", "manifest"},
    {"layers"},
    {"attention", "parallel"},
    {"products"},
    {"flops", "machine", "advice", "arithmetic", "spikes"},
    {"step_key"},
    {"plan"},
    {"config"},
    {"phase", "override"},
    {"toml_file", "exclusion"},
    {"errors", "explain", "fields", "charts", "keep_awake"},
]
NO_JAX = (
    "explain",
    "toml_file",
    "fields",
    "override",
    "exclusion",
    "phase",
    "config",
    "plan",
    "step_key",
    "arithmetic",
    "advice",
    "charts",
    "history",
    "doctor",
    "report",
)
# What a floor may not import beside that: answers about schedules need no jax; I/O knows no model.
NEVER = {
    **{name: {"jax", "flax", "optax", "numpy"} for name in NO_JAX},
    "data": {"jax", "flax", "optax", "step", "model", "optim", "losses"},
    "store": {"flax", "optax", "step", "model", "optim", "losses"},
    "workdir": {"jax"},
    "model": {"losses", "optim"},
    "losses": {"model", "optim"},
    "optim": {"model", "losses", "layers", "attention", "products"},
}


def floor(name):
    return next(i for i, names in enumerate(FLOORS) if name in names)


def room(path):
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return parts[1] if parts[0] == "llm60_jax" else parts[0]


def imported(path):
    """Rooms of this project and top-level packages that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield parts[1] if parts[0] == "llm60_jax" and len(parts) > 1 else parts[0]


def files():
    found = [PROJECT / "launch.py", *(PROJECT / "llm60_jax").rglob("*.py"), *(PROJECT / "tools").glob("*.py")]
    return [path for path in found if path != PROJECT / "llm60_jax" / "__init__.py"]


def test_imports_point_down():
    known = set().union(*FLOORS)
    for path in files():
        here = room(path)
        assert here in known, f"{path}: give '{here}' a floor in FLOORS"
        for name in imported(path):
            if name in known and name != here:
                assert floor(name) > floor(here), f"{path}: '{here}' imports '{name}', which is not below it"
            assert name not in NEVER.get(here, ()), f"{path}: '{here}' must not import '{name}'"


def test_the_test_sees_a_wrong_import(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from llm60_jax import optim, step\n    import jax.numpy\n")
    assert set(imported(path)) == {"optim", "step", "jax"}


def test_nothing_names_code_or_unpickles():
    words = ("pickle", "allow_pickle=True", "eval(", "exec(", "yaml", "shell=True", "importlib.import_module")
    words += ("http.server", "socketserver", "0.0.0.0", "torch.load", "trust_remote_code")
    for path in files():
        if path.name == "fuzz_files.py":  # which tries to have code run
            continue
        text = path.read_text(encoding="utf-8").replace("allow_pickle=False", "")
        text = text.replace("_eval(", "")
        assert not [word for word in words if word in text], path
