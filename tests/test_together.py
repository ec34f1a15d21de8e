"""How processes meet, notice a loss, and what each hears; two real runs are in test_processes.py."""

import json
import socket
import threading
import time

import pytest
from one_node_slurm import free_ports

import launch
from llm60_jax.errors import GateError, InputError, Interrupted, MachineError
from llm60_jax.machine import lines, shared_folder, together
from llm60_jax.machine.lines import Lines


def test_one_process_is_alone():
    assert together.count() == 1
    assert together.is_first()
    assert together.broadcast(3) == 3
    assert together.gather(3) == [3]
    assert together.on_first(lambda: [1]) == [1]
    assert together.first_then_all(lambda: {2}) == {2}
    assert together.all_or_none(lambda: "x") == "x"
    together.require_same("anything", {"a": 1})
    together.leave(0)


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
    return lambda *values: [store.key_value_set(f"llm60_jax/{n + 1}", json.dumps(v)) for n, v in enumerate(values)]


def test_the_second_hears_the_first(second):
    second(7, ["", {"a": 1}, 0])
    assert together.broadcast(0) == 7
    assert together.on_first(lambda: pytest.fail("the first works alone")) == {"a": 1}


def test_the_second_fails_as_the_first_did(second):
    second(["GateError", "phase grammar is open", 3])
    with pytest.raises(GateError, match="phase grammar is open"):
        together.on_first(lambda: None)


def test_a_failure_of_one_is_raised_in_all(second):
    store = together._client()
    store.key_value_set("llm60_jax/1/0", json.dumps(["MachineError", "process 0 on here: the disk is full", 5]))
    with pytest.raises(MachineError, match="process 0 on here: the disk is full"):
        together.all_or_none(lambda: None)


def test_what_differs_is_named(second):
    together._client().key_value_set("llm60_jax/1/0", json.dumps({"seed": 7, "train.slots": 4}))
    with pytest.raises(InputError, match="it: seed is 8 for process 1 on there, and 7 for process 0 on here"):
        together.require_same("it", {"seed": 8, "train.slots": 4})


def test_a_folder_that_is_not_shared_is_refused_by_name(second, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_folder, "PATIENCE", 0.3)
    second([".together-x", "word"], ["", None, 0])
    together._client().key_value_set("llm60_jax/3/0", "true")
    with pytest.raises(InputError, match=r"workdir .* does not appear for process 1 on there"):
        shared_folder.require("workdir", tmp_path)


def test_a_folder_that_is_slow_is_waited_for(second, tmp_path):
    second([".together-x", "word"], ["", None, 0])
    together._client().key_value_set("llm60_jax/3/0", "true")
    threading.Timer(0.5, lambda: (tmp_path / ".together-x").write_text("word")).start()
    shared_folder.require("data_dir", tmp_path)


def test_errors_of_a_lost_peer_are_told_from_others(second, monkeypatch):
    monkeypatch.setattr(together, "_NOTICE_SECONDS", 0.0)
    gone = together.lost(ValueError("Gloo all-reduce failed: Connection reset by peer"))
    assert "another process of this run is gone (process 0 on here)" in str(gone)
    assert together.lost(ValueError("shapes differ")) is None
    assert together.lost(GateError("no Connection")) is None


# --- Meeting ---------------------------------------------------------------------------------------------------------


def meet(port, *numbers, processes=3):
    """Let some processes meet; return by number how each fared: None or its failure."""
    outcome = {}

    def one(number):
        try:
            outcome[number] = together._await_all(f"127.0.0.1:{port}", processes, number)
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
    monkeypatch.setattr(together, "PATIENCE", 1.0)
    outcome = meet(free_ports(1)[0], 0, 2)
    assert "after 1 s processes [1] have not come" in str(outcome[0])
    assert "processes [1] have not come" in str(outcome[2])


def test_a_coordinator_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(together, "PATIENCE", 0.5)
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


def test_a_stranger_at_the_door_is_ignored():
    port = free_ports(1)[0]

    def knock():
        for _ in range(50):
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as line:
                    line.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return
            except OSError:
                time.sleep(0.05)

    stranger = threading.Thread(target=knock)
    stranger.start()
    time.sleep(0.2)
    assert meet(port, 0, 1, processes=2) == {0: None, 1: None}
    stranger.join(10)


# --- Lines -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(monkeypatch):
    """The lines of three processes, and by process whom it has lost."""
    monkeypatch.setattr(lines, "_TICK", 0.1)
    losses = {}
    every = [Lines(0.5, lambda process, number=number: losses.setdefault(number, process)) for number in range(3)]
    door = every[0].listen("127.0.0.1")
    port = door.getsockname()[1]
    threads = [threading.Thread(target=every[n].connect, args=("127.0.0.1", port, n)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    every[0].let_in(door, 3)
    for thread in threads:
        thread.join(10)
    return every, losses


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
