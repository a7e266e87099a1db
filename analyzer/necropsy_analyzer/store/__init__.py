"""What the analyzer keeps: hosts, batches as sent, evidence, incidents with every verdict, work to be done.

`store.py` opens the database and gives transactions; `hosts`, `batches`, `evidence`, `incidents` and `work`
are functions over a transaction's connection, one subject each.
"""
