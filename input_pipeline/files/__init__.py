"""Files and folders: written whole, locked, with digests."""
