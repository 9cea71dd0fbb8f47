"""What others leave for a task's owner, without its lock."""
