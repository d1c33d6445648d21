"""Notifications in the admin, and the action that notifies chosen users."""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from demo_project.notifications import services
from demo_project.notifications.forms import NoticeForm
from demo_project.notifications.models import Inbox, Notification


@admin.register(Notification)
class NotificationAdmin(admin.ModelAdmin):
    list_display = ["text", "user", "kind", "created_at", "read_at"]
    list_filter = ["kind", "read_at"]
    search_fields = ["text", "user__username"]
    list_select_related = ["user"]
    readonly_fields = ["user", "kind", "text", "url", "created_at", "read_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # One that is only saved would reach nobody live: the action on users sends.
        return False


@admin.register(Inbox)
class InboxAdmin(admin.ModelAdmin):
    list_display = ["user", "serial", "digest_at"]
    readonly_fields = ["user", "serial"]


@admin.action(description="Notify users", permissions=["change"])
def notify_users(
    model_admin: admin.ModelAdmin, request: HttpRequest, users: QuerySet[User]
) -> HttpResponse | None:
    """Ask for the text on a page of its own, then send it to each chosen user."""
    form = NoticeForm(request.POST if "send" in request.POST else None)
    if form.is_valid():
        for user in users:
            services.notify(user, form.cleaned_data["text"])
        model_admin.message_user(
            request, f"Notified {users.count()} users.", messages.SUCCESS
        )
        return None
    context = {
        **admin.site.each_context(request),
        "title": "Notify users",
        "form": form,
        "users": users,
        "opts": model_admin.opts,
        "action_field": ACTION_CHECKBOX_NAME,
    }
    return TemplateResponse(request, "notifications/admin_notify.html", context)


class NotifyingUserAdmin(UserAdmin):
    actions = [notify_users]


admin.site.unregister(User)
admin.site.register(User, NotifyingUserAdmin)
