"""Settings shared by all tests."""

from hypothesis import HealthCheck, settings

# The same examples in every run, and no verdict that hangs on the clock.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")
