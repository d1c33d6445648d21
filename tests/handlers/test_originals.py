"""Django's classes are found under whatever an agent has put in their places."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.core.handlers import asgi, base

from djserve.handlers import ASGIHandler
from djserve.handlers.originals import (
    OriginalBase,
    OriginalHandler,
    find_base,
    find_handler,
)
from tests.handlers.agents import Proxy

IN_ITS_PLACE = {
    "subclass": """
class Other(asgi.ASGIHandler):
    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)
asgi.ASGIHandler = Other
""",
    "subclass of the base": """
class Other(base.BaseHandler):
    def load_middleware(self, is_async=False):
        super().load_middleware(is_async)
base.BaseHandler = Other
""",
    "function": """
original = asgi.ASGIHandler
asgi.ASGIHandler = lambda: original()
""",
}


def test_classes_are_those_of_the_source() -> None:
    assert OriginalBase is base.BaseHandler
    assert OriginalHandler is asgi.ASGIHandler
    assert issubclass(ASGIHandler, asgi.ASGIHandler)


def test_base_is_found_below_subclasses_and_proxies() -> None:
    class Other(base.BaseHandler):
        def load_middleware(self, is_async: bool = False) -> None:
            raise NotImplementedError

    assert find_base(Other) is base.BaseHandler
    assert find_base(Proxy(base.BaseHandler, None)) is base.BaseHandler
    # What derives from it is no handler for ASGI.
    assert find_handler(find_base(Other)) is asgi.ASGIHandler


@pytest.mark.e2e
@pytest.mark.parametrize("form", IN_ITS_PLACE)
def test_handlers_can_be_imported_after_an_agent(form: str) -> None:
    program = f"""
from django.core.handlers import asgi, base
django_handler = asgi.ASGIHandler
{IN_ITS_PLACE[form]}
from djserve.handlers import ASGIHandler
from djserve.handlers.patches import refresh_patches
assert ASGIHandler.__mro__[1] is django_handler, ASGIHandler.__mro__
assert refresh_patches().found == (), refresh_patches().found
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
