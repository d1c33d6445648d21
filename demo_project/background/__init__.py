"""Work that nobody waits for: thumbnails, link titles, digests."""
