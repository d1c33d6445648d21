"""The views of every run, and those of the package."""

from __future__ import annotations

from django.conf import settings
from django.urls import path

from tests.ecosystem.project import views

urlpatterns = [
    *settings.PACKAGE.urls(),
    path("sync/", views.sync_view),
    path("async/", views.async_view),
    path("sync-raising/", views.sync_raising),
    path("async-raising/", views.async_raising),
    path("sync-stream/", views.sync_stream),
    path("async-stream/", views.async_stream),
]
