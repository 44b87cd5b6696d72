"""An HF cache as a Hub, in a process of its own (`bundler.serve.aside`)."""

from __future__ import annotations

import sys
from pathlib import Path

from bundler.errors import BundleError
from bundler.serve.aside import announce, end_with_input
from bundler.serve.gatekeeper import Gatekeeper
from bundler.serve.listen import endpoint_of, open_listener, serve_until_signal
from bundler.serve.server import create_app
from bundler.serve.sources import open_source


def main(hub: str) -> None:
    """Serve a cache until standard input is closed.

    Args:
        hub: Its folder with the repos.
    """
    end_with_input()
    try:
        app = Gatekeeper(create_app(open_source(Path(hub))))
    except BundleError as error:
        sys.exit(str(error))
    with open_listener() as listener:
        serve_until_signal(app, listener, when_ready=lambda: announce(endpoint_of(listener)))


if __name__ == "__main__":
    main(sys.argv[1])
