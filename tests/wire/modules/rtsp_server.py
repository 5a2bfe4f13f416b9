"""An RTSP server for the tests: GStreamer's, by the system's Python.

Run as a script: PORT WIDTH HEIGHT CODER [USER PASSWORD].

Debian: apt install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly} python3-gi.
"""

import sys

import gi  # type: ignore[import-not-found]  # of the system, not of the virtual environment

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

PIPELINES = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph265pay name=pay0 pt=96",
}


def main(port: str, width: str, height: str, coder: str, user: str = "", password: str = "") -> None:
    """Serve rtsp://127.0.0.1:PORT/live until killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    picture = f"video/x-raw,width={width},height={height},framerate=30/1"
    factory.set_launch(f"( videotestsrc is-live=true pattern=ball ! {picture} ! {PIPELINES[coder]} )")
    factory.set_shared(True)
    if user:
        auth, token, role = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken(), "viewer"
        token.set_string("media.factory.role", role)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role(role, "media.factory.access", True)
        permissions.add_permission_for_role(role, "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print("ready", flush=True)  # noqa: T201
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
