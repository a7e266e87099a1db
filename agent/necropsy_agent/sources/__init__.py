"""The host's interfaces, one file each. In: a host tree. Out: `Found` values, never an exception on content.

`SOURCES` lists them all in the order in which they are looked at after a start: what tells how the last
boot ended stands first, crash evidence next, live streams last.
"""
