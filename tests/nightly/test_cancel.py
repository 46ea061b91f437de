"""Fault plan C1 to C5: jobs cancelled, hosts killed, several jobs at once."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from nightly_jobs import all_kinds
from nightly_models import pixel_job
from nightly_support import Host, Watch, digest, processes_with, scaled, tidy, wait_until, work_folder

KINDS = ("pixels", "several", "detect", "objects", "export", "training", "package")
# Steps at which C2 cancels: words of the progress at that moment.
STEPS = {
    "start": "", "opening": "Opening", "measuring": "Measuring", "tiles": "Predicting",
    "assembly": "Writing the result",
}  # fmt: skip


@pytest.fixture(scope="module")
def kinds(workshop):
    return all_kinds(workshop / "c1")


@pytest.fixture(scope="module")
def calm_kind(workshop, kinds):
    """Return a function: name -> (state of the outputs, seconds) of a job that nobody disturbed."""
    found = {}

    def calm(name):
        if name not in found:
            folder = workshop / "c1" / f"calm-{name}"
            host = Host(kinds[name].job(folder / "out"), folder / "run")
            assert host.wait() == "done", host.message
            assert not host.left()
            found[name] = (kinds[name].state(folder / "out"), host.seconds)
            assert found[name][0]
        return found[name]

    return calm


def cancel(host):
    """Cancel and return how the job ended, the seconds until its caller was free, and until all processes were gone."""
    asked = time.monotonic()
    host.tell_cancel()
    state = host.wait(60)
    free = host.end["t"] - asked
    assert not host.left(), "processes outlive a cancelled job"
    return state, free, time.monotonic() - asked


@pytest.mark.parametrize("name", KINDS)
def test_cancel_at_random_moments(workshop, kinds, calm_kind, figure, name):
    """C1: free at once, nothing left, nothing at the output; the same job then gives the same result."""
    expected, seconds = calm_kind(name)
    chance, kind, rounds = random.Random(name), kinds[name], scaled(3)
    worst_free = worst_gone = 0.0
    cancelled = halves = 0
    for number in range(rounds):
        folder = workshop / "c1" / f"{name}-{number}"
        host = Host(kind.job(folder / "out"), folder / "run")
        time.sleep(chance.uniform(0.02, 1.0) * seconds)
        state, free, gone = cancel(host)
        assert state in ("cancelled", "done"), host.message
        cancelled += state == "cancelled"
        worst_free, worst_gone = max(worst_free, free), max(worst_gone, gone)
        there = kind.there(folder / "out")
        half = [one for one in there if not kind.is_whole(folder / "out", one, expected)]
        halves += len(half)
        assert len(there) in (0, len(kind.outputs)), "some outputs of several are there"
        # An export has some renames to do at its end, between which a cancel may come; the next start does the rest.
        assert not half or (name == "export" and state == "cancelled"), half
        assert state == "cancelled" or kind.state(folder / "out") == expected
        assert not os.listdir(host.scratch), "scratch is not empty"
        assert not host.stderr, host.stderr
        if number == 0 or half:
            again = Host(kind.job(folder / "out"), folder / "again")
            assert again.wait() == "done", again.message
            assert kind.state(folder / "out") == expected
        tidy(folder)
    figure(f"C1 {name}: cancelled in time", f"{cancelled} of {rounds}", "plan: 50")
    figure(f"C1 {name}: outputs half there after a cancel", halves, "0", not halves)
    figure(f"C1 {name}: slowest answer / all gone, s", f"{worst_free:.2f} / {worst_gone:.2f}", "2 / 3",
           worst_free <= 2 and worst_gone <= 3)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_cancel_at_steps(workshop, scene, model, undisturbed, monkeypatch, figure, step):
    """C2: the same while the engine starts, the model is opened and measured, tiles are done, the output is written."""
    slowest = 0.0
    for number in range(scaled(2)):
        folder = workshop / f"c2-{step}-{number}"
        output = folder / "classes.tif"
        if step == "measuring":
            monkeypatch.setenv("DEEP_RASTER_CACHE", str(folder / "cache"))  # where nothing is known of the network yet
        with Watch(output) as watch:
            host = Host(pixel_job(scene, model, output), folder / "run")
            words = STEPS[step]
            wait_until(lambda host=host, words=words: any(words in text for text in host.texts) or not words, 60)
            time.sleep(0.1 * number)
            state, free, _ = cancel(host)
        slowest = max(slowest, free)
        assert state == "cancelled", host.end
        host.check(undisturbed[1], watch)
        assert watch.seen == []
        assert not [one for one in os.listdir(folder) if one.startswith((".classes.part", ".classes.flat"))]
        tidy(folder)
    figure(f"C2 cancelled during “{step}”: slowest answer, s", round(slowest, 2), "2", slowest <= 2)


def test_a_killed_host(workshop, scene, model, undisturbed, figure):
    """C3: kill -9 of what stands for QGIS: all gone within 2 s; the next start goes on to the same bytes."""
    chance, rounds, slowest, went_on = random.Random(3), scaled(6), 0.0, False
    folder = workshop / "c3"
    output = folder / "classes.tif"
    for number in range(rounds):
        with Watch(output) as watch:
            host = Host(pixel_job(scene, model, output), folder / f"run-{number}", scratch=str(folder / "scratch"))
            if number % 2:
                assert wait_until(lambda host=host: any("Predicting" in text for text in host.texts), 120)
            time.sleep(chance.uniform(0.05, 0.4) * undisturbed[2])
            host.process.send_signal(signal.SIGKILL)
            began = time.monotonic()
            host.process.wait()
            gone = wait_until(lambda host=host: not processes_with(host.mark), 10)
            slowest = max(slowest, time.monotonic() - began)
            assert gone, processes_with(host.mark)
        assert set(watch.seen) <= {undisturbed[1]}
        went_on = went_on or any("finished already" in text for text in host.texts)
        output.unlink(missing_ok=True)
    with Watch(output) as watch:
        last = Host(pixel_job(scene, model, output), folder / "last", scratch=str(folder / "scratch"))
        assert last.wait() == "done", last.message
    last.check(undisturbed[1], watch)
    resumed = went_on or any("finished already" in text for text in last.texts)
    assert not work_folder(output).exists()
    figure("C3 hosts killed; slowest until all gone, s", f"{rounds}; {slowest:.2f}", "plan: 50; 2", slowest < 2.5)
    figure("C3 the next start went on, same bytes, scratch swept", resumed, "True", resumed)
    assert slowest < 3.5


def test_a_killed_engine(workshop, scene, model, undisturbed, figure):
    """The engine itself killed: the host says so, the workers are gone, the next start goes on."""
    folder = workshop / "c3e"
    output = folder / "classes.tif"
    with Watch(output) as watch:
        host = Host(pixel_job(scene, model, output), folder / "run")
        assert wait_until(lambda: any("Predicting" in text for text in host.texts), 60)
        for pid in host.engines():
            os.kill(pid, signal.SIGKILL)
        assert host.wait() == "failed"
    assert not host.left()
    assert "ended unexpectedly" in host.message and "Traceback" not in host.message
    assert watch.seen == []
    with Watch(output) as watch:
        again = Host(pixel_job(scene, model, output), folder / "again", scratch=host.scratch)
        assert again.wait() == "done"
    again.check(undisturbed[1], watch)
    figure("C3 engine killed: told, resumed to the same bytes", True, "True")
    tidy(folder)


@pytest.mark.parametrize("count", [2, 4])
def test_jobs_at_once(workshop, scene, model, undisturbed, figure, count):
    """C5: several jobs beside each other, one is cancelled; the others are unharmed and share fairly."""
    folder = workshop / f"c5-{count}"
    watches, hosts = [], []
    for number in range(count + 1):
        output = folder / f"{number}.tif"
        watches.append(Watch(output).__enter__())
        hosts.append(Host(pixel_job(scene, model, output, workers=2), folder / f"run-{number}"))
    assert wait_until(lambda: any("Predicting" in text for text in hosts[0].texts), 120)
    hosts[0].tell_cancel()
    assert hosts[0].wait() == "cancelled"
    ends = [host.wait(600) for host in hosts[1:]]
    for watch in watches:
        watch.__exit__()
    for host, watch in zip(hosts, watches):
        host.check(undisturbed[1], watch)
    assert ends == ["done"] * count
    first = min(host.ended for host in hosts[1:])
    shares = []
    for host in hosts[1:]:
        told = [one["fraction"] for one in host.events if one.get("event") == "progress" and one["t"] <= first]
        shares.append(max(told, default=0.0))
    fair = min(shares) >= 0.25
    figure(f"C5 {count} jobs at once, one more cancelled: same bytes", f"{len(ends)} of {count}", "all")
    figure(f"C5 {count} jobs: progress of the slowest as the first ended", f"{min(shares):.2f}", ">= 0.25", fair)
    tidy(folder)


def test_two_jobs_on_one_output(workshop, scene, model, undisturbed, figure):
    """O3, C6: the second is refused while the first holds the output, whatever lock files say."""
    folder = workshop / "o3"
    output = folder / "classes.tif"
    with Watch(output) as watch:
        first = Host(pixel_job(scene, model, output), folder / "first")
        assert wait_until(lambda: any("Predicting" in text for text in first.texts), 60)
        second = Host(pixel_job(scene, model, output), folder / "second")
        assert second.wait() == "failed"
        assert "Another job is writing the same output" in second.message
        first.process.kill()
        first.wait()
        assert not first.left()
        began = time.monotonic()
        third = Host(pixel_job(scene, model, output), folder / "third", scratch=first.scratch)
        assert third.wait() == "done", third.message
    assert digest(output) == undisturbed[1]
    third.check(undisturbed[1], watch)
    told = [one["t"] for one in third.events if "Predicting" in str(one.get("text"))]
    figure("C6 lock of a killed host taken over", bool(told), "True", bool(told))
    assert third.started - began < 5
