"""What fuzzing starts from: right inputs of every kind, made here, and some that are broken on purpose."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

from bundler.format.index import PREAMBLE, TRAILER_BYTES
from bundler.format.reader import BundleReader
from bundler.format.split import copy_bundle
from bundler.format.storage.destinations import VolumeDestination
from bundler.format.storage.volume_names import volume_files
from bundler.home.receipt import Receipt
from bundler.make.delta import Base
from bundler.make.pack import pack
from bundler.make.sign import sign_bundle
from bundler.plan.lock import Lock
from bundler.trust.paths import signature_path
from bundler.trust.ssh.sshsig import BEGIN, END
from tests.fuzz.differences import difference_seeds
from tests.fuzz.frames import broken_frames, runs, stored
from tests.fuzz.left import left_seeds
from tests.fuzz.parity import parity_seeds
from tests.fuzz.registry import registry_seeds
from tests.hostile.forge import honest_stream
from tests.support.bundles import blob_store, lock_of, locked_repo, tiny_bundle
from tests.support.keys import KINDS, certify, make_key

_WEIGHTS = json.dumps({"w": {"dtype": "BF16", "shape": [64, 64], "data_offsets": [0, 8192]}}).encode()
SAFETENSORS = struct.pack("<Q", len(_WEIGHTS)) + _WEIGHTS + bytes(range(256)) * 32
_FILES = {"config.json": b'{"a": 1}', "model.safetensors": SAFETENSORS, "vocab.txt": b"hello\n" * 99}

_MANIFESTS = [
    "version: 1\nname: tiny\nmodels:\n  - repo_id: org/m\n    revision: main\n    aliases: [m]\n",
    "version: 1\nname: tiny\ntokenizers: [{repo_id: gpt2}]\ndatasets:\n  - repo_id: org/d\n    configs: [a, 'b']\n"
    '    data_files: [{train: "*.csv"}, "x.json"]\n    allow_patterns:\n    - "data/"\n',
    "version: 1\nname: &a tiny\nmodels: [*a, !!int 1, {? [x] : y}, 0x1f, 1e999, .nan, 2027-01-01]\n",
    "version: 1\nname: tiny\nfiles:\n  - url: 'https://a.example/packages/corpora/x.zip'\n    into: nltk_data\n"
    "  - {url: 'https://github.com/a/b/zipball/v1', into: torch_hub, repo: 'a/b:v1'}\n"
    "  - {url: 'https://a.example/', path: a/b.txt, for: [x]}\nmodels: []\n",
    "version: 2\nname: 1.0\nmodels:\n  - repo_id: ../x\n    trust_remote_code: yes\n    allow_pickle: ~\n# \u202e\n",
]
_POLICIES = [
    'version: 1\nrules:\n  - bundles: ["*"]\n    allowed_signers: signers\n    signers: [a@b.c]\n    max_age_days: 9\n'
    "    licenses: {allowed: [Apache-2.0, MIT OR BSD-3-Clause], known: {org/m: MIT}}\n",
    'version: 1\nrules:\n  - bundles: ["prod-?"]\n    signature: optional\n    repos: ["org/*"]\n'
    "    allow_pickle: true\n    allow_remote_code: 1\n",
]
_REQUESTS = [
    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /api/models?search=m&limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /api/models/org/m?blobs=1&expand[]=sha HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /api/models/old HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
    "GET /api/models/org/m/tree/main/deep?recursive=1&expand=true&cursor=a HTTP/1.1\r\nHost: [::1]:9\r\n\r\n",
    "GET /org/m/resolve/main/config.json HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1-3\r\n\r\n",
    'HEAD /org/m/resolve/main/deep%2Fer/vocab.txt HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "x"\r\n\r\n',
    'GET /org/m/resolve/main/vocab.txt HTTP/1.1\r\nHost: localhost\r\nRange: bytes=-5\r\nIf-Range: "x"\r\n\r\n',
    "POST /api/models/org/m/paths-info/main HTTP/1.1\r\nHost: localhost\r\nContent-Length: 23\r\n\r\n"
    "paths=deep&expand=False",
    "POST /api/models/org/m/paths-info/main HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    'Content-Length: 24\r\n\r\n{"paths":["config.json"]}',
    "GET /api/models/org/m/commits/main HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
    "GET /datasets/..%2f..%00/resolve/%ff/%0d%0aX:y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "PUT /api/telemetry/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\nHost: evil.example\r\n\r\n2\r\nab\r\n0\r\n\r\n",
]


def make_seeds(folder: Path) -> dict[str, list[bytes]]:
    """Return the seeds of each target; `folder` is for files of their making."""
    lock = _lock()
    bundle = tiny_bundle(folder, *lock.repos, contents=_FILES.values(), jobs=1)
    whole = bundle.read_bytes()
    text = lock.dumps().encode()
    delta = folder / "delta.tar.zst"
    pack(lock, blob_store(folder / "store", _FILES.values()), delta, base=Base.open(bundle), jobs=1)
    volumes = _cut(bundle)
    index = whole[_index_start(whole) :]
    receipt = Receipt(lock, f"sha256:{'a' * 64}", ["org/left"], has_view=True).dumps()
    plain = [
        text,
        _lock(licenses=["mit"]).dumps().encode(),
        b'{"lock_version": 1, "name": "\\ud800", "repos": [{}]}',
    ]
    return {
        "bundle": [
            *(mode + content for mode in (b"r", b"s") for content in (whole, delta.read_bytes(), *volumes)),
            b"f" + text + b"\0--\0" + honest_stream(lock, _FILES.values()),
            *(b"s" + _with_frames(frames) for frames in broken_frames().values()),
        ],
        "volumes": [mode + b"\0cut\0".join(volumes) for mode in (b"r", b"s")],
        "stream": [b"r" + whole, b"s" + whole, b"s" + delta.read_bytes(), b"v" + b"".join(volumes)],
        "frames": [
            bytes([codec]) + (64 * width).to_bytes(3, "little") + frame * width
            for frame in [*broken_frames().values(), runs(64), stored(bytes(64))]
            for codec, width in ((0, 1), (1, 2), (2, 4), (3, 1))
        ],
        "index": [index, delta.read_bytes()[_index_start(delta.read_bytes()) :]],
        "lock": plain,
        "manifest": [each.encode() for each in _MANIFESTS],
        "receipt": [receipt, receipt.replace(b'"has_view": true,', b'"names": 7,')],
        "policy": _policy_seeds(folder),
        "signature": _signature_seeds(folder, bundle),
        "safetensors": [SAFETENSORS, b"", SAFETENSORS[:99], struct.pack("<Q", 2**63) + b"{}"],
        "serve": [each.encode() for each in _REQUESTS],
        "differences": difference_seeds(),
        "registry": registry_seeds(),
        "left": left_seeds(),
        "parity": parity_seeds(folder),
    }


def _lock(licenses: list[str] | None = None) -> Lock:
    weights = ["model.safetensors"]
    model = locked_repo("org/m", _FILES, aliases=["m"], absent=["x.bin"], lfs=weights, licenses=licenses)
    data = {"data.csv": b"a,b\n1,2\n"}
    dataset = locked_repo("org/d", data, kind="dataset", prepared={"org___d/a.arrow": b"arrow"})
    return lock_of(model, dataset) if licenses else lock_of(model)


def _index_start(bundle: bytes) -> int:
    [size] = struct.unpack_from("<I", bundle, len(bundle) - TRAILER_BYTES + 32)
    return len(bundle) - 8 - int(size)


def _cut(bundle: Path) -> list[bytes]:
    base = bundle.with_name("cut.tar.zst")
    with BundleReader(bundle) as reader:
        size = max(chunk.stored_bytes for chunk in reader.index.chunks) + 2000
        copy_bundle(reader, VolumeDestination(base, size))
    return [path.read_bytes() for path in volume_files(base)]


def _with_frames(frames: bytes) -> bytes:
    """A bundle of one chunk, which holds these frames for 64 bytes."""
    from bundler.files.digest import blake3_bytes
    from bundler.format.index import ChunkRecord, Index, chunk_header, index_frame

    record = ChunkRecord(0, 64, len(frames), blake3_bytes(frames))
    return PREAMBLE + chunk_header(record) + frames + index_frame(Index("tiny", 32, "0" * 64, 64, (record,)))


def _policy_seeds(folder: Path) -> list[bytes]:
    lines = []
    for kind in KINDS:
        lines.append(make_key(folder / "keys", kind, kind).line("a@b.c"))
    options = 'a@*,!x@b.c namespaces="bundle@*,file",valid-before="20270101",valid-after="202001011200Z" '
    signers = [
        "".join(lines),
        options + lines[0].split(" ", 1)[1],
        "a@b.c cert-authority " + lines[1].split(" ", 1)[1],
    ]
    return [policy.encode() + b"\0--\0" + each.encode() for policy in _POLICIES for each in signers]


def _signature_seeds(folder: Path, bundle: Path) -> list[bytes]:
    signer = make_key(folder / "signer")
    certificate = certify(make_key(folder / "authority"), signer, "-V", "always:forever", principals="a@b.c,d")
    certified = base64.b64decode(certificate.read_text().split()[1])
    sign_bundle(bundle, signer.path, sequence=1)
    content = signature_path(bundle).read_bytes()
    signature_path(bundle).unlink()
    _, sigstore = sign_bundle(bundle, signer.path, sequence=1, form="sigstore")
    armored, _, statement = content.partition(END)
    wire = base64.b64decode(armored.removeprefix(BEGIN).replace(b"\n", b""))
    keys = [base64.b64decode(path.read_text().split()[1]) for path in sorted((folder / "keys").glob("*.pub"))]
    return [content, sigstore.read_bytes(), statement, wire, certified, *keys]
