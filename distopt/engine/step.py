"""StepEngine: executes the steps of all optimizers of one replica.

A step is one pass over the parameters in blocks. For each block, the replica sums the gradients of its shard
over all replicas, and updates the parameters and slots of this shard, which are in memory that the node
shares. The order of all additions is fixed, so the result is the same for any number of processes and nodes.
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

#: Header flags of a step: some gradients are sparse; all are; the first block is in the staging buffer; the
#: overlap is ready for this plan; gradients sent early are still valid. Last: the shift of the mean's weight.
_SPARSE, _ALL_SPARSE, _STAGED, _READY, _VALID, _WEIGHT = 1, 2, 4, 8, 16, 5


class StepEngine:
    """The engine of one replica. :meth:`of` returns it.

    Args:
        context: the replica's context, of the job or of its node (see ``within_node``).

    Attributes:
        replicas: the number of replicas of the context.
        parameters: the memory of each variable that a step has used.
        coordinator: checks and exchanges between the stages of a step.
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
        """The engine of a context. The first call creates it, and is collective."""
        engine: StepEngine | None = context.attached.get(cls)
        if engine is None:
            # Creating an engine is collective, so it has its own header.
            context.collective_check.check(
                "an optimizer's first call", 0, lambda: "an optimizer's first call"
            )
            engine = context.attached[cls] = cls(context)
        return engine

    @classmethod
    def describe(cls, context: ReplicaContext, owner: object, wire: str) -> str:
        """Text for ``describe()`` of an optimizer: variables, sums between nodes, watchdog; not collective.

        Args:
            context: the replica's context.
            owner: the optimizer.
            wire: the wire format of its float32 gradients between nodes.
        """
        engine: StepEngine | None = context.attached.get(cls)
        here = "variables: find their place at the first step"
        if engine:
            here = between_nodes(engine._reduce, engine.parameters, engine._overlaps.get(owner), wire)
        return f"{here}\n{watch_text(context.strategy.options)}"

    def share(self, call: str, variables: Sequence[Variable]) -> None:
        """Moves variables to shared memory before their first step, with replica 0's values; collective.

        Writes values that all replicas have assigned since the last step to variables that are already there.
        Does nothing for a single replica.

        Args:
            call: name of the call, for messages.
            variables: the same ones, in the same order, on all replicas.

        Raises:
            ReplicaMismatch: the replicas differ in names, shapes or dtypes, in which variables are not in
                shared memory yet, or in the values assigned.
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
        """Begins a step of ``owner``. Its headers contain the step number, to find replicas at other steps.

        Args:
            owner: the optimizer.
            made: its number of completed steps, including those before a restart.
        """
        check = self._context.collective_check
        check.steps += 1  # shown in the messages of replicas that wait for this one
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
        """Sums the gradients of all replicas, clips and updates in compiled code: the fast path; collective.

        This path cannot clip sparse gradients: with a clip, it does nothing if any replica has a sparse one.

        Args:
            call: name of the call, for messages, e.g. ``"apply_gradients of Adam"``.
            plan: the plan of the batch, with distinct variables of compiled dtypes.
            batch: this replica's gradients.
            coefficients: the coefficients of the plan's rules.
            reduction: sum, mean or weighted mean, and the wire format between nodes.
            clip: the clips of the reduced gradients.
            overlap: the optimizer's overlap, which may have sent gradients of this step early.

        Returns:
            whether the step was made; the same on all replicas.
        """
        ready, valid = (False, False) if overlap is None else overlap.holds(plan, batch, reduction.wire)
        staged, ahead = (False, None) if valid else self._stage_first_block(plan, batch, reduction)
        own = (reduction.weight or 0) << _WEIGHT | ready * _READY | valid * _VALID | staged * _STAGED
        flags = self._agree(call, plan, batch, coefficients, own, ahead)
        some_sparse = reduce(or_, flags) & _SPARSE > 0
        staged = reduce(and_, flags) & _STAGED > 0
        overlapped = reduce(and_, flags) & _VALID > 0 and len(set(flags)) == 1  # same weights
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
        early, steps = overlap if overlapped else None, self._context.steps_made
        sums = None if reduction.wire == EXACT else sums_by(self._reduce, reduction.wire, steps)
        end = epilogue(divisor, clip)
        update.sum_and_update(self._reduce, plan, batch, coefficients, end, staged, early, sums)
        self._close(batch)
        if overlap is not None:
            overlap.stepped(plan, batch, reduce(and_, flags) & _READY > 0, reduction.wire)
        return True

    def apply(self, call: str, rounds: Sequence[PlannedUpdate]) -> None:
        """Updates from final gradients, which are the same on all replicas; collective.

        Args:
            call: name of the call, for messages.
            rounds: plan, batch and coefficients of each round; a round contains no variable twice.
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
        """Updates private copies of the variables with this replica's gradients; replicas may then differ."""
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
        """Runs updates that are Python code; collective unless ``alone``.

        Args:
            call: name of the call, for messages.
            updates: the updates. One replica of the node runs each of them, with gradients that are the same
                on all replicas. If ``alone``, this replica runs all of them, on its private copies.
            settings: text with the hyperparameters, which must be the same on all replicas.
            alone: whether the replicas' variables may differ afterwards.
            costs: the relative cost of each update, to balance the load; by default the variable's size.
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
        """Updates moving averages, and overwrites the variables with them if ``step`` says so; collective.

        Args:
            variables: distinct variables that a step has just updated.
            averages: the average of each, which must be in the plan of that step.
            step: the momentum, and whether to overwrite; the same on all replicas.
        """
        move_averages(self._reduce.node, variables, averages, step)

    # -- around a step
    def overlap(self, owner: object) -> Overlap | None:
        """The overlap that sends an optimizer's gradients early; None on one node."""
        if self._reduce.cross.size == 1:
            return None
        found = self._overlaps.get(owner)
        if found is None:
            found = self._overlaps[owner] = Overlap(self._reduce, settings().overlap)
        return found

    def once(self, owner: object, commit: Callable[[], None]) -> None:
        """Runs ``commit`` on each replica, but only once where replicas of one process share ``owner``."""
        local = self._context.world.local
        if local.size > 1 and owner not in self._shared:
            self._shared[owner] = local.run_once(id(owner), lambda ids: len(set(ids)) < len(ids))
        if not (local.size > 1 and self._shared[owner]) or local.rank == 0:
            commit()

    def audit_due(self, owner: object) -> bool:
        """Whether an audit follows the current step of ``owner``."""
        return self.replicas > 1 and self._due(self._steps.get(owner, 0) + 1)

    def counted(self, owner: object) -> bool:
        """Counts a completed step of ``owner``. Returns whether an audit follows it."""
        if self.replicas == 1:
            return False
        step = self._steps[owner] = self._steps.get(owner, 0) + 1
        return self._due(step)

    def _due(self, step: int) -> bool:
        every = self._audit_every
        return every > 0 and step % every == 1 % every

    def shares(self, variables: Sequence[Variable]) -> bool:
        """Whether the replicas of this process train the same Variable objects; collective among them."""
        ids = tuple(id(v) for v in variables)
        local = self._context.world.local
        result: bool = local.size > 1 and local.run_once(ids, lambda everyone: len(set(everyone)) == 1)
        return result

    def released(self, variables: Sequence[Variable]) -> bool:
        """Whether some of the variables have left shared memory, because replicas updated them alone."""
        some = self.replicas > 1 and self.parameters.any_released
        return some and any(map(self.parameters.released, variables))

    # -- before and after
    def _stage_first_block(
        self, plan: StepPlan, batch: GradientBatch, reduction: FusedReduction
    ) -> tuple[bool, Callable[[], None] | None]:
        """Writes the first block to the staging buffer before the header, so that one barrier serves both.

        It does not stage gradients that must be multiplied by weights first: the weights of the other
        replicas are known only after the header.

        Returns:
            whether the block is staged; and, with several nodes, a function that sends it to the other nodes
            while the headers travel.
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
        """Exchanges the step's header, which compares call, variables, coefficients and assigned values.

        Returns:
            the flags of each replica: see ``_SPARSE``.
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
        """Moves the plan's variables and slots to shared memory, and assigns shards."""
        if self.replicas > 1:
            state = plan.state(batch.variables)
            self.parameters.share(self.parameters.assigned(state), plan.columns(batch.variables))
        else:
            self.parameters.keep_private(plan.state(batch.variables))
        plan.place(batch.variables, self.parameters)
        plan.seen = self._placement.moves

    def _make_private(self, variables: Sequence[Variable]) -> None:
        """Takes variables out of shared memory, before this replica updates them alone."""
        if self.replicas > 1:
            self.parameters.release(variables)
        else:
            self.parameters.keep_private(variables)

    def _close(self, batch: GradientBatch) -> None:
        """Waits until the node's replicas have updated their shards; marks the variables as changed."""
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
