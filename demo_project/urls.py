"""The site's pages; each app keeps its own list."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("demo_project.accounts.urls")),
    path("notifications/", include("demo_project.notifications.urls")),
    path("status/", include("demo_project.status.urls")),
    path("", include("demo_project.chat.urls")),
    # Adds nothing where DEBUG is off: there WhiteNoise or a proxy serves them.
    *staticfiles_urlpatterns(),
]
