"""Reusable applications and middleware for Django."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import TYPE_CHECKING, Any

from tests.ecosystem.package import Package, folder
from tests.ecosystem.records import record
from tests.ecosystem.users import USERS

if TYPE_CHECKING:
    from tests.ecosystem.client import Call, Run

WORKING = 32
"""The requests whose view calls ``Package.work``."""
SHOWN = 128
"""How often the views of a run show what they see: each part of a stream does."""


class Addition(Package):
    kind = "Django"


def rows(run: Run, query: str) -> list[Any]:
    """Return what the run's database has at the end."""
    connection = sqlite3.connect(run.place / "db.sqlite3")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def write_note(name: str) -> None:
    from tests.ecosystem.project.models import Note

    Note.objects.create(text=name)


class DebugToolbar(Addition):
    name = "django-debug-toolbar"
    counted = "the SQL panel of each page, with the queries of its user alone"
    apps = ["debug_toolbar"]
    first = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
    settings = {
        "DEBUG": True,
        "INTERNAL_IPS": ["127.0.0.1"],
        "DEBUG_TOOLBAR_CONFIG": {
            "SHOW_TOOLBAR_CALLBACK": "tests.ecosystem.packages.additions.always",
            "RESULTS_CACHE_SIZE": 1000,
        },
    }
    # The pages of errors have one, too, and are logged twice where DEBUG is set.
    expected = {"panel": 64, "toolbar": 64, "query": WORKING, "tracebacks": 64}

    def urls(self) -> list[Any]:
        from debug_toolbar.toolbar import debug_toolbar_urls

        return list(debug_toolbar_urls())

    def work(self, request: Any) -> dict[str, Any]:
        from django.contrib.auth.models import User

        return {"query": User.objects.get(username=request.GET["who"]).username}

    async def finish(self, run: Run) -> None:
        from tests.ecosystem.client import open_client

        async with open_client() as client:
            for answer in run.answers:
                if "<pre>" not in answer.body:
                    continue
                name = answer.call.user.name
                run.add("toolbar", name, name if "djDebug" in answer.body else "")
                found = re.search(r'data-request-id="(\w+)"', answer.body)
                response = await client.get(
                    f"{run.url}/__debug__/render_panel/",
                    params={
                        "request_id": found[1] if found else "",
                        "panel_id": "SQLPanel",
                    },
                )
                run.add("panel", name, re.findall(r"user\d{3}", response.text))


def always(request: Any) -> bool:
    return True


class Silk(Addition):
    name = "django-silk"
    counted = "a record of each request, with the queries of its user alone"
    apps = ["silk"]
    first = ["silk.middleware.SilkyMiddleware"]
    settings = {"SILKY_MAX_RECORDED_REQUESTS": 10_000, "SILKY_PYTHON_PROFILER": False}
    expected = {"request": 96, "query": 32}

    def work(self, request: Any) -> dict[str, Any]:
        from django.contrib.auth.models import User

        return {"user": User.objects.get(username=request.GET["who"]).username}

    def collect(self, run: Run) -> None:
        for query_params, encoded in rows(
            run,
            "SELECT query_params, encoded_headers FROM silk_request"
            " WHERE path LIKE '/%sync%'",
        ):
            right = json.loads(query_params)["who"]
            run.add("request", right, re.findall(r"user\d{3}", encoded))
        for query_params, query in rows(
            run,
            "SELECT r.query_params, q.query FROM silk_sqlquery q"
            " JOIN silk_request r ON q.request_id = r.id"
            " WHERE q.query LIKE '%\"username\" = %'",
        ):
            right = json.loads(query_params)["who"]
            run.add("query", right, re.findall(r"user\d{3}", query))


class Structlog(Addition):
    name = "django-structlog"
    counted = "the log's events of each request, with user and request id"
    apps = ["django_structlog"]
    last = ["django_structlog.middlewares.RequestMiddleware"]
    settings = {"DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID": True}
    expected = {
        "request_started": 96,
        "request_finished": 64,
        "request_failed": 32,
        "seen": 128,
        "streaming_started": 32,
        "streaming_finished": 32,
    }

    def start(self) -> None:
        import structlog

        def keep(_: Any, __: str, event: dict[str, Any]) -> str:
            names = [str(event.get("request_id", "")), str(event.get("name", ""))]
            right = next(filter(None, reversed(names)))
            record(event["event"], right, names)
            return ""

        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                keep,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            logger_factory=structlog.ReturnLoggerFactory(),
        )

    def calls(self) -> list[Call]:
        from dataclasses import replace

        return [
            replace(call, headers={"X-Request-ID": call.user.name})
            for call in super().calls()
        ]

    def look(self, request: Any) -> dict[str, Any]:
        import structlog

        name = request.GET["who"]
        structlog.contextvars.bind_contextvars(name=name)
        structlog.get_logger().info("seen", who=name)
        return {}

    def work(self, request: Any) -> dict[str, Any]:
        import structlog

        structlog.get_logger().info("seen")
        return {}


class Guid(Addition):
    name = "django-guid"
    counted = "the correlation id in view, log record and response"
    apps = ["django_guid"]
    first = ["django_guid.middleware.guid_middleware"]
    settings = {
        "DJANGO_GUID": {
            "GUID_HEADER_NAME": "Correlation-ID",
            "VALIDATE_GUID": False,
            "RETURN_HEADER": True,
        }
    }
    expected = {"view": SHOWN, "log": WORKING, "response": 96}

    def look(self, request: Any) -> dict[str, Any]:
        from django_guid import get_guid

        return {"view": get_guid()}

    def look_from_socket(self, scope: Any) -> dict[str, Any]:
        from django_guid import get_guid

        return {"socket": get_guid()}

    def work(self, request: Any) -> dict[str, Any]:
        import logging

        from django_guid.log_filters import CorrelationId

        entry = logging.makeLogRecord({})
        CorrelationId().filter(entry)
        return {"log": entry.__dict__["correlation_id"]}

    async def finish(self, run: Run) -> None:
        for answer in run.answers:
            name = answer.call.user.name
            run.add("response", name, answer.headers.get("Correlation-ID"))


class Auditlog(Addition):
    name = "django-auditlog"
    counted = "the actor of each change"
    apps = ["auditlog"]
    last = ["auditlog.middleware.AuditlogMiddleware"]
    settings = {"AUDITLOG_INCLUDE_ALL_MODELS": False}
    expected = {"change": WORKING}

    def before_application(self) -> None:
        import django

        django.setup()
        from auditlog.registry import auditlog

        from tests.ecosystem.project.models import Note

        if not auditlog.contains(Note):
            auditlog.register(Note)

    def work(self, request: Any) -> dict[str, Any]:
        write_note(request.GET["who"])
        return {}

    def collect(self, run: Run) -> None:
        for text, actor in rows(
            run,
            "SELECT n.text, u.username FROM auditlog_logentry l"
            " JOIN project_note n ON n.id = l.object_id"
            " LEFT JOIN auth_user u ON u.id = l.actor_id",
        ):
            run.add("change", text, actor)


class SimpleHistory(Addition):
    name = "django-simple-history"
    counted = "the user of each change"
    apps = ["simple_history"]
    last = ["simple_history.middleware.HistoryRequestMiddleware"]
    expected = {"change": WORKING}

    def fields(self) -> dict[str, Any]:
        from simple_history.models import HistoricalRecords

        return {"history": HistoricalRecords(app="project")}

    def work(self, request: Any) -> dict[str, Any]:
        write_note(request.GET["who"])
        return {}

    def collect(self, run: Run) -> None:
        for text, name in rows(
            run,
            "SELECT h.text, u.username FROM project_historicalnote h"
            " LEFT JOIN auth_user u ON u.id = h.history_user_id",
        ):
            run.add("change", text, name)


class Crum(Addition):
    name = "django-crum"
    counted = "the current user, in the view's thread and on a hop"
    last = ["crum.CurrentRequestUserMiddleware"]
    expected = {"hop": WORKING}

    def current(self) -> str:
        from crum import get_current_user

        user = get_current_user()
        return user.get_username() if user else ""

    def look(self, request: Any) -> dict[str, Any]:
        return {"view": self.current()}

    def work(self, request: Any) -> dict[str, Any]:
        return {"hop": self.current()}

    def look_from_socket(self, scope: Any) -> dict[str, Any]:
        return {"socket": self.current()}


class CurrentUser(Crum):
    name = "django-currentuser"
    last = ["django_currentuser.middleware.ThreadLocalUserMiddleware"]

    def current(self) -> str:
        from django_currentuser.middleware import get_current_user

        user = get_current_user()
        return user.get_username() if user else ""


class Prometheus(Addition):
    name = "django-prometheus"
    counted = "requests and responses of its counters"
    apps = ["django_prometheus"]
    first = ["django_prometheus.middleware.PrometheusBeforeMiddleware"]
    last = ["django_prometheus.middleware.PrometheusAfterMiddleware"]
    expected = {"requests": 96, "responses of 500": 32, "streamed": 32}

    def urls(self) -> list[Any]:
        from django.urls import include, path

        return [path("", include("django_prometheus.urls"))]

    async def finish(self, run: Run) -> None:
        from tests.ecosystem.client import open_client

        async with open_client() as client:
            metrics = (await client.get(f"{run.url}/metrics")).text
        for kind, pattern in {
            # This request itself is counted before it is answered.
            "requests": r"requests_before_middlewares_total (\d+)",
            "responses of 500": r'status_total\{status="500"\} (\d+)',
            "streamed": r"responses_streaming_total (\d+)",
        }.items():
            found = re.search(pattern, metrics)
            count = int(found[1]) if found else 0
            for _ in range(count - (kind == "requests")):
                run.add(kind, "all", "all")


class CSP(Addition):
    name = "django-csp"
    counted = "a nonce of each response, the same in field and page"
    first = ["csp.middleware.CSPMiddleware"]
    expected = {"nonce": WORKING, "distinct": WORKING}

    def start(self) -> None:
        from csp.constants import NONCE, SELF
        from django.conf import settings

        self.settings_of(settings, [SELF, NONCE])

    def settings_of(self, settings: Any, sources: list[Any]) -> None:
        from tests.ecosystem.project import settings as module

        policy = {"DIRECTIVES": {"script-src": sources}}
        module.CONTENT_SECURITY_POLICY = policy

    def work(self, request: Any) -> dict[str, Any]:
        request.nonce = str(request.csp_nonce)
        record("page", request.GET["who"], request.GET["who"])
        request.session_nonce = request.nonce
        (folder() / f"nonce-{request.GET['who']}").write_text(request.nonce)
        return {}

    async def finish(self, run: Run) -> None:
        nonces = set()
        for answer in run.answers:
            if "<pre>" in answer.body:
                name = answer.call.user.name
                nonce = (run.place / f"nonce-{name}").read_text()
                field = answer.headers.get("Content-Security-Policy", "")
                run.add("nonce", name, name if f"'nonce-{nonce}'" in field else "")
                nonces.add(nonce)
        for _ in nonces:
            run.add("distinct", "all", "all")


class CORS(Addition):
    name = "django-cors-headers"
    counted = "the allowed origin of each response, and preflights"
    apps = ["corsheaders"]
    first = ["corsheaders.middleware.CorsMiddleware"]
    settings = {
        "CORS_ALLOWED_ORIGIN_REGEXES": [r"^http://user\d+\.test$"],
        "CORS_ALLOW_CREDENTIALS": True,
    }
    expected = {"origin": 192}

    def calls(self) -> list[Call]:
        from dataclasses import replace

        calls = [
            replace(call, headers={"Origin": f"http://{call.user.name}.test"})
            for call in super().calls()
        ]
        preflights = [
            replace(
                call,
                method="OPTIONS",
                status=200,
                check="",
                headers={**call.headers, "Access-Control-Request-Method": "PUT"},
            )
            for call in calls
        ]
        return [*calls, *preflights]

    async def finish(self, run: Run) -> None:
        for answer in run.answers:
            field = answer.headers.get("Access-Control-Allow-Origin", "")
            run.add("origin", answer.call.user.name, re.findall(r"user\d{3}", field))


class Allauth(Addition):
    name = "django-allauth"
    counted = "logins by form, and the request of its context in the views"
    apps = ["allauth", "allauth.account"]
    last = ["allauth.account.middleware.AccountMiddleware"]
    settings = {
        "AUTHENTICATION_BACKENDS": [
            "django.contrib.auth.backends.ModelBackend",
            "allauth.account.auth_backends.AuthenticationBackend",
        ],
        "ACCOUNT_RATE_LIMITS": False,
        "ACCOUNT_EMAIL_VERIFICATION": "none",
        "LOGIN_REDIRECT_URL": "/sync/",
    }
    expected = {"context": SHOWN, "context on a hop": WORKING, "login": 24}

    def urls(self) -> list[Any]:
        from django.urls import include, path

        return [path("accounts/", include("allauth.urls"))]

    def look(self, request: Any) -> dict[str, Any]:
        from allauth.core import context

        return {"context": context.request.GET["who"]}

    def work(self, request: Any) -> dict[str, Any]:
        from allauth.core import context

        return {"context on a hop": context.request.GET["who"]}

    async def converse(self, run: Run) -> None:
        from tests.ecosystem.client import open_client

        for user in USERS[:24]:
            async with open_client() as client:
                page = await client.get(f"{run.url}/accounts/login/")
                token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)
                response = await client.post(
                    f"{run.url}/accounts/login/",
                    data={
                        "login": user.name,
                        "password": "secret",
                        "csrfmiddlewaretoken": token[1] if token else "",
                    },
                )
                assert response.status_code == 302, response.text
                page = await client.get(f"{run.url}/sync/?who={user.name}")
                run.add("login", user.name, re.findall(r"user\d{3}", page.text))


class Axes(Addition):
    name = "django-axes"
    counted = "an attempt of each failed login, with its name; 429 for the locked out"
    apps = ["axes"]
    last = ["axes.middleware.AxesMiddleware"]
    settings = {
        "AUTHENTICATION_BACKENDS": [
            "axes.backends.AxesStandaloneBackend",
            "django.contrib.auth.backends.ModelBackend",
        ],
        "AXES_LOCKOUT_PARAMETERS": ["username"],
        "AXES_VERBOSE": False,
        "AXES_FAILURE_LIMIT": 2,
    }
    expected = {"attempt": WORKING}

    def calls(self) -> list[Call]:
        from dataclasses import replace

        return [
            replace(call, status=429, check="")
            if call.path.startswith(("/sync/", "/async/"))
            else call
            for call in super().calls()
        ]

    def work(self, request: Any) -> dict[str, Any]:
        from django.contrib.auth import authenticate

        for _ in range(2):
            authenticate(request, username=request.GET["who"], password="wrong")
        return {}

    def collect(self, run: Run) -> None:
        for name, failures, got in rows(
            run,
            "SELECT username, failures_since_start, get_data FROM axes_accessattempt",
        ):
            run.add(
                "attempt" if failures == 2 else f"{failures} attempts",
                name,
                re.findall(r"user\d{3}", got),
            )


class Htmx(Addition):
    name = "django-htmx"
    counted = "the details of each request"
    apps = ["django_htmx"]
    last = ["django_htmx.middleware.HtmxMiddleware"]
    expected = {"prompt": SHOWN}

    def calls(self) -> list[Call]:
        from dataclasses import replace

        return [
            replace(call, headers={"HX-Request": "true", "HX-Prompt": call.user.name})
            for call in super().calls()
        ]

    def look(self, request: Any) -> dict[str, Any]:
        return {"prompt": request.htmx.prompt if request.htmx else ""}


class Ratelimit(Addition):
    name = "django-ratelimit"
    counted = "a limit of each user, reached by the third call"
    settings = {
        "SILENCED_SYSTEM_CHECKS": ["django_ratelimit.E003", "django_ratelimit.W001"]
    }
    expected = {"within": WORKING, "beyond": WORKING}

    def work(self, request: Any) -> dict[str, Any]:
        from django_ratelimit.core import is_ratelimited

        def is_limited() -> bool:
            return bool(
                is_ratelimited(
                    request, group="views", key="get:who", rate="2/h", increment=True
                )
            )

        limited = [is_limited() for _ in range(3)]
        name = request.GET["who"]
        return {
            "within": "" if any(limited[:2]) else name,
            "beyond": name if limited[2] else "",
        }


PACKAGES: list[Package] = [
    DebugToolbar(),
    Silk(),
    Structlog(),
    Guid(),
    Auditlog(),
    SimpleHistory(),
    Crum(),
    CurrentUser(),
    Prometheus(),
    CSP(),
    CORS(),
    Allauth(),
    Axes(),
    Htmx(),
    Ratelimit(),
]
