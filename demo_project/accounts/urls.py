"""Sign up, in and out."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from demo_project.accounts import views

urlpatterns = [
    path("sign-up/", views.sign_up, name="sign_up"),
    path(
        "login/",
        views.SignInView.as_view(redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
]
