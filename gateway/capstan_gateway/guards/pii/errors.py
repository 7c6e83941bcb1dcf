"""What PII guards can ask for in vain."""


class PiiNotAvailable(ValueError):
    """What a policy asks for is not in this gateway. It says what, and what is."""
