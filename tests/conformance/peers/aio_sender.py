"""A module with the unmodified aio client: sends N messages at once, exits with 0 when all are stored."""

from __future__ import annotations

import asyncio
import os
import sys


async def send_at_once(count: int) -> None:
    from azure.iot.device import Message
    from azure.iot.device.aio import IoTHubModuleClient

    client = IoTHubModuleClient.create_from_edge_environment()
    await client.connect()
    messages = [Message(b"%d" % number) for number in range(count)]  # type: ignore[no-untyped-call]
    await asyncio.gather(*(client.send_message_to_output(each, "work") for each in messages))


if __name__ == "__main__":
    asyncio.run(send_at_once(int(sys.argv[1])))
    os._exit(0)  # the SDK's threads are not daemons
