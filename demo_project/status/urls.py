"""The status page."""

from __future__ import annotations

from django.urls import path

from demo_project.status import views

app_name = "status"

urlpatterns = [path("", views.index, name="index")]
