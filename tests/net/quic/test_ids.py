"""Connection ids, their tokens and stateless resets."""

from __future__ import annotations

import pytest

from djserve.net.quic.ids import ID_LENGTH, ConnectionIds


def test_ids_differ_and_have_their_length() -> None:
    ids = ConnectionIds(b"secret")
    made = {ids.make() for _ in range(100)}

    assert len(made) == 100
    assert {len(each) for each in made} == {ID_LENGTH}


def test_ids_name_their_worker() -> None:
    made = {ConnectionIds(b"secret", b"ab").make() for _ in range(100)}

    assert len(made) == 100
    assert {(each[:2], len(each)) for each in made} == {(b"ab", ID_LENGTH)}


def test_token_outlives_the_process_and_is_a_secret() -> None:
    token = ConnectionIds(b"secret").find_token(b"12345678")

    assert len(token) == 16
    assert ConnectionIds(b"secret").find_token(b"12345678") == token
    assert ConnectionIds(b"secret").find_token(b"12345679") != token
    assert ConnectionIds(b"other").find_token(b"12345678") != token


@pytest.mark.parametrize("size", [22, 30, 43, 44, 1200])
def test_reset_is_shorter_than_what_it_answers(size: int) -> None:
    ids = ConnectionIds(b"secret")
    reset = ids.build_reset(b"12345678", size)

    assert reset is not None
    assert 21 <= len(reset) < size
    assert len(reset) <= 43
    assert reset[0] & 0xC0 == 0x40
    assert reset.endswith(ids.find_token(b"12345678"))
    assert ids.build_reset(b"12345678", size) != reset


def test_short_datagram_gets_none() -> None:
    assert ConnectionIds(b"secret").build_reset(b"12345678", 21) is None
