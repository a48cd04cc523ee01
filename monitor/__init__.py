"""blkmon: an interactive monitor on a live block graph."""
