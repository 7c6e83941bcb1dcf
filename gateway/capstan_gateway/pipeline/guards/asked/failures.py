"""Why somebody could not be asked."""


class NotAsked(Exception):
    """Whoever a guard asks is not there: the model is not served, or the file with a key is missing.

    The message is for the log: it names what the policy names, and no word of a text.
    """
