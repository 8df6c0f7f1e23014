"""A stage for each test."""

import pytest
from scenario import Scenario


@pytest.fixture
def web() -> Scenario:
    """The stream `web` of the namespace `shop`, before anything happened."""
    return Scenario()
