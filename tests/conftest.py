"""What holds for every test: how long an example of a law takes is no law, for a busy machine may stand still in it."""

from hypothesis import settings

settings.register_profile("however-slow", parent=settings(), deadline=None)
settings.load_profile("however-slow")
