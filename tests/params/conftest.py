"""How hypothesis runs here: nothing kept between runs, no deadline on a busy machine."""

from hypothesis import settings

settings.register_profile("params", database=None, deadline=None, max_examples=200)
settings.load_profile("params")
