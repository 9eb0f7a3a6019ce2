"""Amazon's services: signatures, where the keys to them come from, and Bedrock."""
