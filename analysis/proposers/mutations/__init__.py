"""What can be changed a little in a file of Python, and how."""

from analysis.proposers.mutations.sites import Option, Site, changed_tokens, is_share, number, sites

__all__ = ["Option", "Site", "changed_tokens", "is_share", "number", "sites"]
