"""The only place where stored events meet the diagnosis.

`deaths` tells which boots of a host died and what speaks of each, `case` makes a `Case` of that, `sync` keeps
the store's incidents in step, `worker` does it whenever evidence arrives.
"""
