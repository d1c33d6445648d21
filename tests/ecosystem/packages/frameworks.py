"""Frameworks beside Django, for ``djserve module:app``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ecosystem.package import Package

if TYPE_CHECKING:
    from tests.ecosystem.client import Call


class Framework(Package):
    kind = "framework"
    counted = "each response, stream and message with its user and context variable"
    django = False

    def calls(self) -> list[Call]:
        from tests.ecosystem.client import usual_calls

        return usual_calls()


class FastAPI(Framework):
    name = "fastapi"
    application = "tests.ecosystem.apps.fastapi_app:app"


class Starlette(Framework):
    name = "starlette"
    application = "tests.ecosystem.apps.starlette_app:app"


class Litestar(Framework):
    name = "litestar"
    application = "tests.ecosystem.apps.litestar_app:app"


class Quart(Framework):
    name = "quart"
    application = "tests.ecosystem.apps.quart_app:app"


PACKAGES: list[Package] = [FastAPI(), Starlette(), Litestar(), Quart()]
