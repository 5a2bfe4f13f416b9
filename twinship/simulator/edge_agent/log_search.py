"""Runs GetModuleLogs in a child process: no expression of a caller can hold up the agent.

Python's `re` has no deadline and keeps the interpreter's lock, so neither a thread nor a signal handler can
end a search; killing its process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twinship.simulator.edge_agent.module_logs import LogsRequest, PayloadInvalid, module_logs
from twinship.simulator.edge_agent.processes import dying_with_parent

DEADLINE_S: Final = 10.0
MAX_SEARCHES: Final = 2  # at a time; more calls wait
MAX_MEMORY_BYTES: Final = 1 << 30
_COMMAND: Final = (sys.executable, "-P", "-m", "twinship.simulator.edge_agent.log_search")


class LogSearch:
    """The searches of one agent."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._free = asyncio.Semaphore(MAX_SEARCHES)

    async def run(
        self, payload: Any, now: float, logs: Mapping[str, Path], *, hub: str, device: str
    ) -> list[Any]:
        """The result of the method; raises PayloadInvalid, also for a search that takes too long."""
        names = {name: str(path) for name, path in logs.items()}
        request = {"payload": payload, "now": now, "logs": names, "hub": hub, "device": device}
        async with self._free:
            output = await self._output(json.dumps(request).encode())
        if "invalid" in output:
            raise PayloadInvalid(output["invalid"])
        return list(output["result"])

    async def _output(self, request: bytes) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *dying_with_parent(_COMMAND),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(self._deadline_s):
                output, _ = await process.communicate(request)
        except TimeoutError:
            raise PayloadInvalid(
                f"the search took longer than {self._deadline_s:g} s: use a simpler regex, or a shorter time"
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode:
            raise PayloadInvalid(f"the search ended with {process.returncode}: request less")
        return dict(json.loads(output))


def main() -> None:
    """The child: a request as JSON on stdin, the result as JSON on stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    request = json.load(sys.stdin)
    logs = {name: Path(path) for name, path in request["logs"].items()}
    output: dict[str, Any]
    try:
        wanted = LogsRequest.parse(request["payload"], request["now"])
        output = {"result": module_logs(wanted, logs, hub=request["hub"], device=request["device"])}
    except PayloadInvalid as error:
        output = {"invalid": str(error)}
    json.dump(output, sys.stdout)


if __name__ == "__main__":
    main()
