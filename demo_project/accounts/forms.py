"""The sign-up form."""

from __future__ import annotations

import re

from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

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
