"""What every WebSocket here shares: groups, frames, limits and who is online."""
