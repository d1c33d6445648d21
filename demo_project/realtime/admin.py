"""Open connections, to look at."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from demo_project.realtime.models import Connection


@admin.register(Connection)
class ConnectionAdmin(admin.ModelAdmin):
    list_display = ["topic", "user", "opened_at", "seen_at"]
    list_filter = ["topic"]
    list_select_related = ["user"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Connection | None = None
    ) -> bool:
        return False
