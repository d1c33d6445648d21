"""The GraphQL schema of the runs with Strawberry, which wants real annotations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import strawberry

from tests.ecosystem.users import MESSAGES


def user_of(context: Any) -> str:
    """Return the name of the user of a request or of a socket."""
    request = context["request"] if isinstance(context, dict) else context.request
    # For a socket it is the consumer.
    scope = getattr(request, "scope", {})
    return str((scope.get("user") or request.user).get_username())


@strawberry.type
class Query:
    @strawberry.field
    def who(self, info: strawberry.Info) -> str:
        return user_of(info.context)

    @strawberry.field
    async def who_later(self, info: strawberry.Info) -> str:
        await asyncio.sleep(0.01)
        return (await info.context.request.auser()).get_username()


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: strawberry.Info) -> AsyncGenerator[str, None]:
        for number in range(MESSAGES):
            await asyncio.sleep(0.01)
            yield f"{user_of(info.context)} {number}"


schema = strawberry.Schema(Query, subscription=Subscription)
