"""What everything else builds on, with the standard library only: errors, records, progress, files
and options' ranges.
"""
