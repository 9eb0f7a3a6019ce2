"""What every test may ask for."""

from hypothesis import settings

pytest_plugins = ["tests.redis_server"]

settings.register_profile("house", deadline=None)  # a machine that is busy makes no property wrong
settings.load_profile("house")
