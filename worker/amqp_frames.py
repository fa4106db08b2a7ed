"""py-amqp's reader of frames, except that a message whose properties are not text cannot end the worker."""

from collections.abc import Callable
from typing import Any, cast

from amqp.method_framing import frame_handler

from worker.envelope import without_compression

_HEADER_FRAME = 2
_FIXED_HEADER = 12
"""Bytes of a header frame before the properties: class, weight, length of the body (AMQP 0-9-1, 4.2.6.1)."""


def tolerant_frames(connection: Any, callback: Any) -> Callable[[Any], bool]:
    """Reads frames for a connection, which takes this as its `frame_handler`.

    A message whose properties cannot be read comes without any, so that the worker dead-letters it.
    """

    def hand_over(channel: Any, method: Any, arguments: Any, message: Any) -> Any:
        headers = message.properties.get("application_headers") if message is not None else None
        if headers:
            message.properties["application_headers"] = without_compression(headers)
        return callback(channel, method, arguments, message)

    read = cast("Callable[[Any], bool]", frame_handler(connection, hand_over))

    def on_frame(frame: Any) -> bool:
        try:
            return read(frame)
        except Exception:
            kind, channel, content = frame
            if kind != _HEADER_FRAME:
                raise
            return read((kind, channel, bytes(content[:_FIXED_HEADER]) + b"\0\0"))

    return on_frame
