"""The unmodified device SDK in its own process, controlled with JSON lines; SdkModule controls it.

It is a separate process because the SDK's threads and sockets outlive its clients and disturb other tests.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import inspect
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any

#: How long a test waits for an expected event; the counter-proof shortens it.
PATIENCE_S = float(os.environ.get("TWINSHIP_TEST_PATIENCE_S", "60"))
SHUTDOWN_S = 5.0
PYTHON = (sys.executable, "-W", "ignore", "-m", "tests.wire.sdk_module")


class SdkError(Exception):
    """An exception that the SDK raised in the module: class names of the error and of its cause."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error} caused by {cause}")
        self.error, self.cause = error, cause


class SdkModule:
    """Controls the process. Use it as a context manager: leaving runs the SDK's shutdown().

    `program`: a process with the same calls, as another SDK's. `aio`: the asynchronous client of Python's.
    """

    def __init__(
        self, variables: Mapping[str, str], *, program: Sequence[str] = PYTHON, **options: Any
    ) -> None:
        options = {"connection_retry_interval": 1, **options}
        self._process = subprocess.Popen(
            [*program, json.dumps(options)],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._events: dict[str, queue.Queue[Any]] = {
            kind: queue.Queue() for kind in ("answer", "message", "patch", "method")
        }
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> SdkModule:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.begin("shutdown")
            try:
                self._process.wait(SHUTDOWN_S)
            except subprocess.TimeoutExpired:  # the SDK's shutdown() needs a hub
                self._process.kill()
        self._close()

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of _Module and return its result. Raises SdkError if the SDK raised."""
        self.begin(method, **arguments)
        return self.finish()

    def begin(self, method: str, **arguments: Any) -> None:
        """Like `call`, but without waiting for the result; `finish` waits."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": method, **arguments}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        """The result of the call that `begin` started."""
        answer = self._events["answer"].get(timeout=PATIENCE_S)
        if "error" in answer:
            raise SdkError(answer["error"], answer["cause"])
        return answer["result"]

    def send(
        self, output: str | None, body: bytes, properties: Mapping[str, str] | None = None, **fields: str
    ) -> None:
        """send_message_to_output, or send_message (None); `fields` are attributes of the SDK's Message."""
        self.call(
            "send",
            output=output,
            body=base64.b64encode(body).decode(),
            properties=dict(properties or {}),
            fields=fields,
        )

    def next(self, kind: str, timeout_s: float = PATIENCE_S) -> Any:
        """The next "message", "patch" or "method" that a handler received; raises queue.Empty."""
        return self._events[kind].get(timeout=timeout_s)

    def next_body(self, timeout_s: float = PATIENCE_S) -> bytes:
        """The body of the next input message."""
        return base64.b64decode(self.next("message", timeout_s)["data"])

    def heard_nothing(self, kind: str) -> bool:
        """Whether no event of this kind is left."""
        return self._events[kind].empty()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self._events[event.pop("kind")].put(event)


class _Module:
    """The controlled side: each public method is a call."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._aio = options.pop("aio", False)
        self._options = options
        self._client: Any = None
        self._answer: tuple[int, Any] | EllipsisType | None = ...  # ...: an echo, None: no answer

    def run(self) -> None:
        for line in sys.stdin:
            request = json.loads(line)
            method: Callable[..., Any] = getattr(self, request.pop("call"))
            try:
                self._write("answer", result=method(**request))
            except Exception as error:
                cause = error.__cause__ or error
                self._write("answer", error=type(error).__name__, cause=f"{type(cause).__name__}: {cause}")
        os._exit(1)

    def create(self) -> None:
        kind = self._sdk().IoTHubModuleClient
        self._client = self._waiting(kind.create_from_edge_environment(**self._options))

    def create_from(self, connection_string: str, ca: str | None) -> None:
        name = "IoTHubModuleClient" if ";ModuleId=" in connection_string else "IoTHubDeviceClient"
        kind = getattr(self._sdk(), name)
        trust = {} if ca is None else {"server_verification_cert": Path(ca).read_text()}
        made = kind.create_from_connection_string(connection_string, **trust, **self._options)
        self._client = self._waiting(made)

    def _sdk(self) -> Any:
        return importlib.import_module("azure.iot.device.aio" if self._aio else "azure.iot.device")

    def _waiting(self, client: Any) -> Any:
        return _Waiting(client) if self._aio else client

    def connected(self) -> bool:
        return bool(self._client.connected)

    def connect(self) -> bool:
        self._client.connect()
        return bool(self._client.connected)

    def disconnect(self) -> None:
        self._client.disconnect()

    def send(
        self, output: str | None, body: str, properties: Mapping[str, str], fields: Mapping[str, str]
    ) -> None:
        from azure.iot.device import Message

        message: Any = Message(base64.b64decode(body))  # type: ignore[no-untyped-call]
        message.custom_properties.update(properties)
        for name, value in fields.items():
            setattr(message, name, value)
        if output is None:
            self._client.send_message(message)
        else:
            self._client.send_message_to_output(message, output)

    def listen(self, kind: str, raises: bool = False) -> None:
        if kind == "message":
            self._client.on_message_received = self._message_and_raise if raises else self._message
        elif kind == "patch":
            self._client.on_twin_desired_properties_patch_received = lambda patch: self._write(
                "patch", patch=patch
            )
        else:
            self._client.on_method_request_received = self._method

    def answer_methods(self, status: int = 200, payload: Any = None, *, silent: bool = False) -> None:
        self._answer = None if silent else (status, payload)
        self.listen("method")

    def invoke(self, params: Mapping[str, Any], device: str, module: str | None = None) -> Any:
        return self._client.invoke_method(dict(params), device, module)

    def get_twin(self) -> Any:
        return self._client.get_twin()

    def report(self, patch: Any) -> None:
        self._client.patch_twin_reported_properties(patch)

    def shutdown(self) -> None:
        self._client.shutdown()
        os._exit(0)

    def _message(self, message: Any) -> None:
        names = ("message_id", "correlation_id", "user_id", "content_type", "content_encoding", "input_name")
        self._write(
            "message",
            data=base64.b64encode(message.data).decode(),
            properties=message.custom_properties,
            **{name: getattr(message, name) for name in names},
        )

    def _message_and_raise(self, message: Any) -> None:
        self._message(message)
        raise RuntimeError("the handler failed")

    def _method(self, request: Any) -> None:
        from azure.iot.device import MethodResponse

        self._write("method", name=request.name, payload=request.payload)
        answer = self._answer
        if answer is ...:
            answer = 207, {"name": request.name, "got": request.payload}
        if answer is not None:
            self._client.send_method_response(MethodResponse.create_from_method_request(request, *answer))

    def _write(self, kind: str, **fields: Any) -> None:
        with self._lock:
            sys.stdout.write(json.dumps({"kind": kind, **fields}) + "\n")
            sys.stdout.flush()


class _Waiting:
    """An asynchronous client with the surface of the synchronous one: a call waits for its coroutine."""

    def __init__(self, client: Any) -> None:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        vars(self).update(_client=client, _loop=loop)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *arguments: asyncio.run_coroutine_threadsafe(found(*arguments), self._loop).result()

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._client, name, value)


if __name__ == "__main__":
    _Module(json.loads(sys.argv[1])).run()
