"""Environment variables as settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo_project import environment


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("off", False)],
)
def test_flag_reads_yes_and_no(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    monkeypatch.setenv("FLAG", text)

    assert environment.flag("FLAG", default=not expected) is expected


def test_flag_refuses_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAG", "perhaps")

    with pytest.raises(ValueError, match="FLAG: expected 1 or 0, got 'perhaps'"):
        environment.flag("FLAG", default=True)


def test_number_refuses_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINUTES", "-5")

    with pytest.raises(ValueError, match="MINUTES"):
        environment.number("MINUTES", default=1)


def test_items_drop_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTS", "a.example, ,b.example,")

    assert environment.items("HOSTS") == ["a.example", "b.example"]


def test_secret_is_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("open sesame\n")
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "key"))
    assert environment.secret("KEY") == "open sesame"

    # Which of the two would be meant is not for a guess.
    monkeypatch.setenv("KEY", "another")
    with pytest.raises(ValueError, match="KEY and KEY_FILE"):
        environment.secret("KEY")


def test_secret_is_read_from_a_variable_or_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert environment.secret("KEY") == ""
    monkeypatch.setenv("KEY", "open sesame")
    assert environment.secret("KEY") == "open sesame"


def test_password_completes_a_url_without_one() -> None:
    password = environment.database("postgres://me@db/chat", "from a file")["PASSWORD"]
    assert password == "from a file"
    url = "postgres://me:own@db/chat"
    assert environment.database(url, "from a file")["PASSWORD"] == "own"


def test_postgresql_url_is_taken_apart() -> None:
    entry = environment.database("postgresql://me:p%40ss@db:5433/chat?sslmode=require")

    assert entry == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "chat",
        "USER": "me",
        "PASSWORD": "p@ss",
        "HOST": "db",
        "PORT": "5433",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"sslmode": "require"},
    }


@pytest.mark.parametrize(
    ("url", "name"),
    [("sqlite:////srv/chat.db", "/srv/chat.db"), ("sqlite:///chat.db", "chat.db")],
)
def test_sqlite_url_names_a_file(url: str, name: str) -> None:
    entry = environment.database(url)

    assert entry["NAME"] == name
    assert entry["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize("url", ["mysql://host/chat", "chat.db", "sqlite://"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="Database URL"):
        environment.database(url)
