"""The long form: ``pytest tests/fuzz --hypothesis-profile long``."""

from hypothesis import settings

settings.register_profile("long", max_examples=2500, deadline=None, print_blob=True)
