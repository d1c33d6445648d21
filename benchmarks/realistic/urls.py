"""The project's paths."""

from __future__ import annotations

from django.urls import include, path

from benchmarks.realistic import views

urlpatterns = [
    path("", views.list_articles),
    path("account/", views.show_account),
    path("comment/", views.comment),
    path("api/articles/", views.ArticleList.as_view()),
    path("accounts/", include("allauth.urls")),
    path("", include("django_prometheus.urls")),
]
