"""What the report, the viewer and the cards share: templates, style, text made safe to show.

It imports nothing of surd.
"""
