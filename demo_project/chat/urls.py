"""The chat's pages."""

from __future__ import annotations

from django.urls import path

from demo_project.chat import views

app_name = "chat"

urlpatterns = [
    path("", views.home, name="home"),
    path("rooms/new/", views.create, name="create"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("rooms/<slug:slug>/messages/", views.history, name="history"),
    path("rooms/<slug:slug>/post/", views.post, name="post"),
    path("rooms/<slug:slug>/attachments/", views.upload, name="upload"),
    path("rooms/<slug:slug>/invite/", views.invite, name="invite"),
    path("rooms/<slug:slug>/leave/", views.leave, name="leave"),
    path("rooms/<slug:slug>/remove/<int:user_id>/", views.remove, name="remove"),
    path("invitations/<int:invitation_id>/", views.answer, name="answer"),
    path("people/", views.people, name="people"),
    path("people/<int:user_id>/message/", views.direct, name="direct"),
    path(
        "attachments/<uuid:attachment_id>/thumbnail/",
        views.thumbnail,
        name="thumbnail",
    ),
    path(
        "attachments/<uuid:attachment_id>/<str:name>",
        views.attachment,
        name="attachment",
    ),
]
