"""Consent: by full hash only, remembered and withdrawn, never by a changed package or an edited file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from deep_raster.engine.errors import JobError, TrustError
from deep_raster.engine.package import trust
from deep_raster.engine.package.consents import ConsentStore
from deep_raster.engine.package.dlpk import open_package

from .corpus_base import CUSTOM
from .zips import Item, build

CODE = b"class Finder: pass\n"


@pytest.fixture
def store(tmp_path):
    return ConsentStore(tmp_path / "trust")


def package(tmp_path, code=CODE, name="finder.dlpk"):
    path = tmp_path / name
    path.write_bytes(build([Item("finder.emd", json.dumps(CUSTOM).encode()), Item("Finder.py", code)]))
    return open_package(path)


def allowed(found, store, **more):
    return trust.verdict(found, trust.needs_of(found), store=store, **more).allowed


def test_refused_with_the_full_hash_and_the_way_to_allow_it(tmp_path, store):
    found = package(tmp_path)
    with pytest.raises(TrustError) as caught:
        trust.require(found, trust.needs_of(found), store=store)
    said = str(caught.value)
    assert "“finder.dlpk” wants to run its own Python code (Finder.py), and nobody has allowed it" in said
    assert f"TRUST={found.digest}" in said
    assert len(found.digest) == len("sha256:") + 64
    assert trust.VARIABLE in said


def test_allowed_by_parameter_for_this_job_only(tmp_path, store):
    found = package(tmp_path)
    assert allowed(found, store, trust=(found.digest,))
    assert allowed(found, store, trust=(f" {found.digest.upper().replace('SHA', 'sha')} ",))
    assert not allowed(found, store)


@pytest.mark.parametrize(
    "text", ["*", "all", "true", "sha256:", "sha256:*", "sha256:" + "0" * 63, "0" * 64, "sha1:" + "0" * 64]
)
def test_no_short_hash_and_no_wildcard(tmp_path, store, text):
    with pytest.raises(JobError, match="full hash"):
        allowed(package(tmp_path), store, trust=(text,))


def test_another_hash_does_not_help(tmp_path, store):
    assert not allowed(package(tmp_path), store, trust=("sha256:" + "0" * 64,))


def test_remembered_refused_and_revoked(tmp_path, store):
    found = package(tmp_path)
    store.allow(found.digest, "finder.dlpk", (trust.CODE,))
    assert allowed(found, ConsentStore(store.folder))
    store.deny(found.digest, "finder.dlpk", (trust.CODE,))
    answer = trust.verdict(found, (trust.CODE,), store=store)
    assert (answer.allowed, answer.source) == (False, "denied")
    assert "settings" in answer.hint
    assert allowed(found, store, trust=(found.digest,))  # the user says so for this one run
    assert store.revoke(found.digest)
    assert not store.revoke(found.digest)
    assert trust.verdict(found, (trust.CODE,), store=store).source == "nobody"
    assert store.entries() == ()


def test_consent_to_code_is_none_to_torchscript(tmp_path, store):
    found = package(tmp_path)
    store.allow(found.digest, "finder.dlpk", (trust.CODE,))
    assert not trust.verdict(found, (trust.CODE, trust.TORCHSCRIPT), store=store).allowed


def test_one_changed_byte_is_another_package(tmp_path, store):
    found = package(tmp_path)
    store.allow(found.digest, "finder.dlpk", (trust.CODE,))
    changed = package(tmp_path, CODE.replace(b"pass", b"Pass"))
    assert changed.path == found.path
    assert changed.digest != found.digest
    assert not allowed(changed, store)
    assert allowed(package(tmp_path, name="renamed.dlpk"), store)


def test_same_content_in_a_folder_has_the_same_hash(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "finder.emd").write_text(json.dumps(CUSTOM))
    (folder / "Finder.py").write_bytes(CODE)
    found = open_package(folder / "finder.emd")
    assert found.digest == package(tmp_path).digest
    (folder / "helper.py").write_bytes(b"")
    assert open_package(folder / "finder.emd").digest != found.digest


def test_edited_store_counts_for_nothing(tmp_path, store):
    found = package(tmp_path)
    store.deny(found.digest, "finder.dlpk", (trust.CODE,))
    file = store.folder / "consents.json"
    file.write_text(file.read_text().replace('"denied"', '"allowed"'))
    assert store.entries() == ()
    assert not allowed(found, store)


def test_store_of_another_user_counts_for_nothing(tmp_path, store):
    found = package(tmp_path)
    other = ConsentStore(tmp_path / "other")
    other.allow(found.digest, "finder.dlpk", (trust.CODE,))
    store.allow("sha256:" + "1" * 64, "x", (trust.CODE,))
    (store.folder / "consents.json").write_bytes((other.folder / "consents.json").read_bytes())
    assert not allowed(found, store)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"consents": 5, "signature": "x"}', '{"consents": [{}], "signature": ""}']
)
def test_damaged_store_counts_as_empty(store, text):
    store.allow("sha256:" + "1" * 64, "x", (trust.CODE,))
    (store.folder / "consents.json").write_text(text)
    assert store.entries() == ()
    store.allow("sha256:" + "2" * 64, "y", (trust.CODE,))
    assert [one.name for one in store.entries()] == ["y"]


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
def test_store_is_for_its_owner_alone(store):
    store.allow("sha256:" + "1" * 64, "x", (trust.CODE,))
    assert {one.stat().st_mode & 0o077 for one in (store.folder, *store.folder.iterdir())} == {0}


def test_two_processes_lose_no_decision(store, tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "from pathlib import Path\n"
        "from deep_raster.engine.package.consents import ConsentStore\n"
        "store = ConsentStore(Path(sys.argv[2]))\n"
        "for n in range(15): store.allow(f'sha256:{int(sys.argv[3]) * 100 + n:064x}', 'x', ('code',))\n"
    )
    tests = os.path.join(os.path.dirname(__file__), "..", "..")
    jobs = [subprocess.Popen([sys.executable, "-c", program, tests, str(store.folder), str(n)]) for n in (1, 2)]
    assert [job.wait(60) for job in jobs] == [0, 0]
    assert len(store.entries()) == 30


def test_administrators_list(tmp_path, store, monkeypatch):
    found = package(tmp_path)
    listed = tmp_path / "allowed.txt"
    listed.write_text(f"# reviewed\nnonsense\n{found.digest}  finder of tanks\n")
    listed.chmod(0o644)
    monkeypatch.setenv(trust.VARIABLE, str(listed))
    answer = trust.verdict(found, (trust.CODE,), store=store)
    assert (answer.allowed, answer.source) == (True, "list")
    store.deny(found.digest, "finder.dlpk", (trust.CODE,))
    assert not allowed(found, store)


@pytest.mark.skipif(os.name != "posix", reason="rights are those of POSIX")
def test_a_list_that_others_may_write_does_not_count(tmp_path, store, monkeypatch):
    found = package(tmp_path)
    listed = tmp_path / "allowed.txt"
    listed.write_text(found.digest)
    listed.chmod(0o666)
    monkeypatch.setenv(trust.VARIABLE, str(listed))
    answer = trust.verdict(found, (trust.CODE,), store=store)
    assert not answer.allowed
    assert "other users may write to it" in answer.sentence


def test_a_missing_list_is_told(tmp_path, store, monkeypatch):
    monkeypatch.setenv(trust.VARIABLE, str(tmp_path / "none.txt"))
    assert "cannot be read" in trust.verdict(package(tmp_path), (trust.CODE,), store=store).sentence


def test_opening_for_a_run(tmp_path, store):
    path = package(tmp_path).path
    with pytest.raises(TrustError):
        trust.open_for_run(path, store=store)
    found = open_package(path)
    assert trust.open_for_run(path, trust=(found.digest,), store=store).code_allowed
    assert not found.code_allowed


def test_a_package_without_code_needs_nobody(tmp_path, store):
    path = tmp_path / "plain.dlpk"
    members = {**CUSTOM, "InferenceFunction": "ArcGISObjectDetector.py", "ModelFile": "n.pth"}
    path.write_bytes(build([Item("a.emd", json.dumps(members).encode()), Item("n.pth", b"x")]))
    found = trust.open_for_run(path, store=store)
    assert not found.has_code
    assert not found.code_allowed  # nothing that a loader finds later may run either


def test_own_packages_are_trusted_at_creation(tmp_path, store):
    found = package(tmp_path)
    trust.trust_own(found, store)
    assert allowed(found, store)
    assert trust.open_for_run(found.path, store=store).code_allowed
