"""The accounts app."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "demo_project.accounts"

    def ready(self) -> None:
        from django.contrib import admin

        # Connects the throttle's signals, too.
        from demo_project.accounts.forms import AdminSignInForm

        admin.site.login_form = AdminSignInForm
