"""MLServer and its own scikit-learn runtime, with so many worker processes: 1 is what it has by itself, 0 is quicker."""

import json
import os
import socket
import sys
from pathlib import Path

import joblib
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput
from models import FOREST, REGRESSION, SVC_MODEL

HERE = Path(__file__).parent


class Echo(MLModel):
    """The no-op."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload):
        came = payload.inputs[0]
        output = ResponseOutput(name="predict", shape=came.shape, datatype=came.datatype, data=came.data)
        return InferenceResponse(model_name=self.name, outputs=[output])


def write(path: Path, settings: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def main() -> None:
    folder = Path(sys.prefix) / f"models-{sys.argv[2]}"  # in its own environment, made anew at each start
    with socket.create_server(("127.0.0.1", 0)) as unused:
        ports = {"http_port": int(sys.argv[1]), "grpc_port": unused.getsockname()[1]}
    server = {"debug": False, "parallel_workers": int(sys.argv[2]), "host": "127.0.0.1", "metrics_endpoint": None}
    write(folder / "settings.json", server | ports)
    write(folder / "noop" / "model-settings.json", {"name": "noop", "implementation": "mlserver_start.Echo"})
    for work, model in (("svc", SVC_MODEL), ("forest", FOREST), ("rows", REGRESSION)):
        settings = {"name": work, "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "model.joblib"}}
        write(folder / work / "model-settings.json", settings)
        joblib.dump(model, folder / work / "model.joblib")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])


if __name__ == "__main__":
    main()
