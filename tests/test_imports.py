"""Who may import whom, and what starting the command line may cost.

The rules stand in docs/ARCHITECTURE.md. They are read off the syntax trees, imports inside functions and
under TYPE_CHECKING included: a type that points upwards is a dependency too.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("slim", "quant", "prune", "export")
STAGES = ("quant", "prune", "export")

# Lowest first; a module imports from its own layer and those below. The longest matching name counts.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "slim",
        "slim.errors",
        "slim.progress",
        "slim.distributed",
        "slim.interrupts",
        "slim.numerics",
        "slim.statistics",
        "slim.spec",
        "slim.resources",
        "slim.probe",
        "slim.shadow",
        "slim.shaping",
        "slim.dictionaries",
        "slim.zoo",
        "slim.config",
    ),
    (
        "slim.arch",
        "slim.checkpoint",
        "slim.strict",
        "slim.bundle",
        "slim.artifact",
        "slim.contents",
        "slim.locking",
        "slim.data",
        "slim.synth",
        "slim.ocr",
        "slim.metrics",
        "slim.evaluate",
        "slim.infer",
        "slim.report",
        "slim.compare",
        "slim.doctor",
    ),
    ("slim.training", "slim.stage"),
    STAGES,
    ("slim.pipeline", "slim.importing"),
    ("slim.cli", "slim.__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
STAGE_RANK = RANK["quant"]
# Modules of the last layer are the ones that talk to the user and end the process.
TALKING = LAYERS[-1]
# Programs that run in a process of their own: what they print and their exit code are their answer.
CHILDREN = frozenset({"export.opt_child", "export.runtimes.lite_worker"})
HEAVY = ("paddle", "paddleslim", "paddlelite", "cv2", "matplotlib", "numpy", "scipy", "pydantic", "lmdb")
# Seconds of wall clock, best of a few: the bound for `slim --help`.
HELP_SECONDS = 0.5


@dataclass(frozen=True)
class Module:
    """One source file: its import name and its syntax tree."""

    name: str
    tree: ast.Module
    is_package: bool = False


def module_of(path: Path) -> Module:
    """Read a source file below the checkout."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, ast.parse(path.read_text(encoding="utf-8"), str(path)), is_package)


def sources() -> list[Module]:
    """Every module of the four packages."""
    return [module_of(path) for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]


MODULES = sources()
NAMES = frozenset(module.name for module in MODULES)


def imported(module: Module, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """Full names that a module imports; `from a import b` counts as a.b where that is a module."""
    found: set[str] = set()
    for node in nodes or ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in NAMES else base)
    return found


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    keep = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*keep, node.module] if node.module else keep)


def layer(name: str) -> str | None:
    """The entry of LAYERS that a module belongs to; None when only the bare package `slim` matches."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in RANK and (prefix != "slim" or name == "slim"):
            return prefix
    return None


def direction_faults(module: Module) -> list[str]:
    """Imports of our own packages that go upwards or sideways between stages."""
    home = layer(module.name)
    if home is None:
        return []
    faults = []
    for target in sorted(imported(module)):
        if target.split(".")[0] not in OURS or (there := layer(target)) is None:
            continue
        sideways = home in STAGES and there in STAGES and home != there
        if RANK[there] > RANK[home] or sideways:
            faults.append(f"{module.name} imports {target}")
    return faults


def talk(module: Module) -> list[str]:
    """Places where a module prints or ends the process."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "print",
            "exit",
            "quit",
            "sys.exit",
            "os._exit",
            "os.abort",
            "rich.print",
            "click.echo",
            "sys.stdout.write",
            "sys.stderr.write",
        }:
            found.append(f"{module.name}:{node.lineno} {ast.unparse(node.func)}")
        elif isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc):
            found.append(f"{module.name}:{node.lineno} raise SystemExit")
    return found


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: no function bodies, nothing under TYPE_CHECKING."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        yield node
        pending.extend(ast.iter_child_nodes(node))


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """One import cycle as the names along it, or an empty list."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(edges.get(name, ())):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    for start in sorted(edges):
        if found := visit(start, []):
            return found
    return []


def fake(name: str, source: str) -> Module:
    """A module that exists only in a test."""
    return Module(name, ast.parse(textwrap.dedent(source)))


# --- the rules on the real code ------------------------------------------------------------------


def test_every_module_has_a_layer() -> None:
    homeless = [module.name for module in MODULES if layer(module.name) is None]
    assert homeless == [], "add these to LAYERS here and to docs/ARCHITECTURE.md"


def test_imports_only_go_down() -> None:
    assert [fault for module in MODULES for fault in direction_faults(module)] == []


def test_nothing_below_the_command_line_prints_or_exits() -> None:
    quiet = [
        module for module in MODULES if layer(module.name) not in TALKING and module.name not in CHILDREN
    ]
    assert [place for module in quiet for place in talk(module)] == []


def test_no_import_cycles() -> None:
    edges = {
        module.name: {
            target for target in imported(module, at_import(module.tree)) & NAMES if target != module.name
        }
        for module in MODULES
    }
    assert cycle(edges) == []


def test_no_star_imports_and_no_path_edits() -> None:
    faults = []
    for module in MODULES:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                faults.append(f"{module.name}:{node.lineno} import *")
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sys.path."):
                faults.append(f"{module.name}:{node.lineno} {ast.unparse(node.func)}")
    assert faults == []


# --- the same rules on code that breaks them -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("slim.data.labels", "from slim.training import fit"),
        ("slim.training", "def f():\n    from quant.scheme import Scheme"),
        ("quant.search", "import export.nb.reader"),
        ("prune.stage", "from slim import pipeline"),
        ("export.check", "from slim.cli.main import main"),
        ("slim.pipeline.stages", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import slim.cli"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(name: str, source: str) -> None:
    assert len(direction_faults(fake(name, source))) == 1


def test_an_import_downwards_is_no_fault() -> None:
    assert (
        direction_faults(fake("quant.qat", "from slim.training import fit\nimport slim.errors, numpy")) == []
    )


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "import sys\nsys.exit(1)",
        "raise SystemExit(2)",
        "def f():\n    import os\n    os._exit(1)",
    ],
)
def test_talking_is_found(source: str) -> None:
    assert len(talk(fake("slim.metrics", source))) == 1


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


# --- what starting costs -------------------------------------------------------------------------

PROBE = """
import json, runpy, sys
sys.argv = ["slim", *sys.argv[1:]]
try:
    runpy.run_module("slim", run_name="__main__")
except SystemExit as stop:
    code = stop.code
heavy = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"code": code or 0, "modules": sorted(heavy)}), file=sys.stderr)
"""


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout's root, as `python -m slim` would be typed there."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["prune", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    done = start("-c", PROBE, *arguments)
    report = json.loads(done.stderr.strip().splitlines()[-1])
    assert report["code"] == 0, done.stderr
    assert sorted(set(report["modules"]) & set(HEAVY)) == []


def test_help_names_the_commands() -> None:
    done = start("-m", "slim", "--help")
    assert done.returncode == 0, done.stderr
    assert {"train", "prune", "quant", "export-nb", "check", "run"} <= set(done.stdout.split())


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(5):  # the best of five: other tests share the cores
        before = time.perf_counter()
        start("-m", "slim", "--help")
        seconds.append(time.perf_counter() - before)
    assert min(seconds) < HELP_SECONDS, f"{min(seconds):.2f} s of at most {HELP_SECONDS} s"


@pytest.mark.parametrize(
    "module", ["slim.errors", "slim.progress", "slim.spec", "slim.config", "slim.cli", "slim.doctor"]
)
def test_light_modules_import_no_native_libraries(module: str) -> None:
    done = start("-c", f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & {"paddle", "paddleslim", "paddlelite", "cv2", "matplotlib"} == set()
