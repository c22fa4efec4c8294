"""The names of a compiled model's metrics, by which their results are listed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from distopt.keras.metrics import Metric

__all__ = ["with_names"]

#: A metric, and whether it is given the sample weights.
Entries = list[tuple[Metric, bool]]


def with_names(
    outputs: Sequence[Entries], prefixes: Sequence[str], taken: Collection[str] = ()
) -> list[Entries]:
    """Gives all metrics names by which their results differ, as Keras does.

    The name of an output of several comes first; a weighted metric of the name of one without
    weights gets ``weighted_`` in front. Metrics that their class named are numbered: ``auc``, ``auc_1``.

    Args:
        outputs: the metrics of each output, those without weights first.
        prefixes: what the names of each output's metrics begin with.
        taken: names of other results.

    Returns:
        The same; where one object is in several places, all but the first are copies of it.

    Raises:
        ValueError: two metrics have one name, or one that cannot be copied is in several places.
    """
    names = set(taken)
    seen: set[int] = set()
    found: list[Entries] = []
    for entries, prefix in zip(outputs, prefixes, strict=True):
        found.append([])
        plain = {prefix + _own(metric) for metric, weighted in entries if not weighted}
        for given, weighted in entries:
            own = _own(given)
            metric = _copy(given, own) if id(given) in seen else given
            seen.add(id(given))
            front = f"{prefix}weighted_" if weighted and prefix + own in plain else prefix
            name, number = front + own, 0
            while name in names and metric.named_by_class:
                number += 1
                name = f"{front}{own}_{number}"
            if name in names:
                raise ValueError(
                    f"found two metrics with the name {name!r}: results are listed by name, so give one of "
                    "them another, as in Precision(name='...')"
                )
            names.add(name)
            metric.name_prefix = front  # first: replicas that share the metric may be reading both
            metric.name = name
            found[-1].append((metric, weighted))
    return found


def _own(metric: Metric) -> str:
    """The name that it had before it got one here."""
    return metric.name.removeprefix(metric.name_prefix)


def _copy(metric: Metric, name: str) -> Metric:
    try:
        return type(metric).from_config({**metric.get_config(), "name": name})
    except TypeError as error:
        raise ValueError(
            f"the metric {name!r} is in several places, for outputs or with and without weights, and "
            f"cannot be copied ({error}): make one for each place"
        ) from None
