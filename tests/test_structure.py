"""The shape of the package: who may import whom and what, and how long a file may be."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import distopt

ROOT = Path(distopt.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [str(file.relative_to(ROOT)) for file in FILES]

#: From the bottom to the top; siblings in one row do not know each other.
LEVELS = [
    {"errors", "launched", "typing", "file_access", "suggestions", "version"},
    {"file_writing", "settings", "telemetry", "tensor_files", "trace"},
    {"tracebacks"},
    {"core"},
    {"autodiff"},
    {"comm"},
    {"collectives"},
    {"distribute"},
    {"engine"},
    {"aggregators", "transforms"},
    {"optimizers"},
    {"checkpoint"},
    {"keras"},
    {"torch", "jax"},
]
LEVEL = {part: i for i, parts in enumerate(LEVELS) for part in parts}
#: The fronts and the tools of the package: they may see everything, and nobody below sees them.
FRONTS = {"__init__", "math", "random", "compat", "testing"}
#: Files of code that is compiled, which is loaded when it is first needed.
COMPILED = (
    "collectives/array_specs.py",
    "collectives/ledger_rows.py",
    "collectives/pointers.py",
    "collectives/wire_kernels.py",
    "collectives/raw_memory.py",
    "comm/precompile.py",
    "comm/spin.py",
    "engine/row_blocks.py",
    "engine/tiles.py",
    "engine/tuples.py",
    "engine/vectors.py",
)
#: What only some files may import, and which.
OWNERS = {
    "mpi4py": ("comm/library.py",),
    "autograd": ("autodiff/",),
    "numba": ("engine/", *COMPILED, "comm/finalization.py"),
    "llvmlite": COMPILED,
    "torch": ("torch/",),
    "jax": ("jax/",),
    "sklearn": (),
    "ml_dtypes": ("core/dtypes.py",),
    "scipy": (),
    "distopt_launch": ("testing/",),
}
#: Extras, loaded by the functions that need them.
LAZY = {"ml_dtypes", "rich", "matplotlib", "mpi4py", "safetensors", "tensorboardX", "torch", "jax"}


def part_of(file):
    first = file.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(node, file, module_level=True):
    """``(dotted name, at module level)`` of all imports that are made at run time."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield alias.name, module_level
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, f"{file}: relative import"
            for alias in child.names:
                yield f"{child.module}.{alias.name}", module_level
        else:
            yield from imports(child, file, module_level and not inside)


IMPORTS = {file: list(imports(ast.parse(file.read_text()), file)) for file in FILES}


def module_of(file):
    parts = ["distopt", *file.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def target(name):
    """The module of the package that ``name`` is, or is in; None outside the package."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def test_every_part_has_its_place():
    assert {part_of(file) for file in FILES} <= set(LEVEL) | FRONTS


def upward(file):
    """What a file imports that does not stand below it."""
    own = part_of(file)
    for name, _ in IMPORTS[file]:
        module = target(name)
        if module is None:
            continue
        # `from distopt import aggregators` names a part; a bare `distopt` would be the front.
        other = None if module == "distopt" else module.split(".")[1]
        if other != own and (other is None or other in FRONTS or LEVEL[other] >= LEVEL[own]):
            yield name


def test_imports_go_downward():
    wrong = {name: list(upward(file)) for file, name in zip(FILES, NAMES) if part_of(file) not in FRONTS}
    assert not {name: found for name, found in wrong.items() if found}


def test_no_cycles_between_modules():
    graph = {
        module: {
            found for name, _ in IMPORTS[file] if (found := target(name)) not in (None, module, "distopt")
        }
        for module, file in MODULES.items()
    }
    # A package's __init__ takes names from its modules, which is no cycle; those do not take from it.
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(graph[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in graph:
        visit(module)


@pytest.mark.parametrize("library", OWNERS)
def test_who_may_import(library):
    users = {
        str(file.relative_to(ROOT))
        for file, found in IMPORTS.items()
        if any(name.split(".")[0] == library for name, _ in found)
    }
    assert not {user for user in users if not user.startswith(OWNERS[library] or "?")}


def test_extras_are_imported_where_they_are_used():
    early = [
        (str(file.relative_to(ROOT)), name)
        for file, found in IMPORTS.items()
        for name, at_module_level in found
        if at_module_level and name.split(".")[0] in LAZY and part_of(file) not in ("torch", "jax")
    ]
    assert not early


TREES = {file: ast.parse(file.read_text()) for file in FILES}


def test_only_two_files_read_the_environment():
    reads = {
        name
        for file, name in zip(FILES, NAMES)
        for node in ast.walk(TREES[file])
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    assert reads == {"settings.py", "launched.py"}


def test_files_and_functions_are_short():
    lengths = {name: len(file.read_text().splitlines()) for file, name in zip(FILES, NAMES)}
    assert not {name: lines for name, lines in lengths.items() if lines >= 400}
    assert not {
        f"{name}: {node.name}": node.end_lineno - node.lineno + 1
        for file, name in zip(FILES, NAMES)
        for node in ast.walk(TREES[file])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno + 1 >= 60
    }


#: Private by their names, but Python's and other libraries' own, or promised by a named tuple.
PRIVATE_OF_LIBRARIES = {
    *(
        "_BatchNorm",
        "_NoValue",
        "_NormBase",
        "_current_frames",
        "_exit",
        "_fields",
        "_getframe",
        "_handleof",
        "_replace",
        "_torchdynamo_disable",
        "_version",
    ),
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def is_own(node):
    """Whether it is ``self``, ``cls`` or ``super()``."""
    name = node.func if isinstance(node, ast.Call) else node
    return isinstance(name, ast.Name) and name.id in ("self", "cls", "super")


def private_names_defined(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            yield node.attr
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for name in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(name, ast.Name):
                    yield name.id
                    if name.id == "__slots__":
                        yield from ast.literal_eval(node.value)


def private_accesses(tree):
    """``(line, name, in words)`` of what is private and not reached by ``self``, ``cls`` or ``super()``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_own(node.value):
            yield node.lineno, node.attr, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, alias.name, f"from {node.module} import {alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and not is_own(node.args[0]):
                yield node.lineno, name.value, ast.unparse(node)


def test_no_part_reaches_into_the_private_parts_of_another():
    defined = {}
    for file, tree in TREES.items():
        defined.setdefault(part_of(file), set()).update(private_names_defined(tree))
    reached = [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for file, tree in TREES.items()
        for line, name, text in private_accesses(tree)
        if is_private(name) and name not in defined[part_of(file)] | PRIVATE_OF_LIBRARIES
    ]
    assert not reached


PACKAGES = [module_of(file) for file in FILES if file.name == "__init__.py"]


def imported(package):
    """A package; those for models of another framework need it."""
    if package in ("distopt.torch", "distopt.jax"):
        pytest.importorskip(package.rpartition(".")[2])
    return importlib.import_module(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_sorted(package):
    if not MODULES[package].read_text().strip():
        pytest.skip("an empty package")
    module = imported(package)
    names = getattr(module, "__all__", [])
    assert not [name for name in names if not hasattr(module, name)]
    assert len(set(names)) == len(names)
    in_order = sorted(names, key=lambda name: (not name.isupper(), name))
    by_kind = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert list(names) in (in_order, by_kind, sorted(names), sorted(names, key=str.lower))


def exported_classes():
    for package in PACKAGES:
        module = imported(package)
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            if isinstance(found, type):
                yield f"{found.__module__}.{found.__qualname__}"


def test_class_names_are_unique():
    """Public classes may share a name, as those of Keras do: their packages tell them apart."""
    defined = {}
    for root in (ROOT, ROOT.parent / "launch"):
        for file in sorted(root.rglob("*.py")):
            module = ".".join(file.relative_to(ROOT.parent).with_suffix("").parts)
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    defined.setdefault(node.name, set()).add(f"{module}.{node.name}")
    public = set(exported_classes())
    assert not [places for places in defined.values() if len(places) > 1 and not places <= public]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


STEP = """
import sys
import distopt as tf
from distopt import distribute, keras, optimizers
v = tf.Variable([1.0, 2.0])
optimizers.Adam(0.1).minimize(lambda: tf.math.reduce_sum(v * v), [v])
assert distribute.get_replica_context().num_replicas_in_sync == 1
assert float(distribute.get_replica_context().all_reduce("sum", 2.0)) == 2.0
extras = "jax", "matplotlib", "ml_dtypes", "mpi4py", "rich", "safetensors", "sklearn", "tensorboardX", "torch"
print(sorted(n for n in extras if n in sys.modules))
"""


def test_one_replica_needs_no_mpi_and_no_extras():
    done = run(STEP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_importing_the_package_is_cheap():
    show = "print([n for n in ('numba', 'mpi4py', 'autograd') if n in sys.modules])"
    done = run(f"import sys, distopt; {show}; from distopt import optimizers; {show}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "['autograd']"]


def test_the_architecture_page_lists_every_part():
    page = (ROOT.parent / "docs" / "explanation" / "architecture.md").read_text()
    folders = page.partition("## The folders")[2].partition("\n## ")[0]
    parts = {part_of(file) for file in FILES} - {"__init__"}
    names = {part if (ROOT / part).is_dir() else f"{part}.py" for part in parts}
    assert not {name for name in names if name not in folders.replace("/", " ").split()}
