"""Media types: of OCI (image specification 1.1), of models (ModelPack, github.com/modelpack/model-spec), and ours."""

from __future__ import annotations

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
IMAGE_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"

MODEL = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
# A bundle that tar unpacks. One with byte planes is a file to them: what tar would make of it is not what is in it.
MODEL_TAR = "application/vnd.cncf.model.weight.v1.tar+zstd"
MODEL_RAW = "application/vnd.cncf.model.weight.v1.raw"
MODEL_FILE_PATH = "org.cncf.model.filepath"

BUNDLE_LAYERS = (MODEL_TAR, MODEL_RAW, IMAGE_LAYER)
BUNDLE_DIGEST = "io.github.infini-llama.bundle.digest"
# Of a layer that is a piece of a bundle: its number, and how many there are, such as 2/5. Joined they are the bundle.
BUNDLE_PIECE = "io.github.infini-llama.bundle.piece"
BUNDLE_NAME = "io.github.infini-llama.bundle.name"

# What is attached to a bundle, by its artifact type, which is the media type of its only layer too.
SIGNATURE = "application/vnd.infini-llama.bundle.signature.v1"
LOCK = "application/vnd.infini-llama.bundle.lock.v1+json"
SBOM = "application/vnd.cyclonedx+json"
