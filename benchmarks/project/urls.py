"""One path for each kind of work."""

from __future__ import annotations

from django.urls import path

from benchmarks.project import views

urlpatterns = [
    path("sync/", views.sync),
    path("async/", views.asynchronous),
    path("query/", views.query),
    path("session/", views.session),
    path("slow/", views.slow),
    path("to-async/", views.to_async),
    path("to-thread/", views.to_thread),
    path("connections/", views.connections),
    path("reported/", views.reported),
]
