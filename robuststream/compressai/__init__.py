"""Beside CompressAI: its modules back from frozen models, a drop-in for its evaluation, a container for its strings.

Only `thaw` needs compressai itself.
"""

from robuststream.compressai.codec import RobustCodec
from robuststream.compressai.packing import pack, unpack
from robuststream.compressai.thaw import thaw

__all__ = ["RobustCodec", "pack", "thaw", "unpack"]
