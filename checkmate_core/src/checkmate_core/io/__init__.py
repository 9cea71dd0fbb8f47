"""Storage as the engine sees it: the TaskIO protocol, its registry and the memory backend."""
