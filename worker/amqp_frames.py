"""py-amqp's reader of frames, except that a message whose properties are not text cannot end the worker."""

from collections.abc import Callable
from typing import Any, cast

from amqp.method_framing import frame_handler

from worker.envelope import UNREADABLE, without_compression

_HEADER_FRAME = 2
_FIXED_HEADER = 12
"""Bytes of a header frame before the properties: class, weight, length of the body (AMQP 0-9-1, 4.2.6.1)."""


def tolerant_frames(connection: Any, callback: Any) -> Callable[[Any], bool]:
    """Reads frames for a connection, which takes this as its `frame_handler`.

    A message whose properties cannot be read comes with the header UNREADABLE alone: the worker dead-letters it.
    """
    unreadable: dict[int, str] = {}  # by channel: there is one message at a time on each

    def hand_over(channel: Any, method: Any, arguments: Any, message: Any) -> Any:
        if message is not None:
            headers = without_compression(message.properties.get("application_headers") or {})
            if channel in unreadable:
                headers = {UNREADABLE: unreadable.pop(channel)}
            message.properties["application_headers"] = headers
        return callback(channel, method, arguments, message)

    read = cast("Callable[[Any], bool]", frame_handler(connection, hand_over))

    def on_frame(frame: Any) -> bool:
        try:
            return read(frame)
        except Exception as error:
            kind, channel, content = frame
            if kind != _HEADER_FRAME:
                raise
            unreadable[channel] = f"the properties of the message cannot be read: {type(error).__name__}: {error}"
            return read((kind, channel, bytes(content[:_FIXED_HEADER]) + b"\0\0"))

    return on_frame
