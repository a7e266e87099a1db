"""The analyzer of necropsy: from what a host said to why it died."""
