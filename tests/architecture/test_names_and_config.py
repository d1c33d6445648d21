"""Two things that must not grow: names of two classes, uses of the whole settings."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "djserve"

COMPOSITION = {
    "checks/packages.py": "looks at each setting that is not at its default",
    "handlers/runtime.py": "keeps the configuration in force for the whole process",
    "management/development.py": "the server of runserver",
    "management/production.py": "the program of runasgi, which runtime.py is told of",
    "server/factory.py": "makes the protocols, each with its group",
    "server/launch.py": "opens what stands around a server, each with its group",
    "server/lifecycle.py": "the server: listeners, factory, lifespan, end",
    "supervisor/arbiter.py": "the supervisor, which opens all that has a group",
    "supervisor/loader.py": "hands the workers what they serve with",
    "supervisor/roles.py": "chooses what a process is by most groups",
    "supervisor/worker.py": "a server with its link to the supervisor",
}
"""The modules that put a process together, with what each does with all groups.

All others are given the groups that they read, or single values.
"""

SHARED_NAMES = {
    "Command": "Django finds a command by this name",
    "WebSocketEntry": "the seam, and the class that implements it",
    "DirectCall": "the seam, and the class that implements it",
    "DirectLane": "the seam, and the class that implements it",
    "FrameReader": "one for each wire format",
    "ConnectionState": "one for each wire protocol",
    "Overdue": "one for each wire protocol",
    "ConnectionFacts": "one for HTTP/2 and one for HTTP/3",
    "ConnectionTimeouts": "one for HTTP/2 and one for HTTP/3",
    "Ending": "one for HTTP/2 and one for HTTP/3",
    "ServerFields": "one for HTTP/2 and one for HTTP/3",
    "StreamOwner": "one for HTTP/2 and one for HTTP/3",
    "StreamTable": "one for HTTP/2 and one for HTTP/3",
}
"""Public classes of one name, with the reason. Take a name from here with its twin."""


@cache
def read_trees() -> dict[str, ast.Module]:
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def names_whole_config(annotation: ast.expr) -> bool:
    return "ServerConfig" in {
        word
        for node in ast.walk(annotation)
        for word in (
            getattr(node, "id", ""),
            getattr(node, "attr", ""),
            getattr(node, "value", ""),
        )
        if isinstance(word, str)
    }


def takes_whole_config(tree: ast.Module) -> bool:
    return any(
        names_whole_config(argument.annotation)
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for argument in (*node.posonlyargs, *node.args, *node.kwonlyargs)
        if argument.annotation is not None
    )


def find_shared_names(trees: dict[str, ast.Module]) -> set[str]:
    places = defaultdict(set)
    for module, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(module)
    return {name for name, modules in places.items() if len(modules) > 1}


def test_whole_settings_reach_no_further_module() -> None:
    found = {name for name, tree in read_trees().items() if takes_whole_config(tree)}

    assert found == COMPOSITION.keys()


def test_each_way_to_name_the_settings_is_found() -> None:
    sources = [
        "def f(config: ServerConfig): ...",
        "def f(*, config: schema.ServerConfig | None = None): ...",
        "class A:\n    async def f(self, config: 'ServerConfig', /): ...",
    ]

    assert all(takes_whole_config(ast.parse(source)) for source in sources)
    assert not takes_whole_config(ast.parse("def f(config: TLSConfig): ..."))


def test_no_further_public_classes_share_a_name() -> None:
    assert find_shared_names(read_trees()) - SHARED_NAMES.keys() == set()


def test_classes_of_one_name_are_found_across_modules() -> None:
    trees = {
        "a.py": ast.parse("class Field: ...\nclass _Own: ..."),
        "b.py": ast.parse("class Field: ...\nclass _Own: ...\nclass Other: ..."),
    }

    assert find_shared_names(trees) == {"Field"}
