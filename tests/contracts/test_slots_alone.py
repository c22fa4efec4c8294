"""What the optimizer keeps lies where every replica sees it: reading needs nobody else."""

import numpy as np
import programs
import pytest

from distopt import Variable, optimizers


@pytest.mark.parametrize("reader", ["first", "last"])
def test_one_replica_reads_slots_and_weights_without_the_others(replicas, reader):
    def program():
        # The large one lies in three pieces, so several replicas update parts of it; the small one in one.
        large, small = Variable(np.zeros(10_001, np.float32)), Variable([0.0, 0.0])
        optimizer = optimizers.SGD(0.5, momentum=0.5)
        gradients = [np.arange(10_001, dtype=np.float32), [1.0, 2.0]]
        read = []
        for _ in range(2):
            optimizer.apply_gradients(zip(gradients, (large, small), strict=True))
            if programs.rank() == (0 if reader == "first" else replicas.size - 1):
                read.append([optimizer.get_slot(v, "momentum").numpy().tolist() for v in (large, small)])
                read.append([np.asarray(weight).tolist() for weight in optimizer.get_weights()])
                read.append([v.numpy().tolist() for v in (large, small)])
        return read

    results = replicas.run(program)
    seen = next(read for read in results if read)
    assert [bool(read) for read in results].count(True) == 1
    total = replicas.size * np.arange(10_001.0), replicas.size * np.array([1.0, 2.0])
    first, second = [(-0.5 * t).tolist() for t in total], [(-0.75 * t).tolist() for t in total]
    both = [(-1.25 * t).tolist() for t in total]
    assert seen == [first, [1, *first], first, second, [2, *second], both]
