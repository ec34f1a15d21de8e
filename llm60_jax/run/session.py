"""A run between two steps: what it knows, how that is saved, and how it is found again.

Everything a restart needs is in the newest checkpoint: the training state, the position in the data, the decisions that
amended the plan, what was measured that a later decision rests on, and the checkpoints it builds on.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm60_jax import plan
from llm60_jax.checkpoint import base_of, has_adapters, read_state, verify_state
from llm60_jax.config import Config, Phase, to_tree
from llm60_jax.data.clean import private
from llm60_jax.data.prepare import Prepared
from llm60_jax.errors import DamageError, InputError, TrainingError
from llm60_jax.machine import facts, files
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import say
from llm60_jax.plan import Decision, Extension, Plan, Rescue, Stage, StepKey
from llm60_jax.record import store
from llm60_jax.record.checkpoints import Checkpoints
from llm60_jax.record.workdir import RESCUES, WorkDir
from llm60_jax.run import gates
from llm60_jax.run.ancestry import Start
from llm60_jax.training import phase_groups, spikes, step
from llm60_jax.training.step import TrainState

log = logging.getLogger("llm60_jax")


@dataclasses.dataclass
class Session:
    """The state of a run and the facts that travel with it. Made by `Session.open`."""

    config: Config
    workdir: WorkDir
    data: Prepared
    versions: dict[str, str]
    interrupts: Interrupts
    checkpoints: Checkpoints
    plan: Plan
    state: TrainState
    step: int = 0
    phase: str | None = None  # whose groups of parameters the state has (phase_groups.py)
    iterator: Any = None  # position in the data of the stage under way, until it is taken up
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    extensions: list[Extension] = dataclasses.field(default_factory=list)
    overrides: dict[str, str] = dataclasses.field(default_factory=dict)  # phase closed against its gate -> why
    phase_start: dict[str, Any] | None = None  # evaluation at the start of the phase: the gate's evidence
    late: list[tuple[int, float]] = dataclasses.field(default_factory=list)  # steps and losses, for the plateau
    watch: spikes.Watch = dataclasses.field(default_factory=spikes.Watch)
    refused: int = 0  # steps in a row that were not applied
    frozen_before: dict[str, str] | None = None  # digests of what the current stage leaves frozen
    looks: dict[str, Any] = dataclasses.field(default_factory=dict)  # the last look at representations (plasticity.py)
    ancestors: dict[str, str] = dataclasses.field(default_factory=dict)  # checkpoint -> state_sha256, oldest first

    @classmethod
    def open(
        cls,
        config: Config,
        workdir: WorkDir,
        data: Prepared,
        versions: dict[str, str],
        interrupts: Interrupts,
        start: Start | None,
    ) -> "Session":
        """The session at the newest checkpoint of the run, or at its beginning.

        Raises:
          InputError: the checkpoint belongs to another text or configuration.
          DamageError: no checkpoint is whole, or one that it builds on is not.
        """
        checkpoints = Checkpoints(workdir.path, config.train.keep_rolling)
        folder = checkpoints.newest()
        common = (config, workdir, data, versions, interrupts, checkpoints)
        if folder is not None:
            return cls._resumed(folder, start, *common)
        if start is None:
            session = cls(*common, plan.build(config), step.init(config))
            say(f"a new run in {workdir.path}: {config.model.parameter_count:,} parameters")
        else:
            found, meta = store.read(start.folder, phase_groups.abstract(config, None))
            fresh = {"step": np.int32(0), "seed": np.uint32(config.seed), "reference": step.reference(config.model)}
            session = cls(*common, plan.build(config), jax.device_put(dataclasses.replace(found, **fresh)))
            session.ancestors[str(start.folder.absolute())] = meta["state_sha256"]
            say(f"a new run in {workdir.path}, from {start.folder}")
        workdir.rewind(-1)  # of an attempt that saved nothing, from another start perhaps
        session._take_rescues()
        return session

    @classmethod
    def _resumed(
        cls,
        folder: Path,
        start: Start | None,
        config: Config,
        workdir: WorkDir,
        data: Prepared,
        versions: dict[str, str],
        interrupts: Interrupts,
        checkpoints: Checkpoints,
    ) -> "Session":
        meta = store.read_meta(folder)
        if meta["digests"] != data.digests:
            raise InputError(
                f"{workdir.path}: its checkpoints were trained on other text or tokens; "
                "restore the text, or start a new run: --workdir DIR"
            )
        workdir.compare(meta["config"], config)
        try:
            decisions = [Decision(**entry) for entry in meta["decisions"]]
            extensions = [Extension(**entry) for entry in meta["extensions"]]
            watch = spikes.Watch(meta["watch"])
        except (TypeError, ValueError) as error:
            raise DamageError(f"{folder / store.META}: {error}") from None
        meta["ancestors"] = _as_started(meta["ancestors"], start)
        state = read_state(folder, meta, config, base_of(workdir.path, meta))
        amended = plan.build(config, decisions, extensions)
        session = cls(config, workdir, data, versions, interrupts, checkpoints, amended, jax.device_put(state))
        session.step, session.iterator = int(meta["step"]), meta["iterator"]
        session.decisions, session.extensions, session.overrides = decisions, extensions, meta["overrides"]
        session.phase = None if meta["closed"] else meta["phase"]
        session.phase_start, session.frozen_before = meta["phase_start"], meta["frozen"]
        session.watch, session.refused = watch, meta["refused"]
        session.late = [(at, loss) for at, loss in meta["late"]]
        session.looks, session.ancestors = meta["looks"], meta["ancestors"]
        if int(session.state.step) != session.step:
            raise DamageError(f"{folder}: its state says step {int(session.state.step)}, its metadata {session.step}")
        if meta["versions"] != session.versions:
            changed = facts.differences(meta["versions"], session.versions)
            say(f"resuming under other versions, so not bit for bit as before: {changed}")
        say(f"resumed at step {session.step:,} of {session.plan.steps:,}")
        workdir.rewind(session.step)
        session._take_rescues()
        return session

    def _take_rescues(self) -> None:
        """The plan as it is after all rescues, with a row for each."""
        self._replan([Rescue(**entry) for entry in self.workdir.rescues()])
        known = [row["rescue"] for row in self.workdir.rows() if "rescue" in row]
        for one in self.plan.rescues:
            entry = dataclasses.asdict(one)
            if one.step == self.step and entry not in known:
                row = self.position(self.step, self.plan.stage_at(self.step))
                self.workdir.append({**row, "rescue": entry})
                say(
                    f"{one.phase}: from step {one.step:,} on at {one.factor:g} times the rate, "
                    f"warmed up over {one.warmup:,} steps"
                )

    def _replan(self, rescues: Sequence[Rescue] | None = None) -> None:
        """The plan after all decisions and extensions, and the rescues that it had or is given."""
        rescues = self.plan.rescues if rescues is None else rescues
        self.plan = plan.build(self.config, self.decisions, self.extensions, rescues)
        self.write_plan()

    def rescue(self, stage: Stage) -> bool:
        """Whether the run may go back to its newest checkpoint of the phase and on at a lower rate; if so, that is
        recorded, and the session to be opened next does it."""
        if len(self.plan.rescues) >= self.config.train.rewinds:
            return False
        start = self.plan.phase_span(stage.phase)[0]
        newest = self.checkpoints.newest()
        saved = store.read_meta(newest)["step"] if newest else 0
        if saved < start:
            return False
        made = plan.rescue(self.plan, self.config.phase_named(stage.phase), saved)
        entries = [dataclasses.asdict(one) for one in [*self.plan.rescues, made]]
        self.workdir.write(RESCUES, files.dump(entries))
        return True

    def describe(self, phase: Phase) -> None:
        """Records what a phase trains on, once."""
        start = self.plan.phase_span(phase.name)[0]
        if not any("data" in row for row in self.workdir.rows() if row["phase"] == phase.name):
            row, text = self.position(start, self.plan.stage_at(start)), self.data.facts(phase)
            if self.config.goal(phase) == "fine_tune" and (strings := self.data.private(phase)):
                text["private"] = strings
                told = ", ".join(private.described(strings))
                say(f"{phase.name}: its text holds {told}; what the model keeps of them: tools/check_privacy.py")
            self.workdir.append({**row, "data": text})

    def key(self, stage: Stage) -> StepKey:
        """The key of a stage's program."""
        return StepKey.of(stage, self.config.phase_named(stage.phase), self.config)

    def position(self, done: int, stage: Stage) -> dict[str, Any]:
        """Where in the run something was measured or saved: the first fields of every row."""
        return {"step": done, "tokens": done * self.plan.tokens_per_step, "phase": stage.phase, "stage": stage.index}

    def begin(self, phase: Phase) -> None:
        """Enters a phase: the one before must be closed on its evidence (golden rule 1); the phase's own groups are
        added."""
        before = self.config.phase[: self.config.phase.index(phase)]
        if before:
            folder = self.checkpoints.phase(before[-1].name)
            ends, digest = store.identity(folder)  # it is there, whole, and where this phase goes on from
            if ends != self.step:
                raise DamageError(f"{folder}: ends at step {ends}, and the run stands at {self.step}")
            gates.require(self.workdir.path, before[-1].name, digest, self.data.digests)
            self.ancestors[f"phases/{before[-1].name}"] = digest
        self.state = phase_groups.begin(self.config, phase, self.state)
        self.phase, self.looks, self.phase_start, self.frozen_before, self.late = phase.name, {}, None, None, []
        self.watch, self.refused = spikes.Watch(), 0

    def decide(self, decision: Decision) -> None:
        """Amends the plan by a decision on a freeze, and says so."""
        self.decisions.append(decision)
        self._replan()
        stage = self.plan.stage_at(decision.step)
        self.workdir.append({**self.position(self.step, stage), "decision": dataclasses.asdict(decision)})
        say(f"{decision.phase}: freezing {decision.frozen_blocks} blocks at step {decision.step:,}: {decision.reason}")

    def extend(self, extension: Extension) -> None:
        """Gives a phase more steps, and says so."""
        self.extensions.append(extension)
        self._replan()
        stage = self.plan.phase_stages(extension.phase)[-1]
        row = {**self.position(self.step, stage), "extension": dataclasses.asdict(extension)}
        if row not in self.workdir.rows():  # a run that stopped before its next save decides alike once more
            self.workdir.append(row)
        say(f"{extension.phase}: {extension.steps:,} steps more: {extension.reason}")

    def keep_late(self, row: dict[str, Any]) -> None:
        """Keeps the loss of an evaluation, if the phase is so far on that a plateau is looked for."""
        late, known = self.plan.late_stages(row["phase"])[0][0], [at for at, _ in self.late]
        if late <= row["step"] and row["step"] not in known and row["step"] > self.plan.phase_span(row["phase"])[0]:
            self.late.append((row["step"], row["validation_loss"]))

    def keep_reference(self, reference: jax.Array) -> None:
        """Keeps representations, to be compared with at the next look."""
        self.state = dataclasses.replace(self.state, reference=reference)

    def write_plan(self) -> None:
        """The stage table, with all decisions so far, as plan.json."""
        self.workdir.write("plan.json", files.dump(plan.to_rows(self.plan, self.config)))

    def frozen_digests(self, stage: Stage) -> dict[str, str]:
        """A digest of every parameter and optimizer leaf that the stage leaves frozen."""
        frozen_groups = step.frozen_groups_of(self.config.model, self.key(stage), self.state.params)
        held = {name: (self.state.params[name], self.state.opt_state[name]) for name in sorted(frozen_groups)}
        return store.leaf_digests(held)

    def group_digests(self) -> dict[str, tuple[str, str]]:
        """For each group of parameters a digest of them, and one of the optimizer's state for them."""
        return {
            name: (store.state_sha256(group, None), store.state_sha256(self.state.opt_state[name], None))
            for name, group in self.state.params.items()
        }

    def meta(self, stage: Stage, iterator: Any, *, permanent: bool, closed: bool = False) -> dict[str, Any]:
        """The readable half of a checkpoint."""
        return {
            **self.position(self.step, stage),
            "permanent": permanent,
            "closed": closed,  # the end of a phase: a plain model
            "iterator": iterator,
            "config": to_tree(self.config),
            "plan": plan.to_rows(self.plan, self.config),
            "decisions": [dataclasses.asdict(decision) for decision in self.decisions],
            "extensions": [dataclasses.asdict(extension) for extension in self.extensions],
            "overrides": self.overrides,
            "digests": self.data.digests,
            "corpora": self.data.record(),
            "versions": self.versions,
            "phase_start": self.phase_start,
            "late": self.late,
            "watch": self.watch.to_state(),
            "refused": self.refused,
            "frozen": self.frozen_before,
            "looks": self.looks,
            "ancestors": self.ancestors,
        }

    def save_rolling(self, meta: dict[str, Any]) -> None:
        """Saves the state; of a phase with adapters only those, as the rest is in the checkpoint it began from.

        Refuses to store weights that are not finite, so that the last checkpoint stays good.
        """
        if not all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(self.state.params)):
            raise TrainingError(f"step {self.step}: weights that are not finite{self.remedy(meta['phase'])}")
        adapts = has_adapters(self.state)
        self.checkpoints.save_rolling(phase_groups.without_base(self.state) if adapts else self.state, meta)

    def verify_ancestors(self) -> dict[str, str]:
        """Proves that the checkpoints which this run builds on are what they were. Raises DamageError naming one that
        is not."""
        for name, recorded in self.ancestors.items():
            verify_state(self.workdir.path / name, recorded)
        return dict(self.ancestors)

    def remedy(self, phase: str) -> str:
        """What to do when numbers stop being finite (playbook, section 14)."""
        return (
            f". The last good state is kept in {self.workdir.path}. In a new run, lower "
            f"phase.{phase}.learning_rate or raise its warmup"
        )


def _as_started(ancestors: dict[str, str], start: Start | None) -> dict[str, str]:
    """The recorded ancestors, the checkpoint that `start` names by the place where it is now.

    Raises InputError when that is not the one that the run began from.
    """
    if start is None:
        return ancestors
    old = next((name for name in ancestors if Path(name).is_absolute()), None)
    found = start.meta["state_sha256"]
    if old is None or ancestors[old] != found:
        began = f"began from {old}, state {ancestors[old][:16]}" if old else "began from no checkpoint"
        raise InputError(
            f"start: {start.folder} has state {found[:16]}, and this run {began}; name that one, or start a new run: "
            "--workdir DIR"
        )
    return {str(start.folder.absolute()) if name == old else name: digest for name, digest in ancestors.items()}
