"""The two delay formulas of the article against measurements."""
