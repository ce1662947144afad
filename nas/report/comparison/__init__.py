"""The page of a comparison of networks."""
