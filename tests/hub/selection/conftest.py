"""A Hub with a repo of each kind that a manifest can meet, and the resolving of manifests against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.errors import BundleError, HubError
from bundler.hub.connection.client import HubClient
from bundler.hub.selection.resolve import Resolution, resolve
from bundler.plan.lock import Lock
from bundler.plan.manifest import Manifest
from tests.support.hub import RunningHub

CONFIG = b'{"model_type": "llama"}'
WEIGHTS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"
CARD = b"---\nlicense: mit\n---\n"

HUB_YAML = """\
version: 1
renames:
  old-llama: org/llama
  datasets/old-text: datasets/org/text
gated:
  org/gated: [hf_reader]
tags:
  org/llama: {v1.0: main}
branches:
  org/llama: {dev: _branches/dev}
"""


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repos")
    llama = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}", "README.md": CARD}
    write(root / "org/llama", llama)
    write(root / "_branches/dev", {**llama, "config.json": b'{"model_type": "llama", "dev": true}'})
    write(root / "org/gated", llama)
    write(
        root / "datasets/org/text", {"README.md": CARD, "train.jsonl": b'{"text": "a"}\n', "test.jsonl": b"{}\n"}
    )
    auto_map = {"auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModel": "org/other--modeling_x.XModel"}}
    write(
        root / "org/custom", {**llama, "config.json": json.dumps(auto_map).encode(), "configuration_x.py": b"pass"}
    )
    modules = b'[{"path": "", "type": "org/st-code--custom_st.Module"}]'
    write(root / "org/st", {"modules.json": modules, "model.safetensors": WEIGHTS})
    write(root / "org/st-code", {"custom_st.py": b"class Module: ...\n", "weights.safetensors": WEIGHTS})
    for name, base in {"adapter": "org/llama", "old-adapter": "llama", "lost-adapter": "org/gone"}.items():
        adapter = {"adapter_config.json": json.dumps({"base_model_name_or_path": base}).encode()}
        write(root / f"org/{name}", {**adapter, "adapter_model.safetensors": WEIGHTS})
    (root / "hub.yaml").write_text(HUB_YAML)
    return root


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[RunningHub]:
    # Pages of two: every listing here is longer than one page.
    with RunningHub(folder, page_size=2) as hub:
        yield hub


@pytest.fixture
def hub(running: RunningHub) -> Iterator[RunningHub]:
    running.clear()
    yield running
    running.release()


Locker = Callable[..., Resolution]


@pytest.fixture
def lock(hub: RunningHub) -> Locker:
    """Resolve the text below the head of a manifest."""

    def run(
        body: str, *, notes: list[str] | None = None, previous: Lock | None = None, upgrade: bool = False
    ) -> Resolution:
        client = HubClient(endpoint=hub.endpoint, on_note=(notes if notes is not None else []).append)
        manifest = Manifest.parse(f"version: 1\nname: demo\n{body}")
        return resolve(manifest, client, previous=previous, upgrade=upgrade)

    return run


def refused(lock: Locker, body: str, kind: type[BundleError] = HubError, **options: object) -> BundleError:
    with pytest.raises(kind) as caught:
        lock(body, **options)
    return caught.value
