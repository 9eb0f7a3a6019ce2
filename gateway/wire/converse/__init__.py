"""Amazon Bedrock's Converse, which all its models are asked in."""
