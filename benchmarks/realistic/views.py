"""Two pages, a list for programs, and a form: sync views, as most are."""

from __future__ import annotations

from django import forms
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST
from rest_framework.generics import ListAPIView
from rest_framework.serializers import CharField, ModelSerializer

from benchmarks.realistic.models import Article, Comment

ON_A_PAGE = 20


def list_articles(request: HttpRequest) -> HttpResponse:
    """Show the newest articles; whoever is logged in sees a name and a form."""
    articles = Article.objects.select_related("author")[:ON_A_PAGE]
    return render(request, "realistic/articles.html", {"articles": articles})


@login_required
def show_account(request: HttpRequest) -> HttpResponse:
    """Show a user's last comments beside the articles."""
    comments = Comment.objects.filter(author=request.user).order_by("-pk")[:5]
    articles = Article.objects.select_related("author")[:ON_A_PAGE]
    found = {"articles": articles, "comments": comments}
    return render(request, "realistic/articles.html", found)


class CommentForm(forms.ModelForm):
    """A comment on an article."""

    class Meta:
        model = Comment
        fields = ("article", "text")


@require_POST
@login_required
def comment(request: HttpRequest) -> HttpResponse:
    """Write a row, and the session, which counts what the user has written."""
    form = CommentForm(request.POST)
    if not form.is_valid():
        return HttpResponse(form.errors.as_json(), status=400)
    with transaction.atomic():
        form.instance.author = request.user
        form.save()
    request.session["written"] = request.session.get("written", 0) + 1
    return redirect("/account/")


class ArticleSerializer(ModelSerializer):
    """What the API tells of an article."""

    author = CharField(source="author.username")

    class Meta:
        model = Article
        fields = ("id", "title", "text", "author", "published")


class ArticleList(ListAPIView):
    """Twenty articles at a time, as JSON."""

    queryset = Article.objects.select_related("author")
    serializer_class = ArticleSerializer
