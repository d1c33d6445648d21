"""When a certificate is ordered, and what is made of the order's end."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from djserve.acme.backoff import LONGEST_PAUSE
from djserve.acme.folder import CertificateFolder
from djserve.acme.renewal import Renewal
from djserve.conf.schema_https import ACMEConfig
from djserve.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> ACMEConfig:
    return ACMEConfig(
        acme_domains=("a.example.com",), acme_folder=str(tmp_path / "acme")
    )


@pytest.fixture
def open_renewal(config: ACMEConfig) -> Iterator[Callable[[str], Renewal]]:
    """Give ``open_renewal(code)``: orders are what the Python code does."""
    opened: list[Renewal] = []

    def open_renewal(code: str) -> Renewal:
        opened.append(Renewal(config, command=[sys.executable, "-c", code]))
        return opened[-1]

    yield open_renewal
    for renewal in opened:
        renewal.close()


def finish(renewal: Renewal, now: float) -> None:
    """Tick at one moment, before and after the order's end."""
    renewal.tick(now)
    if renewal.pid is not None:
        os.waitid(os.P_PID, renewal.pid, os.WEXITED | os.WNOWAIT)
        renewal.tick(now)
    assert renewal.pid is None


@pytest.mark.e2e
def test_failures_are_tried_again_later_and_later(
    open_renewal: Callable[[str], Renewal], caplog: pytest.LogCaptureFixture
) -> None:
    renewal = open_renewal("import sys; print('no such name'); sys.exit(1)")
    now, pauses = 0.0, []
    renewal.tick(now)
    for _ in range(9):
        finish(renewal, now)
        begin = now
        while renewal.pid is None:
            now += 30
            renewal.tick(now)
        pauses.append(now - begin)

    assert "No certificate for a.example.com: no such name. The one in" in caplog.text
    assert 240 <= pauses[0] <= 400
    assert pauses[0] < pauses[1] < pauses[2]
    assert pauses[-1] <= LONGEST_PAUSE * 1.1 + 60


@pytest.mark.e2e
def test_success_is_told_and_the_next_order_waits(
    open_renewal: Callable[[str], Renewal],
    config: ACMEConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "djserve.acme")
    renewal = open_renewal("print('New certificate')")
    renewal.tick(0)
    now = datetime.now(UTC)
    issued = trustme.CA().issue_cert(
        "a.example.com", not_before=now, not_after=now + timedelta(days=90)
    )
    CertificateFolder(config).save_certificate(
        issued.private_key_and_cert_chain_pem.bytes()
    )
    finish(renewal, 0)
    for hours in range(100):
        renewal.tick(hours * 3600)
        assert renewal.pid is None

    assert "New certificate" in caplog.text


@pytest.mark.e2e
def test_pause_is_kept_over_a_restart(
    open_renewal: Callable[[str], Renewal], caplog: pytest.LogCaptureFixture
) -> None:
    renewal = open_renewal("import sys; print('no such name'); sys.exit(1)")
    renewal.tick(0)
    finish(renewal, 0)
    renewal.close()
    caplog.clear()
    again = open_renewal("print('New certificate')")
    again.tick(1000)
    assert again.pid is None
    assert "The last order of a certificate for a.example.com has failed" in caplog.text
    assert "backoff.json" in caplog.text

    again.tick(1240)
    assert again.pid is None
    again.tick(1400)
    assert again.pid is not None


@pytest.mark.e2e
def test_authority_may_ask_for_a_longer_pause(
    open_renewal: Callable[[str], Renewal], caplog: pytest.LogCaptureFixture
) -> None:
    code = "import sys; print('Retry-After: 7200'); print('too many'); sys.exit(1)"
    renewal = open_renewal(code)
    renewal.tick(0)
    finish(renewal, 0)

    assert "too many. The one in use stays; the next try is in 120 min" in caplog.text
    renewal.tick(7100)
    assert renewal.pid is None
    renewal.tick(7201)
    assert renewal.pid is not None


@pytest.mark.e2e
def test_order_that_hangs_is_ended(
    open_renewal: Callable[[str], Renewal], caplog: pytest.LogCaptureFixture
) -> None:
    renewal = open_renewal("import time; time.sleep(600)")
    renewal.tick(0)
    finish(renewal, 601)

    assert "the process ended with -9" in caplog.text


@pytest.mark.e2e
def test_close_ends_the_order(open_renewal: Callable[[str], Renewal]) -> None:
    renewal = open_renewal("import time; time.sleep(600)")
    renewal.tick(0)
    assert renewal.pid is not None
    renewal.close()
    renewal.tick(1)

    assert renewal.pid is None


@pytest.mark.e2e
def test_command_that_cannot_be_started_is_told(
    config: ACMEConfig, caplog: pytest.LogCaptureFixture
) -> None:
    renewal = Renewal(config, command=["/nonexistent"])
    renewal.tick(0)

    assert renewal.pid is None
    assert "No certificate for a.example.com" in caplog.text


def test_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = ACMEConfig(
        acme_domains=("a.example.com",), acme_folder=str(tmp_path / "file")
    )
    with pytest.raises(ConfigError, match=r"ACME_FOLDER: .* cannot be used"):
        Renewal(config)


def test_certificate_that_is_no_file_stops_the_start(tmp_path: Path) -> None:
    config = ACMEConfig(
        acme_domains=("a.example.com",), acme_folder=str(tmp_path / "acme")
    )
    certificate = CertificateFolder(config).certificate
    certificate.parent.mkdir(parents=True)
    os.mkfifo(certificate)

    with pytest.raises(ConfigError, match=r"ACME_FOLDER: .* it is a FIFO"):
        Renewal(config)
