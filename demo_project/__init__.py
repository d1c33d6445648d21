"""A chat with notifications: a Channels project to learn from, served by djserve."""
