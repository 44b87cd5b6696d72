"""Views of a home that belong to one generation of one bundle, or to one launch of several."""
