"""Evidence to verdict: one distribution over the causes, and the published JSON."""
