"""BentoML with one worker."""

import bentoml
from models import FUNCTIONS, envelope


@bentoml.service(workers=1, traffic={"timeout": 30})
class Consume:
    @bentoml.api(route="/noop")
    def noop(self, flower_data: list) -> dict:
        return envelope(FUNCTIONS["noop"](flower_data))

    @bentoml.api(route="/svc")
    def svc(self, flower_data: list) -> dict:
        return envelope(FUNCTIONS["svc"](flower_data))

    @bentoml.api(route="/forest")
    def forest(self, flower_data: list) -> dict:
        return envelope(FUNCTIONS["forest"](flower_data))

    @bentoml.api(route="/rows")
    def rows(self, flower_data: list) -> dict:
        return envelope(FUNCTIONS["rows"](flower_data))
