"""Rubbish: values that people, files and programs hand in by mistake, beside those that are right."""

import math
import string

import numpy as np
from hypothesis import strategies as st

from distopt import IndexedSlices, Tensor, Variable


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def _holding_itself():
    value = [1.0]
    value.append(value)
    return value


integers = st.sampled_from([0, 1, 2, 3, 5, -1, -2, 2**31, 2**63, -(2**63), 10**30])
floats = st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, -1.0, 1e-30, 1e30, 1e308, math.nan, math.inf, -math.inf])
#: Names that must not lead anywhere: to modules, attributes, files.
hostile_names = st.sampled_from(
    [
        *("os.system", "__import__", "eval", "exec", "builtins.eval", "subprocess.Popen", "lambda: 1"),
        *(
            "__class__",
            "__init__",
            "__dict__",
            "__reduce__",
            "numpy.load",
            "canary_module.call",
            "canary_module",
        ),
        *(
            "canary_module:call",
            "../../etc/passwd",
            "/etc/passwd",
            "a\0b",
            "",
            " ",
            "SGD\n",
            "\ud800",
            "x" * 3000,
        ),
    ]
)
names = st.one_of(
    hostile_names, st.text(max_size=8), st.sampled_from(["sgd", "mse", "zeros", "relu", "l2", "sum"])
)
dtypes = st.sampled_from(
    ["f4", "f8", "f2", "i4", "i8", "u1", "?", "c8", "O", "U3", "S3", "M8[s]", "m8[D]", ("i4,f4")]
)
shapes = st.sampled_from([(), (0,), (1,), (2,), (3,), (2, 3), (3, 2), (0, 3), (1, 1, 1), (2, 3, 1)])


@st.composite
def arrays(draw, shape=shapes, dtype=dtypes):
    """Small arrays, also of objects, texts and dates."""
    wanted, kind = draw(shape), np.dtype(draw(dtype))
    array = np.zeros(wanted, kind)
    if kind.kind in "fiu" and array.size:
        array.flat[:] = np.resize(draw(st.sampled_from([[1], [0, 1, 2], [3, 1], [127]])), array.size)
        if kind.kind == "f" and draw(st.booleans()):
            array.flat[0] = draw(
                floats.filter(lambda value: kind.itemsize == 8 or not 1e30 < abs(value) < math.inf)
            )
    return array


scalars = st.one_of(
    *(st.none(), st.booleans(), integers, floats, st.just(1j), names, st.binary(max_size=4)),
    *(
        st.sampled_from(
            [np.float32(0.5), np.int64(2), np.bool_(True), np.datetime64("2020-01-01"), np.str_("a")]
        ),
    ),
)
callables = st.sampled_from([lambda *_, **__: 1.0, lambda *_, **__: "text", lambda *_, **__: None])
objects = st.sampled_from([object(), ..., NotImplemented, ValueError("an error"), Variable, math])
odd = st.one_of(
    *(st.builds(_nested, st.sampled_from([3, 50, 100_000])), st.builds(_holding_itself), callables, objects),
    *(st.builds(lambda: iter([1, 2])), st.just({1, 2}), st.just(range(3)), st.just(frozenset())),
)
tensors = st.one_of(
    arrays(),
    st.builds(Tensor, arrays(dtype=st.sampled_from(["f4", "f8", "i4"]))),
    st.builds(Variable, arrays(dtype=st.sampled_from(["f4", "f8", "i4"]))),
    st.builds(
        IndexedSlices,
        st.one_of(arrays(), scalars),
        st.one_of(arrays(), scalars),
        st.one_of(st.none(), shapes),
    ),
)
#: Anything at all.
rubbish = st.one_of(
    scalars,
    tensors,
    odd,
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.one_of(names, st.integers(0, 2)), inner, max_size=3),
        ),
        max_leaves=5,
    ),
)
#: Anything that JSON or TOML can hold.
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, floats, names),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
words = st.text(string.ascii_letters + string.digits + "-=:,[]()./ \n\0é٣#", max_size=12)


@st.composite
def mutated(draw, value, depth=0):
    """A nested value of dicts and lists with one or several places changed, dropped, doubled or renamed."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        chosen = draw(st.sampled_from(sorted(value)))
        what = draw(st.integers(0, 6))
        changed = dict(value)
        if what == 0:
            del changed[chosen]
        elif what == 1:
            changed[draw(names)] = changed.pop(chosen)
        else:
            changed[chosen] = draw(mutated(value[chosen], depth + 1))
        return changed
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        place = draw(st.integers(0, len(value) - 1))
        what = draw(st.integers(0, 5))
        if what == 0:
            return value[:place] + value[place + 1 :]
        if what == 1:
            return [*value, value[place]]
        return [*value[:place], draw(mutated(value[place], depth + 1)), *value[place + 1 :]]
    return draw(plain)
