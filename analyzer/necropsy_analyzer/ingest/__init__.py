"""HTTP in: batches of the agents. `decode` reads them, `app` is the ASGI application over the store."""
