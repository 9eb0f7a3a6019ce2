"""The rules of the house. Pure: an exchange in, claims, an order or a refusal out."""
