"""A bundle behind nginx, by https: a server that we did not write, with a certificate of the site's own authority."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import ChangedError, NetworkError
from bundler.home.installation.install import install
from bundler.remote.address import Address
from bundler.remote.opening import open_remote
from tests.support.bundles import locked_repo, tiny_bundle, tree

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(
    not NGINX or not shutil.which("openssl"), reason="there is no nginx or openssl here"
)

FILES = {"w": b"w" * 300_000, "c.json": b"{}"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a running nginx, and its folder, with certificate and content."""
    folder = tmp_path_factory.mktemp("nginx")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
    ]
    subprocess.run(["openssl", *words, *names], cwd=folder, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "content").mkdir()
    folder.chmod(0o755)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary}\nserver {{ listen 127.0.0.1:{port} ssl; root {folder}/content;\n"
        f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; }} }}\n"
    )
    assert NGINX
    server = subprocess.Popen(
        [NGINX, "-p", folder, "-c", folder / "nginx.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"https://localhost:{port}", folder
    finally:
        server.kill()
        server.wait()


def test_an_installation_by_https_is_that_from_the_file(
    site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = site
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    packed = tiny_bundle(folder / "content", locked_repo("org/m", FILES, lfs=["w"]), contents=FILES.values())
    install(packed, tmp_path / "file")
    install(Address(f"{url}/{packed.name}"), tmp_path / "remote")
    assert tree(tmp_path / "remote") == tree(tmp_path / "file")


def test_a_file_that_is_replaced_is_noticed(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = site
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    path = folder / "content" / "changing"
    path.write_bytes(b"1" * 200_000)
    found = open_remote(Address(f"{url}/changing"))
    path.write_bytes(b"2" * 200_001)
    with pytest.raises(ChangedError):
        found.read_into(100_000, memoryview(bytearray(10)))
    found.close()


def test_a_certificate_that_nobody_trusts_is_refused(site: tuple[str, Path]) -> None:
    with pytest.raises(NetworkError) as caught:
        open_remote(Address(f"{site[0]}/any"))
    assert "SSL_CERT_FILE" in (caught.value.hint or "")
