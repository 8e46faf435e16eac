"""The former place of `read_image`: scripts written before it moved still import it from here."""

from dcvc.video.images import read_image

__all__ = ["read_image"]
