"""Fault plan W1 and W2: workers killed at random moments and at each step of the protocol."""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest
from nightly_models import pixel_job
from nightly_support import Host, Watch, scaled, tidy

STEPS = ("start", "greeting", "weights", "read", "infer", "part", "renamed", "receipt")


def kill_at_random(host, chance, killed, mean):
    """Kill -9 a random worker after random waits, from the first tiles until the job has ended."""
    stop = threading.Event()

    def work():
        while not any("Predicting" in text for text in host.texts) and not stop.wait(0.02):
            pass
        while host.process.poll() is None and not stop.wait(chance.expovariate(1 / mean)):
            alive = host.workers()
            if alive:
                os.kill(chance.choice(alive), signal.SIGKILL)
                killed.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, stop


def test_kills_at_random_moments(workshop, scene, model, undisturbed, figure):
    """W1: every job completes with the same bytes, and costs no more than its kills."""
    chance, killed, seconds, ended = random.Random(11), [], 0.0, []
    rounds = scaled(3)
    # Half a second where the undisturbed job takes ten; on a slower or busier machine everything takes longer.
    mean = undisturbed[2] / 20
    for number in range(rounds):
        folder = workshop / f"w1-{number}"
        output = folder / "classes.tif"
        with Watch(output) as watch:
            host = Host(pixel_job(scene, model, output), folder / "run")
            thread, stop = kill_at_random(host, chance, killed, mean)
            try:
                ended.append(host.wait())
            finally:
                stop.set()
                thread.join()
        assert ended[-1] == "done", host.message
        host.check(undisturbed[1], watch)
        seconds += host.seconds
        tidy(folder)
    # A kill costs a start and a tile; starts share the cores, not the workers' number.
    allowed = 1.1 * rounds * undisturbed[2] + len(killed) * undisturbed[3] / min(4, len(os.sched_getaffinity(0)))
    figure("W1 kills -9 of workers survived", len(killed), "plan: 500")
    figure("W1 jobs complete, same bytes", f"{ended.count('done')} of {rounds}", "100 %")
    figure("W1 seconds with kills / undisturbed", f"{seconds:.0f} / {rounds * undisturbed[2]:.0f}", f"{allowed:.0f}",
           seconds <= allowed)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_kills_at_each_step(workshop, numbered, model, small_digest, figure, step):
    """W2: a death at any step costs no tile and no byte."""
    deaths, rounds = 0, scaled(1)
    for number in range(rounds):
        folder = workshop / f"w2-{step}-{number}"
        output = folder / "classes.tif"
        with Watch(output) as watch:
            host = Host(pixel_job(numbered, model, output), folder / "run", engine={"step": step, "times": 2})
            state = host.wait()
        died = len(list((folder / "run").glob("death-*")))
        assert state == "done", host.message
        assert died == 2
        host.check(small_digest, watch)
        deaths += died
        tidy(folder)
    figure(f"W2 deaths at the step “{step}” without loss", deaths, "plan: 20")
