"""Form fields for the values of JSON frames."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

MAX_SERIAL = 2**63 - 1
"""The largest number that the database can hold."""


class TextField(forms.CharField):
    """Text that can be stored: JSON may carry half of a surrogate pair."""

    def to_python(self, value: Any) -> str:
        if value is not None and not isinstance(value, str):
            raise ValidationError("Expected text.", code="invalid")
        text: str = super().to_python(value) or ""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValidationError("Not valid Unicode text.", code="invalid") from error
        return text


class UUIDListField(forms.Field):
    """A JSON list of UUIDs; absent means empty."""

    def __init__(self, *, max_length: int) -> None:
        super().__init__(required=False)
        self._max_length = max_length

    def to_python(self, value: Any) -> list[uuid.UUID]:
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > self._max_length:
            raise ValidationError(
                f"Expected a list of at most {self._max_length}.", code="invalid"
            )
        try:
            return [uuid.UUID(item) for item in value]
        except (AttributeError, TypeError, ValueError) as error:
            raise ValidationError("Expected UUIDs.", code="invalid") from error
