"""The fixtures of tests/integration, and a seed that is printed: HULSE_FAULT_SEED repeats a run, HULSE_FAULT_ROUNDS
makes it that many times as long."""
import importlib.util
import os
import pathlib
import random
import sys

import pytest

INTEGRATION = pathlib.Path(__file__).resolve().parents[1] / "integration"
sys.path.insert(0, str(INTEGRATION))
_spec = importlib.util.spec_from_file_location("integration_conftest_of_faults", INTEGRATION / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

connect = _fixtures.connect
topic = _fixtures.topic
workshop = _fixtures.workshop
pytest_runtest_makereport = _fixtures.pytest_runtest_makereport


@pytest.fixture
def dice(capsys):
    seed = int(os.environ.get("HULSE_FAULT_SEED", random.SystemRandom().randrange(1 << 32)))
    with capsys.disabled():
        print(f" seed {seed} ", end="", flush=True)
    return random.Random(seed)


@pytest.fixture
def rounds():
    return int(os.environ.get("HULSE_FAULT_ROUNDS", 1))
