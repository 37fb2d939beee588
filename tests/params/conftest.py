"""How hypothesis runs here: nothing kept between runs, and a busy machine is no failure. And both JSON codecs."""

from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from mlhost.params import jsontext, plainjson, quickjson

settings.register_profile(
    "params", database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200
)
settings.load_profile("params")


@pytest.fixture(params=[quickjson, plainjson], ids=["msgspec", "json"], scope="module")
def codec(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """What `parse` and `render` read and write with: msgspec, and what stands in for it where it cannot be loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsontext, "_read", request.param.read)
        patch.setattr(jsontext, "_items", request.param.items)
        patch.setattr(jsontext, "_write", request.param.write)
        yield request.param
