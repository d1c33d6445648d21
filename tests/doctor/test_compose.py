"""Services of a Compose file, in the forms in which people write them."""

from __future__ import annotations

import pytest

from djserve.doctor.compose import read_services

TEXT = """
x-common: &common
  environment:
    A: 0
services:
  web:
    image: x  # here
    environment:
      A: 1
      B: "two: three"
      "C": 'x # y'
      PASSED:
      # D: 4
    env_file:
      - a.env
      - path: ./b.env
        required: false
    command: [a]
  worker:
    <<: *common
    env_file: c.env
volumes:
  web: {}
"""


def test_environment_and_files_of_each_service() -> None:
    web, worker = read_services(TEXT.splitlines())

    assert (web.name, web.has_command) == ("web", True)
    assert web.environment == {"A": "1", "B": "two: three", "C": "x # y"}
    assert web.files == ["a.env", "./b.env"]
    assert (worker.name, worker.has_command) == ("worker", False)
    assert (worker.environment, worker.files) == ({}, ["c.env"])


@pytest.mark.parametrize(
    "text",
    [
        "environment: {A: 1, B: 'x, y'}",
        "environment: [A=1, 'B=x, y']",
        "environment:\n      [\n      A=1,\n      'B=x, y',\n      ]",
        "environment:\n    - A=1\n    - B=x, y",
        "environment:\n      - 'A=1'\n      - \"B=x, y\"",
    ],
)
def test_forms_of_an_environment(text: str) -> None:
    (service,) = read_services(f"services:\n  web:\n    {text}\n".splitlines())

    assert service.environment == {"A": "1", "B": "x, y"}


@pytest.mark.parametrize(
    "text", ["", "web:\n  environment:\n    A: 1\n", "services:\n", "\x00: [", ":"]
)
def test_other_files_have_no_services(text: str) -> None:
    assert read_services(text.splitlines()) == []
