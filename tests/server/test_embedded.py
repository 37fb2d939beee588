"""A real server with the embedded profile: everything in one process."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.conftest import Start

pytestmark = pytest.mark.untraced

ENDLESS = {
    "sleep": "import time\ntime.sleep(1000)",
    "deaf": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=False).start()",
}


@pytest.mark.parametrize("code", ENDLESS.values(), ids=ENDLESS)
def test_sigterm_ends_a_server_in_which_code_does_not_stop(start: Start, tmp_path: Path, code: str) -> None:
    (tmp_path / "mlhost.toml").write_text('[runtime]\nprofile = "embedded"\n')
    server = start(drain_seconds=0.5)
    token = server.login()
    session = server.call("POST", "/sessions", 201, token, json={"runtimeType": "Python"})["sessionId"]
    with ThreadPoolExecutor() as pool:
        pool.submit(server.call, "POST", f"/sessions/{session}/execute", 410, token, json={"code": code})
        time.sleep(0.5)
        status, said = server.stop()
    assert status == 0, said
