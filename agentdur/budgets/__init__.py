"""What may be spent: the arithmetic, and the object that several invocations share."""
