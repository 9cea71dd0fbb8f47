"""How a task runs: the plan of its steps, who does them, and what a stage can ask for meanwhile."""
