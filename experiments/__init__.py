"""Questions, and the scripts that answer them."""
