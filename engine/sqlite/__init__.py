"""The embedded default: catalog and contents in one SQLite file."""
