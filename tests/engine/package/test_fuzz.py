"""Thousands of packages damaged at random: each opens or is refused by our own error, and none writes elsewhere."""

from __future__ import annotations

import random
import time

import pytest
from deep_raster.engine.errors import DeepRasterError
from deep_raster.engine.package.card import build_card, card_html
from deep_raster.engine.package.dlpk import open_package

from .corpus import CASES, OK


def seeds():
    """Return the archives of the corpus that are small enough to be damaged quickly."""
    names = ("good-", "twice-", "lies-", "zip64-", "code-", "kind-", "path-")
    made = [case.make() for case in CASES if case.name.startswith(names)]
    return [data for data in made if 100 < len(data) < 20_000]


def damaged(chance: random.Random, whole: list[bytes]) -> bytes:
    data = bytearray(chance.choice(whole))
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(data) or 1)
        kind = chance.randrange(5)
        if kind == 0:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            data[place : place + chance.randint(1, 40)] = b""
        elif kind == 2:
            other = chance.choice(whole)
            start = chance.randrange(len(other))
            data[place:place] = other[start : start + chance.randint(1, 200)]
        elif kind == 3:
            data[place : place + 4] = chance.choice(
                (b"\xff" * 4, bytes(4), b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")
            )
        else:
            data[place:] = data[place:][: chance.randrange(len(data) - place + 1)]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_packages(seed, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    chance, whole = random.Random(seed), seeds()
    path = tmp_path / "a.dlpk"
    refused, slowest = 0, 0.0
    for _ in range(500):
        path.write_bytes(damaged(chance, whole))
        start = time.monotonic()
        try:
            card_html(build_card(open_package(path, tmp_path / "cache")))
        except DeepRasterError:
            refused += 1
        slowest = max(slowest, time.monotonic() - start)
    assert refused > 400  # nearly every damage is noticed; the rest hit names, times or texts
    assert slowest < 5
    assert sorted(one.name for one in tmp_path.iterdir()) in (["a.dlpk", "cache", "cwd"], ["a.dlpk", "cwd"])
    assert not list((tmp_path / "cwd").iterdir())


def test_the_seeds_are_real():
    assert len(seeds()) > 60
    assert any(case.verdict == OK for case in CASES if case.name.startswith("good-"))
