"""Looking at a workspace in the browser, and deciding by hand."""
