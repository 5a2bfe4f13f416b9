"""Routes and their conditions, as edgeHub reads them."""
