"""What people and clients send, checked."""

from __future__ import annotations

from django import forms

from demo_project.chat.models import Room
from demo_project.chat.services.messages import ATTACHMENT_LIMIT, TEXT_LIMIT
from demo_project.realtime.fields import MAX_SERIAL, TextField, UUIDListField


class SendForm(forms.Form):
    """A new message."""

    nonce = forms.UUIDField()
    text = TextField(max_length=TEXT_LIMIT, required=False)
    attachments = UUIDListField(max_length=ATTACHMENT_LIMIT)


class EditForm(forms.Form):
    """A message's new text."""

    id = forms.IntegerField(min_value=1, max_value=MAX_SERIAL)
    text = TextField(max_length=TEXT_LIMIT, required=False)


class DeleteForm(forms.Form):
    """A message to delete."""

    id = forms.IntegerField(min_value=1, max_value=MAX_SERIAL)


class ResumeForm(forms.Form):
    """The room's version that the client has seen."""

    version = forms.IntegerField(min_value=0, max_value=MAX_SERIAL)


class ReadForm(forms.Form):
    """The position that the reader has come to."""

    position = forms.IntegerField(min_value=0, max_value=MAX_SERIAL)


class HistoryForm(forms.Form):
    """The page of history before a position."""

    before = forms.IntegerField(min_value=0, max_value=MAX_SERIAL, required=False)


class PlainMessageForm(forms.Form):
    """A message sent without scripts."""

    text = forms.CharField(max_length=TEXT_LIMIT)


class RoomForm(forms.ModelForm):
    """A new room."""

    is_private = forms.BooleanField(
        required=False, label="Private", help_text="Only people you invite can see it."
    )

    class Meta:
        model = Room
        fields = ["name", "topic"]


class InviteForm(forms.Form):
    """Whom to invite."""

    username = forms.CharField(max_length=150)


class UploadForm(forms.Form):
    """A file for a room; what is in it is checked by the service."""

    file = forms.FileField(max_length=255)
