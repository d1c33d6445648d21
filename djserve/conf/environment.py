"""Settings from environment variables: ``DJSERVE_<KEY>``, and what platforms set.

A variable comes before ``settings.DJSERVE`` and after a flag. Platforms' own variables
(Heroku's PORT and the like) are read only by the commands that serve in production, and
only for what nothing else says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djserve.conf.catalogue import Setting, settings_by_key
from djserve.conf.parser import Flag
from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "DJSERVE_"

_WORDS = {"1": True, "true": True, "on": True, "yes": True}
_WORDS |= {"0": False, "false": False, "off": False, "no": False}


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that ``DJSERVE_<KEY>`` variables give, each as a Flag.

    An empty variable counts as not set. Lists are separated by commas. Raises
    ConfigError for a name that is nearly a key's; other names may be anybody's.
    """
    settings = settings_by_key()
    mapping: dict[str, Any] = {}
    problems = []
    for name, text in environ.items():
        if not name.startswith(PREFIX) or not text:
            continue
        key = name.removeprefix(PREFIX)
        setting = settings.get(key)
        if setting is not None:
            mapping[key] = _read(setting, name, text)
            continue
        # Long to import, for a mistake.
        from difflib import get_close_matches

        # Others have the same prefix, djserve's own among them: only what is close.
        close = get_close_matches(key, settings, n=1, cutoff=0.8)
        if close:
            meant = PREFIX + close[0]
            problems.append(f"{name}: unknown variable; did you mean {meant!r}?")
    if problems:
        raise ConfigError(problems)
    return mapping


def read_platform(
    environ: Mapping[str, str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that a platform's variables give, if ``given`` has none.

    PORT listens on all addresses, as platforms expect it. WEB_CONCURRENCY is the number
    of workers; FORWARDED_ALLOW_IPS (Uvicorn's and gunicorn's) names the proxies whose
    header fields are believed.
    """
    return {key: value for key, value in _find(environ) if key not in given}


def _find(environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    port = environ.get("PORT", "")
    if port:
        yield "BIND", [Flag("PORT", f"0.0.0.0:{port}")]
    workers = environ.get("WEB_CONCURRENCY", "")
    if workers:
        # Flags and DJSERVE_WORKERS take the word too.
        is_auto = workers.strip().lower() == "auto"
        yield "WORKERS", Flag("WEB_CONCURRENCY", None if is_auto else workers)
    proxies = environ.get("FORWARDED_ALLOW_IPS", "")
    if proxies:
        name = "FORWARDED_ALLOW_IPS"
        yield "TRUSTED_PROXIES", [Flag(name, item) for item in _split(proxies)]
        yield "PROXY_HEADERS", Flag(name, True)


def _read(setting: Setting, name: str, text: str) -> Any:
    if setting.kind is tuple:
        # A field's value may have commas.
        separator = "\n" if setting.syntax == "header" else ","
        return [Flag(name, item) for item in _split(text, separator)]
    if setting.kind is bool:
        # Any other text is refused by the parser, with its name.
        return Flag(name, _WORDS.get(text.lower(), text))
    if text.lower() == "none" and setting.optional and not setting.none_word:
        return Flag(name, None)
    if setting.none_word and text.lower() == setting.none_word:
        return Flag(name, None)
    return Flag(name, text)


def _split(text: str, separator: str = ",") -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]
