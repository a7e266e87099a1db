"""Data of necropsy: rules, causes, mechanisms, frame models, tables. Read with importlib.resources."""
