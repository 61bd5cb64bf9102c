"""`edgeannot annotate`: pictures annotated by a model, as a labelled set for the tools of people who label."""
