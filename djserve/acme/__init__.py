"""Certificates by ACME (RFC 8555): ordered, kept in a folder, and renewed in time."""
