"""Rooms and messages in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from demo_project.chat.models import (
    Attachment,
    Invitation,
    LinkPreview,
    Membership,
    Message,
    Room,
)


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]
    readonly_fields = ["read_position"]


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    list_display = ["name", "kind", "message_count", "version", "created_at"]
    list_filter = ["kind"]
    search_fields = ["name", "slug", "topic"]
    prepopulated_fields = {"slug": ["name"]}
    inlines = [MembershipInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        rooms: QuerySet[Room] = super().get_queryset(request)
        return rooms.annotate(messages_=Count("messages"))

    @admin.display(description="messages", ordering="messages_")
    def message_count(self, room: Room) -> int:
        count: int = room.messages_  # type: ignore[attr-defined]
        return count


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ["user", "room", "role", "read_position", "joined_at"]
    list_filter = ["role", "room__kind"]
    search_fields = ["user__username", "room__name"]
    autocomplete_fields = ["user", "room"]


@admin.register(Invitation)
class InvitationAdmin(admin.ModelAdmin):
    list_display = ["user", "room", "invited_by", "created_at"]
    search_fields = ["user__username", "room__name"]
    autocomplete_fields = ["user", "room", "invited_by"]


class AttachmentInline(admin.TabularInline):
    model = Attachment
    extra = 0
    can_delete = False
    fields = ["name", "content_type", "size", "state"]
    readonly_fields = ["name", "content_type", "size", "state"]

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class ChatRecordAdmin(admin.ModelAdmin):
    """Rows that only the chat makes: a version or a file would be missing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Message)
class MessageAdmin(ChatRecordAdmin):
    list_display = ["__str__", "room", "created_at", "edited_at", "deleted_at"]
    list_filter = ["room__kind", "created_at"]
    list_select_related = ["author", "room"]
    search_fields = ["text", "author__username"]
    inlines = [AttachmentInline]

    def has_change_permission(
        self, request: HttpRequest, obj: Message | None = None
    ) -> bool:
        # An edit must take a version and tell the readers: the chat does that.
        return False


@admin.register(Attachment)
class AttachmentAdmin(ChatRecordAdmin):
    list_display = ["name", "room", "uploader", "content_type", "size", "state"]
    list_filter = ["state", "content_type"]
    readonly_fields = [
        "room",
        "uploader",
        "message",
        "file",
        "name",
        "content_type",
        "size",
        "thumbnail",
    ]


@admin.register(LinkPreview)
class LinkPreviewAdmin(ChatRecordAdmin):
    list_display = ["url", "title", "state", "created_at"]
    list_filter = ["state"]
    readonly_fields = ["message", "url"]
