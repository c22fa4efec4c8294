"""StepEngine: one step of an optimizer on all replicas, at the memory's own speed.

For block after block each replica sums the gradients of its own shard over all replicas and updates
parameters and slots in the same pass, in memory that the node shares. The order of everything that
is added is fixed, so the result does not depend on how many processes or nodes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import and_, or_
from time import perf_counter_ns
from weakref import WeakKeyDictionary

from distopt.collectives import EXACT, digest, sums_by
from distopt.comm import SoloCommunicator
from distopt.core.placement import placement
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.distribute import ReplicaContext
from distopt.engine import fingerprint, sparse, update
from distopt.engine.averages import AverageStep, move_averages
from distopt.engine.batch import GradientBatch, weighted_gradient
from distopt.engine.clip import Clip
from distopt.engine.coordinator import StepCoordinator
from distopt.engine.description import between_nodes, watch_text
from distopt.engine.epilogue import epilogue
from distopt.engine.overlap import Overlap
from distopt.engine.owners import SavedArray, VariableUpdate, run_owned
from distopt.engine.plan import StepPlan
from distopt.engine.recording import recorder
from distopt.engine.reduction import FusedReduction, lowest_terms
from distopt.engine.shared_parameters import SharedParameters
from distopt.engine.update import Coefficients, PlannedUpdate
from distopt.settings import settings

__all__ = ["Coefficients", "StepEngine"]

#: Flags of a header: some gradient is sparse; all are; the first block is staged; gradients may be handed
#: over before such a step; those that were hold. The weight stands above.
_SPARSE, _ALL_SPARSE, _STAGED, _FITS, _OVERLAPPED, _WEIGHT = 1, 2, 4, 8, 16, 5


class StepEngine:
    """The engine of one replica; :meth:`of` gives it.

    Args:
        context: the replica.

    Attributes:
        replicas: the number of replicas in the job.
        parameters: the variables that it has met, and where they lie.
        coordinator: what replicas tell each other about a step.
    """

    def __init__(self, context: ReplicaContext) -> None:
        self._context = context
        self._placement = placement()
        self.replicas = context.num_replicas_in_sync
        self._reduce = context.shards
        self._spans = context.world.spans
        self.parameters = SharedParameters(context.shards)
        self.coordinator = StepCoordinator(context, self.parameters)
        self._steps: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._overlaps: WeakKeyDictionary[object, Overlap] = WeakKeyDictionary()
        self._shared: WeakKeyDictionary[object, bool] = WeakKeyDictionary()
        self._audit_every = context.strategy.options.audit_every
        self._recorder = recorder(context.job)

    @classmethod
    def of(cls, context: ReplicaContext) -> StepEngine:
        """The engine of a replica, made when first asked for."""
        engine: StepEngine | None = context.attached.get(cls)
        if engine is None:
            # Making it is collective, so it needs a header of its own.
            context.collective_check.check(
                "an optimizer's first call", 0, lambda: "an optimizer's first call"
            )
            engine = context.attached[cls] = cls(context)
        return engine

    @classmethod
    def describe(cls, context: ReplicaContext, owner: object, wire: str) -> str:
        """Where variables live, how nodes sum for an optimizer, and what watches over all; not collective.

        Args:
            context: the replica.
            owner: the optimizer.
            wire: how its float32 gradients travel between nodes.
        """
        engine: StepEngine | None = context.attached.get(cls)
        here = "variables: find their place at the first step"
        if engine:
            here = between_nodes(engine._reduce, engine.parameters, engine._overlaps.get(owner), wire)
        return f"{here}\n{watch_text(context.strategy.options)}"

    def share(self, call: str, variables: Sequence[Variable]) -> None:
        """Gives variables their shared memory before a first step, with replica 0's values; collective.

        Those that have it already get what all replicas have assigned since the last step. For one replica
        nothing happens.

        Args:
            call: who asks, for messages.
            variables: the same ones, in the same order, on all replicas.

        Raises:
            ReplicaMismatch: their names, shapes or dtypes differ, which are new, or what was assigned.
        """
        if self.replicas > 1:
            assigned, new = self.parameters.assigned(variables), self.parameters.unallocated(variables)
            header_key = fingerprint.of_variables(variables) ^ fingerprint.of_changes(
                variables, assigned, new
            )
            describe = partial(fingerprint.step_sentence, call, variables, (), (), (), assigned, new)
            self._context.collective_check.check(call, header_key, describe)
            self.parameters.share(assigned, [variables])

    # -- the step
    def begin(self, owner: object, made: int) -> None:
        """A step of ``owner`` begins. Its headers hold the step's number, so that all make the same one.

        Args:
            owner: the optimizer.
            made: how many steps it has made, also before a restart.
        """
        check = self._context.collective_check
        check.steps += 1  # for messages of those that wait for this replica
        if self._spans.armed:
            self._spans.step_began(self._context.job.comm.rank, check.steps)
        if self.replicas == 1:
            check.step_alone()
        else:
            self._context.steps_made = made
            self.coordinator.step_key = (self._steps.get(owner, 0) + 1 << 40) & (1 << 64) - 1

    def step(
        self,
        call: str,
        plan: StepPlan,
        batch: GradientBatch,
        coefficients: Coefficients,
        reduction: FusedReduction,
        clip: Clip | None = None,
        overlap: Overlap | None = None,
    ) -> bool:
        """Sums the gradients of all replicas, clips, and updates: the fast path, in one pass.

        Sparse gradients are not clipped in this way: if any replica has one, nothing is done.

        Args:
            call: who asks, for messages, e.g. ``"apply_gradients of Adam"``.
            plan: that of the batch; no variable twice, and compiled code takes all of them.
            batch: this replica's gradients.
            coefficients: those of the plan's rules.
            reduction: how the sum becomes the gradient.
            clip: clips of the reduced gradients.
            overlap: to whom gradients of this step may have been handed over.

        Returns:
            whether the step was made; the same on all replicas.
        """
        fits, holds = (False, False) if overlap is None else overlap.holds(plan, batch, reduction.wire)
        staged, ahead = (False, None) if holds else self._stage_first_block(plan, batch, reduction)
        own = (reduction.weight or 0) << _WEIGHT | fits * _FITS | holds * _OVERLAPPED | staged * _STAGED
        flags = self._agree(call, plan, batch, coefficients, own, ahead)
        some_sparse = reduce(or_, flags) & _SPARSE > 0
        staged = reduce(and_, flags) & _STAGED > 0
        overlapped = reduce(and_, flags) & _OVERLAPPED > 0 and len(set(flags)) == 1  # weights alike
        if overlap is not None and not overlapped:
            overlap.drop()
        if clip is not None and some_sparse:
            return False
        if self.replicas > 1 and some_sparse and not reduce(and_, flags) & _ALL_SPARSE:
            batch = sparse.densify_mixed(self._context.comm, batch)
            plan = plan.with_sparse(batch.variables, batch.sparse)
        scale = divisor = None
        if reduction.weight is not None:
            scale, divisor = lowest_terms(reduction.weight, [f >> _WEIGHT for f in flags])
            if divisor == 0:
                raise ValueError(f"{call}: cannot average over examples: no replica has any")
        if plan.seen != self._placement.moves:
            self._place_variables(plan, batch)
        if scale is not None:
            batch = batch.with_gradients([weighted_gradient(g, scale) for g in batch.gradients])
        if not staged:
            self._reduce.staging.half = 0
        then = epilogue(divisor, clip)
        early, made = overlap if overlapped else None, self._context.steps_made
        sums = None if reduction.wire == EXACT else sums_by(self._reduce, reduction.wire, made)
        update.sum_and_update(self._reduce, plan, batch, coefficients, then, staged, early, sums)
        self._close(batch)
        if overlap is not None:
            overlap.stepped(plan, batch, reduce(and_, flags) & _FITS > 0, reduction.wire)
        return True

    def apply(self, call: str, rounds: Sequence[PlannedUpdate]) -> None:
        """Updates from gradients that are final and the same on every replica.

        Args:
            call: who asks, for messages.
            rounds: in each no variable comes twice.
        """
        saved: list[SavedArray] = []
        for plan, batch, coefficients in rounds:
            self._agree(call, plan, batch, coefficients)
            if plan.seen != self._placement.moves:
                self._place_variables(plan, batch)
        for plan, batch, coefficients in rounds:
            update.constrained(self._reduce, plan, batch, coefficients, saved)
        for plan, batch, coefficients in rounds:
            update.unconstrained(self._reduce, plan, batch, coefficients)
            self._close(batch)

    def apply_alone(self, plan: StepPlan, batch: GradientBatch, coefficients: Coefficients) -> None:
        """Updates this replica's own copies with its own gradients; the replicas may come to differ."""
        self._make_private(plan.state(batch.variables))
        update.alone(self._context.comm, plan, batch, coefficients)
        self._record(batch.variables)

    def run(
        self,
        call: str,
        updates: Sequence[VariableUpdate],
        settings: str,
        alone: bool = False,
        costs: Sequence[float] = (),
    ) -> None:
        """Runs updates that are Python code.

        Args:
            call: who asks, for messages.
            updates: the updates. Each is run by one replica of the node, with gradients that are the same
                everywhere; or by this replica ``alone``, on its own copies.
            settings: a description of the numbers that they use, which must be the same everywhere too.
            alone: whether replicas may come to differ.
            costs: what each update costs, by which they are dealt out; the sizes of the variables if empty.
        """
        state = list({id(v): v for _, written, _ in updates for v in written}.values())
        variables = [v for v, _, _ in updates]
        if alone or self.replicas == 1:
            self._make_private(state)
            run_owned(SoloCommunicator(), self._context.comm, updates)
        else:
            assigned = self.parameters.assigned(state)
            header_key = fingerprint.of_variables(variables) ^ digest(settings) ^ self.coordinator.step_key
            header_key ^= fingerprint.of_changes(state, assigned, self.parameters.unallocated(state))
            describe = partial(fingerprint.sentence, call, variables, settings)
            self._context.collective_check.check(call, header_key, describe)
            self.parameters.share(assigned, [state])
            run_owned(self._reduce.node, self._context.comm, updates, costs=costs)
        self._record(variables)

    def average(self, variables: Sequence[Variable], averages: Sequence[Variable], step: AverageStep) -> None:
        """Moves moving averages, and the variables to them if the step says so.

        Args:
            variables: distinct ones that a step has just updated.
            averages: each one's, which that step had beside it.
            step: what to do, the same on all replicas.
        """
        move_averages(self._reduce.node, variables, averages, step)

    # -- around a step
    def overlap(self, owner: object) -> Overlap | None:
        """To whom the gradients of an optimizer's next step may be handed over; None on one node."""
        if self._reduce.cross.size == 1:
            return None
        found = self._overlaps.get(owner)
        if found is None:
            found = self._overlaps[owner] = Overlap(self._reduce, settings().overlap)
        return found

    def once(self, owner: object, commit: Callable[[], None]) -> None:
        """Runs ``commit`` for every replica; once, where replicas of one process share ``owner``."""
        local = self._context.world.local
        if local.size > 1 and owner not in self._shared:
            self._shared[owner] = local.run_once(id(owner), lambda ids: len(set(ids)) < len(ids))
        if not (local.size > 1 and self._shared[owner]) or local.rank == 0:
            commit()

    def audit_due(self, owner: object) -> bool:
        """Whether the state of the replicas is compared after the step that ``owner`` makes now."""
        return self.replicas > 1 and self._due(self._steps.get(owner, 0) + 1)

    def counted(self, owner: object) -> bool:
        """Counts a step of ``owner``; whether it is one after which the replicas' state is compared."""
        if self.replicas == 1:
            return False
        step = self._steps[owner] = self._steps.get(owner, 0) + 1
        return self._due(step)

    def _due(self, step: int) -> bool:
        every = self._audit_every
        return every > 0 and step % every == 1 % every

    def shares(self, variables: Sequence[Variable]) -> bool:
        """Whether replicas of this process train the same Variable objects; they meet to find out."""
        ids = tuple(id(v) for v in variables)
        local = self._context.world.local
        result: bool = local.size > 1 and local.run_once(ids, lambda everyone: len(set(everyone)) == 1)
        return result

    def released(self, variables: Sequence[Variable]) -> bool:
        """Whether some of them are each replica's own, since it updated them alone."""
        some = self.replicas > 1 and self.parameters.any_released
        return some and any(map(self.parameters.released, variables))

    # -- before and after
    def _stage_first_block(
        self, plan: StepPlan, batch: GradientBatch, reduction: FusedReduction
    ) -> tuple[bool, Callable[[], None] | None]:
        """Stages the first block before the header, so that a small step takes one meeting for both.

        Gradients must go as they are: weights that differ are known after the header only.

        Returns:
            whether it is staged, and what sends it to other nodes while headers travel, if there are any.
        """
        whole = reduction.weight in (None, 1) and not batch.sparse
        over_nodes = self._reduce.cross.size > 1
        if over_nodes:
            exact = reduction.wire == EXACT
            meets = exact and self._reduce.sends_ahead and plan.seen == self._placement.moves
        else:
            meets = self._reduce.node.size > 1
        if not whole or not meets or not plan.executors:
            return False, None
        first = plan.executors[0][1]
        self._reduce.staging.half = 0
        first.stage_first_block(batch)
        return True, partial(first.send_first_block, batch) if over_nodes else None

    def _agree(
        self,
        call: str,
        plan: StepPlan,
        batch: GradientBatch,
        coefficients: Coefficients,
        flags: int = 0,
        ahead: Callable[[], None] | None = None,
    ) -> list[int]:
        """The header: same call, variables and coefficients; what was assigned was assigned alike.

        Returns:
            for each replica its flags: see ``_SPARSE``.
        """
        kinds = bool(batch.sparse) * _SPARSE | (len(batch.sparse) == len(batch.variables)) * _ALL_SPARSE
        flags |= kinds
        if self.replicas == 1:
            return [flags]
        header_key = plan.fingerprint ^ fingerprint.of_coefficients(coefficients) ^ self.coordinator.step_key
        describe = partial(
            fingerprint.step_sentence, call, batch.variables, plan.rules, plan.which, coefficients
        )
        if plan.seen != self._placement.moves:
            state = plan.state(batch.variables)
            assigned, new = self.parameters.assigned(state), self.parameters.unallocated(state)
            header_key ^= fingerprint.of_changes(state, assigned, new)
            describe = partial(describe, assigned, new if len(new) < len({id(v) for v in state}) else ())
        return self._context.collective_check.check(call, header_key, describe, flags=flags, ahead=ahead)

    def _place_variables(self, plan: StepPlan, batch: GradientBatch) -> None:
        """Moves all variables to where all replicas of the node see them."""
        if self.replicas > 1:
            state = plan.state(batch.variables)
            self.parameters.share(self.parameters.assigned(state), plan.columns(batch.variables))
        else:
            self.parameters.keep_private(plan.state(batch.variables))
        plan.place(batch.variables, self.parameters)
        plan.seen = self._placement.moves

    def _make_private(self, variables: Sequence[Variable]) -> None:
        """Makes variables this replica's own, for an update that is its own."""
        if self.replicas > 1:
            self.parameters.release(variables)
        else:
            self.parameters.keep_private(variables)

    def _close(self, batch: GradientBatch) -> None:
        """Everyone sees everything updated."""
        if self._reduce.node.size > 1:
            begin = perf_counter_ns()
            self._reduce.node.barrier()
            if self._spans.on:
                self._spans.add_since("waiting", begin)
        for variable in batch.variables:
            variable.storage.version += 1
        if self._recorder is not None:
            self._record(batch.variables)

    def _record(self, variables: Sequence[Variable]) -> None:
        if self._recorder is not None:
            self._recorder.write((v.name, as_array(v)) for v in variables)
