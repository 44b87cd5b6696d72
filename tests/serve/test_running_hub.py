"""The faults that other tests rely on really happen."""

from __future__ import annotations

import http.client
import threading

import pytest

from tests.serve.conftest import WEIGHTS
from tests.support.hub import RunningHub

PATH = "/org/model/resolve/main/model.safetensors"


def test_a_body_is_corrupted_once_or_always_at_its_full_length(hub: RunningHub) -> None:
    wrong = bytearray(WEIGHTS)
    wrong[70_000] ^= 1
    once = hub.fault("corrupt", "model.safetensors", at=70_000)
    assert [hub.ask("GET", PATH).body for _ in range(2)] == [bytes(wrong), WEIGHTS]
    hub.fault("corrupt", "model.safetensors", at=70_000, times=None)
    assert [hub.ask("GET", PATH).body for _ in range(2)] == [bytes(wrong)] * 2
    assert once.taken == 1


def test_a_dropped_body_ends_before_its_announced_length(hub: RunningHub) -> None:
    hub.fault("drop", "model.safetensors", after_bytes=1000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        hub.ask("GET", PATH)
    assert caught.value.partial == WEIGHTS[:1000]


@pytest.mark.parametrize("after_bytes", [None, 1000])
def test_an_answer_hangs_until_it_is_released(hub: RunningHub, after_bytes: int | None) -> None:
    fault = hub.fault("hang", "model.safetensors", after_bytes=after_bytes)
    bodies: list[bytes] = []
    asking = threading.Thread(target=lambda: bodies.append(hub.ask("GET", PATH).body))
    asking.start()
    while not fault.taken:
        pass
    # Another request is answered meanwhile.
    assert hub.ask("GET", PATH).body == WEIGHTS
    assert bodies == []
    hub.release()
    asking.join()
    assert bodies == [WEIGHTS]


def test_refusals_meet_every_method_for_as_long_as_asked(hub: RunningHub) -> None:
    hub.fault("status", "config.json", status=502, times=2)
    hub.fault("rate_limit", "config.json", retry_after="7")
    hub.fault("gated", "config.json")
    answers = [hub.ask("HEAD", "/org/model/resolve/main/config.json") for _ in range(5)]
    assert [answer.status for answer in answers] == [502, 502, 429, 401, 200]
    assert answers[2].headers["retry-after"] == "7"
    assert answers[3].headers["x-error-code"] == "GatedRepo"
    assert [request.status for request in hub.requests] == [502, 502, 429, 401, 200]
