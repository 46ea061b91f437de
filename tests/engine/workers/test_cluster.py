"""Tasks on a real Dask cluster: a scheduler and three workers, each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deep_raster.engine.errors import JobCancelled, JobError, RasterError, WorkerError
from deep_raster.engine.session import Placement
from processes import wait_until

pytest.importorskip("distributed")
from deep_raster.engine.workers.cluster import ClusterPool

ROOT = Path(__file__).resolve().parents[3]
NODE = "deep_raster.engine.workers.node"
NODES = 3


class Cluster:
    """A scheduler and its workers as processes."""

    def __init__(self, folder, tls=None, preload="faulty_node"):
        self.folder = folder
        # Where nodes find the package under its name: what an installed plugin's folder has anyway.
        (folder / "python").mkdir()
        (folder / "python" / "deep_raster").symlink_to(ROOT)
        environment = {**os.environ, "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "2s", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(folder / "python"), str(Path(__file__).parent)])
        options = []
        if tls:
            ca, cert, key = tls
            options = ["--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key]
        address_file = folder / "scheduler.json"
        protocol = "tls" if tls else "tcp"
        dask = [sys.executable, "-m", "dask"]
        scheduler = [*dask, "scheduler", "--protocol", protocol, "--host", "127.0.0.1", "--port", "0"]
        scheduler += ["--no-dashboard", "--scheduler-file", str(address_file), *options]
        scheduler += ["--preload", NODE]
        self.processes = [self._start(scheduler, environment, "scheduler")]
        # The scheduler writes the file in place: it is there before it is whole.
        assert wait_until(lambda: address_file.exists() and address_file.read_text().rstrip().endswith("}"), 40)
        self.address = json.loads(address_file.read_text())["address"]
        worker = [*dask, "worker", self.address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard"]
        worker += ["--protocol", protocol, "--host", "127.0.0.1", "--preload", preload, "--no-nanny"]
        worker += ["--local-directory", str(folder), *options]
        for n in range(NODES):
            self.processes.append(self._start(worker, environment, f"node{n}"))

    def _start(self, command, environment, name):
        with open(self.folder / f"{name}.log", "wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

    def connect(self):
        pool = ClusterPool(Placement(cluster=self.address))
        assert wait_until(lambda: len(pool._client.scheduler_info(n_workers=-1)["workers"]) == NODES, 40)
        return pool

    def close(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture
def pool(cluster):
    made = cluster.connect()
    yield made
    made.close()


def run(pool, payloads, scratch, task="fault", check=lambda: None):
    receipts, told = {}, []

    def receive(index, payload, receipt):
        if index in receipts:
            raise AssertionError(f"task {index} was answered twice")
        receipts[index] = receipt

    lost = pool.each(task, payloads, scratch, receive, told.append, check)
    return receipts, lost, told


def test_all_nodes_take_part_and_every_task_is_done(pool, tmp_path):
    pool.check(tmp_path, [__file__])
    receipts, lost, _ = run(pool, [{"n": n, "seconds": 0.05} for n in range(30)], tmp_path, task="square")
    assert lost == []
    assert sorted(receipts) == list(range(30))
    assert len({one["pid"] for one in receipts.values()}) == NODES
    assert all((tmp_path / f"{n}.txt").read_text() == str(n * n) for n in range(30))


def test_deaths_and_poison_on_nodes(pool, tmp_path):
    payloads = [{"n": n, "fault": {2: "kill", 5: "abort"}.get(n, ""), "once": n == 2} for n in range(8)]
    receipts, lost, _ = run(pool, payloads, tmp_path)
    assert [one.index for one in lost] == [5]
    assert "SIGABRT" in lost[0].reason
    assert sorted(receipts) == [0, 1, 2, 3, 4, 6, 7]


def test_a_refusal_comes_back_as_the_same_error(pool, tmp_path):
    with pytest.raises(RasterError, match="The file is broken"):
        run(pool, [{"n": 1, "fault": "refuse"}], tmp_path)


def test_a_file_that_a_node_cannot_see_is_named_before_the_first_task(pool, tmp_path):
    with pytest.raises(JobError, match="does not see the input") as caught:
        pool.check(tmp_path, ["/data/nowhere.tif"])
    assert caught.value.file == "/data/nowhere.tif"


def test_cancel_does_not_wait_for_the_tasks_of_nodes(pool, tmp_path):
    started = time.monotonic()

    def check():
        if time.monotonic() - started > 1:
            raise JobCancelled("stop")

    with pytest.raises(JobCancelled):
        run(pool, [{"n": n, "seconds": 3} for n in range(6)], tmp_path, task="square", check=check)
    assert time.monotonic() - started < 3


def test_no_cluster_gives_the_sentence():
    with pytest.raises(JobError, match="tls://host:port"):
        ClusterPool(Placement(cluster="localhost:8786"))


def test_a_killed_node_costs_nothing(tmp_path):
    made = Cluster(tmp_path)
    pool = made.connect()
    try:
        killed = []

        def kill_in_the_middle():
            if not killed and len(list(tmp_path.glob("*.txt"))) >= 10:
                killed.append(made.processes[-1].pid)
                made.processes[-1].kill()

        payloads = [{"n": n, "seconds": 0.1} for n in range(60)]
        receipts, lost, _ = run(pool, payloads, tmp_path, task="square", check=kill_in_the_middle)
        assert killed
        assert lost == []
        assert sorted(receipts) == list(range(60))
    finally:
        pool.close()
        made.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_a_cluster_with_certificates_lets_in_only_who_has_one(tmp_path):
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert]
    subprocess.run([*command, "-days", "2", "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    made = Cluster(tmp_path, tls=(cert, cert, key))
    try:
        assert made.address.startswith("tls://")
        with pytest.raises(WorkerError):
            ClusterPool(Placement(cluster=made.address))
        import dask

        tls = "distributed.comm.tls."
        with dask.config.set({f"{tls}ca-file": cert, f"{tls}client.cert": cert, f"{tls}client.key": key}):
            pool = made.connect()
            receipts, lost, _ = run(pool, [{"n": 1}], tmp_path, task="square")
            pool.close()
        assert (len(receipts), lost) == (1, [])
    finally:
        made.close()
