"""Both corpora against a running server; HTTP/1.1 whole and cut at random places."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from tests.conformance import http2
from tests.conformance.client import run_case
from tests.conformance.corpus import CASES, Case
from tests.conftest import find_free_port

pytestmark = pytest.mark.e2e

APPLICATION = "tests.conformance.application:application"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.conftest import server_starter

    with server_starter(tmp_path_factory.mktemp("conformance")) as start:
        port = find_free_port()
        words = ["-m", "djserve", APPLICATION, "--bind", f"127.0.0.1:{port}"]
        start(*words, port=port, env={"DJANGO_SETTINGS_MODULE": ""})
        yield port


def test_names_are_unique() -> None:
    counted = Counter((case.name, case.section) for case in CASES)

    assert len(CASES) > 100
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section} {case.name}")
def test_case(port: int, case: Case) -> None:
    assert run_case(port, case) == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section} {case.name}")
def test_case_in_pieces(port: int, case: Case) -> None:
    data = case.sent
    cuts = sorted(random.Random(case.name).choices(range(len(data)), k=3))
    edges = [0, *cuts, len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]

    assert run_case(port, case, pieces) == ""


@pytest.mark.parametrize("case", http2.CASES, ids=lambda case: case.name)
def test_frames(port: int, case: Any) -> None:
    assert http2.run_case(port, case) == ""
