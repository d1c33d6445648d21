from __future__ import annotations

from djserve.conf.declaration import setting


def test_declaration_keeps_what_the_generators_need() -> None:
    declared = setting(3, "Help.", flags=("--x",), minimum=1, syntax="file")

    assert declared.default == 3
    assert declared.metadata["help"] == "Help."
    assert declared.metadata["flags"] == ("--x",)
    assert declared.metadata["minimum"] == 1
    assert declared.metadata["syntax"] == "file"
