"""Imports run one way: from the rooms that use others to those that do not."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# From the top to the bottom. A room imports itself and the rooms below it;
# those of one line do not know each other.
LAYERS = (
    {"tools"},
    {"command_line"},
    {"flags"},
    {"tuning"},
    {"training", "export", "report"},
    {"inference"},
    {"runs"},
    {"update", "robustness"},
    {"objectives", "data", "encoders"},
    {"text"},
    {"datasets", "losses"},
    {"sources"},
    {"replicas", "files"},
    {"adversaries"},
    {"fields", "plugins", "progress", "startup"},
    {"log", "markdown"},
    {"errors"},
)
LARGEST_FILE, LARGEST_ROOM = 500, 1500


def room_of(module):
    """The room of a dotted name: `tfadv.data.batching` is in `data`."""
    return module.split(".")[1]


def modules():
    """Maps dotted names to the files of the package."""
    found = {}
    for top in ("tfadv", "flags", "tools"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = ("tfadv", *parts) if top != "tfadv" else parts
            found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(module):
    """Lists what of tfadv a module imports, in functions as well.

    Yields:
        `(name, late)`: the dotted name of a module, and whether a function
        imports it.
    """
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name:
                yield name, id(node) not in top


def layer(room):
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize(
    "module", [m for m in MODULES if not m.endswith("__init__")]
)
def test_a_module_imports_its_own_room_and_those_below(module):
    room = room_of(module)
    for name, _ in imports(module):
        other = room_of(name)
        assert other == room or layer(other) > layer(room), name


def test_no_module_imports_itself_by_way_of_others():
    graph = {m: {name for name, _ in imports(m)} for m in MODULES}
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in graph[module]:
                visit(other, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_no_file_and_no_room_is_too_large():
    sizes = {m: len(p.read_text().splitlines()) for m, p in MODULES.items()}
    assert {m: n for m, n in sizes.items() if n > LARGEST_FILE} == {}
    rooms = {}
    for module, size in sizes.items():
        room = ".".join(module.split(".")[:2])
        rooms[room] = rooms.get(room, 0) + size
    assert {r: n for r, n in rooms.items() if n > LARGEST_ROOM} == {}


def test_there_are_no_links():
    folders = [path for path in ROOT.iterdir() if path.name[0] != "."]
    links = [p for f in folders for p in f.rglob("*") if p.is_symlink()]
    assert links == []
