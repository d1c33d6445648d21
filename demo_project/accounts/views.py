"""Signing up and in."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from demo_project.accounts.forms import SignInForm, SignUpForm
from demo_project.accounts.throttle import SIGN_UP_WINDOW, WINDOW, take_sign_up


def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account and sign in with it; 429 if too many were made from there."""
    form = SignUpForm(request.POST or None)
    is_refused = False
    if request.method == "POST" and form.is_valid():
        if take_sign_up(request):
            login(request, form.save(), backend=settings.AUTHENTICATION_BACKENDS[-1])
            return redirect("chat:home")
        form.add_error(None, "Too many accounts were made from here. Try again later.")
        is_refused = True
    response = render(request, "accounts/sign_up.html", {"form": form})
    if is_refused:
        response.status_code = 429
        response["Retry-After"] = str(int(SIGN_UP_WINDOW.total_seconds()))
    return response


class SignInView(LoginView):
    """Django's, with 429 for those who have failed too often."""

    form_class = SignInForm

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_invalid(form)
        if form.has_error("__all__", code="throttled"):
            response.status_code = 429
            response["Retry-After"] = str(int(WINDOW.total_seconds()))
        return response
