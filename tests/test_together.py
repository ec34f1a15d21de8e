"""How processes meet, notice a loss, and what each hears; two real runs are in test_processes.py."""

import contextlib
import dataclasses
import importlib.util
import json
import signal
import socket
import struct
import threading
import time
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from one_node_slurm import free_ports

import launch
from llm60_jax.errors import DamageError, Failure, GateError, InputError, Interrupted, MachineError, TrainingError
from llm60_jax.machine import door, lines, locks, shared_folder, signals, together
from llm60_jax.machine.lines import Lines
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import checkpoints, store
from llm60_jax.record.workdir import WorkDir
from llm60_jax.run import events, loop, measures, observers, saving
from llm60_jax.training.profiling import Span


def test_one_process_is_alone():
    assert together.count() == 1
    assert together.is_first()
    assert together.broadcast(3) == 3
    assert together.gather(3) == [3]
    assert together.on_first(lambda: [1]) == [1]
    assert together.first_then_all(lambda: {2}) == {2}
    assert together.all_or_none(lambda: "x") == "x"
    together.require_same("anything", {"a": 1})
    together.end(0)


def test_a_launcher_that_nobody_mentioned_is_noticed():
    with pytest.raises(InputError, match=r"4 processes were started \(OMPI_COMM_WORLD_SIZE\).*--together"):
        together.require_asked_for({"OMPI_COMM_WORLD_SIZE": "4"})
    together.require_asked_for({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"})  # one step of a larger job


def test_a_failure_keeps_its_kind_and_code():
    assert type(together._failure("GateError", "no", 3)) is GateError
    stopped = together._failure("Interrupted", "stopped", 143)
    assert isinstance(stopped, Interrupted)
    assert stopped.exit_code == 143
    assert type(together._failure("Unheard", "no", 5)) is MachineError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coordinator", "node1:51300"], "--coordinator, --processes and --process must be used together"),
        (["--coordinator", "node1", "--processes", "2", "--process", "0"], "node1: give a host and a port"),
        (["--coordinator", "n:1", "--processes", "2", "--process", "2"], "--process 2: the 2 processes are numbered"),
        (["--together", "--coordinator", "n:1", "--processes", "2", "--process", "0"], "finds the others by itself"),
        (["--together", "--heartbeat", "1"], "--heartbeat: 3 seconds or more"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message, capsys):
    with pytest.raises(SystemExit) as end:
        launch._parse(["configs/tiny.toml", *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_options_say_where_to_meet():
    by_hand = ["--coordinator", "node1:51300", "--processes", "2", "--process", "1", "--heartbeat", "9"]
    options = launch._parse(["configs/tiny.toml", *by_hand])
    assert launch._meeting(options) == together.Meeting("node1:51300", 2, 1, 9)
    assert launch._meeting(launch._parse(["configs/tiny.toml", "--together"])) == together.Meeting()
    assert launch._meeting(launch._parse(["configs/tiny.toml"])) is None


# --- Several "processes" of this one: their values go through a dict -------------------------------------------------


class Store:
    """The client of JAX's coordination service, as far as it is used."""

    def __init__(self):
        self._values, self._changed = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def blocking_key_value_get(self, key, milliseconds):
        with self._changed:
            assert self._changed.wait_for(lambda: key in self._values, 20)
            return self._values[key]


@pytest.fixture
def second(monkeypatch):
    """This process as number 1 of two, of which number 0 has said what `says` is given."""
    store = Store()
    monkeypatch.setattr(together, "_here", together._Here(1, ("here", "there")))
    monkeypatch.setattr(together, "_broadcasts", 0)
    monkeypatch.setattr(together, "_client", lambda: store)
    monkeypatch.setattr(together, "_place", lambda: "here")

    def says(*values):
        for number, value in enumerate(values):
            store.key_value_set(f"llm60_jax/{number + 1}/0", json.dumps(["here", value]))

    return says


def test_the_second_hears_the_first(second):
    second(7, ["", {"a": 1}, 0])
    assert together.broadcast(0) == 7
    assert together.on_first(lambda: pytest.fail("the first works alone")) == {"a": 1}


def test_the_second_fails_as_the_first_did(second):
    second(["GateError", "phase grammar is open", 3])
    with pytest.raises(GateError, match="phase grammar is open"):
        together.on_first(lambda: None)


def test_a_failure_of_one_is_raised_in_all(second):
    second(["MachineError", "process 0 on here: the disk is full", 5])
    with pytest.raises(MachineError, match="process 0 on here: the disk is full"):
        together.all_or_none(lambda: None)


def test_what_differs_is_named(second):
    second({"seed": 7, "train.slots": 4})
    with pytest.raises(InputError, match="it: seed is 8 for process 1 on there, and 7 for process 0 on here"):
        together.require_same("it", {"seed": 8, "train.slots": 4})


def test_a_folder_that_is_not_shared_is_refused_by_name(second, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_folder, "PATIENCE", 0.3)
    second(["", ["x/word", "word"], 0], True)
    with pytest.raises(InputError, match=r"workdir .* does not appear for process 1 on there"):
        shared_folder.require("workdir", tmp_path)


def test_a_folder_that_is_slow_is_waited_for(second, tmp_path):
    second(["", ["x-word", "word"], 0], True)
    threading.Timer(0.5, lambda: (tmp_path / "x-word").write_text("word")).start()
    shared_folder.require("data_dir", tmp_path)


def test_errors_of_a_lost_peer_are_told_from_others(second, monkeypatch):
    monkeypatch.setattr(together, "_NOTICE_SECONDS", 0.0)
    gone = together.lost(ValueError("Gloo all-reduce failed: Connection reset by peer"))
    assert "another process of this run is gone (process 0 on here)" in str(gone)
    assert together.lost(ValueError("shapes differ")) is None
    assert together.lost(GateError("no Connection")) is None
    assert together.lost(ConnectionResetError("Connection reset by peer")) is None  # of a disk on the network
    assert together.lost(type("Theirs", (Exception,), {"__module__": "theirs.x"})("Connection")) is None
    monkeypatch.setattr(together, "_here", together._Here(0, ("here",)))
    assert together.lost(ValueError("Gloo: Connection reset by peer")) is None


# --- Two processes: two copies of the module, in two threads ----------------------------------------------------------


class Pair:
    """Processes 0 and 1, and what each of them does at the same time."""

    def __init__(self, monkeypatch):
        store, self.sides = Store(), []
        for number in range(2):
            spec = importlib.util.spec_from_file_location(together.__name__, together.__file__)
            side = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(side)
            side._here, side._client = side._Here(number, ("here", "there")), lambda: store
            self.sides.append(side)
        # Modules that say `together.` in a thread get that of the thread's process.
        self._own = threading.local()
        exchange = ("broadcast", "gather", "on_first", "first_then_all", "all_or_none", "require_same")
        for name in ("count", "index", "is_first", "is_alone", "name", *exchange):
            monkeypatch.delattr(together, name)
        monkeypatch.setattr(together, "__getattr__", lambda name: getattr(self._own.side, name), raising=False)

    def both(self, *works):
        """Let each process do its work, or both the same; return the result or the exception of each."""
        outcome = [None, None]

        def one(number, work):
            self._own.side = self.sides[number]
            try:
                outcome[number] = work()
            except Exception as error:
                outcome[number] = error

        threads = [threading.Thread(target=one, args=(n, works[n % len(works)]), daemon=True) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
        assert not any(thread.is_alive() for thread in threads), "they wait for one another for ever"
        return outcome

    def by_number(self, first, second):
        """A work that is another for each process, at one line of the program."""
        return lambda: (first, second)[together.index()]()


@pytest.fixture
def pair(monkeypatch):
    return Pair(monkeypatch)


def fails(error):
    def work():
        raise error

    return work


def test_two_exchange_values(pair):
    assert pair.both(lambda: together.broadcast(together.index())) == [0, 0]
    assert pair.both(lambda: together.gather(together.index())) == [[0, 1], [0, 1]]


def test_work_of_the_first_alone_may_use_everything(pair):
    """What meets elsewhere returns at once inside."""

    def work():
        return [together.is_alone(), together.gather(1), together.on_first(lambda: 2)]

    assert pair.both(lambda: together.on_first(work)) == [[True, [1], 2]] * 2
    assert pair.both(lambda: together.is_alone()) == [False, False]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (GateError("open"), GateError, "open"),
        (Interrupted("stopped", 15), Interrupted, "stopped"),
        (OSError(28, "No space left"), MachineError, "process 0 on here has failed: OSError.*No space left"),
        (KeyError("x"), Failure, "process 0 on here has failed: KeyError"),
    ],
)
def test_whatever_fails_in_the_first_fails_in_all(error, kind, text, pair):
    ours, theirs = pair.both(lambda: together.on_first(fails(error)))
    assert ours is error
    assert type(theirs) is kind
    with pytest.raises(kind, match=text):
        raise theirs


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("error", "kind"), [(DamageError("broken"), DamageError), (OSError(5, "broken"), MachineError)]
)
def test_whatever_fails_in_one_fails_in_all(error, kind, number, pair):
    work = fails(error)
    works = (work, lambda: 7) if number == 0 else (lambda: 7, work)
    outcome = pair.both(lambda: together.all_or_none(pair.by_number(*works)))
    other = outcome[1 - number]
    assert type(other) is kind
    assert f"process {number} on " in str(other)
    assert "broken" in str(other)
    if isinstance(error, Failure):
        assert str(outcome[number]) == str(other)
    else:
        assert outcome[number] is error
    assert pair.both(lambda: together.all_or_none(lambda: together.index())) == [0, 1]


def test_what_is_absent_is_not_none(pair):
    ours, theirs = pair.both(lambda: together.require_same("it", [{}, {"a": None}][together.index()]))
    assert "a is null for process 1 on there, and absent for process 0 on here" in str(ours)
    assert str(ours) == str(theirs)


def test_processes_that_come_apart_notice(pair):
    """One has left out a meeting: it would take the value of that for its next one's."""

    def first():
        together.broadcast("samples")
        return together.broadcast("digest")

    def second():
        return together.broadcast("")

    with pytest.raises(
        MachineError, match=r"have come apart: process 0 on here is at test_together.py:\d+, and process 1"
    ):
        raise pair.both(first, second)[1]


def test_an_observer_that_fails_at_one_keeps_the_order(pair, monkeypatch):
    """Adapters are merged by the first alone: an exception there takes no meeting away from another."""
    from llm60_jax.run import samples

    monkeypatch.setattr(samples.phase_groups, "merged", mock.Mock(side_effect=ValueError("broken")))
    monkeypatch.setattr(samples, "_kept", mock.Mock())
    run = mock.MagicMock()

    def work():
        with events.never_ends_the_run("Samples"):
            samples.keep(run, mock.Mock())
        return together.broadcast(together.index())

    assert pair.both(work) == [0, 0]
    assert samples.phase_groups.merged.call_count == 1


def test_all_rest_where_the_first_is_profiled(pair):
    """Otherwise one lands a step early, proves the stage, and leaves out the meeting of the next step."""
    run = mock.MagicMock()

    def rests():
        watching = events.Observers(observers.of(run, Span(2, 3), None))
        return [number for number in range(1, 7) if watching.needs_rest(number)]

    assert pair.both(rests) == [[2, 4], [2, 4]]


@pytest.mark.parametrize(
    ("field", "theirs"),
    [
        ("seed", {"seed": 8}),
        ("train.slots", {"train": {"slots": 2}}),  # which may change under a run
        ("--back-to", {"back_to": 5}),
        ("--profile", {"span": Span(2, 3)}),
    ],
)
def test_what_processes_are_started_with_is_the_same(field, theirs, pair, tiny):
    def start():
        own = theirs if together.index() else {}
        config = dataclasses.replace(tiny, seed=own.get("seed", tiny.seed))
        if "train" in own:
            config = dataclasses.replace(config, train=dataclasses.replace(tiny.train, **own["train"]))
        with loop._prepared(config, Interrupts(), own.get("back_to"), own.get("span")):
            pytest.fail("they differ")

    for error in pair.both(start):
        assert isinstance(error, InputError)
        assert f"the configuration: {field} is " in str(error)


def test_text_that_is_missing_is_told_to_all(pair, tiny, monkeypatch):
    """The first process alone looks at it."""
    look = mock.Mock(side_effect=InputError("text: no such folder"))
    monkeypatch.setattr(loop.first_look, "look", look)

    def start():
        with loop._prepared(tiny, Interrupts(), None, None):
            pytest.fail("it has no text")

    ours, theirs = pair.both(start)
    assert str(ours) == str(theirs) == "text: no such folder"
    assert look.call_count == 1


def test_a_signal_at_one_is_agreed_on(pair):
    each = [Interrupts(), Interrupts()]
    each[1].received = signal.SIGTERM
    for error in pair.both(lambda: each[together.index()].agree()):
        assert isinstance(error, Interrupted)
        assert error.exit_code == 143


def test_a_phase_is_not_closed_before_all_know_of_a_signal(pair, monkeypatch):
    """It came to one while the first judged alone, and its check there was not asked for."""
    each, phase = [Interrupts(), Interrupts()], mock.Mock()
    each[1].received = signal.SIGTERM
    monkeypatch.setattr(loop, "closing", mock.MagicMock())
    monkeypatch.setattr(loop, "open_phases", lambda run: [phase])
    monkeypatch.setattr(loop, "stages", lambda run, phase: [])
    for error in pair.both(lambda: loop.train(mock.MagicMock(interrupts=each[together.index()]))):
        assert isinstance(error, Interrupted)
    loop.closing.close.assert_not_called()


@pytest.mark.parametrize(("module", "name"), [("ancestry", "start"), ("devices", "ready"), ("library", "settled")])
def test_what_one_computer_lacks_is_told_to_all(module, name, pair, tiny, monkeypatch):
    monkeypatch.setattr(loop.first_look, "look", lambda *_: SimpleNamespace(config=tiny, notes=[]))
    monkeypatch.setattr(loop.devices, "ready", lambda config: (config, {}))
    fault = pair.by_number(lambda: mock.MagicMock(), fails(MachineError("it is not here")))
    monkeypatch.setattr(getattr(loop, module), name, lambda *_: (fault(), {}) if name == "ready" else fault())

    def start():
        with loop._prepared(tiny, Interrupts(), None, None):
            pytest.fail("one lacks something")

    for error in pair.both(start):
        assert isinstance(error, MachineError)
        assert str(error) == "process 1 on there: it is not here"


def test_the_first_decides_when_a_save_is_tried_again(pair):
    later = [time.monotonic() - 1, time.monotonic() + 100]
    run = lambda: SimpleNamespace(retry_save_at=later[together.index()])  # noqa: E731
    assert pair.both(lambda: saving.owes_a_save(run())) == [True, True]


def test_the_first_says_whether_a_checkpoint_is_there(pair, monkeypatch, tmp_path):
    """On a network disk another may not see it yet."""
    monkeypatch.setattr(checkpoints.manifest, "exists", lambda folder: together.is_first())
    monkeypatch.setattr(checkpoints.store, "save", mock.Mock())
    kept = checkpoints.Checkpoints(tmp_path, 2)
    pair.both(lambda: kept.save_rolling({}, {"step": 3}))
    pair.both(lambda: kept.save_adapters("p", {}, {}))
    checkpoints.store.save.assert_not_called()


def test_the_first_says_what_is_measured_already(pair, monkeypatch):
    monkeypatch.setattr(measures, "_keep_late_loss", mock.Mock())
    found = [{"validation_loss": 3.0, "depth": 1}, None]

    def work():
        run = mock.MagicMock()
        run.step, run.metrics.find.return_value = 3, found[together.index()]
        row = measures.evaluate(run, mock.Mock(), mock.Mock())
        measures.depth(run, mock.Mock(), mock.Mock())
        return row, run.record.call_count

    assert pair.both(work) == [(found[0], 0)] * 2


def test_a_frozen_weight_that_changes_at_one_stops_all(pair, monkeypatch):
    check = pair.by_number(lambda: None, fails(TrainingError("changed")))
    monkeypatch.setattr(saving.proof, "check_frozen", lambda *_: check())
    for error in pair.both(lambda: saving.check_frozen(mock.MagicMock(), mock.MagicMock())):
        assert isinstance(error, TrainingError)
        assert "process 1 on there: changed" in str(error)


# --- Saving ----------------------------------------------------------------------------------------------------------


class Disk:
    """Checkpoints of two processes, in which Orbax does what is asked of it."""

    def __init__(self, pair, monkeypatch, folder):
        self.pair, self.folder, self.places = pair, folder, [None, None]
        monkeypatch.setattr(store, "_by_itself", contextlib.nullcontext)
        monkeypatch.setattr(store, "_hide_late_errors", contextlib.nullcontext)
        monkeypatch.setattr(store.ocp, "save", self._save)
        self.failure = None

    def _save(self, place, state):
        self.places[together.index()] = str(place)
        if together.is_first():
            if self.failure:
                raise self.failure
            place.mkdir()

    def save(self, *states):
        def work():
            return store.save(self.folder, {"w": np.float32(states[together.index()])}, meta())

        return self.pair.both(work)


def meta():
    from llm60_jax.record.progress import Progress

    empty = {name: {} for name in ("config", "digests", "corpora", "versions")}
    known = {"step": 3, "tokens": 0, "phase": "p", "stage": 0, "permanent": False, "closed": False, "plan": []}
    return known | empty | {"progress": Progress(step=3)}


@pytest.mark.parametrize("name", ["run", "run[1]", "run*"])
def test_two_save_below_a_path_that_is_one_for_both(name, pair, monkeypatch, tmp_path):
    disk = Disk(pair, monkeypatch, tmp_path / name / "3")
    ours, theirs = disk.save(1, 1)
    assert ours == theirs == store.read_meta(disk.folder)["state_sha256"]
    assert disk.places[0] == disk.places[1]


def test_a_save_that_fails_at_the_first_fails_in_both_and_the_next_succeeds(pair, monkeypatch, tmp_path):
    disk = Disk(pair, monkeypatch, tmp_path / "3")
    disk.failure = ValueError("RESOURCE_EXHAUSTED: No space left on device")
    for error in disk.save(1, 1):
        assert isinstance(error, MachineError)
        assert "No space left" in str(error)
    disk.failure = None
    assert disk.save(1, 1)[0] == store.read_meta(disk.folder)["state_sha256"]


def test_states_that_differ_are_not_saved(pair, monkeypatch, tmp_path):
    disk = Disk(pair, monkeypatch, tmp_path / "3")
    for error in disk.save(1, 2):
        assert isinstance(error, InputError)
        assert "the state after step 3: sha256 is " in str(error)
    assert not disk.folder.exists()


def test_what_the_first_cannot_write_is_told_to_all(pair, tmp_path):
    (tmp_path / "plan.json").mkdir()
    ours, theirs = pair.both(lambda: WorkDir(tmp_path).write("plan.json", "{}"))
    assert isinstance(ours, MachineError)
    assert str(theirs) == str(ours)


def test_a_batch_that_cannot_be_kept_ends_no_run(tmp_path, caplog):
    (tmp_path / "bad_batches").write_text("no folder")
    WorkDir(tmp_path).keep_batch(3, {"tokens": np.zeros(3)})
    assert "cannot be written" in caplog.text


def test_a_shared_folder_is_found_and_nothing_stays(pair, tmp_path):
    assert pair.both(lambda: shared_folder.require("workdir", tmp_path / "new")) == [None, None]
    assert list((tmp_path / "new").iterdir()) == []


# --- The beginning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("coordinator_address should be defined."), InputError, "no launcher that has started this process"),
        (RuntimeError("DEADLINE"), MachineError, "cannot meet: DEADLINE"),
    ],
)
def test_what_jax_says_of_a_start_is_translated(error, kind, text, monkeypatch):
    monkeypatch.setattr("jax.distributed.initialize", mock.Mock(side_effect=error))
    with pytest.raises(kind, match=text):
        together.begin(together.Meeting(), Interrupts(), lambda message: None)


def test_lines_that_do_not_reach_the_first_are_named(second):
    second([free_ports(1)[0], "secret"])
    with pytest.raises(MachineError, match=r"cannot reach process 0 on 127\.0\.0\.1: Connection refused"):
        together._connected("127.0.0.1", 5, Interrupts(), lambda message: None)


# --- The end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "seconds"), [(0, 600), (3, 600), (6, 600), (1, 5), (5, 5), (143, 5)])
def test_the_others_are_waited_for_long_where_all_come_to_one_end(code, seconds, second, monkeypatch):
    """The first may write a report for minutes, while the others have nothing to do."""
    client = mock.Mock()
    monkeypatch.setattr(together, "_client", lambda: client)
    together.end(code)
    assert client.wait_at_barrier.call_args.args == ("llm60_jax/end", 1000 * seconds)


def test_a_loss_is_logged_and_the_lock_has_no_name(tmp_path, monkeypatch, capsys):
    """The first process may go on at once, on another computer."""
    told = {}
    monkeypatch.setattr(together, "begin", lambda meeting, interrupts, on_loss: told.update(on_loss=on_loss))
    monkeypatch.setattr(launch, "_run", lambda *_: told["on_loss"]("process 1 on there is gone"))
    monkeypatch.setattr(launch.environment, "settle", lambda *_: None)
    monkeypatch.setattr(signals, "leave", mock.Mock(side_effect=SystemExit(5)))
    logged = []
    monkeypatch.setattr(launch.terminal.log, "error", lambda form, text: logged.append(text))
    with locks.Lock(tmp_path / "lock") as lock:
        assert lock.take()
        lock.sign()
        with pytest.raises(SystemExit):
            launch.main(["configs/tiny.toml", "--together", "--workdir", str(tmp_path)])
        assert (tmp_path / "lock").read_text() == ""
    assert "process 1 on there is gone. To go on" in capsys.readouterr().err
    assert "process 1 on there is gone. To go on" in logged[0]


# --- Meeting ---------------------------------------------------------------------------------------------------------


def meet(port, *numbers, processes=3):
    """Let some processes meet; return by number how each fared: None or its failure."""
    outcome = {}

    def one(number):
        try:
            outcome[number] = door.await_all(f"127.0.0.1:{port}", processes, number)
        except (InputError, MachineError) as failure:
            outcome[number] = failure

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return outcome


def test_all_meet_in_any_order_and_the_port_is_free_again():
    port = free_ports(1)[0]
    assert meet(port, 2, 1, 0) == {0: None, 1: None, 2: None}
    socket.create_server(("127.0.0.1", port)).close()


def test_who_does_not_come_is_named_to_all(monkeypatch):
    monkeypatch.setattr(door, "PATIENCE", 1.0)
    outcome = meet(free_ports(1)[0], 0, 2)
    assert "after 1 s processes [1] have not come" in str(outcome[0])
    assert "processes [1] have not come" in str(outcome[2])


def test_a_coordinator_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(door, "PATIENCE", 0.5)
    (failure,) = meet(free_ports(1)[0], 1).values()
    assert isinstance(failure, MachineError)
    assert "process 0 does not answer there" in str(failure)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (failure,) = meet(taken.getsockname()[1], 0).values()
    assert "process 0 cannot listen there" in str(failure)
    assert "choose another port" in str(failure)


def test_another_number_of_processes_is_refused_by_all():
    port = free_ports(1)[0]
    threads = threading.Thread(target=lambda: meet(port, 1, processes=2))
    threads.start()
    (failure,) = meet(port, 0).values()
    threads.join(20)
    assert isinstance(failure, InputError)
    assert "was started with --processes 2; process 0 has --processes 3" in str(failure)


@pytest.mark.parametrize(
    "word",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"process": 1, "processes": 3, "host": "x"}\n',  # of another program
        b'{"program": "llm60_jax", "process": Infinity, "processes": 3, "host": "x"}\n',
        b"[" * 900 + b"\n",
        b"",  # and hangs up
        None,  # and stays, without a word
    ],
)
def test_a_stranger_at_the_door_is_ignored(word, monkeypatch):
    monkeypatch.setattr(door, "_GREETING_SECONDS", 0.3)
    port, kept = free_ports(1)[0], []

    def knock():
        for _ in range(100):
            try:
                line = socket.create_connection(("127.0.0.1", port), 1)
            except OSError:
                time.sleep(0.05)
                continue
            line.sendall(word or b"")
            if word is not None:
                line.close()
            kept.append(line)
            return

    stranger = threading.Thread(target=knock)
    others = threading.Thread(target=lambda: (stranger.join(10), kept.append(meet(port, 1, processes=2))))
    stranger.start(), others.start()
    assert meet(port, 0, processes=2) == {0: None}
    others.join(10)
    assert kept[-1] == {1: None}


def test_one_that_drips_does_not_hold_the_door():
    """A byte from time to time, and a line in the end: process 0 hears it for so long, and no longer."""
    ours, theirs = socket.socketpair()

    def drip():
        with contextlib.suppress(OSError):
            for byte in b"x" * 60 + b"\n":
                theirs.sendall(bytes([byte]))
                time.sleep(0.03)

    with ours, theirs:
        dripping = threading.Thread(target=drip)
        dripping.start()
        assert door.first_line(ours, 0.4) == ""
        dripping.join(5)


@pytest.mark.parametrize(
    ("numbers", "fault"), [((1, 1), "--process 1 on .*: is there twice"), ((3,), "--process 3 .*: is none of those")]
)
def test_a_number_that_is_taken_or_too_large_is_refused(numbers, fault):
    port, outcome = free_ports(1)[0], []
    threads = [threading.Thread(target=lambda n=n: outcome.append(meet(port, n)[n])) for n in numbers]
    for thread in threads:
        thread.start()
    with pytest.raises(InputError, match=fault):
        raise meet(port, 0)[0]
    for thread in threads:
        thread.join(20)
    assert all(isinstance(failure, InputError) for failure in outcome)


def test_one_that_gets_no_answer_says_where_to_look():
    def hear_and_hang_up(server):
        line = server.accept()[0]
        line.recv(1000)
        line.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=hear_and_hang_up, args=(server,)).start()
        (failure,) = meet(server.getsockname()[1], 1).values()
    assert "process 0 has left, and its output says why" in str(failure)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("node1", "::"), ("10.0.0.7", "::")]
)
def test_only_a_loopback_address_is_listened_on_alone(host, address):
    """A name such as node1 may be 127.0.1.1 on its own computer."""
    if address == "::" and not socket.has_dualstack_ipv6():
        address = "0.0.0.0"
    with door.listening(host) as listener:
        assert listener.getsockname()[0] == address
    assert (together._bound(f"{host}:1") is not None) == (address == "127.0.0.1")


# --- Lines -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(monkeypatch):
    """The lines of three processes, and by process whom it has lost."""
    monkeypatch.setattr(lines, "_TICK", 0.1)
    losses = {}
    every = [
        Lines(0.5, Interrupts(), lambda process, number=number: losses.setdefault(number, process))
        for number in range(3)
    ]
    join(every, door.listening("127.0.0.1"))
    yield every, losses
    for one in every:
        one.close()


def join(every, listener, token="secret"):
    where = "127.0.0.1", listener.getsockname()[1]
    threads = [threading.Thread(target=every[n].connect, args=(*where, n, token)) for n in range(1, len(every))]
    for thread in threads:
        thread.start()
    every[0].let_in(listener, len(every), token)
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize(
    "word", [b"", b"999\n", b"guess 1\n", b"secret 0\n", b"secret 2\n", b"secret one\n", None, "reset"]
)
def test_a_stranger_gets_no_line(word, monkeypatch):
    monkeypatch.setattr(lines, "_GREETING_SECONDS", 0.3)
    monkeypatch.setattr(lines, "_CONNECT_SECONDS", 5.0)
    every = [Lines(5, Interrupts(), lambda process: None) for _ in range(2)]
    listener = door.listening("127.0.0.1")
    with socket.create_connection(listener.getsockname()) as stranger:
        if word == "reset":
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stranger.close()
        elif word is not None:
            stranger.sendall(word)
            stranger.shutdown(socket.SHUT_WR)
        join(every, listener)
    assert list(every[0]._lines) == [1]
    for one in every:
        one.close()


def test_lines_that_nobody_takes_are_given_up(monkeypatch):
    monkeypatch.setattr(lines, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(TimeoutError):
        Lines(5, Interrupts(), lambda process: None).let_in(door.listening("127.0.0.1"), 2, "secret")


def test_more_than_1024_open_files_are_no_hindrance(monkeypatch):
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit[1] < 2000:
        pytest.skip("few files may be open here")
    monkeypatch.setattr(lines, "_TICK", 0.1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limit[1]))
    losses = []
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(1100):
                stack.enter_context(open("/dev/null"))
            every = [Lines(0.5, Interrupts(), losses.append) for _ in range(2)]
            join(every, door.listening("127.0.0.1"))
            time.sleep(0.4)
            assert losses == []
            every[1]._lines[0].shutdown(socket.SHUT_RDWR)
            wait_for(lambda: losses)
            assert 1 in losses
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_what_is_no_sentence_is_a_loss(three):
    every, losses = three
    every[1]._say("tralala")
    wait_for(lambda: 0 in losses)
    assert losses[0] == 1


def test_a_fault_of_the_watch_is_a_loss(monkeypatch):
    monkeypatch.setattr(Lines, "_first_lost", mock.Mock(side_effect=RuntimeError("a fault")))
    losses = []
    every = [Lines(0.5, Interrupts(), losses.append) for _ in range(2)]
    join(every, door.listening("127.0.0.1"))
    wait_for(lambda: len(losses) == 2)
    assert sorted(losses) == [0, 1]


def test_sentences_come_in_pieces(three):
    every, losses = three
    line = every[1]._lines[0]
    with every[1]._lock:
        line.sendall(b"ali")
        time.sleep(0.3)
        line.sendall(b"ve\nalive\nsig")
        time.sleep(0.3)
        line.sendall(b"nal 15\n")
    wait_for(lambda: every[0]._interrupts.received)
    assert losses == {}
    assert every[0]._interrupts.received == signal.SIGTERM


def test_a_process_that_was_stopped_itself_blames_nobody(three, monkeypatch):
    every, losses = three
    for one in every:
        one._say = lambda sentence: time.sleep(0.6)  # as long as a pause of all
    time.sleep(1.5)
    assert losses == {}


def test_a_signal_at_one_process_is_heard_by_all(three):
    every, _ = three
    every[1]._interrupts.received = signal.SIGTERM
    wait_for(lambda: every[0]._interrupts.received and every[2]._interrupts.received)
    assert every[0]._interrupts.received == every[2]._interrupts.received == signal.SIGTERM
    every[0]._interrupts.hear(4711)  # and no nonsense
    assert every[0]._interrupts.received == signal.SIGTERM


def test_goodbyes_of_those_that_leave_are_kept(three):
    """One that has said goodbye may be silent for as long as it likes before it ends."""
    every, losses = three
    every[2].close()
    time.sleep(1.0)
    assert losses == {}


def wait_for(condition):
    limit = time.monotonic() + 10
    while not condition() and time.monotonic() < limit:
        time.sleep(0.02)


def test_nobody_is_lost_while_all_live_and_after_goodbyes(three):
    every, losses = three
    time.sleep(1.0)
    for one in every[1:]:
        one.close()
        one._lines[0].shutdown(socket.SHUT_RDWR)
    time.sleep(0.5)
    assert losses == {}


def test_a_line_that_breaks_is_a_loss_that_all_learn_by_number(three):
    every, losses = three
    every[1]._lines[0].shutdown(socket.SHUT_RDWR)
    wait_for(lambda: len(losses) >= 2)
    assert losses[0] == losses[2] == 1


def test_silence_is_a_loss(three):
    every, losses = three
    every[2]._say = lambda word: None  # alive, and says nothing
    wait_for(lambda: 0 in losses and 1 in losses)
    assert losses[0] == losses[1] == 2
