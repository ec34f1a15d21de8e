import threading
import time

from llm60_jax import plan
from llm60_jax.machine.awake import AwakeTime
from llm60_jax.run import clock


class Times:
    """Two clocks that a test sets."""

    def __init__(self):
        self.running = self.with_sleep = 0.0

    def pass_(self, running, asleep=0.0):
        self.running += running
        self.with_sleep += running + asleep

    def awake(self):
        return AwakeTime(lambda: self.running, lambda: self.with_sleep)


def test_time_asleep_or_stopped_is_reported_and_does_not_count():
    times = Times()
    awake = times.awake()
    for _ in range(5):
        times.pass_(1.0)
        awake()
    assert awake() == 5.0
    assert awake.take_pause() == 0.0
    times.pass_(3600.0)  # stopped: the clock runs, and nobody reads it
    assert awake() == 6.0
    assert awake.take_pause() == 3599.0
    times.pass_(1.0, asleep=11_520.0)  # asleep: the monotonic clock stops
    assert awake() == 7.0
    assert awake.take_pause() == 11_520.0
    assert awake.take_pause() == 0.0


def test_a_slow_step_is_no_pause():
    times = Times()
    awake = times.awake()
    for _ in range(30):  # the thread reads the clock throughout
        times.pass_(1.0)
        awake()
    assert awake() == 30.0
    assert awake.take_pause() == 0.0


def test_a_thread_reads_the_clock_during_a_long_step():
    awake = AwakeTime(interval=0.01, gap=0.2)
    with awake.watching():
        time.sleep(0.5)
        assert awake.take_pause() == 0.0
    threads = [thread.name for thread in threading.enumerate()]
    assert "awake" not in threads
    time.sleep(0.3)  # nobody reads the clock
    assert awake.take_pause() > 0.2


def test_the_time_of_day_is_ignored(monkeypatch):
    monkeypatch.setattr(clock.time, "time", lambda: -1e9)
    awake = AwakeTime()
    assert awake() <= awake()
    assert awake.take_pause() == 0.0


def test_speed_and_eta_leave_pauses_out(tiny):
    times, stage_plan = Times(), plan.build(tiny)
    awake = times.awake()
    found, stage = clock.StageClock(tiny, stage_plan, awake), stage_plan.stages[0]
    undisturbed = clock.StageClock(tiny, stage_plan, lambda: times.running)
    for _ in range(4):
        times.pass_(2.0)
        found.tick(stage)
        undisturbed.tick(stage)
    before = found.rate(stage), found.remaining(4)
    assert before == (undisturbed.rate(stage), undisturbed.remaining(4))
    times.pass_(1000.0)  # of which 999 stopped
    found.tick(stage)
    times.pass_(3.0)
    found.tick(stage)
    assert found.rate(stage) == before[0]
    assert found.remaining(4) == before[1]


def test_a_step_that_ran_beside_a_pause_is_left_out(tiny):
    times, stage_plan = Times(), plan.build(tiny)
    found, stage = clock.StageClock(tiny, stage_plan, lambda: times.running), stage_plan.stages[0]
    times.pass_(2.0)
    found.tick(stage)
    with found.paused("proof"):
        times.pass_(1.9)  # in which most of the next step is done
    found.hide()
    times.pass_(0.1)
    found.tick(stage)
    assert found.rate(stage) == 0.0
    times.pass_(2.0)
    found.tick(stage)
    assert found.step_seconds(stage) == 2.0
