"""Writing fused operators as the plain ones they stand for, so that recognition sees one form of each."""
