"""Threads of a replica: those of the library, the program's own, and two in collective calls at once."""

import contextvars
import threading

import numpy as np

import distopt as tf
from distopt.distribute import get_replica_context
from distopt.keras.data import Dataset


def in_thread(function):
    """What ``function`` returns, or raises, in a thread of its own."""
    result = []

    def run():
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], Exception):
        raise result[0]
    return result[0]


def place():
    context = get_replica_context()
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


def test_a_dataset_read_ahead_sees_its_replica(replicas):
    def program():
        dataset = Dataset.from_tensor_slices(np.arange(4.0)).map(lambda _: np.array(place())).prefetch(2)
        return [np.asarray(pair).tolist() for pair in dataset]

    assert replicas.run(program) == [[[rank, replicas.size]] * 4 for rank in range(replicas.size)]


def test_a_thread_in_a_copy_of_the_context_is_its_starter(replicas):
    def program():
        copy = contextvars.copy_context()
        total = in_thread(lambda: copy.run(lambda: get_replica_context().all_reduce("sum", 2.0)))
        return place(), in_thread(lambda: copy.run(place)), float(total)

    for rank, seen in enumerate(replicas.run(program)):
        assert seen == ((rank, replicas.size), (rank, replicas.size), 2.0 * replicas.size)


def test_a_thread_is_no_daemon_unless_it_is_to_be_one(replicas):
    """Python would not wait for it at the program's end, as it does where each replica is a process."""

    def program():
        return threading.Thread().daemon, threading.current_thread().daemon

    assert replicas.run(program) == [(False, False)] * replicas.size


def test_a_thread_of_no_replica_sees_the_process_or_is_told(replicas):
    def program():
        try:
            return in_thread(place)
        except RuntimeError as error:
            return str(error)

    for rank, seen in enumerate(replicas.run(program)):
        if replicas.kind == "mpi" or replicas.size == 1:
            assert seen == (rank, replicas.size)
        else:
            assert f"belongs to no replica, while {replicas.size} replicas run as threads" in seen
            assert "contextvars.copy_context().run" in seen


def test_a_call_in_the_middle_of_another_threads_step_is_an_error_that_says_so(replicas):
    def program():
        context, told = get_replica_context(), []

        def other():
            try:
                told.append(float(context.all_reduce("sum", 1.0)))
            except RuntimeError as error:
                told.append(str(error))

        def transformer(pairs):
            # The step is not over yet.
            thread = threading.Thread(target=contextvars.copy_context().run, args=(other,), name="other")
            thread.start()
            thread.join()
            return pairs

        v = tf.Variable([1.0])
        optimizer = tf.optimizers.SGD(1.0, gradient_transformers=[transformer])
        optimizer.apply_gradients([([1.0], v)])
        return told, v.numpy().tolist(), float(context.all_reduce("sum", 1.0))

    for told, value, total in replicas.run(program):
        assert value == [1.0 - replicas.size]
        assert total == replicas.size
        if replicas.size == 1:
            assert told == [1.0]
        else:
            assert "two threads of this replica are in collective calls at once" in told[0]
            assert "'other' begins another" in told[0]
