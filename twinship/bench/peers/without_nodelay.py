"""`python -m twinship.bench.peers.without_nodelay camera_sim|inference`: a module without TCP_NODELAY.

It is the counter-proof for `edgekit.hub.nagle`: this one socket option is the only difference to the module.
"""

from __future__ import annotations

import sys

import camera_sim.__main__
import inference.__main__
from edgekit.hub import nagle

MODULES = {"camera_sim": camera_sim.__main__.main, "inference": inference.__main__.main}


def main() -> None:
    """Run the module until it is stopped."""
    nagle.switch_off = lambda client: None
    MODULES[sys.argv[1]]()


if __name__ == "__main__":
    main()
