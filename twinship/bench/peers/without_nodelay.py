"""`python -m twinship.bench.peers.without_nodelay camera_sim|inference`: a module with the SDK's sockets as they are.

The counter-proof for edgekit.hub.nagle: the one option that is left out here is what the difference is.
"""

from __future__ import annotations

import sys

import camera_sim.__main__
import inference.__main__
from edgekit.hub import nagle

MODULES = {"camera_sim": camera_sim.__main__.main, "inference": inference.__main__.main}


def main() -> None:
    """Run the module until told to stop."""
    nagle.switch_off = lambda client: None
    MODULES[sys.argv[1]]()


if __name__ == "__main__":
    main()
