"""The floors of the house: imports point down only, by the one table in pyproject.toml."""

import ast
import tomllib

import pytest
from conftest import PROJECT

FLOORS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["floors"]
ROWS = {row["package"]: row for row in FLOORS["table"]}
# Questions about a run are answered from its files alone, in milliseconds.
_FROM_FILES = ("history", "report", "curves", "charts", "workdir", "doctor", "forecast", "status", "tail")
NO_JAX_IN = (*(f"llm60_jax/record/{name}" for name in _FROM_FILES), "llm60_jax/serve/watch", "llm60_jax/serve/page")


def package(dotted):
    """The row of the table that a dotted module of this project belongs to."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "llm60_jax" and len(parts) > 1 else parts[0]


def here(path):
    """The dotted name of a file of this project."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imported(path):
    """Dotted names that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(path, name):
    """What the table has against the imports of a file of that dotted name."""
    own = ROWS.get(package(name))
    if own is None:
        yield f"{path}: give '{package(name)}' a row in [tool.floors]"
        return
    for module in imported(path):
        target = package(module)
        if target in own.get("never", ()):
            yield f"{path}: '{own['package']}' must not import '{target}'"
        if target in ("llm60_jax", own["package"], "errors") or target not in ROWS:
            continue
        if ROWS[target]["floor"] >= own["floor"]:
            yield f"{path}: '{own['package']}' imports '{target}', which is not on a floor below"
            continue
        allowed = [entry for entry in own["may"] if entry == "*" or f"{module}.".startswith(f"llm60_jax.{entry}.")]
        if not allowed:
            yield f"{path}: '{own['package']}' imports '{module}', and may import {', '.join(own['may'])}"


def files():
    found = [PROJECT / "launch.py", *(PROJECT / "llm60_jax").rglob("*.py"), *(PROJECT / "tools").rglob("*.py")]
    return [path for path in found if path != PROJECT / "llm60_jax" / "__init__.py"]


def test_imports_point_down():
    assert [fault for path in files() for fault in faults(path, here(path))] == []


def test_inside_data_imports_point_down():
    rooms = FLOORS["data"]
    for path in (PROJECT / "llm60_jax" / "data").glob("*/*.py"):
        place = rooms.index(path.parent.name)
        for module in imported(path):
            parts = module.split(".")
            if parts[:2] == ["llm60_jax", "data"]:
                assert parts[2] in rooms, f"{path}: imports {module}, which stands above"
                assert rooms.index(parts[2]) >= place, f"{path}: '{path.parent.name}' imports '{parts[2]}' above it"


def test_what_answers_from_files_needs_no_jax():
    for path in files():
        if path.relative_to(PROJECT).as_posix().startswith(NO_JAX_IN):
            assert "jax" not in {module.split(".")[0] for module in imported(path)}, path


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        ("llm60_jax.plan.x", "from llm60_jax.training import step", "not on a floor below"),
        ("llm60_jax.model.x", "from llm60_jax.record import store", "not on a floor below"),
        ("llm60_jax.training.x", "from llm60_jax.data.read import sources", "may import"),
        ("llm60_jax.training.x", "def f():\n    from llm60_jax import generate", "not on a floor below"),
        ("llm60_jax.config.x", "import jax.numpy", "must not import 'jax'"),
        ("llm60_jax.attic.x", "", "give 'attic' a row"),
        ("llm60_jax.training.x", "from llm60_jax.data.tokens import shards\nimport jax", None),
    ],
)
def test_the_table_is_enforced(tmp_path, name, line, fault):
    path = tmp_path / "x.py"
    path.write_text(line)
    found = list(faults(path, name))
    assert [fault in message for message in found] == [True] if fault else found == []


def shadows(path):
    """Local names of a file that are also names of its imports, functions or classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    taken = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            taken.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            taken |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.Lambda):
            continue
        arguments = function.args
        names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        local = {name.arg for name in names if name}
        for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                local.add(node.id)
            elif isinstance(node, ast.FunctionDef) and node is not function:
                local.add(node.name)
        yield from ((function.lineno, name) for name in sorted(local & taken))


def test_no_local_name_hides_one_of_the_module():
    assert [f"{path}:{line}: {name}" for path in files() for line, name in shadows(path)] == []


def test_a_hidden_name_is_seen(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("from llm60_jax import plan\ndef f(plan):\n    return plan\ndef g():\n    f = lambda plan: 0\n")
    assert list(shadows(path)) == [(2, "plan"), (4, "f"), (5, "plan")]


def test_nothing_names_code_or_unpickles():
    words = ("import pickle", "pickle.load", "allow_pickle=True", "eval(", "exec(", "import yaml", "yaml.load")
    words += ("shell=True", "importlib.import_module")
    words += ("http.server", "socketserver", "0.0.0.0", "torch.load", "trust_remote_code")
    for path in files():
        if path.name == "fuzz_files.py":  # which tries to have code run
            continue
        text = path.read_text(encoding="utf-8").replace("allow_pickle=False", "")
        text = text.replace("_eval(", "")
        assert not [word for word in words if word in text], path
