"""OpenTelemetry's variables OTEL_* to the exporters that they name, for any signal."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from djserve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def load_exporters(signal: str, environ: Mapping[str, str]) -> list[Any]:
    """Return the classes of the exporters for ``signal``, "traces" or "metrics".

    Raises ConfigError for one that is not installed.
    """
    return [_load(signal, name) for name in _names(signal, environ)]


def missing_package(setting: str, package: str) -> ConfigError:
    """Return the error of a setting that needs a package of OpenTelemetry's."""
    hint = 'install "djserve[otel]"'
    return ConfigError([f"{setting} needs the package {package}: {hint}"])


def _names(signal: str, environ: Mapping[str, str]) -> Iterator[str]:
    for name in environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(","):
        name = name.strip()
        if name == "otlp":
            yield _name_otlp(signal, environ)
        elif name not in ("", "none"):
            yield name


def _name_otlp(signal: str, environ: Mapping[str, str]) -> str:
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    protocol = environ.get(own, protocol)
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"


def _load(signal: str, name: str) -> Any:
    group = f"opentelemetry_{signal}_exporter"
    for entry in metadata.entry_points(group=group, name=name):
        return entry.load()
    known = sorted({entry.name for entry in metadata.entry_points(group=group)})
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    problem = f"{variable}: no exporter {name!r} is installed"
    raise ConfigError([f"{problem} (there are: {', '.join(known)})"])
