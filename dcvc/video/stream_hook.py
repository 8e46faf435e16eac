"""Who opens dcvc streams for VideoReader.

Decoding a stream takes a codec, and this room knows none: rooms import one way. The package itself
(dcvc/__init__.py) says here who can, and `dcvc.video.coded_video` asks.
"""

from collections.abc import Callable
from typing import Any

# (path, index or None, model or None) -> a dcvc.video.coded_video.CodedVideo.
opener: Callable[..., Any] | None = None
