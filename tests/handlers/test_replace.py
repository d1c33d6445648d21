"""Which applications get the fast handler, and which are left alone."""

from __future__ import annotations

from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.handlers import asgi

from djserve.handlers import ASGIHandler, replace_handler


class Subclass(asgi.ASGIHandler):
    pass


class RouterSubclass(ProtocolTypeRouter):
    pass


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    pass


def test_handler_of_django_is_replaced() -> None:
    application, replaced = replace_handler(asgi.ASGIHandler())

    assert replaced
    assert type(application) is ASGIHandler


def test_http_entry_of_a_router_is_replaced() -> None:
    router = ProtocolTypeRouter({"http": asgi.ASGIHandler(), "websocket": websocket})
    application, replaced = replace_handler(router)

    assert replaced
    assert type(application) is ProtocolTypeRouter
    assert type(application.application_mapping["http"]) is ASGIHandler
    assert application.application_mapping["websocket"] is websocket


def test_router_that_was_given_is_not_changed() -> None:
    router = ProtocolTypeRouter({"http": asgi.ASGIHandler()})
    replace_handler(router)

    assert type(router.application_mapping["http"]) is asgi.ASGIHandler


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Subclass, id="subclass"),
        pytest.param(ASGIHandler, id="ours already"),
        pytest.param(lambda: websocket, id="any application"),
        pytest.param(lambda: ASGIStaticFilesHandler(asgi.ASGIHandler()), id="wrapper"),
        pytest.param(lambda: ProtocolTypeRouter({"http": Subclass()}), id="in router"),
        pytest.param(
            lambda: ProtocolTypeRouter({"websocket": websocket}), id="no http"
        ),
        pytest.param(
            lambda: RouterSubclass({"http": asgi.ASGIHandler()}), id="router subclass"
        ),
    ],
)
def test_other_applications_are_left_alone(make: Any) -> None:
    given = make()

    assert replace_handler(given) == (given, False)
