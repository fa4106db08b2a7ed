"""py-amqp's reader of frames, changed so that a message with unreadable properties cannot end the worker."""

from collections.abc import Callable
from typing import Any, cast

from amqp.method_framing import frame_handler

from worker.envelope import UNREADABLE, without_compression

_HEADER_FRAME = 2
_FIXED_HEADER = 12
"""How many bytes of a header frame come before the properties: class, weight, body length (AMQP 0-9-1, 4.2.6.1)."""


def tolerant_frames(connection: Any, callback: Any) -> Callable[[Any], bool]:
    """Returns a reader of frames. A connection takes this function as its `frame_handler`.

    If the properties of a message cannot be read, the message gets only the header UNREADABLE, and the worker
    dead-letters it.
    """
    unreadable: dict[int, str] = {}  # by channel: each channel receives one message at a time

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
