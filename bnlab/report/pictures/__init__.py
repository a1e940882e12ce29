"""Tables -> figures: what a report shows."""
