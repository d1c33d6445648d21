"""What is not shown of command lines and URLs, and what is."""

from __future__ import annotations

import pytest

from djserve.conf.masking import hide_password, hide_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://shop:pa55@db/shop", "postgres://shop:***@db/shop"),
        ("redis://:pa55@cache:6379/0", "redis://:***@cache:6379/0"),
        ("x amqp://a:b@c y http://d:e@f", "x amqp://a:***@c y http://d:***@f"),
        ("http://a:80/b@c", "http://a:80/b@c"),
        ("https://user@host/", "https://user@host/"),
        ("a: b@c", "a: b@c"),
    ],
)
def test_password_of_a_url_is_hidden(text: str, shown: str) -> None:
    assert hide_password(text) == shown
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SECRET_KEY=abc gunicorn a:b", "SECRET_KEY=*** gunicorn a:b"),
        ("env DB_PASSWORD='a b' x", "env DB_PASSWORD=*** x"),
        ('["env", "API_KEY=abc", "x"]', '["env", "API_KEY=***", "x"]'),
        ('AWS_SECRET_ACCESS_KEY="a b" x', "AWS_SECRET_ACCESS_KEY=*** x"),
        ("x --keyfile-password abc y", "x --keyfile-password *** y"),
        ("x --ssl-keyfile-password=abc y", "x --ssl-keyfile-password=*** y"),
        ("SECRET_KEY=$SECRET_KEY x", "SECRET_KEY=$SECRET_KEY x"),
        ('SECRET_KEY="$KEY" x', 'SECRET_KEY="$KEY" x'),
        ("--keyfile-password  ->  x", "--keyfile-password  ->  x"),
        ("--keyfile k.pem --workers 2", "--keyfile k.pem --workers 2"),
        ("SECRET_KEY: Set it.", "SECRET_KEY: Set it."),
    ],
)
def test_value_of_a_secret_is_hidden(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
