"""Secrets taken out of what is shown: values of settings, command lines, URLs.

For text that people read, and that they paste elsewhere. Nothing that is logged for a
program, or run, goes through it.
"""

from __future__ import annotations

import re

from djserve.postponed import pattern

SECRET_KEYS = frozenset({"KEYFILE_PASSWORD"})
"""Settings whose values are never shown."""

HIDDEN = "***"

# RFC 3986 3.2.1: what stands between "://" and "@", after the name.
_URL = pattern(r"(?<=://)(?P<user>[^\s/@:\"']*):[^\s/@\"']+@")
_NAME = r"[\w-]*(?:secret|password|passwd|passphrase|token|api_?key|private_?key)[\w-]*"
# A variable or a flag with its value; what a shell expands says nothing by itself.
_ASSIGNMENT = pattern(
    rf"(?P<name>(?<![\w$-])(?:--)?{_NAME}=)(?:\"[^\"$]+\"|'[^']+'|[^\s\"'$]+)",
    re.IGNORECASE,
)
_FLAG = pattern(
    rf"(?P<name>(?<!\S)--{_NAME}\s+)(?:\"[^\"$]+\"|'[^']+'|[^\s\"'$-]\S*)",
    re.IGNORECASE,
)


def hide_password(text: str) -> str:
    """Return a text with ``***`` for the passwords in its URLs."""
    return _URL.sub(rf"\g<user>:{HIDDEN}@", text) if "://" in text else text


def hide_secrets(text: str) -> str:
    """Return a text with ``***`` for what it assigns to names such as SECRET_KEY."""
    for secret in (_ASSIGNMENT, _FLAG):
        text = secret.sub(rf"\g<name>{HIDDEN}", text)
    return hide_password(text)
