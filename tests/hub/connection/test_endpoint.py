"""The Hub's address in the environment, as huggingface_hub then has it."""

from __future__ import annotations

import sys

from tests.support.process import run

ASK = """
from bundler.hub.connection.endpoint import check_endpoint
print(check_endpoint())
from huggingface_hub import hf_hub_url
print(hf_hub_url("org/m", "config.json"))
from bundler.hub.connection.client import HubClient
print(HubClient().endpoint)
"""


def test_an_empty_address_is_the_default() -> None:
    done = run([sys.executable, "-c", ASK], env={"HF_ENDPOINT": ""})
    assert done.returncode == 0, done.stderr
    address, url, client = done.stdout.split()
    assert address == client == "https://huggingface.co"
    assert url == "https://huggingface.co/org/m/resolve/main/config.json"
