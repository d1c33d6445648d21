"""The extensions of ASGI that streams offer to applications, for the scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping


class Offer(dict[str, Any]):
    """What a scope says of an extension beside its name: nothing.

    Scopes share it, so what an application wrote into it would reach the requests of
    others. One for each scope would cost every request as much as its headers do.
    """

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("The offer of an extension in a scope cannot be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


_OFFER = Offer()


def offer(*names: str) -> Mapping[str, dict[str, Any]]:
    """Return the extensions of HTTP of these names, as they stand in scopes."""
    return {f"http.response.{name}": _OFFER for name in names}
