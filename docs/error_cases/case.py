"""What a case is: a program that goes wrong, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

#: What every program begins with.
PROLOGUE = """\
import numpy as np
import distopt as tf
context = tf.distribute.get_replica_context()
rank = context.replica_id_in_sync_group
"""


@dataclass(frozen=True)
class Case:
    """A row of the page.

    Attributes:
        name: short, and the only one of its name.
        why: what the program has done, for the page.
        cure: what to do, for the page.
        program: the lines after :data:`PROLOGUE`; the one that is to be seen ends with ``# here``.
        replicas: how many run it.
        argv: the arguments of ``distoptrun`` that are wrong, instead of a program.
        environ: variables that are set for it.
        needs: the package without which the program cannot run; empty if there is none.
        shown: how the page shows the error where no script can provoke it in one process.
    """

    name: str
    why: str
    cure: str
    program: str = ""
    replicas: int = 2
    argv: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    needs: str = ""
    shown: str = ""

    @property
    def source(self) -> str:
        """The whole program."""
        return PROLOGUE + self.program.lstrip("\n")
