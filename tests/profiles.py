"""How many examples property tests try: ``--hypothesis-profile quick``, ``long``, or the ordinary number."""

from hypothesis import settings

__all__ = ["LONG", "examples"]

#: Hypothesis's own number of examples, which the profiles scale.
_ORDINARY = 100
LONG = 25 * _ORDINARY

settings.register_profile("quick", max_examples=_ORDINARY // 5, deadline=None)
settings.register_profile("long", max_examples=LONG, deadline=None, print_blob=True)


def examples(number: int) -> int:
    """``number`` of examples, scaled by the profile in force."""
    return max(1, number * settings.default.max_examples // _ORDINARY)
