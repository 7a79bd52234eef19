"""Publishing: from what the verdicts keep to a folder that the Hub and its readers understand."""
