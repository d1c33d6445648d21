"""APIs, streams of events, static files and sites upon Django."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.ecosystem.package import Package, folder
from tests.ecosystem.users import MESSAGES, SOCKETS, USERS, User

if TYPE_CHECKING:
    from tests.ecosystem.client import Call, Run

NAMES = re.compile(r"user\d{3}")


class Interface(Package):
    kind = "API"


def calls_to(*paths: str, **more: Any) -> list[Call]:
    """Return a request of each user, to the paths in turn."""
    from tests.ecosystem.client import Call

    return [
        Call(user, paths[user.number % len(paths)].format(user.name), **more)
        for user in USERS
    ]


class RestFramework(Interface):
    name = "djangorestframework"
    counted = "each response with its user, by session; uploads; errors of validation"
    apps = ["rest_framework"]
    settings = {
        "REST_FRAMEWORK": {
            "DEFAULT_AUTHENTICATION_CLASSES": [
                "rest_framework.authentication.SessionAuthentication"
            ]
        }
    }

    def calls(self) -> list[Call]:
        return [
            *super().calls(),
            *calls_to("/api/who/?who={}", "/api/users/?username={}", check="name"),
            *calls_to(
                "/api/wrong/?who={}",
                status=400,
                check="",
            ),
        ]

    def urls(self) -> list[Any]:
        from django.contrib.auth.models import User as Account
        from django.urls import path
        from rest_framework import generics, serializers
        from rest_framework.response import Response
        from rest_framework.views import APIView

        class AccountSerializer(serializers.ModelSerializer):
            class Meta:
                model = Account
                fields = ["username", "email"]

        class Who(APIView):
            def get(self, request: Any) -> Any:
                return Response({"who": request.user.username})

        class Wrong(APIView):
            def get(self, request: Any) -> Any:
                raise serializers.ValidationError({"who": request.user.username})

        class Accounts(generics.ListAPIView):
            serializer_class = AccountSerializer

            def get_queryset(self) -> Any:
                return Account.objects.filter(pk=self.request.user.pk)

        return [
            path("api/who/", Who.as_view()),
            path("api/wrong/", Wrong.as_view()),
            path("api/users/", Accounts.as_view()),
        ]


class Ninja(Interface):
    name = "django-ninja"
    counted = "each response with its user, of sync and async operations"

    def calls(self) -> list[Call]:
        return [
            *super().calls(),
            *calls_to("/api/sync/?who={}", "/api/async/?who={}", check="name"),
        ]

    def urls(self) -> list[Any]:
        from django.urls import path
        from ninja import NinjaAPI
        from ninja.security import django_auth

        api = NinjaAPI(auth=django_auth)

        async def aauth(request: Any) -> Any:
            user = await request.auser()
            return user if user.is_authenticated else None

        @api.get("/sync/")
        def sync_operation(request: Any, who: str) -> dict[str, str]:
            return {"who": request.auth.username, "asked": who}

        @api.get("/async/", auth=aauth)
        async def async_operation(request: Any, who: str) -> dict[str, str]:
            await asyncio.sleep(0.01)
            return {"who": request.auth.username, "asked": who}

        return [path("api/", api.urls)]


class Strawberry(Interface):
    name = "strawberry-graphql"
    counted = "each response with its user, sync and async; 12 subscriptions"
    expected = {"event": SOCKETS * MESSAGES}

    def schema(self) -> Any:
        from tests.ecosystem.packages import graphql

        return graphql.schema

    def calls(self) -> list[Call]:
        queries = {
            "sync": b'{"query": "{ who }"}',
            "async": b'{"query": "{ whoLater }"}',
        }
        asked = [
            replace(call, content=queries[call.path.split("/")[2]])
            for call in calls_to(
                "/graphql/sync/?who={}",
                "/graphql/async/?who={}",
                method="POST",
                headers={"Content-Type": "application/json"},
                check="name",
            )
        ]
        return [*super().calls(), *asked]

    def urls(self) -> list[Any]:
        from django.urls import path
        from django.views.decorators.csrf import csrf_exempt
        from strawberry.django.views import AsyncGraphQLView, GraphQLView

        schema = self.schema()
        return [
            path("graphql/sync/", csrf_exempt(GraphQLView.as_view(schema=schema))),
            path(
                "graphql/async/", csrf_exempt(AsyncGraphQLView.as_view(schema=schema))
            ),
        ]

    def routes(self) -> list[Any]:
        from django.urls import path
        from strawberry.channels import GraphQLWSConsumer

        consumer = GraphQLWSConsumer.as_asgi(schema=self.schema())
        return [path("graphql/", consumer)]

    async def converse(self, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            for user in USERS[:SOCKETS]:
                group.create_task(self._subscribe(run, user))

    async def _subscribe(self, run: Run, user: User) -> None:
        from tests.ecosystem.client import open_socket

        socket = await open_socket(
            run, user, "/graphql/", subprotocols=["graphql-transport-ws"]
        )
        await socket.send(json.dumps({"type": "connection_init"}))
        await socket.recv()
        query = {"query": "subscription { count }"}
        await socket.send(
            json.dumps({"id": "1", "type": "subscribe", "payload": query})
        )
        while (message := json.loads(await socket.recv()))["type"] == "next":
            text = json.dumps(message)
            run.add("event", user.name, NAMES.findall(text))
        await socket.close()


class EventStream(Interface):
    name = "django-eventstream"
    counted = "12 streams of events, each with its user's events"
    apps = ["django_eventstream"]
    expected = {"event": SOCKETS * MESSAGES}

    def calls(self) -> list[Call]:
        return super().calls()

    def urls(self) -> list[Any]:
        import django_eventstream.urls
        from django.http import HttpResponse
        from django.urls import include, path
        from django_eventstream import send_event

        def send(request: Any) -> HttpResponse:
            name = request.user.get_username()
            send_event(name, "message", {"who": name})
            return HttpResponse(name)

        return [
            path("events/<channel>/", include(django_eventstream.urls)),
            path("send/", send),
        ]

    async def converse(self, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            for user in USERS[:SOCKETS]:
                group.create_task(self._listen(run, user))

    async def _listen(self, run: Run, user: User) -> None:
        from tests.ecosystem.client import open_client

        async with (
            open_client() as client,
            client.stream(
                "GET", f"{run.url}/events/{user.name}/", headers=user.headers
            ) as response,
        ):
            seen = 0
            async for line in response.aiter_lines():
                if line.startswith("event: stream-open"):
                    for _ in range(MESSAGES):
                        await client.get(f"{run.url}/send/", headers=user.headers)
                elif line.startswith("data:") and "who" in line:
                    run.add("event", user.name, NAMES.findall(line))
                    seen += 1
                    if seen == MESSAGES:
                        break


class ChannelsRest(Interface):
    name = "djangochannelsrestframework"
    counted = "12 sockets that retrieve and list, with their user alone"
    apps = ["rest_framework"]
    expected = {"reply": SOCKETS * MESSAGES}

    def routes(self) -> list[Any]:
        from django.urls import path

        from tests.ecosystem.packages import rest_consumer

        return [path("ws/rest/", rest_consumer.Accounts.as_asgi())]

    async def converse(self, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            for user in USERS[:SOCKETS]:
                group.create_task(self._ask(run, user))

    async def _ask(self, run: Run, user: User) -> None:
        from tests.ecosystem.client import open_socket

        socket = await open_socket(run, user, "/ws/rest/")
        for number in range(MESSAGES):
            action = "list" if number % 2 else "who"
            await socket.send(json.dumps({"action": action, "request_id": number}))
            reply = json.loads(await socket.recv())
            assert reply["response_status"] == 200, reply
            run.add("reply", user.name, NAMES.findall(json.dumps(reply)))
        await socket.close()


class SocketIO(Interface):
    name = "python-socketio"
    counted = "12 Socket.IO clients, by WebSocket and by polling; rooms"
    expected = {"answer": SOCKETS * MESSAGES, "room": SOCKETS}
    # It stands around Django, so that WebSockets of other paths reach Django, too.

    def wrap(self, application: Any) -> Any:
        import socketio

        server = socketio.AsyncServer(
            async_mode="asgi", cors_allowed_origins="*", ping_interval=2
        )

        @server.event
        async def connect(sid: str, environ: Any, auth: Any) -> None:
            name = environ["HTTP_X_WHO"]
            await server.save_session(sid, {"who": name})
            await server.enter_room(sid, name)

        @server.event
        async def ask(sid: str, data: Any) -> str:
            await asyncio.sleep(0.01)
            return str((await server.get_session(sid))["who"])

        @server.event
        async def room(sid: str, data: Any) -> None:
            await server.emit("told", data, room=data)

        return socketio.ASGIApp(server, application)

    async def converse(self, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            for user in USERS[:SOCKETS]:
                group.create_task(self._talk(run, user))

    async def _talk(self, run: Run, user: User) -> None:
        import aiohttp
        import socketio

        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with aiohttp.ClientSession() as session:
            client = socketio.AsyncClient(http_session=session)
            client.on("told", told.set_result)
            transport = "websocket" if user.number % 2 else "polling"
            await client.connect(
                run.url,
                headers={"X-Who": user.name},
                transports=[transport],
                wait_timeout=60,
            )
            for _ in range(MESSAGES):
                run.add("answer", user.name, await client.call("ask", {}))
            await client.emit("room", user.name)
            run.add("room", user.name, await told)
            await client.disconnect()


class StaticFiles(Interface):
    kind = "files"
    counted = "static files, with their fields, beside the views"
    expected = {"field": 96}

    def prepare(self) -> None:
        # Each server has a folder; the files are made where its process begins.
        self.start()

    def start(self) -> None:
        static = folder() / "static"
        static.mkdir(exist_ok=True)
        for user in USERS:
            (static / f"{user.name}.txt").write_text(f"The file of {user.name}\n")

    def calls(self) -> list[Call]:
        return [*super().calls(), *calls_to("/static/{}.txt", check="name")]

    async def finish(self, run: Run) -> None:
        for answer in run.answers:
            if answer.call.path.startswith("/static/"):
                name = answer.call.user.name
                right = "max-age" in answer.headers.get("Cache-Control", "")
                run.add("field", name, name if right else "")


class WhiteNoise(StaticFiles):
    name = "whitenoise"
    first = ["whitenoise.middleware.WhiteNoiseMiddleware"]


class ServeStatic(StaticFiles):
    name = "servestatic"
    first = ["servestatic.middleware.ServeStaticMiddleware"]


class Wagtail(Interface):
    name = "wagtail"
    kind = "site"
    counted = "pages with their user, and the redirect of its admin"
    apps = [
        "wagtail.contrib.redirects",
        "wagtail.users",
        "wagtail.documents",
        "wagtail.images",
        "wagtail.admin",
        "wagtail.search",
        "wagtail",
        "modelcluster",
        "taggit",
        "tests.ecosystem.packages.pages",
    ]
    last = ["wagtail.contrib.redirects.middleware.RedirectMiddleware"]
    settings = {
        "WAGTAIL_SITE_NAME": "ecosystem",
        "WAGTAILADMIN_BASE_URL": "http://127.0.0.1",
    }

    def prepare(self) -> None:
        from wagtail.models import Page

        from tests.ecosystem.packages.pages.models import WhoPage

        root = Page.objects.filter(depth=2).first()
        root.add_child(instance=WhoPage(title="Who", slug="who"))

    def urls(self) -> list[Any]:
        from django.urls import include, path, re_path
        from wagtail import urls as wagtail_urls
        from wagtail.admin import urls as admin_urls

        # The last of them takes any path: those of the project come first.
        from wagtail.views import serve

        return [
            path("admin/", include(admin_urls)),
            re_path(r"^(who/)$", serve, name="wagtail_serve"),
            re_path(r"^pages/", include(wagtail_urls)),
        ]

    def calls(self) -> list[Call]:
        admin = [
            replace(call, status=302, check="") for call in calls_to("/admin/?who={}")
        ]
        return [*super().calls(), *calls_to("/who/?who={}", check="name"), *admin]


PACKAGES: list[Package] = [
    RestFramework(),
    Ninja(),
    Strawberry(),
    EventStream(),
    ChannelsRest(),
    SocketIO(),
    WhiteNoise(),
    ServeStatic(),
    Wagtail(),
]
