"""FFmpeg's options for each scheme: only its own protocol, TCP, no redirect, no playlist. Pure.

The names are those of FFmpeg's documentation: formats, rtsp, http, tls.
"""

from collections.abc import Mapping
from typing import Final

from camera_sim.sources.address import Address
from camera_sim.sources.child_messages import DecodingRequest
from camera_sim.sources.settings import VideoSettings

_FILES: Final = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,mjpeg,h264,hevc,ogg,ivf"
_STREAMS: Final = "mpjpeg,mjpeg,mpegts,flv"
_RTSP: Final = {"rtsp_transport": "tcp", "allowed_media_types": "video"}
_HTTP: Final = {"max_redirects": "0", "format_whitelist": _STREAMS}
_TLS: Final = {"tls_verify": "1"}
_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "file": {"protocol_whitelist": "file", "format_whitelist": _FILES},
    "v4l2": {"protocol_whitelist": "file"},
    "rtsp": {**_RTSP, "protocol_whitelist": "rtsp,tcp"},
    "rtsps": {**_RTSP, **_TLS, "protocol_whitelist": "rtsp,rtsps,tls,tcp"},
    "http": {**_HTTP, "protocol_whitelist": "http,tcp"},
    "https": {**_HTTP, **_TLS, "protocol_whitelist": "https,tls,tcp"},
}


def decoding_request(address: Address, settings: VideoSettings, ca_file: str | None) -> DecodingRequest:
    """The request for an address of a video. `ca_file`: certificates (PEM) that sign those of servers."""
    options = dict(_OPTIONS[address.scheme])
    if ca_file and "tls_verify" in options:
        options["ca_file"] = ca_file
    is_file = address.scheme == "file"
    return DecodingRequest(
        url=f"file:{address.target}" if is_file else address.target,
        format="video4linux2" if address.scheme == "v4l2" else None,
        options=options,
        is_file=is_file,
        loop=is_file and settings.loop,
        max_side=settings.max_side,
        timeout_s=settings.timeout_s,
    )
