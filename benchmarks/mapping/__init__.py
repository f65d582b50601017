"""The mapping suite: standard shapes at several contexts and batches on several systems, beside their bounds."""
