"""Tables and the statements on them. What is here loads SQLAlchemy, and is loaded when it is first needed."""
