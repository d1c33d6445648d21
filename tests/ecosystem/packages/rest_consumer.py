"""A consumer with actions, of the runs with djangochannelsrestframework."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from djangochannelsrestframework.decorators import action
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import ListModelMixin
from rest_framework import serializers


class AccountSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["username", "email"]


class Accounts(ListModelMixin, GenericAsyncAPIConsumer):
    serializer_class = AccountSerializer

    def get_queryset(self, **_: Any) -> Any:
        return User.objects.filter(pk=self.scope["user"].pk)

    @action()
    def who(self, **_: Any) -> tuple[Any, int]:
        return {"who": self.scope["user"].get_username()}, 200
