"""How hypothesis runs here: nothing kept between runs, and a busy machine is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "params", database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200
)
settings.load_profile("params")
