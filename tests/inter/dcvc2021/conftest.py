import sys
from pathlib import Path

import pytest

from dcvc.inter.dcvc2021.config import DCVCConfig

TINY = DCVCConfig(8, 12, 16, 8, (8, 8, 8, 8), 8)


@pytest.fixture
def tiny() -> DCVCConfig:
    return TINY


@pytest.fixture(scope="session")
def published():
    import importlib.util
    spec = importlib.util.spec_from_file_location("published", Path(__file__).parent / "published.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["published"] = module
    spec.loader.exec_module(module)
    return module
