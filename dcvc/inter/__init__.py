"""The P-frame codec."""

from dcvc.inter.dcvc import DCVC

__all__ = ["DCVC"]
