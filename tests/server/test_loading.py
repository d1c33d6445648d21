"""Names to applications, and what is said of a name that leads nowhere."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from djserve.errors import ConfigError
from djserve.server.loading import import_application, load_application

APPLICATION = """
async def app(scope, receive, send):
    await send({"scope": scope})

class Site:
    app = staticmethod(app)

def app2(scope):
    async def instance(receive, send):
        await send({"two": scope})
    return instance

number = 5
"""

WriteModule = Callable[[str, str], Path]


@pytest.fixture
def write_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WriteModule]:
    """Give ``write_module(path, text)`` for modules that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def problem_with(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_application(name)
    (problem,) = caught.value.problems
    return problem


def messages_of(application: Any) -> list[object]:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(application({"type": "http"}, None, send))
    return sent


def test_application_is_imported(write_module: WriteModule) -> None:
    write_module("shop.py", APPLICATION)

    assert messages_of(load_application("shop:app")) == [{"scope": {"type": "http"}}]


def test_attribute_may_be_dotted(write_module: WriteModule) -> None:
    write_module("shop.py", APPLICATION)

    assert load_application("shop:Site.app") is sys.modules["shop"].app


def test_asgi_2_application_is_wrapped(write_module: WriteModule) -> None:
    write_module("shop.py", APPLICATION)

    assert messages_of(load_application("shop:app2")) == [{"two": {"type": "http"}}]


FACTORIES = """
async def app(scope, receive, send):
    await send(scope)

def create():
    return app

def create_for(name):
    return app

async def create_later():
    return app

def create_nothing():
    return None

def fail():
    raise LookupError("no such shop")

def leave():
    raise SystemExit
"""


def test_factory_is_called(write_module: WriteModule) -> None:
    write_module("shop.py", FACTORIES)
    application = load_application("shop:create", is_factory=True)

    assert messages_of(application) == [{"type": "http"}]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("create_for", "cannot be called without arguments: create_for(name)"),
        ("create_later", "shop:create_later is not a function that returns an"),
        ("create_nothing", "shop:create_nothing is not an application but a NoneType"),
        ("fail", "LookupError: no such shop"),
        ("leave", "Calling 'shop:leave' failed"),
        ("none", "shop has no attribute 'none'"),
    ],
)
def test_wrong_factory_is_named(
    write_module: WriteModule, name: str, problem: str
) -> None:
    write_module("shop.py", FACTORIES)

    with pytest.raises(ConfigError) as caught:
        load_application(f"shop:{name}", is_factory=True)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("mysite.asgi", "'mysite.asgi:application'"),
        ("mysite.main", "'mysite:main'"),
        ("demo_project", "'demo_project.asgi:application'"),
        ("demo_project.asgi", "'demo_project.asgi:application'"),
        ("json.decoder", "'json.decoder:application'"),
        ("json.decoder.JSONDecoder", "'json.decoder:JSONDecoder'"),
        ("mysite.asgi.application", "'mysite.asgi:application'"),
        ("mysite/asgi.py", "'mysite.asgi:application'"),
        ("./app.py", "'app:application'"),
        ("app", "'app:application'"),
        ("app:", "'app:application'"),
        ("", "'mysite.asgi:application'"),
    ],
)
def test_name_without_attribute_is_corrected(name: str, suggestion: str) -> None:
    problem = problem_with(name)

    assert repr(name) in problem
    assert problem.endswith(f"did you mean {suggestion}?")


@pytest.mark.parametrize(
    ("source", "attribute"),
    [
        ("app = 1", "app"),
        ("app = application = 1", "application"),
        ("def asgi(): pass", "asgi"),
        ("other = 1", "application"),
        ("raise ValueError", "application"),
        ("app = (", "application"),
    ],
)
@pytest.mark.parametrize("name", ["unloaded", "unloaded:", "unloaded.py"])
def test_attribute_that_is_proposed_is_the_modules_own(
    name: str, source: str, attribute: str, write_module: WriteModule
) -> None:
    write_module("unloaded.py", source)

    problem = problem_with(name)

    assert problem.endswith(f"did you mean 'unloaded:{attribute}'?")


def test_missing_module_is_named_with_a_near_one(write_module: WriteModule) -> None:
    write_module("bookshop.py", APPLICATION)

    problem = problem_with("bokshop:app")

    assert problem.startswith("There is no module 'bokshop'; did you mean 'bookshop'?")
    assert str(Path.cwd()) in problem


def test_missing_submodule_is_looked_for_in_its_package(
    write_module: WriteModule,
) -> None:
    write_module("shop/__init__.py", "")
    write_module("shop/asgi.py", APPLICATION)

    assert problem_with("shop.asgy:app") == (
        "There is no module 'shop.asgy'; did you mean 'asgi'?"
    )


def test_module_that_is_no_package_is_told(write_module: WriteModule) -> None:
    write_module("shop.py", APPLICATION)

    assert problem_with("shop.asgi:app") == (
        "There is no module 'shop.asgi': 'shop' is a module, not a package"
    )


def test_missing_attribute_is_named_with_a_near_one(write_module: WriteModule) -> None:
    write_module("shop.py", APPLICATION)

    assert problem_with("shop:ap2") == (
        "shop has no attribute 'ap2'; did you mean 'app2'?"
    )


def test_usual_name_is_tried_for_another_usual_name(write_module: WriteModule) -> None:
    write_module("shop_usual.py", APPLICATION)

    assert problem_with("shop_usual:application").endswith("; did you mean 'app'?")


def test_attribute_that_cannot_be_called_is_told(write_module: WriteModule) -> None:
    write_module("shop.py", APPLICATION)

    assert "shop:number is not an application but a int" in problem_with("shop:number")


INTERFACES = """
def wsgi(environ, start_response):
    return [b""]

class WSGI:
    def __call__(self, environ, start_response):
        return [b""]

wsgi_object = WSGI()

def none():
    return None

async def two(receive, send):
    return None

def returning(scope, receive, send):
    return two(receive, send)

class Object:
    async def __call__(self, scope, receive, send):
        return None

object_ = Object()
anything = lambda *arguments: None
builtin = max
"""


@pytest.mark.parametrize("name", ["wsgi", "wsgi_object"])
def test_wsgi_application_is_told_apart(write_module: WriteModule, name: str) -> None:
    write_module("shop_wsgi.py", INTERFACES)

    problem = problem_with(f"shop_wsgi:{name}")
    assert problem == (
        f"shop_wsgi:{name} is a WSGI application, it takes environ and start_response: "
        'name the ASGI application, as in "mysite.asgi:application"'
    )


@pytest.mark.parametrize(
    ("name", "signature"), [("none", "none()"), ("two", "two(receive, send)")]
)
def test_callable_with_other_arguments_is_no_application(
    write_module: WriteModule, name: str, signature: str
) -> None:
    write_module("shop_other.py", INTERFACES)

    problem = problem_with(f"shop_other:{name}")
    assert problem.startswith(f"shop_other:{name} is not an ASGI application: ")
    assert problem.endswith(f"but is {signature}")


@pytest.mark.parametrize("name", ["returning", "object_", "anything", "builtin"])
def test_whatever_may_be_an_application_is_taken(
    write_module: WriteModule, name: str
) -> None:
    write_module("shop_good.py", INTERFACES)

    assert callable(load_application(f"shop_good:{name}"))


def test_traceback_has_the_users_code_alone(write_module: WriteModule) -> None:
    file = write_module("broken.py", "def fail():\n    raise ValueError('x')\nfail()\n")

    problem = problem_with("broken:app")

    assert problem.startswith("Importing 'broken' failed:")
    assert problem.endswith("ValueError: x")
    files = [line for line in problem.splitlines() if "File" in line]
    assert [str(file) in line for line in files] == [True, True]


def test_missing_import_of_the_module_is_its_own_fault(
    write_module: WriteModule,
) -> None:
    write_module("broken.py", "import no_such_thing\n")

    problem = problem_with("broken:app")

    assert "import no_such_thing" in problem
    assert problem.endswith("No module named 'no_such_thing'")


def test_module_that_imports_itself_wrongly_has_a_traceback(
    write_module: WriteModule,
) -> None:
    write_module("broken/__init__.py", "import broken.part\n")

    assert "line 1, in <module>" in problem_with("broken.part:app")


def test_error_without_words_of_pythons_is_named(
    write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Python 3.15, whose words for the error above are an error themselves."""
    write_module("broken.py", "import no_such.part\n")
    monkeypatch.setattr(traceback, "format_exception_only", lambda error: 1 / 0)

    problem = problem_with("broken:app")

    assert "line 1, in <module>" in problem
    assert problem.endswith("ModuleNotFoundError: No module named 'no_such'")


def test_syntax_error_is_shown_where_it_is(write_module: WriteModule) -> None:
    file = write_module("broken.py", "def (:\n")

    problem = problem_with("broken:app")

    assert f'File "{file}", line 1' in problem
    assert "Traceback" not in problem


def test_fault_of_the_module_is_the_errors_cause(write_module: WriteModule) -> None:
    write_module("broken.py", "1 / 0\n")

    with pytest.raises(ConfigError) as caught:
        import_application("broken", "app")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.usefixtures("_without_channels")
def test_missing_channels_is_told_with_what_installs_it(
    write_module: WriteModule,
) -> None:
    write_module("site_with_consumers.py", "from channels.routing import URLRouter\n")

    with pytest.raises(ConfigError) as caught:
        load_application("site_with_consumers:application")

    hint = 'Install it: python -m pip install "djserve[channels]"'
    assert caught.value.problems[0].endswith(hint)
    # Django's runserver shows the module's own error.
    cause = caught.value.__cause__
    assert isinstance(cause, ModuleNotFoundError)
    assert cause.__notes__ == [hint]
