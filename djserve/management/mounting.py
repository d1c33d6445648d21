"""The root path as Django's script prefix, from the start on."""

from __future__ import annotations

from urllib.parse import unquote

from django.conf import settings
from django.urls import set_script_prefix

_COMPLETED = ("STATIC_URL", "MEDIA_URL")
"""Settings that Django puts the script prefix in front of, if they are relative."""


def mount(root_path: str) -> None:
    """Have what is made of URLs outside of requests begin with the root path.

    ``django.setup`` does that for FORCE_SCRIPT_NAME, which comes first. Django keeps
    STATIC_URL as it was when it was first asked for: system checks and middleware do
    that before a request has brought its prefix, and pages would name style sheets
    outside of the root path. To be called when middleware has been made: WhiteNoise
    compares what it finds there with paths without the prefix.
    """
    if root_path and not settings.FORCE_SCRIPT_NAME:
        set_script_prefix(unquote(root_path))
        for name in _COMPLETED:
            settings.__dict__.pop(name, None)
