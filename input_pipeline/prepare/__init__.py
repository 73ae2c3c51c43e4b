"""Raw media made into prepared data."""
