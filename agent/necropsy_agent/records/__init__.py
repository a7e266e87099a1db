"""Crash records as kernels and crash tools lay them out on disk. In: a folder. Out: `CrashRecord` values.

The agent's sources and `necropsy triage` read through here, so a record is understood in one way.
"""
