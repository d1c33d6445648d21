"""The forms to sign up and in."""

from __future__ import annotations

import re

from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from demo_project.accounts.throttle import WINDOW, is_throttled

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,28}[a-z0-9])?")


class SignUpForm(UserCreationForm):
    """Names are lower case and short, so that an @mention finds them."""

    class Meta:
        model = User
        fields = ["username"]
        help_texts = {"username": "Letters from a to z, digits, - and _; up to 30."}

    def clean_username(self) -> str:
        name = str(self.cleaned_data["username"]).lower()
        if not _NAME.fullmatch(name):
            raise ValidationError(
                "Use up to 30 letters from a to z, digits, - and _ inside.",
                code="invalid",
            )
        if User.objects.filter(username__iexact=name).exists():
            raise ValidationError("This name is taken.", code="unique")
        return name


class SignInForm(AuthenticationForm):
    """Tell somebody who has failed too often to wait; others learn nothing more."""

    def get_invalid_login_error(self) -> ValidationError:
        username = self.cleaned_data.get("username") or ""
        if not is_throttled(self.request, username):
            return super().get_invalid_login_error()
        minutes = int(WINDOW.total_seconds() // 60)
        return ValidationError(
            f"Too many tries. Wait {minutes} minutes, then sign in again.",
            code="throttled",
        )


class AdminSignInForm(SignInForm, AdminAuthenticationForm):
    """The same for the admin, which lets only staff in."""
