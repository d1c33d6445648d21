"""What clients and the admin send."""

from __future__ import annotations

from django import forms

from demo_project.notifications.services import TEXT_LIMIT
from demo_project.realtime.fields import MAX_SERIAL


class MarkReadForm(forms.Form):
    """Everything up to this serial was seen."""

    up_to = forms.IntegerField(min_value=0, max_value=MAX_SERIAL)


class NoticeForm(forms.Form):
    """A notice to several users, written in the admin."""

    text = forms.CharField(
        max_length=TEXT_LIMIT, widget=forms.Textarea(attrs={"rows": 3, "cols": 60})
    )
