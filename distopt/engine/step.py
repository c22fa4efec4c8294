"""StepEngine: one step of an optimizer on all replicas, at the memory's own speed.

For block after block each replica sums the gradients of its own shard over all replicas and updates
parameters and slots in the same pass, in memory that the node shares. The order of everything that
is added is fixed, so the result does not depend on how many processes or nodes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import and_, or_
from typing import Any
from weakref import WeakKeyDictionary

from distopt.collectives import digest
from distopt.comm import SoloCommunicator
from distopt.core.variable import Variable, moves
from distopt.distribute import ReplicaContext
from distopt.engine import fingerprint, sparse, update
from distopt.engine.audit import audit
from distopt.engine.batch import GradientBatch, weighed_gradient
from distopt.engine.clip import Clip
from distopt.engine.epilogue import epilogue
from distopt.engine.error_barrier import ErrorBarrier, tell
from distopt.engine.owners import Job, Old, run_owned
from distopt.engine.plan import StepPlan
from distopt.engine.reduction import Reduction, lowest_terms
from distopt.engine.shared_parameters import SharedParameters
from distopt.engine.update import Coefficients, Round
from distopt.trace import Recorder

__all__ = ["Coefficients", "StepEngine"]

#: Marks of a header: some gradient is sparse; the first block is staged. The weight stands above.
_SPARSE, _AHEAD, _WEIGHT = 1, 2, 2
_DRIFTED = "Something changed it on one replica only, such as unaggregated gradients or an assignment"
_NOT_ALIKE = (
    "Nothing was applied. Aggregators and transformers must return the same on all replicas; gradients that "
    "are each replica's own go to apply_gradients(..., experimental_aggregate_gradients=False)"
)


class StepEngine:
    """The engine of one replica; :meth:`of` gives it.

    Args:
        context: the replica.

    Attributes:
        replicas: the number of replicas in the job.
        parameters: the variables that it has met, and where they lie.
    """

    def __init__(self, context: ReplicaContext) -> None:
        self._context = context
        self.replicas = context.num_replicas_in_sync
        self._reduce = context.shards
        self.parameters = SharedParameters(context.shards)
        self._steps: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._shared: WeakKeyDictionary[object, bool] = WeakKeyDictionary()
        self._turn = 0
        self._audit_every = context.strategy.options.audit_every
        directory = context.strategy.options.record
        first = context.replica_id_in_sync_group == 0
        self._recorder = Recorder(directory) if directory and first else None

    @classmethod
    def of(cls, context: ReplicaContext) -> StepEngine:
        """The engine of a replica, made when first asked for."""
        engine: StepEngine | None = context.attached.get(cls)
        if engine is None:
            # Making it is collective, so it needs a header of its own.
            context.collective_check.check(
                "an optimizer's first step", 0, lambda: "an optimizer's first step"
            )
            engine = context.attached[cls] = cls(context)
        return engine

    @classmethod
    def describe(cls, context: ReplicaContext) -> str:
        """Where the variables live, and what watches over the replicas, in words; not collective."""
        engine: StepEngine | None = context.attached.get(cls)
        options = context.strategy.options
        audit = f"every {options.audit_every} steps" if options.audit_every else "off"
        abort = f"{options.abort_seconds:g} s" if options.abort_seconds else "never"
        return (
            f"variables: {engine.parameters if engine else 'find their place at the first step'}\n"
            f"watch: headers at every call; audit {audit}; warning after {options.stall_seconds:g} s of "
            f"waiting, end of the job after {abort}"
        )

    # -- the step
    def begin(self, owner: object) -> None:
        """A step of ``owner`` begins. Its headers hold the step's number, so that all make the same one."""
        if self.replicas > 1:
            self._context.collective_check.steps += 1  # for messages of those that wait for this replica
            self._turn = (self._steps.get(owner, 0) + 1 << 40) & (1 << 64) - 1

    def step(
        self,
        call: str,
        plan: StepPlan,
        batch: GradientBatch,
        coefficients: Coefficients,
        reduction: Reduction,
        clip: Clip | None = None,
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

        Returns:
            whether the step was made; the same on all replicas.
        """
        ahead = self._send_ahead(plan, batch, reduction)
        flags = self._agree(call, plan, batch, coefficients, reduction.weight or 0, ahead)
        some_sparse = reduce(or_, flags) & _SPARSE > 0
        if clip is not None and some_sparse:
            return False
        ahead = reduce(and_, flags) & _AHEAD > 0
        if self.replicas > 1 and some_sparse:
            batch = batch.having(sparse.alike(self._context.comm, batch.gradients, batch.variables))
            plan = plan.with_sparse(batch.variables, batch.sparse)
        scale = divisor = None
        if reduction.weight is not None:
            scale, divisor = lowest_terms(reduction.weight, [f >> _WEIGHT for f in flags])
            if divisor == 0:
                raise ValueError(f"{call}: a mean over examples, but no replica has any example")
        if plan.seen != moves.count:
            self._settle(plan, batch)
        if scale is not None:
            batch = batch.having([weighed_gradient(g, scale) for g in batch.gradients])
        self._reduce.staging.half = 0
        then = epilogue(divisor, clip)
        update.sum_and_update(self._reduce, plan, batch, coefficients, then, ahead)
        self._close(batch)
        return True

    def apply(self, call: str, rounds: Sequence[Round]) -> None:
        """Updates from gradients that are final and the same on every replica.

        Args:
            call: who asks, for messages.
            rounds: in each no variable comes twice.
        """
        old: list[Old] = []
        for plan, batch, coefficients in rounds:
            self._agree(call, plan, batch, coefficients)
            if plan.seen != moves.count:
                self._settle(plan, batch)
        for plan, batch, coefficients in rounds:
            update.constrained(self._reduce, plan, batch, coefficients, old)
        for plan, batch, coefficients in rounds:
            update.others(self._reduce, plan, batch, coefficients)
            self._close(batch)

    def apply_alone(self, plan: StepPlan, batch: GradientBatch, coefficients: Coefficients) -> None:
        """Updates this replica's own copies with its own gradients; the replicas may come to differ."""
        self._take_out(plan.state(batch.variables))
        update.alone(self._context.comm, plan, batch, coefficients)
        self._record(batch.variables)

    def run(self, call: str, jobs: Sequence[Job], settings: str, alone: bool = False) -> None:
        """Runs updates that are Python code.

        Args:
            call: who asks, for messages.
            jobs: the updates. Each is run by one replica of the node, with gradients that are the same
                everywhere; or by this replica ``alone``, on its own copies.
            settings: the numbers that they use, in words, which must be the same everywhere too.
            alone: whether replicas may come to differ.
        """
        state = list({id(v): v for _, written, _ in jobs for v in written}.values())
        variables = [v for v, _, _ in jobs]
        if alone or self.replicas == 1:
            self._take_out(state)
            run_owned(SoloCommunicator(), self._context.comm, jobs)
        else:
            assigned = self.parameters.assigned(state)
            about = fingerprint.of_variables(variables) ^ digest(settings) ^ self._turn
            about ^= self._of_changes(state, assigned, self.parameters.unallocated(state))
            said = partial(fingerprint.sentence, call, variables, settings)
            self._context.collective_check.check(call, about, said)
            self._allocate(assigned, [state])
            run_owned(self._reduce.node, self._context.comm, jobs)
        self._record(variables)

    # -- what a step is made of
    def open(self, call: str, batch: GradientBatch) -> Sequence[tuple[Any, Variable]]:
        """The header of a step whose aggregation is Python code; the pairs, sparse and dense made alike."""
        if self.replicas > 1 and any(self.meet(call, batch.variables, int(bool(batch.sparse)))):
            batch = batch.having(sparse.alike(self._context.comm, batch.gradients, batch.variables))
        return batch.pairs()

    def meet(self, call: str, variables: Sequence[Variable], flags: int = 0) -> list[int]:
        """A header alone: all replicas are in this call, on these variables, and none has failed.

        Returns:
            the flags of all replicas.
        """
        about = fingerprint.of_variables(variables) ^ self._turn
        return self._context.collective_check.check(
            call, about, partial(fingerprint.sentence, call, variables), flags=flags
        )

    def any_says(self, call: str, words: str) -> dict[int, str]:
        """What any replica has to say about this step, by number; costs a header while nobody has."""
        flags = self._context.collective_check.check(
            f"{call}, checked,", self._turn, lambda: f"{call}, checked,", flags=bool(words)
        )
        if not any(flags):
            return {}
        told = self._context.comm.gather_bytes(words.encode()) if self.replicas > 1 else [words.encode()]
        return {replica: text.decode() for replica, text in enumerate(told) if text}

    def errors(self, call: str) -> ErrorBarrier:
        """A block whose errors are told to all, so that none goes on without this replica."""
        return ErrorBarrier(self._context, call)

    def tell(self, call: str, error: Exception) -> None:
        """Tells all replicas, which are on their way to ``call``, what this one is about to raise."""
        tell(self._context, call, error)

    def once(self, owner: object, commit: Callable[[], None]) -> None:
        """Runs ``commit`` for every replica; once, where replicas of one process share ``owner``."""
        local = self._context.world.local
        if local.size > 1 and owner not in self._shared:
            self._shared[owner] = local.run_once(id(owner), lambda ids: len(set(ids)) < len(ids))
        if not (local.size > 1 and self._shared[owner]) or local.rank == 0:
            commit()

    def audit_gradients(self, owner: object, call: str, pairs: Sequence[tuple[Any, Variable]]) -> None:
        """Compares what Python code made of the gradients, before a step whose state is audited."""
        if self.replicas > 1 and self._due(self._steps.get(owner, 0) + 1):
            audit(self._context, call, fingerprint.of_gradients(pairs), _NOT_ALIKE)

    def counted(self, owner: object) -> bool:
        """Counts a step of ``owner``; whether it is one after which the replicas' state is compared."""
        if self.replicas == 1:
            return False
        step = self._steps[owner] = self._steps.get(owner, 0) + 1
        return self._due(step)

    def audit(self, call: str, state: Sequence[Variable], settings: str) -> None:
        """Compares the replicas' state and settings."""
        # What all replicas see in one memory cannot part; what each owns may.
        one_memory = self.parameters.shared and self._reduce.cross.size == 1
        apart = [v for v in state if not self.parameters.released(v)]
        own = [v for v in apart if not (one_memory and self.parameters.of(v))]
        audit(self._context, call, [(repr(v.name), v._array()) for v in own], _DRIFTED, settings)

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
    def _send_ahead(self, plan: StepPlan, batch: GradientBatch, reduction: Reduction) -> bool:
        """Stages the first block before the header, so that a small step takes one meeting for both.

        Gradients must go as they are: weights that differ are known after the header only.
        """
        whole = reduction.weight in (None, 1) and not batch.sparse and self._reduce.cross.size == 1
        if not whole or self._reduce.node.size == 1 or not plan.executors:
            return False
        plan.executors[0][1].send_ahead(batch)
        return True

    def _agree(
        self,
        call: str,
        plan: StepPlan,
        batch: GradientBatch,
        coefficients: Coefficients,
        weight: int = 0,
        ahead: bool = False,
    ) -> list[int]:
        """The header: same call, variables and coefficients; what was assigned was assigned alike.

        Returns:
            for each replica its weight and marks: see ``_WEIGHT``.
        """
        flags = weight << _WEIGHT | ahead * _AHEAD | bool(batch.sparse) * _SPARSE
        if self.replicas == 1:
            return [flags]
        about = plan.fingerprint ^ fingerprint.of_coefficients(coefficients) ^ self._turn
        said = partial(fingerprint.step_sentence, call, batch.variables, plan.rules, coefficients)
        if plan.seen != moves.count:
            state = plan.state(batch.variables)
            assigned, new = self.parameters.assigned(state), self.parameters.unallocated(state)
            about ^= self._of_changes(state, assigned, new)
            said = partial(said, assigned, new if len(new) < len({id(v) for v in state}) else ())
        return self._context.collective_check.check(call, about, said, flags=flags)

    def _of_changes(
        self, state: Sequence[Variable], assigned: Sequence[Variable], new: Sequence[Variable]
    ) -> int:
        return fingerprint.contents(assigned) ^ fingerprint.of_unallocated(state, new)

    def _settle(self, plan: StepPlan, batch: GradientBatch) -> None:
        """Sees to it that all variables are where all replicas of the node see them."""
        if self.replicas > 1:
            state = plan.state(batch.variables)
            self._allocate(self.parameters.assigned(state), plan.columns(batch.variables))
        else:
            self.parameters.keep_private(plan.state(batch.variables))
        plan.place(batch.variables, self.parameters)
        plan.seen = moves.count

    def _take_out(self, variables: Sequence[Variable]) -> None:
        """Makes variables this replica's own, for an update that is its own."""
        if self.replicas > 1:
            self.parameters.release(variables)
        else:
            self.parameters.keep_private(variables)

    def _allocate(self, assigned: Sequence[Variable], columns: Sequence[Sequence[Variable]]) -> None:
        if assigned:
            self.parameters.rewrite(assigned)
        for column in columns:
            new = self.parameters.unallocated(column)
            if new:
                self.parameters.allocate(new)

    def _close(self, batch: GradientBatch) -> None:
        """Everyone sees everything updated."""
        if self._reduce.node.size > 1:
            self._reduce.node.barrier()
        for variable in batch.variables:
            variable._version += 1
        if self._recorder is not None:
            self._record(batch.variables)

    def _record(self, variables: Sequence[Variable]) -> None:
        if self._recorder is not None:
            self._recorder.write((v.name, v._array()) for v in variables)
