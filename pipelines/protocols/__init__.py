"""Protocols: what is measured on, fixed so that anybody gets the same; one protocol a file."""
