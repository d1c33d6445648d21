"""The settings of HTTP/3, part of ``conf.schema``."""

from __future__ import annotations

from djserve.conf.declaration import setting
from djserve.values import Values


class HTTP3Config(Values, kw_only=True):
    """HTTP/3"""

    http3: bool = setting(
        False,
        "Serve HTTP/3 as well, on the UDP port of each address with TLS; needs the "
        "package extra http3. The limits of HTTP/2 hold for it.",
    )
    webtransport: bool = setting(
        False,
        "Offer WebTransport sessions over HTTP/3 to the application (experimental).",
    )
