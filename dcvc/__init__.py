"""dcvc: train neural video codecs of the DCVC family from a folder of videos."""

from dcvc.video import stream_hook as _stream_hook

__version__ = "0.1.0"


def _open_stream_video(path, index=None, model=None):
    # Late: both load torch.
    from dcvc.checkpoint import load_codec
    from dcvc.codec.stream_video import StreamVideo

    return StreamVideo(path, load_codec, index, model)


# Videos may be dcvc streams, and the room of videos must not know the codecs above it.
_stream_hook.opener = _open_stream_video
