"""Which model this board runs: candidates, what each costs here, and the decision in words."""
