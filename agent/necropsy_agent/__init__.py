"""The host's part of necropsy: collects what the kernel and the hardware said, and ships it."""

__version__ = "0.1.0"
