"""What goes wrong in identity mapping; each is a sentence for the site's administrator.

MappingError      the mapping file says something that cannot be meant
ExternalError     a program or a directory did not answer as it must: then nobody is mapped
"""


class MappingError(ValueError):
    """Not a mapping; the text begins with the JSON path of what is wrong."""


class ExternalError(Exception):
    """A look-up failed, or its answer is none."""
