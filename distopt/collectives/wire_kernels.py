"""Compiled code that turns float32 numbers into those of a wire format, and back.

Pieces of a row are ``[n, 4]`` int64: the variable, the first element there, the length, the place in the row.
A group with a number that is not finite becomes NaN as a whole, so that it is seen on all replicas; bf16,
which has no groups, keeps infinities and NaN where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from distopt.collectives.wire_formats import WIRE_FORMATS
from distopt.comm.precompile import precompiled

__all__ = ["decoder", "encoder"]

#: Without the types that Numba gives them.
inlined: Any = register_jitable

_GROUP_FP16, _GROUP_INT8 = WIRE_FORMATS["fp16"].group, WIRE_FORMATS["int8"].group
_MAGNITUDE, _INFINITY = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
#: The least magnitude that scales are made for: 127 x 2**-126, so that scale and inverse are normal numbers.
_LEAST_INT8 = np.float32(127 * 2.0**-126)
_ONE_24TH = np.float32(2.0**-24)
_HALF, _HALF_BITS = np.float32(0.5), np.uint32(0x3F000000)
#: Of a half's bits, moved to where those of a float32 stand, to its value.
_REBIAS = np.float32(2.0**112)
_REBIAS_BITS = np.uint32(112 << 23)
#: 2**-14 in bits: the least normal half.
_NORMAL = np.uint32(0x38800000)
#: The largest int8 whose negative is one too.
_LEVELS = np.float32(127)


@cache
def encoder(name: str) -> Callable[..., None]:
    """``(row, its bits, pieces, key, scales, values)``: fills scales and values, in the order of the pieces.

    Args:
        name: the wire format's.
    """
    function, values = _ENCODERS[name]
    row = types.Array(types.float32, 1, "C", readonly=True)
    bits = types.Array(types.uint32, 1, "C", readonly=True)
    signature = types.void(row, bits, types.int64[:, ::1], types.uint64, types.float32[::1], values[::1])
    return precompiled(signature)(function)  # type: ignore[no-any-return]


@cache
def decoder(name: str) -> Callable[..., None]:
    """``(scales, values, pieces, row, its bits)``: fills a row, as the encoder has read one."""
    function, values = _DECODERS[name]
    signature = types.void(
        types.float32[::1], values[::1], types.int64[:, ::1], types.float32[::1], types.uint32[::1]
    )
    return precompiled(signature)(function)  # type: ignore[no-any-return]


@inlined
def _largest(bits):  # type: ignore[no-untyped-def]
    """The bits of the largest magnitude; of NaN or infinity if there is one."""
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = max(largest, np.uint32(bits[i] & _MAGNITUDE))
    return largest


@inlined
def _mixed(key):  # type: ignore[no-untyped-def]
    """SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@inlined
def _uniform(element, low, high):  # type: ignore[no-untyped-def]
    """A number in [0, 1) that looks random; an integer hash of 32 bits that is keyed between its rounds."""
    x = np.uint32(np.uint32(element) * np.uint32(0x9E3779B1) + low)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)) ^ high
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    x = x ^ (x >> np.uint32(16))
    return np.float32(np.int32(x >> np.uint32(8))) * _ONE_24TH


def _encode_bf16(row, bits, pieces, key, scales, values):  # type: ignore[no-untyped-def]  # noqa: ARG001
    at = 0
    for k in range(len(pieces)):
        place, length = pieces[k, 3], pieces[k, 2]
        source, target = bits[place : place + length], values[at : at + length]
        at += length
        for i in range(source.size):
            x = source[i]
            rounded = np.uint32(x + np.uint32(0x7FFF) + ((x >> np.uint32(16)) & np.uint32(1)))
            quiet = np.uint32(x | np.uint32(0x400000))
            kept = quiet if np.uint32(x & _MAGNITUDE) > _INFINITY else rounded
            target[i] = np.uint16(kept >> np.uint32(16))


def _decode_bf16(scales, values, pieces, row, bits):  # type: ignore[no-untyped-def]  # noqa: ARG001
    at = 0
    for k in range(len(pieces)):
        place, length = pieces[k, 3], pieces[k, 2]
        source, target = values[at : at + length], bits[place : place + length]
        at += length
        for i in range(source.size):
            target[i] = np.uint32(source[i]) << np.uint32(16)


@inlined
def _half(x):  # type: ignore[no-untyped-def]
    """The bits of the nearest half, ties to even, of a float32 below its largest number."""
    bits = np.float32(x).view(np.uint32)
    magnitude = np.uint32(bits & _MAGNITUDE)
    odd = np.uint32(magnitude >> np.uint32(13)) & np.uint32(1)
    normal = np.uint32(magnitude - _REBIAS_BITS + np.uint32(0xFFF) + odd) >> np.uint32(13)
    # Below the normal ones halves are multiples of 2**-24, as float32 numbers from 0.5 to 1 are.
    small = np.uint32(np.float32(abs(np.float32(x)) + _HALF).view(np.uint32) - _HALF_BITS)
    kept = normal if magnitude >= _NORMAL else small
    return np.uint16(np.uint32(kept) | (np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000)))


def _encode_fp16(row, bits, pieces, key, scales, values):  # type: ignore[no-untyped-def]  # noqa: ARG001
    at = group = 0
    for k in range(len(pieces)):
        end = pieces[k, 3] + pieces[k, 2]
        for begin in range(pieces[k, 3], end, _GROUP_FP16):
            stop = min(begin + _GROUP_FP16, end)
            source, target = row[begin:stop], values[at : at + stop - begin]
            at += stop - begin
            largest = _largest(bits[begin:stop])
            # The largest becomes one of 2**14 up to 2**15, so that all of a half's range is below it.
            exponent = np.int64(largest >> np.uint32(23)) - 127 - 14
            exponent = max(exponent, np.int64(-126))
            inverse = np.float32(2.0**-exponent)
            scales[group] = np.float32(2.0**exponent) if largest < _INFINITY else np.float32(np.nan)
            group += 1
            for i in range(source.size):
                target[i] = _half(source[i] * inverse)


def _decode_fp16(scales, values, pieces, row, bits):  # type: ignore[no-untyped-def]  # noqa: ARG001
    at = group = 0
    for k in range(len(pieces)):
        end = pieces[k, 3] + pieces[k, 2]
        for begin in range(pieces[k, 3], end, _GROUP_FP16):
            stop = min(begin + _GROUP_FP16, end)
            source, target, scale = values[at : at + stop - begin], row[begin:stop], scales[group]
            at += stop - begin
            group += 1
            for i in range(source.size):
                x = np.uint32(source[i])
                sign = np.uint32((x & np.uint32(0x8000)) << np.uint32(16))
                moved = np.uint32(np.uint32((x & np.uint32(0x7FFF)) << np.uint32(13)) | sign)
                target[i] = np.uint32(moved).view(np.float32) * _REBIAS * scale


def _encode_int8(row, bits, pieces, key, scales, values):  # type: ignore[no-untyped-def]
    at = group = 0
    for k in range(len(pieces)):
        own = _mixed(key + np.uint64(pieces[k, 0] + 1) * np.uint64(0x9E3779B97F4A7C15))
        low, high = np.uint32(own & np.uint64(0xFFFFFFFF)), np.uint32(own >> np.uint64(32))
        first, end = pieces[k, 1] - pieces[k, 3], pieces[k, 3] + pieces[k, 2]
        for begin in range(pieces[k, 3], end, _GROUP_INT8):
            stop = min(begin + _GROUP_INT8, end)
            source, target = row[begin:stop], values[at : at + stop - begin]
            at += stop - begin
            largest = _largest(bits[begin:stop])
            finite = largest < _INFINITY
            most = max(np.uint32(largest).view(np.float32), _LEAST_INT8) if finite else np.float32(1)
            scales[group] = most / _LEVELS if finite else np.float32(np.nan)
            group += 1
            inverse, element = _LEVELS / most, np.uint32(first + begin)
            for i in range(source.size):
                drawn = _uniform(np.uint32(element + np.uint32(i)), low, high)
                level = np.floor(source[i] * inverse + drawn)
                target[i] = np.int8(np.int32(min(max(level, -_LEVELS), _LEVELS)))


def _decode_int8(scales, values, pieces, row, bits):  # type: ignore[no-untyped-def]  # noqa: ARG001
    at = group = 0
    for k in range(len(pieces)):
        end = pieces[k, 3] + pieces[k, 2]
        for begin in range(pieces[k, 3], end, _GROUP_INT8):
            stop = min(begin + _GROUP_INT8, end)
            source, target, scale = values[at : at + stop - begin], row[begin:stop], scales[group]
            at += stop - begin
            group += 1
            for i in range(source.size):
                target[i] = np.float32(source[i]) * scale


_ENCODERS: dict[str, tuple[Any, Any]] = {
    "bf16": (_encode_bf16, types.uint16),
    "fp16": (_encode_fp16, types.uint16),
    "int8": (_encode_int8, types.int8),
}
_DECODERS: dict[str, tuple[Any, Any]] = {
    "bf16": (_decode_bf16, types.uint16),
    "fp16": (_decode_fp16, types.uint16),
    "int8": (_decode_int8, types.int8),
}
