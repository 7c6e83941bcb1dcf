"""An answer that says nothing."""


class Unreadable(ValueError):
    """A model's answer, or what it would have to be asked, is not of the form that is known: it could not tell.

    The message never holds a word of it.
    """
