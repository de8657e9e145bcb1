"""Whatever is public has types; mypy, in `make lint`, checks that they hold."""

import ast

import pytest

from tests.test_layers import MODULES, room_of

ROOMS = sorted({room_of(name) for name in MODULES if "." in name})


def public_functions(tree):
    """Yields the functions and methods that others may call."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name[0] != "_":
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and (
            node.name[0] != "_" or node.name in ("__init__", "__call__")
        ):
            yield node


def untyped(function):
    """Says whether a parameter, or what is returned, has no type."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    parameters += [p for p in (given.vararg, given.kwarg) if p]
    return (function.returns is None and function.name != "__init__") or any(
        p.annotation is None and p.arg not in ("self", "cls")
        for p in parameters
    )


@pytest.mark.parametrize("room", ROOMS)
def test_public_signatures_are_typed(room):
    found = [
        f"{path.name}:{function.lineno} {function.name}"
        for name, path in MODULES.items()
        if "." in name and room_of(name) == room
        for function in public_functions(ast.parse(path.read_text("utf-8")))
        if untyped(function)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(x: int, *, y: str = '') -> None: ...", False),
        ("def f(x, y: int) -> None: ...", True),
        ("def f(x: int): ...", True),
        ("def f(*x) -> None: ...", True),
        ("class A:\n    def __init__(self, x: int): ...", False),
        ("class A:\n    def __init__(self, x): ...", True),
    ],
)
def test_the_search_finds_what_has_no_type(code, expected):
    [function] = public_functions(ast.parse(code))
    assert untyped(function) == expected
