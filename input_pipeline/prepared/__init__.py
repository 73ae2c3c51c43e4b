"""Prepared data on disk: records, metadata, digests."""
