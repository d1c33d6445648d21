"""Agents that watch an application, with their reports kept here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.ecosystem.package import Package
from tests.ecosystem.records import record
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.ecosystem.client import Run

NAME = re.compile(r"user\d{3}")
VIEW = re.compile(r"/(?:a?sync)[\w-]*/")


def names_in(value: Any) -> list[str]:
    """Return each user's name that stands anywhere in a report."""
    return sorted(set(NAME.findall(json.dumps(value, default=str))))


def name_of(text: str) -> str:
    """Return the first user's name in a text, such as a request's target."""
    found = NAME.search(text)
    return found[0] if found else ""


def collector() -> str:
    return os.environ.get("ECOSYSTEM_COLLECTOR", "http://127.0.0.1:9")


class Agent(Package):
    kind = "agent"


class Tracer(Agent):
    """An agent that reports each request and each exception."""

    counted = "a transaction of each request, an error of each exception"
    expected = {"transaction": 96, "error": 32}


class Reporter(Agent):
    """An agent that reports exceptions only."""

    counted = "an error of each exception"
    expected = {"error": 32}


class Sentry(Tracer):
    name = "sentry-sdk"
    counted = (
        "a transaction of each request, an error of each exception, with user, tags "
        "and breadcrumbs; the isolation scope of each view"
    )
    expected = {**Tracer.expected, "isolation scope": 128}

    def start(self) -> None:
        import sentry_sdk
        from sentry_sdk.transport import Transport

        class Keep(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                for item in envelope.items:
                    event = item.payload.json
                    if item.headers.get("type") == "transaction":
                        right = name_of(event["request"]["query_string"])
                        record("transaction", right, names_in(event))
                    elif item.headers.get("type") == "event":
                        right = name_of(event["exception"]["values"][-1]["value"])
                        record("error", right, names_in(event))

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            traces_sample_rate=1,
            send_default_pii=True,
            transport=Keep,
        )

    def look(self, request: Any) -> dict[str, Any]:
        import sentry_sdk

        name = request.GET["who"]
        sentry_sdk.set_user({"id": name})
        sentry_sdk.set_tag("who", name)
        sentry_sdk.add_breadcrumb(message=name)
        scope = sentry_sdk.get_isolation_scope()
        crumbs = [crumb.get("message") for crumb in scope._breadcrumbs]
        return {"isolation scope": names_in([scope._user, scope._tags, crumbs])}


class NewRelic(Tracer):
    name = "newrelic"
    expected = {**Tracer.expected, "current transaction": 128}
    environment = {
        "NEW_RELIC_DEVELOPER_MODE": "true",
        "NEW_RELIC_LICENSE_KEY": "0" * 40,
        "NEW_RELIC_APP_NAME": "ecosystem",
        "NEW_RELIC_LOG": "stderr",
        "NEW_RELIC_LOG_LEVEL": "error",
    }

    def begin(self) -> None:
        import newrelic.agent
        from newrelic.core.agent import Agent

        newrelic.agent.initialize()
        newrelic.agent.register_application(timeout=60)
        keep = Agent.record_transaction

        def record_transaction(agent: Any, name: str, data: Any) -> Any:
            if VIEW.search(data.request_uri or ""):
                self._record(data)
            return keep(agent, name, data)

        Agent.record_transaction = record_transaction

    def _record(self, data: Any) -> None:
        attributes = [[a.name, a.value] for a in data.user_attributes]
        who = dict(attributes).get("who", "")
        # The query is no part of what it keeps of a request.
        record("transaction", str(who), names_in([attributes, data.request_uri]))
        for error in data.errors:
            record("error", name_of(error.message), [who, name_of(error.message)])

    def look(self, request: Any) -> dict[str, Any]:
        import newrelic.agent

        transaction = newrelic.agent.current_transaction()
        before = dict(getattr(transaction, "_custom_params", {}))
        newrelic.agent.add_custom_attribute("who", request.GET["who"])
        found = request.GET["who"] if transaction is not None else ""
        return {"current transaction": [found, *names_in(before)]}


class Datadog(Tracer):
    name = "ddtrace"
    expected = {**Tracer.expected, "current span": 128}
    environment = {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
        "DD_TRACE_REPORT_HOSTNAME": "false",
    }

    def begin(self) -> None:
        os.environ.setdefault("DD_TRACE_AGENT_URL", collector())
        import ddtrace.auto  # noqa: F401
        from ddtrace.trace import TraceFilter, tracer

        class Keep(TraceFilter):
            def process_trace(self, trace: Any) -> Any:
                for span in trace:
                    url = span.get_tag("http.url") or ""
                    if span.parent_id is None and VIEW.search(url):
                        Datadog.record(url, trace)
                return None  # It is not sent

        tracer.configure(trace_processors=[Keep()])

    @staticmethod
    def record(url: str, trace: Any) -> None:
        tags = [[span.resource, dict(span.get_tags())] for span in trace]
        query = [tags, [span.get_tag("http.query.string") for span in trace]]
        root = next(span for span in trace if span.parent_id is None)
        right = name_of(url) or name_of(str(query[1])) or root.get_tag("who")
        record("transaction", right, names_in(query))
        messages = {span.get_tag("error.message") for span in trace if span.error}
        for message in filter(None, messages):
            record("error", name_of(message), names_in(query))

    def look(self, request: Any) -> dict[str, Any]:
        from ddtrace.trace import tracer

        root = tracer.current_root_span()
        if root is None:
            return {"current span": ""}
        before = root.get_tag("who") or ""
        root.set_tag("who", request.GET["who"])
        return {"current span": [before, request.GET["who"]]}


class Elastic(Tracer):
    name = "elastic-apm"
    counted = "an error of each exception; the transactions that have their request"
    # It is told of a request's begin and end by signals, whose receivers run in other
    # contexts under ASGI. The synchronous lane is in one thread and context.
    expected = {"error": 32, "transaction": 48}
    known = {"transaction": "none under Django's handler, which calls it by hops"}
    apps = ["elasticapm.contrib.django"]
    first = ["elasticapm.contrib.django.middleware.TracingMiddleware"]
    settings = {
        "ELASTIC_APM": {
            "SERVICE_NAME": "ecosystem",
            "SERVER_URL": collector(),
            "CLOUD_PROVIDER": "none",
            "CENTRAL_CONFIG": False,
            "API_REQUEST_TIME": "500ms",
            "VERIFY_SERVER_CERT": False,
        }
    }

    # Its buffers are collected in any order (Python 3.13).
    noise = r"Exception ignored in: <gzip on [^>]*>\nTraceback .*\n(?:  .*\n)*.*\n"

    def look(self, request: Any) -> dict[str, Any]:
        import elasticapm

        elasticapm.set_user_context(user_id=request.GET["who"])
        return {}

    async def finish(self, run: Run) -> None:
        # Its last flush at exit races with those before it.
        expected = 32 if run.server == "uvicorn" else 32 + 48
        with contextlib.suppress(TimeoutError):
            await wait_until(lambda: len(list(self._events(run))) >= expected)

    def collect(self, run: Run) -> None:
        for kind, right, seen in self._events(run):
            run.add(kind, right, seen)

    def _events(self, run: Run) -> Iterator[tuple[str, str, list[str]]]:
        for path, content in list(run.received):
            if path.startswith("/intake"):
                for line in zlib.decompress(content, 47).splitlines():
                    yield from self._read(json.loads(line))

    def _read(self, event: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
        if transaction := event.get("transaction"):
            request = transaction.get("context", {}).get("request", {})
            target = str(request.get("url"))
            if VIEW.search(target):
                yield "transaction", name_of(target), names_in(transaction)
        elif text := event.get("error", {}).get("exception", {}).get("message", ""):
            yield "error", name_of(text), names_in(event["error"])


def _open_telemetry() -> Any:
    """Return a provider whose spans are recorded as they end."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        SimpleSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Keep(SpanExporter):
        def export(self, spans: Any) -> Any:
            for span in spans:
                _record_span(span)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Keep()))
    return provider


def _record_span(span: Any) -> None:
    attributes = dict(span.attributes)
    events = [dict(event.attributes) for event in span.events]
    if span.kind.name == "SERVER":
        target = str(attributes)
        if VIEW.search(target):
            record("transaction", attributes.get("who", ""), names_in(attributes))
    for event in events:
        if text := event.get("exception.message"):
            record("error", name_of(text), names_in([attributes, events]))


def _look_at_span(request: Any) -> dict[str, Any]:
    from opentelemetry import trace

    span = trace.get_current_span()
    if not span.is_recording():
        return {"current span": ""}
    before = span.attributes.get("who", "")
    span.set_attribute("who", request.GET["who"])
    return {"current span": [before, request.GET["who"]]}


class OpenTelemetryDjango(Tracer):
    name = "opentelemetry-instrumentation-django"
    expected = {**Tracer.expected, "current span": 128}

    def begin(self) -> None:
        from opentelemetry.instrumentation.django import DjangoInstrumentor

        DjangoInstrumentor().instrument(tracer_provider=_open_telemetry())

    def look(self, request: Any) -> dict[str, Any]:
        return _look_at_span(request)


class OpenTelemetryASGI(Tracer):
    name = "opentelemetry-instrumentation-asgi"
    counted = "a span of each request"
    expected = {"transaction": 96, "current span": 128}

    def wrap(self, application: Any) -> Any:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        return OpenTelemetryMiddleware(
            application,
            tracer_provider=_open_telemetry(),
            exclude_spans=["receive", "send"],
        )

    def look(self, request: Any) -> dict[str, Any]:
        return _look_at_span(request)


class Scout(Tracer):
    name = "scout-apm"
    apps = ["scout_apm.django"]
    settings = {
        "SCOUT_MONITOR": True,
        "SCOUT_KEY": "key",
        "SCOUT_NAME": "ecosystem",
        "SCOUT_CORE_AGENT_DOWNLOAD": False,
        "SCOUT_CORE_AGENT_LAUNCH": False,
        "SCOUT_ERRORS_ENABLED": True,
        "SCOUT_SHUTDOWN_MESSAGE_ENABLED": False,
    }

    def start(self) -> None:
        from scout_apm.core.agent.commands import BatchCommand
        from scout_apm.core.agent.socket import CoreAgentSocketThread
        from scout_apm.core.error_service import ErrorServiceThread

        class Keep(CoreAgentSocketThread):
            @classmethod
            def send(cls, command: Any) -> None:
                if isinstance(command, BatchCommand):
                    Scout.record(command.message())

        CoreAgentSocketThread.send = Keep.send

        def send(cls: Any, error: Any) -> None:
            record("error", name_of(error["message"]), names_in(error))

        ErrorServiceThread.send = classmethod(send)

    @staticmethod
    def record(message: Any) -> None:
        if VIEW.search(json.dumps(message)):
            tags = {
                command["TagRequest"]["tag"]: command["TagRequest"]["value"]
                for command in message["BatchCommand"]["commands"]
                if "TagRequest" in command
            }
            record("transaction", name_of(str(tags)), names_in(message))

    def look(self, request: Any) -> dict[str, Any]:
        from scout_apm.api import Context

        Context.add("who", request.GET["who"])
        return {}


class Honeybadger(Reporter):
    name = "honeybadger"
    first = ["honeybadger.contrib.DjangoHoneybadgerMiddleware"]
    settings = {
        "HONEYBADGER": {
            "API_KEY": "key",
            "ENDPOINT": collector(),
            "FORCE_REPORT_DATA": True,
            "ENVIRONMENT": "production",
        }
    }

    def look(self, request: Any) -> dict[str, Any]:
        from honeybadger import honeybadger

        honeybadger.set_context(who=request.GET["who"])
        return {}

    def collect(self, run: Run) -> None:
        for path, content in run.received:
            if path == "/v1/notices/":
                notice = json.loads(content)
                message = notice["error"]["message"]
                run.add("error", name_of(message), names_in(notice))


class Rollbar(Reporter):
    name = "rollbar"
    # It logs each exception, too.
    expected = {**Reporter.expected, "tracebacks": 64}
    last = ["rollbar.contrib.django.middleware.RollbarNotifierMiddleware"]
    settings = {
        "ROLLBAR": {
            "access_token": "token",
            "environment": "production",
            "endpoint": collector() + "/api/1/",
            "handler": "blocking",
            "root": "/",
        }
    }

    def collect(self, run: Run) -> None:
        for _, content in run.received:
            data = json.loads(content)["data"]
            trace = data["body"].get("trace") or data["body"]["trace_chain"][0]
            message = trace["exception"]["message"]
            run.add("error", name_of(message), names_in(data))


PACKAGES = [
    Sentry(),
    NewRelic(),
    Datadog(),
    Elastic(),
    OpenTelemetryDjango(),
    OpenTelemetryASGI(),
    Scout(),
    Honeybadger(),
    Rollbar(),
]
