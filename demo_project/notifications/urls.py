"""Pages of the notifications."""

from __future__ import annotations

from django.urls import path

from demo_project.notifications import views

app_name = "notifications"

urlpatterns = [
    path("", views.index, name="index"),
    path("read/", views.mark_read, name="read"),
    path("stream/", views.stream, name="stream"),
]
