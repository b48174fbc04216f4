"""What users put into their texts and attributes."""

from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec=None, categories=None), max_size=20)
"""Also what cannot be encoded."""
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
