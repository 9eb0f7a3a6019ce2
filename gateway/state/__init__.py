"""What all processes must agree on: allowances, keys, ownership. The only room that speaks Redis."""
