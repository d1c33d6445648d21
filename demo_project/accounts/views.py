"""Signing up."""

from __future__ import annotations

from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from demo_project.accounts.forms import SignUpForm


def sign_up(request: HttpRequest) -> HttpResponse:
    """Make an account and sign in with it."""
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save())
        return redirect("chat:home")
    return render(request, "accounts/sign_up.html", {"form": form})
