"""The one fixture that all tests share: a random generator that begins every test in the same state."""

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)
