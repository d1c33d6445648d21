"""Signing up and in."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from demo_project.accounts.forms import SignInForm, SignUpForm
from demo_project.accounts.throttle import WINDOW


def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account and sign in with it."""
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save(), backend=settings.AUTHENTICATION_BACKENDS[-1])
        return redirect("chat:home")
    return render(request, "accounts/sign_up.html", {"form": form})


class SignInView(LoginView):
    """Django's, with 429 for those who have failed too often."""

    form_class = SignInForm

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_invalid(form)
        if form.has_error("__all__", code="throttled"):
            response.status_code = 429
            response["Retry-After"] = str(int(WINDOW.total_seconds()))
        return response
