"""What holds for every test: how long an example of a law takes is no law, and who runs beside whom."""

import pytest
from hypothesis import settings

# A busy machine may stand still in an example.
settings.register_profile("however-slow", parent=settings(), deadline=None)
settings.load_profile("however-slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of the whole stack to one worker, so that no two of them share two cores; other files stay whole."""
    for item in items:
        lane = "stack" if item.get_closest_marker("stack") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(lane))
