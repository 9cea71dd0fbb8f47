"""CheckMate."""
