"""Arguments of Python and the options of the command line they come from: errors name the option."""

__all__ = ["option_of"]

_WORDS = {"label": "class", "null_label": "null-class"}


def option_of(name: str) -> str:
    """The option of an argument.

    >>> option_of("null_label"), option_of("sigma_data")
    ('--null-class', '--sigma-data')
    """
    return f"--{_WORDS.get(name, name).replace('_', '-')}"
