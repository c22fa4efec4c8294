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
from distopt.core.indexed_slices import IndexedSlices
from distopt.core.variable import Variable, detachments
from distopt.distribute import ReplicaContext, get_replica_context
from distopt.engine import passes, sparse, subject
from distopt.engine.alone import update_alone
from distopt.engine.audit import audit
from distopt.engine.clip import Clip
from distopt.engine.constraints import update_constrained
from distopt.engine.fold import Fold
from distopt.engine.homes import Homes
from distopt.engine.owners import Job, Old, run_owned
from distopt.engine.plan import Group, Plan, columns_of
from distopt.engine.ring import Ring
from distopt.engine.sums import Sums
from distopt.engine.together import Together
from distopt.engine.update import Reduction, Targets, Updates, lowest_terms
from distopt.trace import Recorder

__all__ = ["StepEngine"]

#: Plans of one optimizer for one list of variables: one for each set of sparse gradients.
_PLANS = 32
#: Marks of a header: some gradient is sparse; the first block is in the ring. The weight stands above.
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
    """

    def __init__(self, context: ReplicaContext) -> None:
        self._context = context
        #: The number of replicas in the job.
        self.replicas = context.num_replicas_in_sync
        self.homes = Homes(context, context.strategy.options)
        self._ring = Ring(context.comm, self.homes.node, self.homes.cross)
        if self.replicas > 1:
            context.sums = Sums(self._ring, self.homes.node)
        self._plans: WeakKeyDictionary[Targets, dict[tuple[int, ...], Plan]] = WeakKeyDictionary()
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
            context.agreement.check("an optimizer's first step", 0, lambda: "an optimizer's first step")
            engine = context.attached[cls] = cls(context)
        return engine

    @classmethod
    def current(cls) -> StepEngine:
        """The engine of the replica that this code runs in.

        Raises:
            RuntimeError: in cross-replica context.
        """
        context = get_replica_context()
        if context is None:
            raise RuntimeError("a step is made in replica context: enter it with Strategy.run")
        return cls.of(context)

    @classmethod
    def describe(cls, context: ReplicaContext) -> str:
        """Where the variables live, and what watches over the replicas, in words; not collective."""
        engine: StepEngine | None = context.attached.get(cls)
        options = context.strategy.options
        audit = f"every {options.audit_every} steps" if options.audit_every else "off"
        abort = f"{options.abort_seconds:g} s" if options.abort_seconds else "never"
        return (
            f"variables: {engine.homes if engine else 'find their place at the first step'}\n"
            f"watch: headers at every call; audit {audit}; warning after {options.stall_seconds:g} s of "
            f"waiting, end of the job after {abort}"
        )

    # -- the step
    def begin(self, owner: object) -> None:
        """A step of ``owner`` begins. Its headers hold the step's number, so that all make the same one."""
        if self.replicas > 1:
            self._context.agreement.steps += 1  # for messages of those that wait for this replica
            self._turn = (self._steps.get(owner, 0) + 1 << 40) & (1 << 64) - 1

    def step(self, call: str, updates: Updates, reduction: Reduction, clip: Clip | None = None) -> bool:
        """Sums the gradients of all replicas, clips, and updates: the fast path, in one pass.

        Sparse gradients are not clipped in this way: if any replica has one, nothing is done.

        Args:
            call: who asks, for messages, e.g. ``"apply_gradients of Adam"``.
            updates: one for each variable; no variable twice.
            reduction: how the sum becomes the gradient.
            clip: clips of the reduced gradients.

        Returns:
            whether the step was made; the same on all replicas.
        """
        whole = clip is not None and clip.global_norm is not None
        plan = self._plan(updates, whole)
        ahead = self._send_ahead(plan, updates, reduction)
        flags = self._agree(call, plan, updates, reduction.weight or 0, ahead)
        some_sparse = reduce(or_, flags) & _SPARSE > 0
        if clip is not None and some_sparse:
            return False
        self._ring.open(reduce(and_, flags) & _AHEAD > 0)
        if self.replicas > 1 and some_sparse:
            updates = self._alike(updates)
            plan = self._plan(updates, whole)
        scale, divisor = lowest_terms(reduction.weight, [f >> _WEIGHT for f in flags])
        if divisor == 0:
            raise ValueError(f"{call}: a mean over examples, but no replica has any example")
        self._bring_home(plan, updates)
        then = Fold(divisor, None if clip is None else clip.value)

        def update(group: Group) -> None:
            flats, first = updates.flats(group.members, scale), updates[group.members[0]]
            if clip is not None and clip.needs_norms:
                passes.two_passes(self._ring, self.homes.node, group, first, flats, then, clip)
            else:
                passes.one_pass(self._ring, group, first, flats, then)

        update_constrained(self.homes.node, self._context.comm, plan, updates, update, [])
        for u in updates if plan.sparse else ():
            if isinstance(u.gradient, IndexedSlices):
                rows, indices = sparse.reduced(
                    self._context.comm, u.gradient, len(u.variable), scale, divisor
                )
                sparse.apply_rows(u, rows, indices, self.homes.node)
        for group in plan.others:
            update(group)
        self._close(updates)
        return True

    def apply(self, call: str, updates: Updates) -> None:
        """Updates from gradients that are final and the same on every replica."""
        begun, old = [], list[Old]()
        for batch in updates.rounds():
            plan = self._plan(batch)
            self._agree(call, plan, batch)
            self._bring_home(plan, batch)
            own = partial(self._update_own, batch)
            update_constrained(self.homes.node, self._context.comm, plan, batch, own, old)
            begun.append((plan, batch))
        for plan, batch in begun:
            for u in batch if plan.sparse else ():
                if isinstance(u.gradient, IndexedSlices):
                    sparse.apply_rows(u, *sparse.summed(u.gradient), self.homes.node)
            for group in plan.others:
                self._update_own(batch, group)
            self._close(batch)

    def apply_alone(self, updates: Updates) -> None:
        """Updates this replica's own copies with its own gradients; the replicas may come to differ."""
        self._take_out(_state(updates))
        update_alone(self._context.comm, updates)
        self._record(updates.variables)

    def run(self, call: str, jobs: Sequence[Job], settings: str) -> None:
        """Runs updates that are Python code, each on its owner; gradients are the same everywhere.

        Args:
            call: who asks, for messages.
            jobs: the updates.
            settings: the numbers that they use, in words, which must be the same everywhere too.
        """
        state = list({id(v): v for _, written, _ in jobs for v in written}.values())
        if self.replicas > 1:
            assigned = self.homes.assigned(state)
            variables = [v for v, _, _ in jobs]
            about = subject.of_variables(variables) ^ digest(settings) ^ self._turn
            about ^= subject.contents(assigned) ^ subject.newcomers(state, self.homes.strangers(state))
            said = partial(subject.joined, call, variables, settings)
            self._context.agreement.check(call, about, said)
            self._house(assigned, [state])
        else:
            self.homes.keep_off(state)
        run_owned(self.homes.node, self._context.comm, jobs)
        self._record([v for v, _, _ in jobs])

    def run_alone(self, jobs: Sequence[Job]) -> None:
        """Runs updates that are Python code on this replica's own copies."""
        self._take_out([v for _, written, _ in jobs for v in written])
        run_owned(SoloCommunicator(), self._context.comm, jobs)
        self._record([v for v, _, _ in jobs])

    # -- what a step is made of
    def open(self, call: str, pairs: Sequence[tuple[Any, Variable]]) -> Sequence[tuple[Any, Variable]]:
        """The header of a step whose aggregation is Python code; sparse and dense made alike."""
        if self.replicas == 1:
            return pairs
        variables = [v for _, v in pairs]
        gradients = [g for g, _ in pairs]
        has_sparse = any(isinstance(g, IndexedSlices) for g in gradients)
        if any(self.meet(call, variables, int(has_sparse))):
            gradients = sparse.alike(self._context.comm, gradients, variables)
        return tuple(zip(gradients, variables, strict=True))

    def meet(self, call: str, variables: Sequence[Variable], flags: int = 0) -> list[int]:
        """A header alone: all replicas are in this call, on these variables, and none has failed.

        Returns:
            the flags of all replicas.
        """
        about = subject.of_variables(variables) ^ self._turn
        return self._context.agreement.check(
            call, about, partial(subject.joined, call, variables), flags=flags
        )

    def any_says(self, call: str, words: str) -> dict[int, str]:
        """What any replica has to say about this step, by number; costs a header while nobody has."""
        flags = self._context.agreement.check(
            f"{call}, checked,", self._turn, lambda: f"{call}, checked,", flags=bool(words)
        )
        if not any(flags):
            return {}
        told = self._context.comm.gather_bytes(words.encode()) if self.replicas > 1 else [words.encode()]
        return {replica: text.decode() for replica, text in enumerate(told) if text}

    def together(self, call: str) -> Together:
        """What this replica raises inside is told to all, so that none goes on without it."""
        return Together(self._context, call)

    def once(self, owner: object, commit: Callable[[], None]) -> None:
        """Runs ``commit`` for every replica; once, where replicas of one process share ``owner``."""
        comm = self._context.comm
        if comm.local_size > 1 and owner not in self._shared:
            self._shared[owner] = comm.locally(id(owner), lambda ids: len(set(ids)) < len(ids))
        if not (comm.local_size > 1 and self._shared[owner]) or comm.local_index == 0:
            commit()

    def audit_gradients(self, owner: object, call: str, pairs: Sequence[tuple[Any, Variable]]) -> None:
        """Compares what Python code made of the gradients, before a step whose state is audited."""
        if self.replicas > 1 and self._due(self._steps.get(owner, 0) + 1):
            audit(self._context, call, subject.of_gradients(pairs), _NOT_ALIKE)

    def audited(
        self, owner: object, call: str, state: Callable[[], Sequence[Variable]], settings: Callable[[], str]
    ) -> None:
        """Compares the replicas' state at the first step of ``owner`` and at every so-many-th after."""
        if self.replicas == 1:
            return
        step = self._steps[owner] = self._steps.get(owner, 0) + 1
        if self._due(step):
            # What all replicas see in one memory cannot part; what each owns may.
            one_memory = self.homes.shared and self.homes.cross.size == 1
            apart = [v for v in state() if not self.homes.released(v)]
            own = [v for v in apart if not (one_memory and self.homes.of(v))]
            audit(self._context, call, [(repr(v.name), v._array()) for v in own], _DRIFTED, settings())

    def _due(self, step: int) -> bool:
        every = self._audit_every
        return every > 0 and step % every == 1 % every

    def shares(self, variables: Sequence[Variable]) -> bool:
        """Whether replicas of this process train the same Variable objects; they meet to find out."""
        ids = tuple(id(v) for v in variables)
        result: bool = self._context.comm.local_size > 1 and self._context.comm.locally(
            ids, lambda everyone: len(set(everyone)) == 1
        )
        return result

    def released(self, variables: Sequence[Variable]) -> bool:
        """Whether some of them are each replica's own, since it updated them alone."""
        return self.replicas > 1 and self.homes.any_released and any(map(self.homes.released, variables))

    # -- before and after
    def _plan(self, updates: Updates, whole: bool = False) -> Plan:
        """The plan for these variables, slots and kinds of gradients, kept from step to step."""
        plans, kind = self._plans.setdefault(updates.targets, {}), (whole, *updates.sparse)
        plan = plans.get(kind)
        if plan is None:
            if len(plans) == _PLANS:
                plans.clear()
            plan = plans[kind] = Plan(updates, subject.of_updates(updates), whole)
        return plan

    def _send_ahead(self, plan: Plan, updates: Updates, reduction: Reduction) -> bool:
        """Sends the first block before the header, so that a small step takes one meeting for both.

        Gradients must go as they are: weights that differ are known after the header only.
        """
        if self.homes.node.size == 1 or plan.sparse or not plan.groups or reduction.weight not in (None, 1):
            return False
        group = plan.groups[0]
        return self._ring.send_ahead(group.blocks, updates.flats(group.members))

    def _agree(
        self, call: str, plan: Plan, updates: Updates, weight: int = 0, ahead: bool = False
    ) -> list[int]:
        """The header: same call, variables and coefficients; what was assigned was assigned alike.

        Returns:
            for each replica its weight and marks: see ``_WEIGHT``.
        """
        flags = weight << _WEIGHT | ahead * _AHEAD | plan.sparse * _SPARSE
        if self.replicas == 1:
            return [flags]
        about = plan.subject ^ subject.checksum(updates.coefficients) ^ self._turn
        assigned: list[Variable] = []
        strangers: list[Variable] = []
        if plan.seen != detachments():
            state = _state(updates)
            assigned, strangers = self.homes.assigned(state), self.homes.strangers(state)
            about ^= subject.contents(assigned) ^ subject.newcomers(state, strangers)
        words = subject.words(call, updates, assigned, strangers)
        return self._context.agreement.check(call, about, words, flags=flags)

    def _alike(self, updates: Updates) -> Updates:
        """Makes gradients dense that are sparse here and dense on another replica."""
        return updates.having(sparse.alike(self._context.comm, updates.gradients, updates.variables))

    def _bring_home(self, plan: Plan, updates: Updates) -> None:
        """Sees to it that all variables are where all replicas of the node see them."""
        if self.replicas > 1 and plan.seen != detachments():
            self._house(self.homes.assigned(_state(updates)), columns_of(updates))
            plan.seen = detachments()
            plan.arrange(updates, self.homes)
        elif not plan.arranged:
            self.homes.keep_off(_state(updates))
            plan.arrange(updates, self.homes)

    def _take_out(self, variables: Sequence[Variable]) -> None:
        """Makes variables this replica's own, for an update that is its own."""
        if self.replicas > 1:
            self.homes.release(variables)
        else:
            self.homes.keep_off(variables)

    def _house(self, assigned: Sequence[Variable], columns: Sequence[Sequence[Variable]]) -> None:
        if assigned:
            self.homes.resettle(assigned)
        for column in columns:
            strangers = self.homes.strangers(column)
            if strangers:
                self.homes.settle(strangers)

    def _update_own(self, updates: Updates, group: Group) -> None:
        """Updates this replica's shards of a group from gradients that are final."""
        passes.update_own(group, updates[group.members[0]], updates.flats(group.members), self._ring)

    def _close(self, updates: Updates) -> None:
        """Everyone sees everything updated."""
        if self.homes.shared:
            self.homes.node.barrier()
        for variable in updates.variables:
            variable._version += 1
        self._record(updates.variables)

    def _record(self, variables: Sequence[Variable]) -> None:
        if self._recorder is not None:
            self._recorder.write((v.name, v._array()) for v in variables)


def _state(updates: Updates) -> list[Variable]:
    return [v for u in updates for v in (u.variable, *u.slots)]
