"""What an order's failure says; that orders succeed, tests/e2e/test_acme.py shows."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from acme import errors, messages

from djserve.acme import order
from djserve.acme.folder import CertificateFolder
from djserve.conf.schema_https import ACMEConfig
from tests.conftest import find_free_port


def test_each_name_is_told_with_its_reason() -> None:
    make: Any = messages.Error
    failure = make(typ="urn:ietf:params:acme:error:dns", detail="no\naddress")
    authorization = messages.AuthorizationResource(
        uri="",
        body=messages.Authorization(
            identifier=messages.Identifier(
                typ=messages.IDENTIFIER_FQDN, value="a.example.com"
            ),
            challenges=(messages.ChallengeBody(chall=None, uri="", error=failure),),
        ),
    )
    text = order.explain(errors.ValidationError([authorization]))

    assert text.startswith("a.example.com: ")
    assert "no address" in text


def test_error_without_a_text_has_its_name() -> None:
    assert order.explain(errors.TimeoutError()) == "TimeoutError"


@pytest.mark.e2e
def test_directory_that_does_not_answer_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"https://127.0.0.1:{find_free_port()}/directory"
    given: dict[str, Any] = {
        "acme_folder": str(tmp_path / "acme"),
        "acme_directory": url,
    }
    CertificateFolder(ACMEConfig(acme_domains=("a.example.com",), **given)).prepare()
    config = {**given, "acme_domains": ["a.example.com"]}
    text = {"config": config, "owner": [None, None]}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(text)))

    assert order.main() == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "Connection refused" in line
