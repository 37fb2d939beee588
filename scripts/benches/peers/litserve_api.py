"""LitServe with one worker: one model a server, so the one that is named."""

import sys

import litserve
from models import FUNCTIONS, envelope


class Consume(litserve.LitAPI):
    def setup(self, device):
        self.function = FUNCTIONS[sys.argv[2]]

    def decode_request(self, request):
        return request["flower_data"]

    def predict(self, flower_data):
        return self.function(flower_data)

    def encode_response(self, species):
        return envelope(species)


if __name__ == "__main__":
    server = litserve.LitServer(Consume(api_path=f"/{sys.argv[2]}"), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
