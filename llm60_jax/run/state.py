"""A run between two steps: its services, its training state, and its progress."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm60_jax import plan as plans
from llm60_jax.config import Config, Model, to_tree
from llm60_jax.data.prepare import Prepared
from llm60_jax.evaluate.grammar.scoring import Sample
from llm60_jax.machine import files
from llm60_jax.machine.awake import AwakeTime
from llm60_jax.machine.signals import Interrupts
from llm60_jax.plan import Plan, Rescue, Sharing, Stage, StepKey
from llm60_jax.record import store
from llm60_jax.record.checkpoints import Checkpoints
from llm60_jax.record.metrics import MetricsLog
from llm60_jax.record.progress import Progress
from llm60_jax.record.workdir import WorkDir
from llm60_jax.run.clock import StageClock
from llm60_jax.run.events import Observers, RowAdded
from llm60_jax.training import growing, mesh, step
from llm60_jax.training.programs import CompiledSteps
from llm60_jax.training.step import TrainState


@dataclasses.dataclass
class Run:
    """Everything that training one run needs. Made by `opening.open_run`; only run/ changes it.

    What a resumed run must know is in `state` and `progress`, and nowhere else.
    """

    config: Config
    workdir: WorkDir
    metrics: MetricsLog
    data: Prepared
    versions: dict[str, str]
    interrupts: Interrupts
    checkpoints: Checkpoints
    programs: CompiledSteps
    cache: Path | None  # of compiled programs on disk
    awake: AwakeTime
    clock: StageClock
    plan: Plan
    state: TrainState
    progress: Progress
    tell: Observers = dataclasses.field(default_factory=Observers)
    retry_save_at: float | None = None  # monotonic seconds; set where the last save failed
    rarity_bins: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # by phase, of its held-out text
    evaluation_pairs: Sample | None = None  # the minimal pairs of every evaluation

    @property
    def step(self) -> int:
        """Steps done: the number of the next one, counted from 0."""
        return self.progress.step

    @property
    def model(self) -> Model:
        """The architecture of the state as it is: a model that grows has only its lowest blocks so far."""
        return self.config.model.lowest(self.plan.blocks_after(self.step))

    @property
    def sharing(self) -> Sharing:
        """How devices share its steps."""
        return plans.sharing(self.config)

    def whole(self) -> TrainState:
        """Return the state whole, on the first device of this process. All processes call it (`mesh.whole`)."""
        state: TrainState = mesh.whole(self.state)
        return state

    def become(self, state: TrainState) -> None:
        """Take a state over, on the mesh."""
        self.state = mesh.place(state, self.sharing)

    def key(self, stage: Stage) -> StepKey:
        """Return the key of a stage's program."""
        return plans.key(self.config, stage)

    def position(self, done: int, stage: Stage) -> dict[str, Any]:
        """Return where something was measured or saved, after `done` steps: the first fields of every row."""
        return {"step": done, "tokens": done * self.plan.tokens_per_step, "phase": stage.phase, "stage": stage.index}

    def record(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        self.metrics.add(row)
        self.tell(RowAdded(row))

    def replan(self, rescues: Sequence[Rescue] | None = None) -> None:
        """Build the plan anew from all decisions, extensions and rescues, and write it to plan.json."""
        rescues = self.plan.rescues if rescues is None else rescues
        self.plan = plans.build(self.config, self.progress.decisions, self.progress.extensions, rescues)
        self.clock.replan(self.plan)
        self.workdir.write("plan.json", files.dump(plans.to_rows(self.plan, self.config)))

    def meta(self, stage: Stage, *, permanent: bool, closed: bool = False) -> dict[str, Any]:
        """Return the readable half of a checkpoint (record/store.py, `Meta`)."""
        return {
            **self.position(self.step, stage),
            "permanent": permanent,
            "closed": closed,
            "config": to_tree(self.config),
            "plan": plans.to_rows(self.plan, self.config),
            "digests": self.data.digests,
            "corpora": self.data.record(),
            "versions": self.versions,
            "progress": self.progress,
        }

    def grow(self, stage: Stage) -> None:
        """Add the blocks with which a stage begins, if there are any.

        Another model begins: its loss may be higher, so the losses before it set no limit, and its representations have
        nothing to be compared with.
        """
        before = self.plan.grows_from(stage)
        if before is None:
            return
        self.become(growing.grown(self.config.model, self.whole(), before, stage.blocks))
        self.progress.look, self.progress.objectives, self.progress.refused = None, [], 0

    def keep_reference(self, reference: jax.Array) -> None:
        """Keep representations, to be compared with at the next look."""
        self.become(dataclasses.replace(self.state, reference=reference))

    def frozen_digests(self, stage: Stage) -> dict[str, str]:
        """Return a digest of every parameter and optimizer leaf that a stage leaves frozen."""
        state, names = self.whole(), step.frozen_groups_of(self.config.model, self.key(stage), self.state.params)
        return store.leaf_digests({name: (state.params[name], state.opt_state[name]) for name in sorted(names)})

    def group_digests(self) -> dict[str, tuple[str, str]]:
        """Return, for each parameter group, a digest of it and one of the optimizer's state for it."""
        state = self.whole()
        return {
            name: (store.state_sha256(group, None), store.state_sha256(state.opt_state[name], None))
            for name, group in state.params.items()
        }

    def remedy(self, phase: str) -> str:
        """Return what to do when numbers stop being finite (playbook, section 14)."""
        return (
            f". The last good state is kept in {self.workdir.path}. In a new run, lower "
            f"phase.{phase}.learning_rate or raise its warmup"
        )
