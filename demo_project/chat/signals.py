"""What must follow a row's change or end: by a service, the admin, a cascade."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from demo_project.chat.events import announce_access_changed, announce_access_lost
from demo_project.chat.models import Attachment, Membership, Room


@receiver(post_delete, sender=Attachment)
def delete_files(instance: Attachment, **_: Any) -> None:
    """Delete the stored files once the row is gone for good."""
    for field in (instance.file, instance.thumbnail):
        if field.name:
            delete = partial(field.storage.delete, field.name)
            transaction.on_commit(delete, robust=True)


@receiver(post_delete, sender=Membership)
def close_former_members_sockets(instance: Membership, **_: Any) -> None:
    """Whoever is no longer a member sees nothing more of a room that is not public."""
    if not instance.room.is_public:
        announce_access_lost(instance.room_id, instance.user_id)


@receiver(post_save, sender=Room)
def close_sockets_of_a_room_made_private(
    instance: Room, created: bool, **_: Any
) -> None:
    """The admin can make a public room private, while guests have it open."""
    if not created and not instance.is_public:
        announce_access_changed(instance.pk)


@receiver(post_delete, sender=Room)
def close_deleted_room(instance: Room, **_: Any) -> None:
    """Nobody stays in a room that is gone."""
    announce_access_lost(instance.pk, None)
