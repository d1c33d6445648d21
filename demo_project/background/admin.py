"""The schedule, to look at and to move."""

from __future__ import annotations

from django.contrib import admin

from demo_project.background.models import Schedule


@admin.register(Schedule)
class ScheduleAdmin(admin.ModelAdmin):
    list_display = ["name", "due_at"]
