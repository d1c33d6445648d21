"""The project's application: which one, who runs its requests, how it is made."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core import asgi as django_asgi
from django.core.asgi import get_asgi_application
from django.core.handlers import asgi
from django.core.handlers.asgi import ASGIHandler as DjangoHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from djserve.conf.schema import DjangoConfig
from djserve.errors import ConfigError
from djserve.handlers import ASGIHandler
from djserve.handlers.project import (
    FALLBACK,
    Project,
    find_application_path,
    load_project,
    made_by_django,
)
from tests.handlers.conversation import Conversation


async def own(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("someones")
    monkeypatch.setitem(sys.modules, "someones", module)
    return module


@override_settings(ASGI_APPLICATION="someones.own")
def test_setting_names_the_application() -> None:
    assert find_application_path() == "someones.own"


@pytest.mark.parametrize("path", ["application", ".x", "x.", 5, ""])
def test_setting_must_be_a_dotted_path(path: object) -> None:
    with (
        override_settings(ASGI_APPLICATION=path),
        pytest.raises(ConfigError, match="expected a dotted path"),
    ):
        find_application_path()


@override_settings()
@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("demo_project.settings", "demo_project.asgi.application"),
        ("demo_project.chat.settings", "demo_project.asgi.application"),
        ("settings", None),
        ("email.mime.settings", None),
    ],
)
def test_without_the_setting_it_is_beside_the_settings(
    module: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hasattr(settings, "ASGI_APPLICATION"):
        del settings.ASGI_APPLICATION
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", module)

    assert find_application_path() == expected


@override_settings()
def test_without_any_application_django_makes_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if hasattr(settings, "ASGI_APPLICATION"):
        del settings.ASGI_APPLICATION
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")

    project = load_project(DjangoConfig())

    assert project.path == FALLBACK
    assert project.handler == "djserve's"


@override_settings(ASGI_APPLICATION="someones.application")
def test_handler_of_django_is_replaced(module: ModuleType) -> None:
    module.application = DjangoHandler()  # type: ignore[attr-defined]

    assert load_project(DjangoConfig()).handler == "djserve's"


@override_settings(ASGI_APPLICATION="someones.application")
def test_application_of_the_project_is_kept(module: ModuleType) -> None:
    module.application = own  # type: ignore[attr-defined]

    assert load_project(DjangoConfig()).handler == "the project's own"


@override_settings(ASGI_APPLICATION="someones.application")
def test_setting_keeps_everything_as_the_project_has_it(module: ModuleType) -> None:
    module.application = DjangoHandler()  # type: ignore[attr-defined]

    project = load_project(DjangoConfig(handler="django"))

    assert project.application is module.application
    assert project.handler == "Django's, as HANDLER says"


@override_settings(ASGI_APPLICATION="someones.other")
def test_missing_application_is_told(module: ModuleType) -> None:
    with pytest.raises(ConfigError, match="someones has no attribute 'other'"):
        load_project(DjangoConfig())


IMPORTED_EARLIER = asgi.ASGIHandler


class Counted:
    """Middleware that keeps something: a second one would know nothing of it."""

    made = 0

    def __init__(self, get_response: Any) -> None:
        type(self).made += 1
        self.clients: list[str] = []
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("answered")


urlpatterns = [path("", view)]

FORMS = {
    "alone": "application = get_asgi_application()",
    "instance": "import django; django.setup(); application = ASGIHandler()",
    "class where it is defined": """
import django
django.setup()
application = asgi.ASGIHandler()
""",
    "class imported earlier": """
from channels.routing import ProtocolTypeRouter
from tests.handlers.test_project import IMPORTED_EARLIER
application = ProtocolTypeRouter({"http": IMPORTED_EARLIER()})
""",
    "router": """
from channels.routing import ProtocolTypeRouter
application = ProtocolTypeRouter({"http": get_asgi_application()})
""",
    "last route": """
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path
application = ProtocolTypeRouter(
    {"http": URLRouter([re_path(r"", get_asgi_application())])}
)
""",
    "wrapper": """
class Wrapper:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)
application = Wrapper(get_asgi_application())
""",
    "function": """
django = get_asgi_application()
async def application(scope, receive, send):
    await django(scope, receive, send)
""",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(tmp_path)
    name = "written_asgi"

    def write(source: str) -> None:
        head = (
            "from django.core.asgi import ASGIHandler, get_asgi_application\n"
            "from django.core.handlers import asgi\n"
        )
        (tmp_path / f"{name}.py").write_text(head + source)

    with override_settings(
        ASGI_APPLICATION=f"{name}.application", ROOT_URLCONF=__name__, MIDDLEWARE=[]
    ):
        yield write
    sys.modules.pop(name, None)


def load() -> Project:
    return load_project(DjangoConfig())


@pytest.mark.parametrize("form", FORMS)
def test_application_has_the_fast_handler_whatever_is_around(
    form: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[type] = []
    handle = ASGIHandler.handle

    async def noted(self: ASGIHandler, *args: Any) -> None:
        answered.append(type(self))
        await handle(self, *args)

    monkeypatch.setattr(ASGIHandler, "handle", noted)
    write(FORMS[form])

    project = load()
    client = Conversation("/")
    asyncio.run(client.request(project.application))

    assert project.handler == "djserve's"
    assert client.content == b"answered"
    assert answered == [ASGIHandler]


def test_function_that_somebody_has_wrapped_makes_it_too(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @functools.wraps(get_asgi_application)
    def wrapped() -> Any:
        made = get_asgi_application()
        return functools.partial(made.__call__)

    monkeypatch.setattr(django_asgi, "get_asgi_application", wrapped)
    write("application = get_asgi_application()")

    assert load().handler == "djserve's"


def test_setting_leaves_the_handler_of_django(write: Any) -> None:
    write("made = get_asgi_application()\nasync def application(*args): ...")

    project = load_project(DjangoConfig(handler="django"))

    assert type(sys.modules["written_asgi"].made) is asgi.ASGIHandler
    assert project.handler == "Django's, as HANDLER says"


@pytest.mark.parametrize("base", ["ASGIHandler", "asgi.ASGIHandler"])
def test_subclass_is_left_alone(base: str, write: Any) -> None:
    write(f"class Mine({base}):\n    pass\napplication = Mine()")

    project = load()

    module: Any = sys.modules["written_asgi"]
    assert module.Mine.__mro__[1] is asgi.ASGIHandler
    assert project.handler == "the project's own"
    assert "Mine is a subclass of Django's handler" in project.notes[0]


def test_line_says_what_to_write_where_the_handler_is_made_later(write: Any) -> None:
    write("async def application(scope, receive, send): ...")

    project = load()

    assert project.handler == "the project's own"
    assert "djserve.handlers.get_asgi_application()" in project.notes[0]


def test_nothing_stays_after_the_import(write: Any) -> None:
    write("kept = ASGIHandler\napplication = get_asgi_application()")

    load()

    kept = sys.modules["written_asgi"].kept
    assert vars(django_asgi)["ASGIHandler"] is asgi.ASGIHandler
    assert type(kept()) is asgi.ASGIHandler
    assert type(get_asgi_application()) is asgi.ASGIHandler


def test_nothing_stays_after_an_import_that_fails() -> None:
    with pytest.raises(ZeroDivisionError), made_by_django():
        raise ZeroDivisionError

    assert vars(django_asgi)["ASGIHandler"] is asgi.ASGIHandler


def test_class_is_the_same_for_who_asks_for_it() -> None:
    with made_by_django() as made:
        handler = get_asgi_application()

        assert vars(django_asgi)["ASGIHandler"] is asgi.ASGIHandler
        assert made == [handler]
        assert type(handler) is ASGIHandler


def test_wrapper_that_is_put_around_the_making_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi.ASGIHandler, "__init__", asgi.ASGIHandler.__init__)
    noted: list[object] = []
    with made_by_django() as made:
        wrapped = asgi.ASGIHandler.__init__

        def agent(self: Any, *args: Any) -> None:
            noted.append(self)
            wrapped(self, *args)

        asgi.ASGIHandler.__init__ = agent  # type: ignore[method-assign]
        fast = asgi.ASGIHandler()
    later = asgi.ASGIHandler()

    assert made == [fast]
    assert type(later) is asgi.ASGIHandler
    assert fast in noted and later in noted


@pytest.mark.parametrize("form", FORMS)
def test_middleware_is_made_once(
    form: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counted, "made", 0)
    write(FORMS[form])

    with override_settings(MIDDLEWARE=[f"{__name__}.Counted"]):
        project = load()
        client = Conversation("/")
        asyncio.run(client.request(project.application))

    assert client.content == b"answered"
    assert Counted.made == 1


@pytest.mark.parametrize("form", ["alone", "instance", "router"])
def test_middleware_of_a_module_that_was_imported_before_is_made_once(
    form: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counted, "made", 0)
    write(FORMS[form])

    with override_settings(MIDDLEWARE=[f"{__name__}.Counted"]):
        importlib.import_module("written_asgi")
        project = load()
        client = Conversation("/")
        asyncio.run(client.request(project.application))

    assert project.handler == "djserve's"
    assert client.content == b"answered"
    assert Counted.made == 1


def test_other_class_in_its_place_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other(asgi.ASGIHandler):
        pass

    monkeypatch.setitem(vars(django_asgi), "ASGIHandler", Other)
    with made_by_django() as made:
        assert type(get_asgi_application()) is Other

    assert made == []
    assert vars(django_asgi)["ASGIHandler"] is Other


def test_instance_of_a_class_that_has_taken_the_name_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other(asgi.ASGIHandler):
        pass

    monkeypatch.setattr(asgi, "ASGIHandler", Other)
    with made_by_django() as made:
        assert type(asgi.ASGIHandler()) is Other

    assert made == []
