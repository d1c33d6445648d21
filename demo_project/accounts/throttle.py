"""How often somebody may guess a password, and make accounts.

Guesses are counted for each name, each address, and both; accounts for each address.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from demo_project.accounts.models import FailedSignIn, SignUp
from demo_project.realtime.database import writing

WINDOW = timedelta(minutes=5)
# Somebody who has forgotten a password; a household; many guessers of one name. The
# last is so high that strangers hardly keep anybody from their account.
LIMIT_OF_BOTH = 5
LIMIT_OF_ADDRESS = 30
LIMIT_OF_NAME = 100

# A class in its computer room; each account has rates of its own for all it may do.
SIGN_UP_WINDOW = timedelta(hours=1)
LIMIT_OF_SIGN_UPS = 20


class SignInGate:
    """An authentication backend that refuses those who have failed too often.

    It stands before Django's own, so that the admin's sign-in passes it too. It lets
    nobody in by itself.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, **_: Any
    ) -> None:
        """Count a try, before it is known how it ends; refuse it if it is one too many.

        A password takes a while to check, and of many tries at the same moment each
        would find that none has failed yet. Raises PermissionDenied, which keeps Django
        from asking further backends.
        """
        if request is None:
            return
        attempt = _count_try(request, username or "")
        if _is_over_limit(attempt.address, attempt.username, allowed=1):
            # Tries that are refused do not prolong the wait.
            attempt.delete()
            raise PermissionDenied


def is_throttled(request: HttpRequest | None, username: str) -> bool:
    """Return whether further tries from there, or of that name, are refused."""
    return request is not None and _is_over_limit(_address(request), _name(username))


@receiver(user_logged_in)
def forget_failures(request: HttpRequest | None, user: Any, **_: Any) -> None:
    """Forget the tries of somebody who then knew the password."""
    if request is not None:
        FailedSignIn.objects.filter(
            username=_name(user.get_username()), address=_address(request)
        ).delete()


@writing()
def take_sign_up(request: HttpRequest) -> bool:
    """Count an account that is about to be made; False if it is one too many.

    Before its password is hashed: of many at the same moment each is counted.
    """
    now, address = timezone.now(), _address(request)
    SignUp.objects.filter(made_at__lte=now - SIGN_UP_WINDOW).delete()
    if SignUp.objects.filter(address=address).count() >= LIMIT_OF_SIGN_UPS:
        return False
    SignUp.objects.create(address=address, made_at=now)
    return True


@writing()
def _count_try(request: HttpRequest, username: str) -> FailedSignIn:
    now = timezone.now()
    FailedSignIn.objects.filter(failed_at__lte=now - WINDOW).delete()
    return FailedSignIn.objects.create(
        username=_name(username), address=_address(request), failed_at=now
    )


def _is_over_limit(address: str, username: str, allowed: int = 0) -> bool:
    """Return whether there are more tries than the limits have, or as many.

    ``allowed`` is 1 if the try that is asked about is among those counted.
    """
    lately = FailedSignIn.objects.filter(failed_at__gt=timezone.now() - WINDOW)
    pairs = list(
        lately.filter(Q(address=address) | Q(username=username)).values_list(
            "address", "username"
        )[: LIMIT_OF_ADDRESS + LIMIT_OF_NAME + allowed]
    )
    return (
        pairs.count((address, username)) >= LIMIT_OF_BOTH + allowed
        or sum(pair[0] == address for pair in pairs) >= LIMIT_OF_ADDRESS + allowed
        or sum(pair[1] == username for pair in pairs) >= LIMIT_OF_NAME + allowed
    )


def _name(username: str) -> str:
    return username.lower()[:150]


def _address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))[:45]
