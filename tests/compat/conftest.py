"""The fixtures of tests/integration, for these tests too. With HULSE_TEST_BROKER they run against another broker."""
import importlib.util
import pathlib
import sys

INTEGRATION = pathlib.Path(__file__).resolve().parents[1] / "integration"
sys.path.insert(0, str(INTEGRATION))
_spec = importlib.util.spec_from_file_location("integration_conftest", INTEGRATION / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

client = _fixtures.client
connect = _fixtures.connect
module_workshop = _fixtures.module_workshop
standalone = _fixtures.standalone
topic = _fixtures.topic
workshop = _fixtures.workshop
pytest_runtest_makereport = _fixtures.pytest_runtest_makereport
