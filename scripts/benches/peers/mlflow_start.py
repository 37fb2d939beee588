"""MLflow's model server with one worker: one model a server, so the one that is named."""

import os
import shutil
import sys
from pathlib import Path

import mlflow
from models import FOREST, REGRESSION, SVC_MODEL

MODELS = {"svc": SVC_MODEL, "forest": FOREST, "rows": REGRESSION}
folder = Path(sys.prefix) / "models" / sys.argv[2]  # in its own environment, made anew at each start
shutil.rmtree(folder, ignore_errors=True)
mlflow.sklearn.save_model(MODELS[sys.argv[2]], str(folder), pip_requirements=["scikit-learn"])

programs = Path(sys.executable).parent
os.environ["PATH"] = os.pathsep.join([str(programs), os.environ["PATH"]])  # where it looks for uvicorn
os.environ |= {"UVICORN_ACCESS_LOG": "false", "UVICORN_LOG_LEVEL": "warning", "MLFLOW_DISABLE_TELEMETRY": "true"}
command = [str(programs / "mlflow"), "models", "serve", "--model-uri", str(folder), "--env-manager", "local"]
os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", sys.argv[1], "--workers", "1"])
