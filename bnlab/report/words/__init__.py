"""Tables -> sentences: what a report says."""
