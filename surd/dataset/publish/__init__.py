"""publish: from the samples the verdicts keep to a folder the Hub understands."""
