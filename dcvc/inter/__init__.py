"""The P-frame codec."""

from dcvc.inter.dcvc2021.model import DCVC

__all__ = ["DCVC"]
