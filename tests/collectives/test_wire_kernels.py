"""Numbers in wire formats, beside NumPy's."""

import numpy as np
import pytest

from distopt.collectives.wire_formats import WIRE_FORMATS
from distopt.collectives.wire_kernels import decoder, encoder


def pieces_of(size, first=0):
    rows = [(3, first + at, min(4096, size - at), at) for at in range(0, size, 4096)]
    return np.array(rows, np.int64).reshape(-1, 4)


def there_and_back(name, x, key=5, first=0):
    wire, pieces = WIRE_FORMATS[name], pieces_of(x.size, first)
    message = np.empty(wire.nbytes(wire.scales(pieces), x.size), np.uint8)
    scales, values = wire.parts(message, wire.scales(pieces))
    encoder(name)(x, x.view(np.uint32), pieces, np.uint64(key), scales, values)
    out = np.empty_like(x)
    decoder(name)(scales, values, pieces, out, out.view(np.uint32))
    return out, message.size


@pytest.fixture(scope="module")
def numbers():
    """Of all magnitudes that bf16 keeps apart from infinity and zero, and some of which it does not."""
    generator = np.random.default_rng(0)
    return (generator.normal(size=9000) * 10.0 ** generator.integers(-36, 37, 9000)).astype("f4")


def test_bf16_is_the_nearest_with_8_bits(numbers):
    mantissa, exponent = np.frexp(numbers.astype("f8"))
    expected = np.ldexp(np.rint(mantissa * 256) / 256, exponent)
    found, nbytes = there_and_back("bf16", numbers)
    assert nbytes == 2 * numbers.size
    np.testing.assert_array_equal(found, expected.astype("f4"))
    assert np.abs(found / numbers.astype("f8") - 1).max() <= 2.0**-8
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 3.4e38], "f4")
    found, _ = there_and_back("bf16", special)
    np.testing.assert_array_equal(found, [np.inf, -np.inf, np.nan, 0, -0.0, np.inf])
    assert np.signbit(found).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-42, 1e37, 0.0])
def test_fp16_is_numpys_half_scaled_by_a_power_of_two(scale):
    generator = np.random.default_rng(1)
    x = (generator.normal(size=5000) * 10.0 ** -generator.integers(0, 12, 5000) * scale).astype("f4")
    expected = np.empty_like(x)
    for at in range(0, x.size, 4096):
        group = x[at : at + 4096]
        power = max(int(np.frexp(np.abs(group).max())[1]) - 1, -112) - 14 if group.any() else 0
        halves = np.ldexp(group, -power).astype(np.float16)
        expected[at : at + 4096] = np.ldexp(halves.astype("f4"), power)
    found, nbytes = there_and_back("fp16", x)
    assert nbytes == 2 * 5000 + 4 * 2
    np.testing.assert_array_equal(found, expected)


def test_int8_is_one_of_the_two_levels_beside_a_number():
    x = np.random.default_rng(2).normal(size=5000).astype("f4")
    levels = np.concatenate([np.full(len(g), np.abs(g).max() / 127) for g in _groups(x)])
    found, nbytes = there_and_back("int8", x)
    assert nbytes == 5000 + 4 * 10
    below, exact = np.floor(x / levels), x / levels
    up = np.rint(found / levels) - below
    assert set(up.tolist()) == {0, 1}
    assert np.abs(found - x).max() <= levels.max()
    # It goes up as often as the number is near the upper one; each draw has a variance of 1/4 at most.
    assert abs((up - (exact - below)).sum()) < 5 * np.sqrt(5000 / 4)
    for part in np.array_split(np.argsort(exact - below), 10):
        assert abs((up - (exact - below))[part].sum()) < 5 * np.sqrt(500 / 4)


def test_int8_draws_by_key_and_element_alone():
    x = np.random.default_rng(3).normal(size=8192).astype("f4")
    whole, _ = there_and_back("int8", x)
    part, _ = there_and_back("int8", x[4096:], first=4096)
    np.testing.assert_array_equal(whole[4096:], part)
    other, _ = there_and_back("int8", x, key=6)
    moved = there_and_back("int8", x, first=1)[0]
    for found in (other, moved):  # rounded the other way with a chance of about 1/3
        assert 0.25 < np.mean(found != whole) < 0.42


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_one_bad_number_spoils_its_group(name):
    x = np.ones(9000, "f4")
    x[[10, 8999]] = np.nan, -np.inf
    found, _ = there_and_back(name, x)
    size = WIRE_FORMATS[name].group
    groups = {10 // size, (4096 // size if size < 4096 else 1) * 2 + (8999 - 8192) // size}
    bad = sorted({int(i) // size for i in np.flatnonzero(~np.isfinite(found))})
    assert bad == sorted(groups)
    assert not np.isfinite(found[[10, 8999]]).any()


@pytest.mark.parametrize("magnitude", [3e38, 1e-37, 1e-44])
def test_int8_of_extreme_magnitudes(magnitude):
    x = (np.random.default_rng(4).uniform(-1, 1, 600) * magnitude).astype("f4")
    found, _ = there_and_back("int8", x)
    assert np.isfinite(found).all()
    assert np.abs(found - x).max() <= max(magnitude / 127, 2.0**-126) * 1.001


def _groups(x):
    return [
        x[at : at + 512]
        for piece in range(0, x.size, 4096)
        for at in range(piece, min(piece + 4096, x.size), 512)
    ]
