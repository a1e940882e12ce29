"""How far the line carries: sweeps of thousands of trials whose numbers are made up, and marked as such."""
