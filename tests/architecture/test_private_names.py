"""Names that Django does not document, and the handlers use: each is pinned here."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin
from django.core.handlers.base import BaseHandler
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql import base as postgresql
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import ResponseHeaders
from django.urls import ResolverMatch

import djserve

HANDLERS = Path(djserve.__file__).parent / "handlers"

Owner = Callable[[], object]


def names_in(function: Callable[..., object]) -> dict[str, object]:
    """Return the attributes that a function's code names, as those of an object."""
    return dict.fromkeys(function.__code__.co_names)


PRIVATE_NAMES: dict[str, Owner] = {
    "_close": lambda: BaseDatabaseWrapper,
    "_configure_connection": lambda: postgresql.DatabaseWrapper,
    "_cursor": lambda: BaseDatabaseWrapper,
    "_exception_middleware": lambda: BaseHandler,
    "_files": lambda: names_in(HttpRequest._load_post_and_files),
    "_func_path": lambda: ResolverMatch(HttpResponse, (), {}),
    "_get_response": lambda: BaseHandler,
    "_get_response_async": lambda: BaseHandler,
    "_handler_class": HttpResponse,
    "_iterator": lambda: StreamingHttpResponse([]),
    "_live_receivers": lambda: Signal,
    "_messages": lambda: names_in(MessageMiddleware.process_request),
    "_middleware_chain": lambda: BaseHandler,
    "_prepare_cursor": lambda: BaseDatabaseWrapper,
    "_resource_closers": HttpResponse,
    "_should_handle": lambda: StaticFilesHandlerMixin,
    "_store": lambda: ResponseHeaders({}),
    "_template_response_middleware": lambda: BaseHandler,
    "_view_middleware": lambda: BaseHandler,
}
"""What has each name: a class, an object of it, or the names in a function's code."""

OTHERS = {
    "_broken": "asgiref: tests/handlers/threads/test_asgiref_compat.py",
    "_current_frames": "Python's sys, documented",
    "_data": "asgiref: only if it is there",
    "_event_loop_policy": "asyncio: only if it is there",
    "_is_gil_enabled": "Python's sys, documented from 3.13",
    "_local": "asyncio: only if it is there",
    "_loop": "asyncio: only if it is there",
    "_old_executor": "asgiref: tests/handlers/threads/test_asgiref_compat.py",
    "_replace": "of named tuples, documented",
    "_storage": "asgiref: only if it is there",
}


def private_names(path: Path) -> Iterator[str]:
    """Yield the names with an underscore that a module takes from other objects."""
    tree = ast.parse(path.read_text())
    defined = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    assigned: set[str] = set()
    taken: set[str] = set()
    asked: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in {
                "self",
                "cls",
            }
            if is_own and isinstance(node.ctx, ast.Store):
                assigned.add(node.attr)
            taken.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assigned.add(node.target.id)
        elif isinstance(node, ast.Assign):
            assigned |= {name.id for name in node.targets if isinstance(name, ast.Name)}
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"getattr", "setattr", "hasattr"}
            and isinstance(node.args[1], ast.Constant)
        ):
            asked.add(str(node.args[1].value))
    for name in (taken - defined - assigned) | asked:
        if name.startswith("_") and not name.startswith("__"):
            yield name


@pytest.mark.parametrize("name", sorted(PRIVATE_NAMES))
def test_django_at_hand_has_the_name(name: str) -> None:
    owner = PRIVATE_NAMES[name]()

    assert name in owner if isinstance(owner, dict) else hasattr(owner, name)


def test_handlers_use_these_names_and_no_others() -> None:
    used = {name for path in HANDLERS.rglob("*.py") for name in private_names(path)}

    assert used == PRIVATE_NAMES.keys() | OTHERS.keys()
